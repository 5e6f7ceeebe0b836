"""Runs a model on many changed inputs: its axes, cached sessions, scores of variants, and results with a ledger."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import onnxruntime as ort

from lstm_explain.cancellation import FORWARD, may_take_long
from lstm_explain.errors import Error, InputError, UnsupportedOperator
from lstm_explain.graph.ir import Array, Graph
from lstm_explain.graph.node_editing import make
from lstm_explain.graph.session import run_session, runtime_message, session_of
from lstm_explain.ledger import Ledger
from lstm_explain.methods import Gradient, GradientTimesInput
from lstm_explain.operators import BatchLayout, SamplesMixed
from lstm_explain.operators.formulas import in_single
from lstm_explain.program.account import largest_per_sample, per_sample, rows_of
from lstm_explain.program.attribution import Attribution
from lstm_explain.program.axes import Axes, find_axes
from lstm_explain.program.engine import Engine
from lstm_explain.program.head import Head
from lstm_explain.program.reachability import live_values, path
from lstm_explain.program.terms import scale
from lstm_explain.runner.embedding_inputs import EmbeddingInputs, with_embedding_inputs
from lstm_explain.runner.stacking import chunks, copies_for, release_trial_memory, stack, tile
from lstm_explain.target import Selection, Target, select

T = TypeVar("T")
BASELINE = "(baseline)"  # the entry of the ledger for the score of the baseline


class ModelRunner:
    """Belongs to one model and is kept with it. Safe to call from several threads."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.axes: dict[str, Axes] = find_axes(engine.graph)
        self.padding: dict[str, float] = {}
        self._lock = threading.Lock()
        self._cache: dict[tuple[object, ...], Any] = {}
        self.stackable: dict[tuple[object, ...], bool] = {}
        self.layouts: dict[tuple[object, ...], dict[str, BatchLayout]] = {}

    def cached(self, compute: Callable[..., T], *arguments: Hashable) -> T:
        """compute(*arguments), which must depend on the arguments only; cached unless it raises."""
        key = (compute, *arguments)
        with self._lock:
            if key not in self._cache:
                may_take_long()
                self._cache[key] = compute(*arguments)
            known: T = self._cache[key]
            return known

    def embedding_inputs(self, value: str) -> EmbeddingInputs:
        return self.cached(with_embedding_inputs, self.engine, value)

    def reachable(self, value: str) -> list[str]:
        """Inputs that `value` depends on by more than a length or a comparison, whether supported or not."""
        return self.cached(_reachable, self.engine.graph, value)

    def predict(self, inputs: Mapping[str, Array], head: Head) -> dict[str, Array]:
        """Every output and the explained value, by ONNX Runtime or else by our own plan. Raises InputError."""
        session = self.cached(_session_of, self.engine, head)
        if session is None:
            return self.engine.program(head, Gradient()).forward(inputs).values
        names = [o.name for o in session.get_outputs()]
        try:
            with FORWARD:
                feeds = {i.name: np.asarray(inputs[i.name]) for i in session.get_inputs()}
                values = run_session(session, names, feeds)
        except Exception as error:  # ONNX Runtime's exception types are not public
            raise InputError(f"the model cannot run on these inputs: {runtime_message(error)}") from error
        return {**inputs, **dict(zip(names, values, strict=True))}


def _reachable(graph: Graph, value: str) -> list[str]:
    backward_nodes = path(graph, live_values(graph, graph.inputs), [value], strict=False)
    read = {s.node.inputs[i] for s in backward_nodes for i in s.live} | {
        name for s in backward_nodes for name in s.captured
    }
    return [name for name in graph.inputs if name in read]


def _session_of(engine: Engine, head: Head) -> ort.InferenceSession | None:
    """A session over the whole graph that also outputs the explained value; None where ONNX Runtime cannot run it."""
    graph, shapes = engine.graph, head.keep(engine.graph)
    if not engine.runtime_runs:
        return None
    if any(cell.node.op == "RNN" for cell in engine.cells.values()) and _can_run(engine, head):
        return None  # ONNX Runtime's RNN adds in another order where the batch has one sample.
    outputs = tuple(dict.fromkeys([*graph.outputs, head.value, *shapes]))
    nodes = [*graph.nodes, *(make("Shape", [n.removesuffix("::shape")], [n], 13) for n in shapes)]
    read = {name for n in nodes for name in (*n.inputs, *n.captured)} | set(outputs)
    try:
        return session_of(graph, nodes, [name for name in graph.inputs if name in read], outputs)
    except Exception:  # ONNX Runtime may lack a kernel for a type; if our plan cannot run it either, that is reported.
        return None


def _can_run(engine: Engine, head: Head) -> bool:
    """Whether our own plan can run the graph."""
    try:
        engine.program(head, Gradient())
    except UnsupportedOperator:
        return False
    return True


