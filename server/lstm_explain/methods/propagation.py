"""LRP, gradient and gradient times input: one forward pass, one walk back, from one target or from several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.kernels import sums
from lstm_explain.ledger import Ledger
from lstm_explain.methods.inner import inner_relevance, inner_view
from lstm_explain.plan.account import Account, add_per_sample, largest_per_sample, per_sample
from lstm_explain.plan.head import Head
from lstm_explain.plan.terms import scale
from lstm_explain.program.passes import BackwardPass, ForwardPass
from lstm_explain.program.program import Program, Specialised
from lstm_explain.program.steps.layer_rules import check_keys
from lstm_explain.rules import Lane, LaneLost
from lstm_explain.rules.shares import in_dtype
from lstm_explain.spec.method import LRP, Gradient, Method
from lstm_explain.target import Selection
from lstm_explain.watch import part

MOST_TOGETHER = 16  # samples of all targets: with more, one step's product takes as long for each as alone


@dataclass(slots=True)
class Context:
    """A forward pass and what it takes to walk back from it. specialised: for the shapes of `done`, where known."""

    program: Program
    head: Head
    done: ForwardPass
    inputs: list[str]
    capture: list[str]
    specialised: Specialised | None = None


@dataclass(slots=True)
class Answer:
    """As in Explanation.

    peaks: by input, [batch], the largest magnitude of a sample's relevance. scale: gives [batch], what an explained
    value counts as small beside (`plan/terms.py`); asked for only where something is wrong. lanes: where the samples
    lie in the arrays of relevance, captured ones too. apart: the answer of each sample, where each was walked alone.
    """

    relevance: dict[str, Array]
    explained: Array
    captured: dict[str, Array]
    ledger: Ledger
    peaks: Mapping[str, Sequence[float] | Array]
    scale: Callable[[], Array]
    lanes: Mapping[str, Lane | None] = field(default_factory=dict)
    apart: Sequence[Answer] = ()


@dataclass(slots=True)
class Start:
    """What of the output is explained: weights, of the output's shape; batch_axis None where there is one sample."""

    weights: Array
    batch: int
    batch_axis: int | None

    def lane(self) -> Lane | None:
        return None if self.batch == 1 or self.batch_axis is None else Lane(self.batch_axis % self.weights.ndim)

    def samples(self) -> list[Start]:
        """One for each sample; the others weigh nothing."""
        assert self.batch_axis is not None  # without a batch axis there is one sample
        alone = []
        for sample in range(self.batch):
            weights = np.zeros_like(self.weights)
            index = (slice(None),) * (self.batch_axis % weights.ndim) + (sample,)
            weights[index] = self.weights[index]
            alone.append(Start(weights, 1, None))
        return alone


Walked = Callable[[BackwardPass], None]  # is told of every pass that went for a whole batch, when it is over


