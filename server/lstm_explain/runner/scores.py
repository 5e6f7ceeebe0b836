# SPDX-License-Identifier: Apache-2.0
"""Scores many changed copies of a batch by the explained value, and builds answers with a ledger from scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from lstm_explain.errors import Error, InputError, UnsupportedOperator
from lstm_explain.graph.ir import Array
from lstm_explain.ledger import Ledger
from lstm_explain.methods import GradientTimesInput
from lstm_explain.operators import BatchLayout, SamplesMixed
from lstm_explain.operators.formulas import in_single
from lstm_explain.program.account import largest_per_sample, per_sample, rows_of
from lstm_explain.program.attribution import Attribution
from lstm_explain.program.terms import scale
from lstm_explain.runner.model_runner import ExplainTask
from lstm_explain.runner.stacking import chunks, copies_alike_for, copies_for, release_trial_memory, stack, tile
from lstm_explain.target import Selection, select

LONG = 64  # From how many steps on copies that begin alike run together.
BASELINE = "(baseline)"  # the entry of the ledger for the score of the baseline


class Scores:
    """The explained value of changed inputs, for the target of the unchanged inputs.

    link: applied to the values of the output; the head is then the output itself. values: of the unchanged inputs,
    where they are known. quantity: what the link yields.
    """

    def __init__(
        self,
        task: ExplainTask,
        link: Callable[[Array], Array] | None = None,
        *,
        begin_alike: bool = False,
        values: Mapping[str, Array] | None = None,
        quantity: str = "probability",
    ) -> None:
        self.task, self.link, self._linked = task, link, quantity
        long = begin_alike and steps_in(task) >= LONG
        self._prediction = task.runner.prediction(task.head) if long else None
        self.values: Mapping[str, Array] = self._predict(task.inputs, 1) if values is None else values
        self.selection: Selection = select(task.target, self.values[task.output], task.output)
        self.explained = self.of(self.values, 1)[0]

    @property
    def batch(self) -> int:
        return self.selection.batch

    @property
    def quantity(self) -> str:
        """How the explained value relates to the output; see Explanation."""
        return self.task.head.quantity if self.link is None else self._linked

    def _predict(self, inputs: Mapping[str, Array], distance: int) -> dict[str, Array]:
        """distance: see Prediction."""
        if self._prediction is not None:
            return self._prediction(inputs, distance)
        return self.task.runner.predict(inputs, self.task.head)

    def of(self, values: Mapping[str, Array], copies: int) -> Array:
        """Returns an array [copies, batch]: the explained values of a pass over stacked copies."""
        weights, axis = self.selection.weights, self.task.target.batch_axis
        if axis is not None:
            weights = tile(weights, axis % weights.ndim, copies)
        return self._weighted(values, weights, copies)

    def _weighted(self, values: Mapping[str, Array], weights: Array, copies: int) -> Array:
        """Returns what `of` returns with other weights, of the shape of the stacked output."""
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
        """Returns an array [batch]: see `program/terms.py`. Needs one more forward pass, by our plan; zeros where
        the plan cannot run.
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
        """Returns an array [count, batch]: the explained values of `count` variants of the inputs.

        change: returns the inputs that differ, [variants, *shape] each, for the requested variants.
        """
        size = self._copies() if count > 1 and self.can_stack() else 1
        rows = [self._of_variants(len(ids), change(ids)) for ids in chunks(count, size)]
        return np.concatenate(rows) if rows else np.zeros((0, self.batch))

    def _of_variants(self, copies: int, changes: Mapping[str, Array]) -> Array:
        task = self.task
        if copies == 1:
            return self.of(self._predict({**task.inputs, **{n: c[0] for n, c in changes.items()}}, 1), 1)
        return self.of(self._predict(self.stacked(copies, changes), self.batch), copies)

    def stacked(self, copies: int, changes: Mapping[str, Array]) -> dict[str, Array]:
        """Returns the inputs of one larger batch. changes: as in `of_variants`; inputs that are missing are copied."""
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
        """Returns whether copies of this batch can run as one larger batch; found out by trying."""
        task = self.task
        key = (task.head.value, task.target.batch_axis, self.batch, tuple(task.runner.axes.values()))
        known = task.runner.stackable
        if key not in known:
            known[key] = task.target.batch_axis is not None and self._axes_are_free() and self._try_stacking()
            release_trial_memory(2 * self._bytes_per_copy())
        return known[key]

    def _axes_are_free(self) -> bool:
        """Returns whether every input has its samples along an axis of variable extent."""
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

    def _copies(self) -> int:
        """Returns how many copies to run together."""
        if self._prediction is None:
            return copies_for(self._bytes_per_copy())
        return copies_alike_for(bytes_per_copy_alike(self.batch, steps_in(self.task), *self._sizes()))

    def _bytes_per_copy(self) -> int:
        return bytes_per_copy(self.batch, steps_in(self.task), *self._sizes())

    def _sizes(self) -> tuple[int, int]:
        """Returns the units of all recurrent nodes, and the bytes of all inputs."""
        units = sum(c.hidden * len(c.directions) for c in self.task.runner.engine.cells.values())
        return units, sum(a.nbytes for a in self.task.inputs.values())


def steps_in(task: ExplainTask) -> int:
    """Returns the time steps of the longest input; 1 where no input has a time axis."""
    times = [(array, task.runner.axes[name].time) for name, array in task.inputs.items()]
    return max((array.shape[time] for array, time in times if time is not None), default=1)


def bytes_per_copy(batch: int, steps: int, units: int, input_bytes: int) -> int:
    """Returns an estimate, since ONNX Runtime does not report what it needs. units: of recurrent nodes. input_bytes: of
    all inputs.
    """
    return 4 * batch * steps * (8 * (units or 256) + 64) + 4 * input_bytes


def bytes_per_copy_alike(batch: int, steps: int, units: int, input_bytes: int) -> int:
    """Returns an estimate for a copy that runs together with others that begin alike. Arguments: see bytes_per_copy."""
    return 4 * batch * steps * (units + 64) + 3 * input_bytes


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
        tapes={}, layouts={}, standard_error=errors,
    )  # fmt: skip


def _peaks(scores: Scores, name: str, relevance: Array) -> Array:
    """Returns an array [batch]: the largest magnitude in each sample's relevance; of the whole array where samples
    share the input.
    """
    axis = scores.task.runner.axes[name].batch
    if axis is None or scores.task.target.batch_axis is None or relevance.shape[axis] != scores.batch:
        return np.repeat(largest_per_sample(relevance, None, 1), scores.batch)
    return largest_per_sample(relevance, BatchLayout(axis), scores.batch)