@dataclass(frozen=True)
class ExplainTask:
    """One question: the arguments of `explain`, with checked inputs.

    context_size: the number of samples in the inputs where only one of them is explained, as if all were one sample.
    """

    runner: ModelRunner
    inputs: dict[str, Array]
    output: str
    head: Head
    target: Target
    context_size: int = 1


class Scores:
    """The explained value of changed inputs, for the target of the unchanged inputs.

    link: applied to the values of the output; the head is then the output itself.
    """

    def __init__(self, task: ExplainTask, link: Callable[[Array], Array] | None = None) -> None:
        self.task, self.link = task, link
        self.values = task.runner.predict(task.inputs, task.head)
        self.selection: Selection = select(task.target, self.values[task.output], task.output)
        self.explained = self.of(self.values, 1)[0]

    @property
    def batch(self) -> int:
        return self.selection.batch

    @property
    def quantity(self) -> str:
        """What the explained value is of the output; see Explanation."""
        return self.task.head.quantity if self.link is None else "probability"

    def of(self, values: Mapping[str, Array], copies: int) -> Array:
        """[copies, batch]: the explained values of a pass over stacked copies."""
        weights, axis = self.selection.weights, self.task.target.batch_axis
        if axis is not None:
            weights = tile(weights, axis % weights.ndim, copies)
        return self._weighted(values, weights, copies)

    def _weighted(self, values: Mapping[str, Array], weights: Array, copies: int) -> Array:
        """`of` with other weights, of the shape of the stacked output."""
        value = values[self.task.head.value]
        if self.link is not None:
            value = self.link(value)
        axis, count = self.task.target.batch_axis, copies * self.batch
        if axis is None:
            return self._summed(values, value, weights, None, 1)[None]
        axis %= weights.ndim
        try:
            return self._summed(values, value, weights, BatchLayout(axis) if count > 1 else None, count).reshape(
                copies, -1
            )
        except SamplesMixed:
            rows = [self._summed(values, value, w, None, 1)[0] for w in _weights_per_sample(weights, axis)]
            return np.array(rows).reshape(copies, -1)

    def _summed(
        self, values: Mapping[str, Array], value: Array, weights: Array, layout: BatchLayout | None, count: int
    ) -> Array:
        graph = self.task.runner.engine.graph
        inside, layout = self.task.head.through(graph, dict(values), weights, layout, count)
        return per_sample(inside * value, layout, count)

    def scale(self) -> Array:
        """[batch]: see `program/terms.py`. Needs one more forward pass, by our plan; zeros where the plan cannot
        run.
        """
        task, axis, weights = self.task, self.task.target.batch_axis, self.selection.weights
        layout = None if axis is None or self.batch == 1 else BatchLayout(axis % weights.ndim)
        try:
            program = task.runner.engine.program(task.head, GradientTimesInput())
            plan, values = program.plan, program.forward(task.inputs).values
            inside, layout = task.head.through(plan.graph, values, weights, layout, self.batch)
            return scale(plan, values, task.head.value, inside, layout, self.batch)
        except (Error, SamplesMixed):
            return np.zeros(self.batch)

    def of_variants(self, count: int, change: Callable[[range], dict[str, Array]]) -> Array:
        """[count, batch]: the explained values of `count` variants of the inputs.

        change: returns the inputs that differ, [variants, *shape] each, for the requested variants.
        """
        size = copies_for(self._bytes_per_copy()) if count > 1 and self.can_stack() else 1
        rows = [self._of_variants(len(ids), change(ids)) for ids in chunks(count, size)]
        return np.concatenate(rows) if rows else np.zeros((0, self.batch))

    def _of_variants(self, copies: int, changes: Mapping[str, Array]) -> Array:
        task = self.task
        if copies == 1:
            return self.of(task.runner.predict({**task.inputs, **{n: c[0] for n, c in changes.items()}}, task.head), 1)
        return self.of(task.runner.predict(self.stacked(copies, changes), task.head), copies)

    def stacked(self, copies: int, changes: Mapping[str, Array]) -> dict[str, Array]:
        """The inputs of one larger batch. changes: as in `of_variants`; inputs that are missing are copied."""
        stacked = {}
        for name, array in self.task.inputs.items():
            axis = self.task.runner.axes[name].batch
            assert axis is not None
            if name in changes:
                rows = rows_of(array.shape, BatchLayout(axis), self.batch)
                stacked[name] = stack(changes[name].reshape(copies, *rows), array.shape, axis)
            else:
                stacked[name] = tile(array, axis, copies)
        return stacked

    def can_stack(self) -> bool:
        """Whether copies of this batch can run as one larger batch; found out by trying."""
        task = self.task
        key = (task.head.value, task.target.batch_axis, self.batch, tuple(task.runner.axes.values()))
        known = task.runner.stackable
        if key not in known:
            known[key] = task.target.batch_axis is not None and self._axes_are_free() and self._try_stacking()
            release_trial_memory(2 * self._bytes_per_copy())
        return known[key]

    def _axes_are_free(self) -> bool:
        """Whether every input has its samples along an axis of variable extent."""
        graph = self.task.runner.engine.graph
        for name, array in self.task.inputs.items():
            axis, shape = self.task.runner.axes[name].batch, graph.type_of(name).shape
            if axis is None or axis >= array.ndim or array.shape[axis] != self.batch:
                return False
            if shape is not None and isinstance(shape[axis], int):
                return False
        return True

    def _try_stacking(self) -> bool:
        """Runs the batch between two different copies, and checks that each has the same scores as on its own.

        A model that sorts samples by content cannot leave all three in place. The last copy has its samples in another
        order, which reveals whether they lie along the expected axis.
        """
        task, axis = self.task, self.task.target.batch_axis
        assert axis is not None
        other = {name: self._rotated_in_time(name, array) for name, array in task.inputs.items()}
        weights = self.selection.weights
        try:
            expected = self._weighted(task.runner.predict(other, task.head), weights, 1)[0]
            copies = {
                n: np.stack([other[n], array, self._rotated_samples(n, other[n])]) for n, array in task.inputs.items()
            }
            values = task.runner.predict(self.stacked(3, copies), task.head)
            actual = self._weighted(values, np.concatenate([weights, weights, np.roll(weights, 1, axis)], axis), 3)
        except (InputError, UnsupportedOperator, ValueError):
            return False
        outputs = np.stack([expected, self.explained, np.roll(expected, 1)])
        return actual.shape == outputs.shape and bool(np.allclose(actual, outputs, rtol=1e-3, atol=1e-5))

    def _rotated_samples(self, name: str, array: Array) -> Array:
        """The last sample first."""
        return np.roll(array, 1, self.task.runner.axes[name].batch)

    def _rotated_in_time(self, name: str, array: Array) -> Array:
        """The last time step first."""
        time = self.task.runner.axes[name].time
        return array if time is None or time >= array.ndim else np.roll(array, 1, time)

    def _bytes_per_copy(self) -> int:
        task = self.task
        steps = max([a.shape[t] for n, a in task.inputs.items() if (t := task.runner.axes[n].time) is not None] + [1])
        units = sum(c.hidden * len(c.directions) for c in task.runner.engine.cells.values())
        return bytes_per_copy(self.batch, steps, units, sum(a.nbytes for a in task.inputs.values()))


