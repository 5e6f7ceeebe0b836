"""LRP, gradient and gradient times input: one forward pass, one walk back, from one target or from several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from lstm_explain.cancellation import timed
from lstm_explain.graph.ir import Array
from lstm_explain.kernels import reductions
from lstm_explain.ledger import Ledger
from lstm_explain.operators import BatchLayout, SamplesMixed
from lstm_explain.operators.formulas import in_dtype
from lstm_explain.program.account import RelevanceAccount, add_per_sample, largest_per_sample, per_sample
from lstm_explain.program.inner_relevance import inner_relevance, inner_view
from lstm_explain.program.passes import BackwardPass, ForwardPass
from lstm_explain.program.program import Program, Specialised
from lstm_explain.program.terms import scale
from lstm_explain.target import Selection

NOBODY = np.zeros(0)
MOST_TOGETHER = 16  # samples of all targets: with more, one step's product takes as long for each as alone


@dataclass(slots=True)
class Attribution:
    """As in Explanation.

    peaks: by input, [batch], the largest magnitude of a sample's relevance. scale: gives [batch], what an explained
    value counts as small beside (`program/terms.py`); asked for only where something is wrong. lanes: where the samples
    lie in the arrays of relevance, captured ones too. apart: the answer of each sample, where each was walked alone.
    """

    relevance: dict[str, Array]
    explained: Array
    captured: dict[str, Array]
    ledger: Ledger
    peaks: Mapping[str, Sequence[float] | Array]
    scale: Callable[[], Array]
    layouts: Mapping[str, BatchLayout | None] = field(default_factory=dict)
    apart: Sequence[Attribution] = ()


@dataclass(slots=True)
class Start:
    """What of the output is explained: weights, of the output's shape; batch_axis None where there is one sample."""

    weights: Array
    batch: int
    batch_axis: int | None

    def layout(self) -> BatchLayout | None:
        return None if self.batch == 1 or self.batch_axis is None else BatchLayout(self.batch_axis % self.weights.ndim)

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


Walked = Callable[[BackwardPass], None]  # is told of a pass that went for the whole batch, when it is over


@timed("backward")
def explain_one(
    program: Program,
    done: ForwardPass,
    selection: Selection,
    batch_axis: int | None,
    known: Specialised | None = None,
    walked: Walked | None = None,
) -> Attribution:
    """Walks back from one target: once for the whole batch, or sample by sample where an operator mixes the places of
    samples. known: the program for the shapes of `done`.
    """
    return _one(program, done, Start(selection.weights, selection.batch, batch_axis), known, walked)