@part("backward")
def explain_by_propagation(
    context: Context,
    method: Method,
    selections: Sequence[tuple[Selection, int | None]],
    walked: Walked | None = None,
) -> list[Answer]:
    """Walks back from all targets at once; each a selection with its batch axis.

    Once for the whole batch, or sample by sample where an operator mixes the places of samples.
    """
    if isinstance(method, LRP) and method.composite is not None:
        check_keys(context.program.plan.graph, method.composite)
    dtype = _arithmetic(context)
    starts = [Start(in_dtype(s.weights, dtype), s.batch, axis) for s, axis in selections]
    if len(starts) == 1:
        return [_alone(context, method, starts[0], walked)]
    most = max(1, MOST_TOGETHER // max(start.batch for start in starts))
    groups = [starts[at : at + most] for at in range(0, len(starts), most)]
    return [answer for group in groups for answer in _together(context, method, group)]


def _alone(context: Context, method: Method, start: Start, walked: Walked | None = None) -> Answer:
    try:
        back, explained, scaled = _begun(context, method, start)
        (context.specialised or context.program).backward(back)
    except LaneLost:
        return joined([_alone(context, method, sample) for sample in start.samples()])
    if walked is not None:
        walked(back)
    return _answer(context, back, explained, scaled)


def _together(context: Context, method: Method, starts: Sequence[Start]) -> list[Answer]:
    try:
        begun = [_begun(context, method, start) for start in starts]
        context.program.backward_together([back for back, *_ in begun])
    except LaneLost:
        return [_alone(context, method, start) for start in starts]
    return [_answer(context, *one) for one in begun]


def walked_back(context: Context, method: Method, selection: Selection, batch_axis: int | None = None) -> BackwardPass:
    """The pass from a target, over; of all samples as one, without a batch axis. Raises LaneLost."""
    weights = in_dtype(selection.weights, _arithmetic(context))
    back, *_ = _begun(context, method, Start(weights, 1 if batch_axis is None else selection.batch, batch_axis))
    context.program.backward(back)
    return back


def lanes_of(context: Context, selection: Selection, batch_axis: int, names: Sequence[str]) -> dict[str, Lane]:
    """Where the samples of the target lie in those of `names` that the gradient reaches. Raises LaneLost."""
    back = walked_back(context, Gradient(), selection, batch_axis)
    return {n: lane for n in names if (m := back.messages.get(n)) is not None and (lane := m.lane) is not None}


def _arithmetic(context: Context) -> np.dtype[np.floating[Any]]:
    return context.program.arithmetic(context.done.values[context.head.value])


def _begun(context: Context, method: Method, start: Start) -> tuple[BackwardPass, Array, Callable[[], Array]]:
    """A pass that stands at the target, [batch] the value explained, and the answer's `scale`."""
    program, values, name, batch = context.program, context.done.values, context.head.value, start.batch
    weights, lane = start.weights, None if batch == 1 else start.lane()
    if context.head.views:
        weights, lane = context.head.through(program.plan.graph, values, weights, lane, batch)
    back = BackwardPass(program.plan, context.done, batch, weights.dtype)
    seed = weights * values[name]
    if isinstance(method, LRP):
        back.send(name, lane, seed)
    else:
        back.send(name, lane, None, weights)
    known = None if context.specialised is None else context.specialised.terms
    return (
        back,
        per_sample(seed, lane, batch),
        lambda: scale(program.plan, values, name, weights, lane, batch, known),
    )


def _answer(context: Context, back: BackwardPass, explained: Array, scaled: Callable[[], Array]) -> Answer:
    relevance: dict[str, Array] = {}
    peaks: dict[str, Array | tuple[float]] = {}
    lanes: dict[str, Lane | None] = {}
    alone, totals, total = back.batch == 1, np.zeros(back.batch), 0.0
    for name in context.inputs:
        arrived = context.program.arrived(back, name)
        if arrived is None:
            relevance[name] = np.zeros(context.done.values[name].shape, back.dtype)
            continue
        lane = lanes[name] = back.messages[name].lane
        relevance[name] = array = np.asarray(arrived, order="C")
        if alone:  # NumPy takes ten times as long over one number
            flat = array.ravel()
            peaks[name] = (sums.largest(flat),)
            total += sums.total(flat)
        else:
            peaks[name] = largest_per_sample(array, lane, back.batch)
            add_per_sample(array, lane, totals)
    captured: dict[str, Array] = {}
    for name in context.capture:
        captured[name], lanes[name] = _captured(context, back, name)
    ledger = _ledger_of_one(back.account, explained, total) if alone else _ledger(back.account, explained, totals)
    return Answer(relevance, explained, captured, ledger, peaks, scaled, lanes)


def _ledger(account: Account, explained: Array, total: Array) -> Ledger:
    absorbed, states = account.absorbed(), account.initial_states
    return Ledger(total, states, absorbed, explained - total - states - absorbed, account.by_node)


def _ledger_of_one(account: Account, explained: Array, total: float) -> Ledger:
    states = account.initial_states.item()
    absorbed = sum([kept.item() for kept in account.by_node.values()], 0.0)
    left = explained.item() - total - states - absorbed
    arrays = np.array((total,)), np.array((states,)), np.array((absorbed,)), np.array((left,))
    return Ledger(*arrays, account.by_node)


def _captured(context: Context, back: BackwardPass, name: str) -> tuple[Array, Lane | None]:
    """Relevance of an inner value, and where the samples lie in it."""
    view = inner_view(name, context.program.cells)
    if view is not None and name not in context.done.values:
        array, lane = inner_relevance(context.program, back, *view)
        return array.astype(back.dtype), lane
    arrived = context.program.arrived(back, name)
    if arrived is None:
        return np.zeros(context.done.values[name].shape, back.dtype), None
    return np.asarray(arrived, order="C"), back.messages[name].lane


def joined(answers: Sequence[Answer]) -> Answer:
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
    judged = judged_together(answers, order)
    return Answer(added("relevance"), explained, added("captured"), ledger, *judged, apart=tuple(answers))


def judged_together(answers: Sequence[Answer], order: Array) -> tuple[dict[str, Array], Callable[[], Array]]:
    """`peaks` and `scale` of all samples, of which the one in place order[i] of all comes i-th."""
    names = dict.fromkeys(name for a in answers for name in a.peaks)
    rows = {n: [np.asarray(a.peaks.get(n, np.zeros(len(a.explained)))) for a in answers] for n in names}
    peaks = {name: np.concatenate(arrays)[order] for name, arrays in rows.items()}
    scales = [a.scale for a in answers]
    return peaks, lambda: np.concatenate([scale_of() for scale_of in scales])[order]