def bytes_per_copy(batch: int, steps: int, units: int, input_bytes: int) -> int:
    """An estimate, since ONNX Runtime does not report what it needs. units: of recurrent nodes. input_bytes: of all
    inputs.
    """
    return 4 * batch * steps * (8 * (units or 256) + 64) + 4 * input_bytes


def _weights_per_sample(weights: Array, axis: int) -> list[Array]:
    alone = []
    for sample in range(weights.shape[axis]):
        index = (slice(None),) * axis + (sample,)
        only = np.zeros_like(weights)
        only[index] = weights[index]
        alone.append(only)
    return alone


def attribution_of(
    scores: Scores,
    relevance: Mapping[str, Array],
    total: Array,
    baseline: Array | None,
    standard_error: Mapping[str, Array] | None = None,
) -> Attribution:
    """Builds the answer with its ledger: explained = inputs + score of the baseline (absorbed) + residual.

    total: [batch], all relevance. baseline: [batch], the score of the baseline, if there is one. For
    IntegratedGradients the residual is known as the convergence delta.
    """
    arrays = (*scores.task.inputs.values(), scores.values[scores.task.output])
    double = any(a.dtype == np.float64 for a in arrays)

    def rounded(array: Array) -> Array:
        return array.astype(np.float64, copy=False) if double else in_single(array)

    full = {n: rounded(relevance.get(n, np.zeros(a.shape))) for n, a in scores.task.inputs.items()}
    absorbed = np.zeros_like(total) if baseline is None else baseline
    by_node = {} if baseline is None else {BASELINE: baseline}
    residual = scores.explained - total - absorbed
    ledger = Ledger(total, np.zeros_like(total), absorbed, residual, by_node)
    errors = {name: rounded(array) for name, array in (standard_error or {}).items()}
    peaks = {name: _peaks(scores, name, array) for name, array in full.items()}

    def scale() -> Array:
        """What is shared out is the difference: it may be large although the score is next to nothing."""
        return np.maximum(np.abs(scores.explained - absorbed), scores.scale())

    return Attribution(
        full, rounded(scores.explained), {}, ledger, peaks, scale, scores.selection, scores.values, scores.quantity,
        standard_error=errors,
    )  # fmt: skip


def _peaks(scores: Scores, name: str, relevance: Array) -> Array:
    """[batch]: the largest magnitude in each sample's relevance; of the whole array where samples share the input."""
    axis = scores.task.runner.axes[name].batch
    if axis is None or scores.task.target.batch_axis is None or relevance.shape[axis] != scores.batch:
        return np.repeat(largest_per_sample(relevance, None, 1), scores.batch)
    return largest_per_sample(relevance, BatchLayout(axis), scores.batch)
