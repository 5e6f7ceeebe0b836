"""LRP, gradient and gradient times input: one forward pass, one walk back, from one target or from several."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.ledger import Ledger
from lstm_explain.methods.inner import inner_relevance, inner_view
from lstm_explain.plan.account import add_per_sample, largest_per_sample, per_sample
from lstm_explain.plan.backward import Walk, run_together
from lstm_explain.plan.compile import Plan
from lstm_explain.plan.forward import Pass
from lstm_explain.plan.head import Head
from lstm_explain.plan.layers import check_keys
from lstm_explain.plan.terms import scale
from lstm_explain.rules import Lane, LaneLost
from lstm_explain.rules.recurrent import Recurrent
from lstm_explain.spec.method import LRP, Gradient, Method
from lstm_explain.target import Selection
from lstm_explain.watch import part

MOST_TOGETHER = 16  # samples of all targets: with more, one step's product takes as long for each as alone


@dataclass
class Context:
    """A forward pass and what it takes to walk back from it."""

    plan: Plan
    head: Head
    cells: Mapping[str, Recurrent]
    done: Pass
    inputs: list[str]
    capture: list[str]


@dataclass
class Answer:
    """As in Explanation.

    peaks: by input, [batch], the largest magnitude of a sample's relevance. scale: gives [batch], what an explained
    value counts as small beside (`plan/terms.py`); asked for only where something is wrong.
    """

    relevance: dict[str, Array]
    explained: Array
    captured: dict[str, Array]
    ledger: Ledger
    peaks: Mapping[str, Sequence[float] | Array]
    scale: Callable[[], Array]


@dataclass(frozen=True)
class Question:
    """What of the output is explained: weights, of the output's shape; batch_axis None where there is one sample."""

    weights: Array
    batch: int
    batch_axis: int | None

    def lane(self) -> Lane | None:
        return None if self.batch == 1 or self.batch_axis is None else Lane(self.batch_axis % self.weights.ndim)

    def samples(self) -> list[Question]:
        """A question for each sample; the others weigh nothing."""
        assert self.batch_axis is not None  # without a batch axis there is one sample
        alone = []
        for sample in range(self.batch):
            weights = np.zeros_like(self.weights)
            index = (slice(None),) * (self.batch_axis % weights.ndim) + (sample,)
            weights[index] = self.weights[index]
            alone.append(Question(weights, 1, None))
        return alone