@timed("backward")
def explain_together(
    program: Program, done: ForwardPass, selections: Sequence[tuple[Selection, int | None]]
) -> list[Attribution]:
    """`explain_one` from several targets at once; each a selection with its batch axis."""
    starts = [Start(s.weights, s.batch, axis) for s, axis in selections]
    most = max(1, MOST_TOGETHER // max(start.batch for start in starts))
    groups = [starts[at : at + most] for at in range(0, len(starts), most)]
    return [answer for group in groups for answer in _together(program, done, group)]


def walked_back(
    program: Program, done: ForwardPass, selection: Selection, batch_axis: int | None = None
) -> BackwardPass:
    """The pass from a target, over; of all samples as one, without a batch axis. Raises SamplesMixed."""
    back, _ = _begun(program, done, Start(selection.weights, 1 if batch_axis is None else selection.batch, batch_axis))
    program.backward(back)
    return back


def layouts_of(
    program: Program, done: ForwardPass, selection: Selection, batch_axis: int, names: Sequence[str]
) -> dict[str, BatchLayout]:
    """Where the samples of the target lie in those of `names` that relevance reaches. Raises SamplesMixed."""
    back = walked_back(program, done, selection, batch_axis)
    return {n: layout for n in names if (m := back.messages.get(n)) is not None and (layout := m.layout) is not None}


def _one(
    program: Program,
    done: ForwardPass,
    start: Start,
    known: Specialised | None = None,
    walked: Walked | None = None,
) -> Attribution:
    try:
        back, explained = _begun(program, done, start)
        (known or program).backward(back)
    except SamplesMixed:
        return joined([_one(program, done, sample) for sample in start.samples()])
    if walked is not None:
        walked(back)
    return _answer(program, back, explained, known)


def _together(program: Program, done: ForwardPass, starts: Sequence[Start]) -> list[Attribution]:
    try:
        begun = [_begun(program, done, start) for start in starts]
        program.backward_together([back for back, _ in begun])
    except SamplesMixed:
        return [_one(program, done, start) for start in starts]
    return [_answer(program, back, explained) for back, explained in begun]


def _begun(program: Program, done: ForwardPass, start: Start) -> tuple[BackwardPass, Array]:
    """A pass that stands at the target, and [batch] the value explained."""
    head, values, batch = program.head, done.values, start.batch
    assert head is not None
    value = values[head.value]
    weights, layout = in_dtype(start.weights, program.arithmetic(value)), None if batch == 1 else start.layout()
    if head.views:
        weights, layout = head.through(program.plan.graph, values, weights, layout, batch)
    back = BackwardPass(program.plan, done, batch, weights.dtype)
    back.weights, back.layout, seed = weights, layout, weights * value
    if program.plan.gradient:
        back.send(head.value, layout, None, weights)
    else:
        back.send(head.value, layout, seed)
    return back, per_sample(seed, layout, batch)


def _answer(program: Program, back: BackwardPass, explained: Array, known: Specialised | None = None) -> Attribution:
    relevance: dict[str, Array] = {}
    peaks: dict[str, Array | tuple[float]] = {}
    layouts: dict[str, BatchLayout | None] = {}
    messages, alone, total = back.messages, back.batch == 1, 0.0
    totals = NOBODY if alone else np.zeros(back.batch)
    for name in program.inputs:
        message = messages.get(name)
        if message is None:
            relevance[name] = np.zeros(back.done.values[name].shape, back.dtype)
            continue
        layout = layouts[name] = message.layout
        relevance[name] = array = np.asarray(program.arrived(back, name), order="C")
        if alone:  # NumPy takes ten times as long over one number
            flat = array.ravel()
            peaks[name] = (reductions.largest(flat),)
            total += reductions.total(flat)
        else:
            peaks[name] = largest_per_sample(array, layout, back.batch)
            add_per_sample(array, layout, totals)
    captured: dict[str, Array] = {}
    for name in program.capture:
        captured[name], layouts[name] = _captured(program, back, name)
    ledger = _ledger_of_one(back.account, explained, total) if alone else _ledger(back.account, explained, totals)

    def scaled() -> Array:
        head = program.head
        assert head is not None
        terms = None if known is None else known.terms
        return scale(back.plan, back.done.values, head.value, back.weights, back.layout, back.batch, terms)

    return Attribution(relevance, explained, captured, ledger, peaks, scaled, layouts)


def _ledger(account: RelevanceAccount, explained: Array, total: Array) -> Ledger:
    absorbed, states = account.absorbed(), account.initial_states
    return Ledger(total, states, absorbed, explained - total - states - absorbed, account.by_node)


def _ledger_of_one(account: RelevanceAccount, explained: Array, total: float) -> Ledger:
    states = account.initial_states.item()
    absorbed = sum([kept.item() for kept in account.by_node.values()], 0.0)
    left = explained.item() - total - states - absorbed
    arrays = np.array((total,)), np.array((states,)), np.array((absorbed,)), np.array((left,))
    return Ledger(*arrays, account.by_node)


def _captured(program: Program, back: BackwardPass, name: str) -> tuple[Array, BatchLayout | None]:
    """Relevance of an inner value, and where the samples lie in it."""
    view = inner_view(name, program.cells)
    if view is not None and name not in back.done.values:
        array, layout = inner_relevance(program, back, *view)
        return array.astype(back.dtype), layout
    arrived = program.arrived(back, name)
    if arrived is None:
        return np.zeros(back.done.values[name].shape, back.dtype), None
    return np.asarray(arrived, order="C"), back.messages[name].layout


def joined(answers: Sequence[Attribution]) -> Attribution:
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
    return Attribution(added("relevance"), explained, added("captured"), ledger, *judged, apart=tuple(answers))


def judged_together(answers: Sequence[Attribution], order: Array) -> tuple[dict[str, Array], Callable[[], Array]]:
    """`peaks` and `scale` of all samples, of which the one in place order[i] of all comes i-th."""
    names = dict.fromkeys(name for a in answers for name in a.peaks)
    rows = {n: [np.asarray(a.peaks.get(n, np.zeros(len(a.explained)))) for a in answers] for n in names}
    peaks = {name: np.concatenate(arrays)[order] for name, arrays in rows.items()}
    scales = [a.scale for a in answers]
    return peaks, lambda: np.concatenate([scale_of() for scale_of in scales])[order]
