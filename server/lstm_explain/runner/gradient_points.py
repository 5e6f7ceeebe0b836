# SPDX-License-Identifier: Apache-2.0
"""Evaluates gradients at points near the inputs, for IntegratedGradients and SmoothGrad, and assigns them to
samples.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.kernels import buffer_pool, on_lines
from lstm_explain.methods import Gradient
from lstm_explain.methods.base import SingleBaseline
from lstm_explain.operators import BatchLayout, SamplesMixed
from lstm_explain.program.account import per_sample, rows_of
from lstm_explain.program.axis_tracing import trace
from lstm_explain.program.passes import ForwardPass, bytes_of
from lstm_explain.program.propagation import layouts_of, walked_back
from lstm_explain.runner.baselines import resolve_baselines
from lstm_explain.runner.model_runner import ExplainTask
from lstm_explain.runner.scores import Scores
from lstm_explain.runner.stacking import chunks, copies_for, release_trial_memory, stack, tile
from lstm_explain.target import Selection

Points = Callable[[str, range], Array]
Rows = tuple[int, int, int]


class GradientPoints:
    """Evaluates gradients at the floating-point inputs and at the vectors that integer inputs look up.

    at: by entry, the value at the task's inputs, as rows: [before, batch, after], with 1 for the batch where there is
    only one sample. A graph may look vectors up for samples in another order (sorted by length), or fold parts of a
    sample into the samples' axis; a backward pass finds where each sample's vectors lie. Raises SamplesMixed where that
    fails for a batch: its samples must be explained separately.
    """

    def __init__(self, task: ExplainTask) -> None:
        self.task, self.scores = task, Scores(task)
        self.embedding_inputs = task.runner.embedding_inputs(task.head.value)
        self.engine = self.embedding_inputs.engine
        self.inputs = {**task.inputs, **self.embedding_inputs.lookup(task.runner.engine, task.inputs)}
        self.program = self.engine.program(task.head, Gradient())
        self.stacks = self.scores.can_stack()
        self.layouts = self._find_layouts()
        if self.scores.batch > 1 and not (self.layouts and self._layouts_fit()):
            raise SamplesMixed
        self.stacks = self.stacks and bool(self.layouts)
        self.rows = {name: self._rows(name, self.inputs[name]) for name in self.embedding_inputs.entries}
        self.at = {name: self.inputs[name].reshape(rows) for name, rows in self.rows.items()}

    def _layouts_fit(self) -> bool:
        """Returns whether every array has positions for as many samples as the output; an array that the graph repeats
        has not.
        """
        shapes = ((self.inputs[name].shape, layout) for name, layout in self.layouts.items())
        return all(shape[layout.axis] % (self.scores.batch * layout.inner) == 0 for shape, layout in shapes)

    def _rows(self, name: str, array: Array) -> Rows:
        return rows_of(array.shape, self.layouts.get(name), self.scores.batch)

    def _find_layouts(self) -> dict[str, BatchLayout]:
        """Returns the layout of samples in every entry and input; empty where it is unknown, or where there is only one
        sample.
        """
        task = self.task
        if task.target.batch_axis is None or (self.scores.batch == 1 and not self.stacks):
            return {}
        shapes = tuple((name, array.shape) for name, array in task.inputs.items())
        key = (task.head.value, task.target.batch_axis, shapes, tuple(task.runner.axes.values()))
        known = task.runner.layouts
        if key not in known:
            if len(known) >= MAX_SHAPES:
                known.clear()
            known[key] = self._traced_layouts(2 if self.stacks else 1, task.target.batch_axis)
            release_trial_memory(2 * self._bytes_per_copy)
        return known[key]

    def _traced_layouts(self, copies: int, axis: int) -> dict[str, BatchLayout]:
        """Finds the layouts with a backward pass from copies of the batch."""
        task, embedding_inputs = self.task, self.embedding_inputs
        given = task.inputs if copies == 1 else self.scores.stacked(copies, {})
        inputs = {**given, **embedding_inputs.lookup(task.runner.engine, given)}
        weights = self.scores.selection.weights
        weights, count = tile(weights, axis % weights.ndim, copies), copies * self.scores.batch
        done = self.program.forward(inputs)
        try:
            layouts = layouts_of(
                self.program, done, Selection(weights, count, None, None), axis, embedding_inputs.entries
            )
            layouts |= embedding_inputs.token_layouts(task.runner.engine, given, layouts, count)
        except SamplesMixed:
            return {}
        for name in task.inputs:
            own = task.runner.axes[name].batch
            if own is not None and layouts.setdefault(name, BatchLayout(own)) != BatchLayout(own):
                return {}
        return layouts if all(name in layouts for name in embedding_inputs.entries) else {}

    def noise_rows(self, name: str) -> Rows | None:
        """Returns the rows of an entry in which noise is drawn for one sample and applied to all of them.

        These are the rows of `at`, except where one of several samples is explained within the whole batch: then their
        axis is what the graph shows, whatever their order along it. None where the graph does not show it.
        """
        shape, context_size = self.inputs[name].shape, self.task.context_size
        if context_size == 1:
            return self.rows[name]
        axis = self._sample_axis(name)
        if axis is None:
            return rows_of(shape, None, 1) if name in self.task.inputs else None
        return rows_of(shape, BatchLayout(axis), context_size) if shape[axis] == context_size else None

    def ranges(self, name: str, rows: Rows) -> Array:
        """Returns the largest minus the smallest value over time of each feature and sample; it broadcasts to these
        rows.

        Features may have different units, so they share no range. Where an entry has no time axis of its own, and for
        the dimensions of embeddings, which share a scale, the range is that of all entries of a sample.
        """
        array, layout = self.inputs[name], self.layouts.get(name)
        time = self.task.runner.axes[name].time if name in self.task.inputs else None
        if time is None or array.shape[time] == 1 or (layout is not None and layout.axis == time):
            return np.asarray(np.ptp(array.reshape(rows), axis=(0, 2), keepdims=True))
        return np.broadcast_to(np.ptp(array, axis=time, keepdims=True), array.shape).reshape(rows)

    def _sample_axis(self, name: str) -> int | None:
        """Returns the axis of an entry that runs along the samples of the inputs that it is looked up from."""
        runner = self.task.runner
        if name in self.task.inputs:
            return runner.axes[name].batch
        samples = {(n, axes.batch) for n, axes in runner.axes.items() if axes.batch is not None}
        label = runner.cached(trace, runner.engine.graph).labels.get(name, ())
        found = [axis for axis, origins in enumerate(label) if origins & samples]
        return found[0] if len(found) == 1 else None

    def baseline_entries(self, baseline: SingleBaseline) -> dict[str, Array]:
        """Returns the values of the entries at the baseline, as rows; for tokens without a baseline, vectors of
        zeros.
        """
        inputs = self.task.inputs
        given = resolve_baselines(baseline, inputs, self.task.runner.reachable(self.task.head.value))
        start = {name: np.zeros_like(array) for name, array in self.at.items()}
        if any(name not in self.at for name in given):
            vectors = self.embedding_inputs.lookup(self.task.runner.engine, {**inputs, **given})
            start |= {name: array.reshape(self.rows[name]) for name, array in vectors.items()}
        return start | {name: array.reshape(self.rows[name]) for name, array in given.items() if name in self.at}

    def score(self, entries: Mapping[str, Array]) -> Array:
        """Returns an array [batch]: the explained value with these entries."""
        return self.scores.of(self._pass({name: array[None] for name, array in entries.items()}, 1).values, 1)[0]

    def broadcast(self, name: str, numbers: Array) -> Array:
        """[n, batch] with the axes of the entry's rows appended."""
        return numbers[:, None, : self.rows[name][1], None]

    def on_line(self, name: str, start: Array, difference: Array, positions: Array) -> Array:
        """start + position * difference for every one of `positions`, [n, batch], at least in float32."""
        kind = np.result_type(self.at[name].dtype, np.float32)
        points = buffer_pool.maker((len(positions), *start.shape), kind)()
        given = (start, difference, positions[:, : start.shape[1]])
        on_lines.points(*(np.ascontiguousarray(a, np.float64) for a in given), points)
        return points

    def score_at(self, on_line: Callable[[str, Array], Array], positions: Array) -> Array:
        """Returns the explained value at `positions`, with the same shape [n, batch]."""
        rows = []
        for ids in chunks(len(positions), self._size(len(positions))):
            entries = {
                n: on_line(n, positions[ids.start : ids.stop]).astype(a.dtype, copy=False) for n, a in self.at.items()
            }
            rows.append(self.scores.of(self._pass(entries, len(ids)).values, len(ids)))
        return np.concatenate(rows) if rows else np.zeros(positions.shape)

    def mean_gradient(self, points: Points, weights: Array) -> dict[str, Array]:
        """Returns the sum of the gradients at `points`, weighted by [points, batch], as rows by entry."""
        total = {name: np.zeros(array.shape) for name, array in self.at.items()}
        for ids in chunks(len(weights), self._size(len(weights))):
            entries = {name: points(name, ids).astype(array.dtype, copy=False) for name, array in self.at.items()}
            for name, gradients in self._gradients(entries, len(ids)).items():
                own = np.ascontiguousarray(weights[ids.start : ids.stop, : gradients.shape[2]])
                on_lines.add_weighted(gradients, own, total[name])
        return total

    def _size(self, count: int) -> int:
        return copies_for(self._bytes_per_copy) if count > 1 and self.stacks else 1

    @functools.cached_property
    def _bytes_per_copy(self) -> int:
        shapes, known = tuple((name, array.shape) for name, array in self.inputs.items()), self.task.runner.pass_bytes
        key = (self.task.head.value, shapes)
        if key not in known:
            if len(known) >= MAX_SHAPES:
                known.clear()
            known[key] = 3 * bytes_of(self.program.forward(self.inputs))
        return known[key]

    def _gradients(self, entries: Mapping[str, Array], copies: int) -> dict[str, Array]:
        """Returns gradients [before, copies, batch, after] by entry."""
        weights, axis = self.scores.selection.weights, self.task.target.batch_axis
        if copies > 1:
            assert axis is not None
            weights = tile(weights, axis % weights.ndim, copies)
        done = self._pass(entries, copies)
        # Samples do not mix, so the gradient of their sum contains each one's own, and one backward pass suffices.
        back = walked_back(self.program, done, Selection(weights, 1, None, None))
        return {name: self._apart(self.program.arrived(back, name), name, copies) for name in entries}

    def _apart(self, gradient: Array | None, name: str, copies: int) -> Array:
        """Returns the gradient at all copies with an axis for them."""
        before, batch, after = self.rows[name]
        if gradient is None:
            return np.zeros((before, copies, batch, after), np.float32)
        return np.ascontiguousarray(gradient).reshape(before, copies, batch, after)

    def _pass(self, entries: Mapping[str, Array], copies: int) -> ForwardPass:
        """entries: [copies, *rows]."""
        if copies == 1:
            inputs = self.inputs | {n: array.reshape(self.inputs[n].shape) for n, array in entries.items()}
        else:
            inputs = {name: self._stacked(name, entries, copies) for name in self.inputs}
        return self.program.forward(inputs)

    def _stacked(self, name: str, entries: Mapping[str, Array], copies: int) -> Array:
        array = self.inputs[name]
        if name in entries:
            return stack(entries[name], array.shape, self.layouts[name].axis)
        return tile(array, self.task.runner.axes[name].batch or 0, copies)

    def by_input(self, parts: Mapping[str, Array], *, norms: bool = False) -> dict[str, Array]:
        """Returns the relevance at the entries, as rows, summed up to relevance at the inputs: a token gets the sum, or
        norm, of its vectors.
        """
        at = {name: array.reshape(self.inputs[name].shape) for name, array in parts.items()}
        tokens = self.embedding_inputs.tokens(self.task.runner.engine, self.task.inputs, at, norms=norms)
        floats = {name: array for name, array in at.items() if name in self.task.inputs}
        return floats | {name: array + floats.get(name, 0) for name, array in tokens.items()}

    def total(self, relevance: Mapping[str, Array]) -> Array:
        """Returns an array [batch]: the total relevance of each sample at the inputs."""
        rows = [per_sample(array, self.layouts.get(name), self.scores.batch) for name, array in relevance.items()]
        return sum(rows, np.zeros(self.scores.batch))


MAX_SHAPES = 256