@part("backward")
def explain_by_propagation(
    context: Context, method: Method, selections: Sequence[tuple[Selection, int | None]]
) -> list[Answer]:
    """Walks back from all targets at once; each a selection with its batch axis.

    Once for the whole batch, or sample by sample where an operator mixes the places of samples.
    """
    if isinstance(method, LRP) and method.composite is not None:
        check_keys(context.plan.graph, method.composite)
    dtype = _arithmetic(context, method)
    questions = [Question(s.weights.astype(dtype, copy=False), s.batch, axis) for s, axis in selections]
    most = max(1, MOST_TOGETHER // max(question.batch for question in questions))
    answers: list[Answer] = []
    for start in range(0, len(questions), most):
        group = questions[start : start + most]
        try:
            answers += _walk(context, method, group)
        except LaneLost:
            answers += [_joined([_walk(context, method, [alone])[0] for alone in q.samples()]) for q in group]
    return answers


def walked(context: Context, method: Method, selection: Selection) -> Walk:
    """The walk from a target of one sample, done."""
    weights = selection.weights.astype(_arithmetic(context, method), copy=False)
    walk, *_ = _begun(context, method, Question(weights, 1, None))
    walk.run()
    return walk


def lanes_of(context: Context, selection: Selection, batch_axis: int, names: Sequence[str]) -> dict[str, Lane]:
    """Where the samples of the target lie in those of `names` that the gradient reaches. Raises LaneLost."""
    weights = selection.weights.astype(_arithmetic(context, Gradient()), copy=False)
    walk, *_ = _begun(context, Gradient(), Question(weights, selection.batch, batch_axis))
    walk.run()
    return {n: lane for n in names if (m := walk.messages.get(n)) is not None and (lane := m.lane) is not None}


def _arithmetic(context: Context, method: Method) -> np.dtype[np.floating[Any]]:
    least = np.float64 if isinstance(method, LRP) and method.product_rule != "all" else np.float32
    return np.promote_types(context.done.values[context.head.value].dtype, least)


def _walk(context: Context, method: Method, questions: Sequence[Question]) -> list[Answer]:
    begun = [_begun(context, method, question) for question in questions]
    if len(begun) == 1:
        begun[0][0].run()
    else:
        run_together([walk for walk, *_ in begun])
    return [_answer(context, walk, explained, scaled) for walk, explained, scaled in begun]


def _begun(context: Context, method: Method, question: Question) -> tuple[Walk, Array, Callable[[], Array]]:
    """A walk that stands at the target, [batch] the value explained, and the answer's `scale`."""
    graph, values, name = context.plan.graph, context.done.values, context.head.value
    weights, lane = context.head.through(graph, values, question.weights, question.lane(), question.batch)
    walk = Walk(context.plan, context.done, context.cells, method, question.batch, weights.dtype)
    seed = weights * values[name]
    if isinstance(method, LRP):
        walk.send(name, lane, relevance=seed)
    else:
        walk.send(name, lane, density=weights)
    scaled = functools.partial(scale, context.plan, values, name, weights, lane, question.batch)
    return walk, per_sample(seed, lane, question.batch), scaled


def _answer(context: Context, walk: Walk, explained: Array, scaled: Callable[[], Array]) -> Answer:
    relevance, peaks, total = {}, {}, np.zeros(walk.batch)
    for name in context.inputs:
        arrived = walk.arrived(name)
        if arrived is None:
            relevance[name] = np.zeros(context.done.values[name].shape, walk.dtype)
        else:
            lane = walk.messages[name].lane
            relevance[name] = np.asarray(arrived, order="C")
            peaks[name] = largest_per_sample(relevance[name], lane, walk.batch)
            add_per_sample(relevance[name], lane, total)
    captured = {name: _captured(walk, context, name, walk.dtype) for name in context.capture}
    absorbed, states = walk.account.absorbed(), walk.account.initial_states
    ledger = Ledger(total, states, absorbed, explained - total - states - absorbed, walk.account.by_node)
    return Answer(relevance, explained, captured, ledger, peaks, scaled)


def _captured(walk: Walk, context: Context, name: str, dtype: np.dtype[np.floating]) -> Array:
    view = inner_view(name, context.cells)
    if view is not None and name not in context.done.values:
        return inner_relevance(walk, *view).astype(dtype)
    arrived = walk.arrived(name)
    return np.zeros(context.done.values[name].shape, dtype) if arrived is None else np.asarray(arrived, order="C")


def _joined(answers: list[Answer]) -> Answer:
    """Relevance adds up, since each sample's own lies in places of its own; what is [batch] is put in a row."""

    def added(field: str) -> dict[str, Array]:
        first = getattr(answers[0], field)
        return {name: sum((getattr(a, field)[name] for a in answers[1:]), first[name]) for name in first}

    def row(field: str) -> Array:
        return np.concatenate([getattr(a.ledger, field) for a in answers])

    nodes = dict.fromkeys(name for a in answers for name in a.ledger.by_node)
    zero = np.zeros(1, answers[0].explained.dtype)
    by_node = {name: np.concatenate([a.ledger.by_node.get(name, zero) for a in answers]) for name in nodes}
    ledger = Ledger(row("inputs"), row("initial_states"), row("absorbed"), row("residual"), by_node)
    explained, order = np.concatenate([a.explained for a in answers]), np.arange(len(answers))
    return Answer(added("relevance"), explained, added("captured"), ledger, *judged_together(answers, order))


def judged_together(answers: Sequence[Answer], order: Array) -> tuple[dict[str, Array], Callable[[], Array]]:
    """`peaks` and `scale` of all samples, of which the one in place order[i] of all comes i-th."""
    names = dict.fromkeys(name for a in answers for name in a.peaks)
    rows = {n: [np.asarray(a.peaks.get(n, np.zeros(len(a.explained)))) for a in answers] for n in names}
    peaks = {name: np.concatenate(arrays)[order] for name, arrays in rows.items()}
    scales = [a.scale for a in answers]
    return peaks, lambda: np.concatenate([scale_of() for scale_of in scales])[order]
