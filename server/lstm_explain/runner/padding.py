# SPDX-License-Identifier: Apache-2.0
"""Finds where the sequences of a batch end, and explains each sample at its own length, so that padding has no
influence.

A sequence ends where an input of lengths says (or lengths that the graph computes for a recurrent node), where a mask
has its last entry, or where only a declared padding value follows. Samples of equal length are explained without their
padding, and padding gets relevance 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnxruntime as ort

from lstm_explain.errors import InputError
from lstm_explain.graph.ir import Array, Graph
from lstm_explain.graph.session import run_session, session_of
from lstm_explain.methods.base import BaselineMethod, Method
from lstm_explain.operators import TABLE
from lstm_explain.program.attribution import Attribution
from lstm_explain.program.axes import find_lengths, time_of
from lstm_explain.program.axis_tracing import Trace, trace
from lstm_explain.runner.model_runner import ExplainTask, ModelRunner
from lstm_explain.runner.per_sample import SampleGroup, batch_axis, combine, scores_agree, select_samples
from lstm_explain.runner.scores import Scores

Ends = dict[str, Array]  # by input, [batch]: the number of time steps of each sample
MAX_ALIGNED = 16  # axes that broadcast against each other
MAX_COMPUTED = 8  # lengths that a graph computes: each search covers the whole graph
DEPENDS_ON_PADDING = (
    "the prediction depends on the padding of shorter sequences: the answer differs from that for an unpadded sequence"
)


def explain_without_padding(
    task: ExplainTask, method: Method, explain: Callable[[ExplainTask, Method], Attribution]
) -> Attribution:
    """Returns the method's answer for every sample at its own length.

    Where padding cannot be removed (the model accepts only one length), or the prediction depends on it, the inputs are
    explained as they are; in the latter case with a note.
    """
    ends = ends_of(task)
    if not ends or not _can_be_shortened(task, ends):
        return explain(task, method)
    scores, groups = Scores(task), _by_length(ends)
    pieces = [(rows, *_shorten(task, *select_samples(task, method, scores, rows), ends, rows)) for rows in groups]
    if not all(_has_same_scores(scores, piece, rows) for rows, piece, _ in pieces):
        found = explain(task, method)
        return replace(found, notes=(*found.notes, DEPENDS_ON_PADDING))
    return combine(
        task, scores, [SampleGroup(rows, _restore_padding(task, explain(piece, how))) for rows, piece, how in pieces]
    )


def padding_cells(task: ExplainTask) -> dict[str, Array]:
    """Returns which cells are padding, by input. Methods that replace cells leave these alone."""
    kept = {}
    for name, ends in ends_of(task).items():
        axes, shape = task.runner.axes[name], task.inputs[name].shape
        assert axes.time is not None
        steps = np.arange(shape[axes.time]).reshape([-1 if i == axes.time else 1 for i in range(len(shape))])
        own = ends if axes.batch is None else ends.reshape([-1 if i == axes.batch else 1 for i in range(len(shape))])
        kept[name] = np.broadcast_to(steps >= own, shape)
    return kept


# --- the ends of sequences -------------------------------------------------------------------------------------------


def ends_of(task: ExplainTask) -> Ends:
    """Returns the ends of all inputs with a padded sample; empty where nothing is padded or nothing indicates the
    ends.
    """
    runner, batch = task.runner, _batch(task)
    sources = runner.cached(_sources, runner.engine.graph)
    if batch is None or not (sources.any or runner.padding):
        return {}
    found: Ends = {}
    for name, lengths in [
        *((of, task.inputs[lengths]) for lengths, of in sources.lengths.items()),
        *((of, _computed(runner, value, task.inputs)) for value, of in sources.computed),
        *(
            (name, _ends_by_last(task, name, task.inputs[name] != 0, batch))
            for name in sources.masks
            if _is_mask(task, name)
        ),
        *(
            (name, _ends_by_last(task, name, task.inputs[name] != value, batch))
            for name, value in runner.padding.items()
        ),
    ]:
        if lengths is not None and lengths.shape == (batch,) and name not in found and _has_rows(task, name, batch):
            steps = task.inputs[name].shape[runner.axes[name].time or 0]
            found[name] = np.clip(lengths.astype(np.int64), 1, steps)
    for name, other in sources.aligned:
        if other in found and name not in found and _has_rows(task, name, batch) and _same_steps(task, name, other):
            found[name] = found[other]
    padded = any((ends < task.inputs[name].shape[runner.axes[name].time or 0]).any() for name, ends in found.items())
    return found if padded else {}


@dataclass(frozen=True)
class Sources:
    """What may indicate the ends of sequences.

    lengths: inputs of lengths, each with the input that it describes. computed: values that recurrent nodes take as
        lengths, likewise. masks: inputs that may be masks. aligned: pairs of inputs that an operator combines.
    """

    lengths: Mapping[str, str]
    computed: list[tuple[str, str]]
    masks: list[str]
    aligned: list[tuple[str, str]]

    @property
    def any(self) -> bool:
        return bool(self.lengths or self.computed or self.masks)


def _sources(graph: Graph) -> Sources:
    traced = trace(graph)
    computed: dict[str, str] = {}
    for node in graph.nodes:
        value = node.input(4) if TABLE.states(node.op) else ""
        of = {name for name, _ in time_of(node, traced.labels)} if value else set()
        if len(of) == 1 and value not in graph.constants and len(computed) < MAX_COMPUTED:
            computed[value] = next(iter(of))
    lengths = find_lengths(graph)
    aligned = _aligned(traced)
    marks = [n for n in graph.inputs if "mask" in n.lower() or graph.type_of(n).dtype == np.dtype(bool)]
    return Sources(lengths, list(computed.items()), [n for n in marks if n in {a for a, _ in aligned}], aligned)


def _aligned(traced: Trace) -> list[tuple[str, str]]:
    few = [met for met in traced.meetings() if len(met) <= MAX_ALIGNED]
    return list(dict.fromkeys((a, b) for met in few for a, _ in met for b, _ in met if a != b))


def _computed(runner: ModelRunner, value: str, inputs: Mapping[str, Array]) -> Array | None:
    """Returns a value of the graph; None where ONNX Runtime cannot compute it."""
    session = runner.cached(_session_for, runner.engine.graph, value)
    if session is None:
        return None
    try:
        return np.asarray(run_session(session, [value], {i.name: inputs[i.name] for i in session.get_inputs()})[0])
    except Exception:  # ONNX Runtime's own types are not public
        return None


def _session_for(graph: Graph, value: str) -> ort.InferenceSession | None:
    needed, nodes = {value}, []
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            if TABLE.states(node.op):
                return None  # A recurrence finds lengths of something else than its inputs.
            nodes.append(node)
            needed.update((*node.inputs, *node.captured))
    try:
        return session_of(graph, nodes[::-1], [name for name in graph.inputs if name in needed], [value])
    except Exception:  # ONNX Runtime's own types are not public
        return None


def _is_mask(task: ExplainTask, name: str) -> bool:
    array = task.inputs[name]
    return array.dtype.kind in "biuf" and bool(np.isin(array, (0, 1)).all())


def _ends_by_last(task: ExplainTask, name: str, real: Array, batch: int) -> Array | None:
    """Returns an array [batch]: the number of time steps up to the last one that is not padding."""
    axes = task.runner.axes.get(name)
    if axes is None or axes.time is None or axes.batch is None or not _has_rows(task, name, batch):
        return None
    others = tuple(i for i in range(real.ndim) if i not in (axes.batch, axes.time))
    steps: Array = np.asarray(np.any(real, axis=others))
    steps = steps if axes.batch < axes.time else steps.T  # [batch, time]
    return np.where(steps.any(axis=1), steps.shape[1] - np.argmax(steps[:, ::-1], axis=1), 0)


def _batch(task: ExplainTask) -> int | None:
    """Returns the number of samples, if the inputs with time steps agree on it."""
    if task.target.batch_axis is None:
        return None
    extents = set()
    for name, axes in task.runner.axes.items():
        array = task.inputs[name]
        if axes.time is not None and axes.batch is not None and axes.batch < array.ndim:
            extents.add(array.shape[axes.batch])
    return extents.pop() if len(extents) == 1 else None


def _has_rows(task: ExplainTask, name: str, batch: int) -> bool:
    axes, shape = task.runner.axes[name], task.inputs[name].shape
    return axes.time is not None and axes.time < len(shape) and batch_axis(task, name, batch) is not None


def _same_steps(task: ExplainTask, name: str, other: str) -> bool:
    """Returns whether two inputs have the same number of time steps."""
    a, b = (task.inputs[n].shape[task.runner.axes[n].time or 0] for n in (name, other))
    return a == b


# --- removing padding, and restoring it ------------------------------------------------------------------------------


def _can_be_shortened(task: ExplainTask, ends: Ends) -> bool:
    graph = task.runner.engine.graph
    shapes = {name: graph.type_of(name).shape for name in ends}
    return all(s is None or not isinstance(s[task.runner.axes[n].time or 0], int) for n, s in shapes.items())


def _by_length(ends: Ends) -> list[list[int]]:
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, lengths in enumerate(zip(*(e.tolist() for e in ends.values()), strict=True)):
        groups.setdefault(lengths, []).append(row)
    return list(groups.values())


def _shorten(
    task: ExplainTask, piece: ExplainTask, method: Method, ends: Ends, rows: list[int]
) -> tuple[ExplainTask, Method]:
    """piece: the task for these samples, which have equal length."""

    def short(arrays: Mapping[str, Array]) -> dict[str, Array]:
        return {n: _first(task, n, a, int(ends[n][rows[0]])) if n in ends else a for n, a in arrays.items()}

    if isinstance(method, BaselineMethod) and isinstance(method.baseline, Mapping):
        method = method.with_baseline(short({n: np.asarray(a) for n, a in method.baseline.items()}))
    return replace(piece, inputs=short(piece.inputs), groups=short(piece.groups)), method


def _first(task: ExplainTask, name: str, array: Array, steps: int) -> Array:
    return np.ascontiguousarray(array[(slice(None),) * (task.runner.axes[name].time or 0) + (slice(steps),)])


def _has_same_scores(scores: Scores, piece: ExplainTask, rows: list[int]) -> bool:
    try:
        return scores_agree(scores, rows, Scores(piece).explained)
    except InputError:
        return False


def _restore_padding(task: ExplainTask, found: Attribution) -> Attribution:
    def long(arrays: Mapping[str, Array]) -> dict[str, Array]:
        made = {}
        for name, array in arrays.items():
            time, whole = task.runner.axes[name].time, task.inputs[name].shape
            made[name] = array
            if time is not None and array.shape[time] < whole[time]:
                behind = [(0, whole[i] - n if i == time else 0) for i, n in enumerate(array.shape)]
                made[name] = np.pad(array, behind)
        return made

    return replace(found, relevance=long(found.relevance), standard_error=long(found.standard_error))
