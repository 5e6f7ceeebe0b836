"""Where IntegratedGradients and SmoothGrad take gradients, and which sample each of them belongs to."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.kernels import buffer_pool
from lstm_explain.methods import Gradient
from lstm_explain.methods.base import Baseline
from lstm_explain.operators import BatchLayout, SamplesMixed
from lstm_explain.program.account import per_sample, rows_of
from lstm_explain.program.axis_tracing import trace
from lstm_explain.program.passes import ForwardPass, bytes_of
from lstm_explain.program.propagation import explain_one, layouts_of
from lstm_explain.runner.baselines import given_baselines
from lstm_explain.runner.model_runner import ExplainTask, Scores
from lstm_explain.runner.stacking import chunks, copies_for, give_back, stack, tile, unstack
from lstm_explain.target import Selection

Points = Callable[[str, range], Array]
Rows = tuple[int, int, int]


class GradientPoints:
    """Where gradients are taken: at the floating-point inputs and at the vectors that integer inputs look up.

    at: by entry, the value that the task's inputs give, as rows: [before, batch, after], or with 1 for the batch where
    there is one sample only. A graph may look vectors up for samples in another order than they came in (sorted by
    length), or fold parts of a sample into the axis of samples; so a walk back finds where each sample's vectors lie.
    Raises SamplesMixed where that cannot be told of a batch: its samples are to be explained one by one.
    """

    def __init__(self, task: ExplainTask) -> None:
        self.task, self.scores = task, Scores(task)
        self.embedding_inputs = task.runner.embedding_inputs(task.head.value)
        self.engine = self.embedding_inputs.engine
        self.inputs = {**task.inputs, **self.embedding_inputs.looked_up(task.runner.engine, task.inputs)}
        self.program = self.engine.program(task.head, Gradient())
        self.stacks = self.scores.stacks()
        self.layouts = self._found_layouts()
        if self.scores.batch > 1 and not (self.layouts and self._all_fit()):
            raise SamplesMixed
        self.stacks = self.stacks and bool(self.layouts)
        self.rows = {name: self._rows(name, self.inputs[name]) for name in self.embedding_inputs.entries}
        self.at = {name: self.inputs[name].reshape(rows) for name, rows in self.rows.items()}

    def _all_fit(self) -> bool:
        """Whether every array has places for as many samples as the output: one that a graph repeats has not."""
        shapes = ((self.inputs[name].shape, layout) for name, layout in self.layouts.items())
        return all(shape[layout.axis] % (self.scores.batch * layout.inner) == 0 for shape, layout in shapes)

    def _rows(self, name: str, array: Array) -> Rows:
        return rows_of(array.shape, self.layouts.get(name), self.scores.batch)

    def _found_layouts(self) -> dict[str, BatchLayout]:
        """Where the samples lie in every entry and input; nothing where that is lost, or where there is one sample
        only."""
        task = self.task
        if task.target.batch_axis is None or (self.scores.batch == 1 and not self.stacks):
            return {}
        shapes = tuple((name, array.shape) for name, array in task.inputs.items())
        key = (task.head.value, task.target.batch_axis, shapes, tuple(task.runner.axes.values()))
        known = task.runner.layouts
        if key not in known:
            if len(known) >= MOST_SHAPES:
                known.clear()
            known[key] = self._traced_layouts(2 if self.stacks else 1, task.target.batch_axis)
            give_back(2 * self._bytes_a_copy)
        return known[key]

    def _traced_layouts(self, copies: int, axis: int) -> dict[str, BatchLayout]:
        """A walk back from copies of the batch: where it comes out, and through which axes."""
        task, embedding_inputs = self.task, self.embedding_inputs
        given = task.inputs if copies == 1 else self.scores.stacked(copies, {})
        inputs = {**given, **embedding_inputs.looked_up(task.runner.engine, given)}
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
        """The rows of an entry in which noise is drawn for one sample and met by all.

        Those of `at`, but where one of several samples is explained in the company of the others: their axis is then
        what the graph shows, whatever order they have along it. None where it does not show that.
        """
        shape, company = self.inputs[name].shape, self.task.company
        if company == 1:
            return self.rows[name]
        axis = self._axis_of_samples(name)
        if axis is None:
            return rows_of(shape, None, 1) if name in self.task.inputs else None
        return rows_of(shape, BatchLayout(axis), company) if shape[axis] == company else None

    def _axis_of_samples(self, name: str) -> int | None:
        """Of an entry; the axis that runs along the samples of the inputs behind it."""
        runner = self.task.runner
        if name in self.task.inputs:
            return runner.axes[name].batch
        samples = {(n, axes.batch) for n, axes in runner.axes.items() if axes.batch is not None}
        label = runner.once(trace, runner.engine.graph).labels.get(name, ())
        found = [axis for axis, origins in enumerate(label) if origins & samples]
        return found[0] if len(found) == 1 else None

    def start(self, baseline: Baseline) -> dict[str, Array]:
        """The entries' values at the baseline, as rows; vectors of zeros for tokens without one."""
        inputs = self.task.inputs
        given = given_baselines(baseline, inputs, self.task.runner.reachable(self.task.head.value))
        start = {name: np.zeros_like(array) for name, array in self.at.items()}
        if any(name not in self.at for name in given):
            looked_up = self.embedding_inputs.looked_up(self.task.runner.engine, {**inputs, **given})
            start |= {name: array.reshape(self.rows[name]) for name, array in looked_up.items()}
        return start | {name: array.reshape(self.rows[name]) for name, array in given.items() if name in self.at}

    def score(self, entries: Mapping[str, Array]) -> Array:
        """[batch]: the explained value with these entries."""
        return self.scores.of(self._pass({name: array[None] for name, array in entries.items()}, 1).values, 1)[0]

    def beside(self, name: str, numbers: Array) -> Array:
        """[n, batch] with the axes of the entry's rows behind the first."""
        return numbers[:, None, : self.rows[name][1], None]

    def on_line(self, name: str, start: Array, way: Array, places: Array) -> Array:
        """start + place * way for every one of `places`, [n, batch], in the entry's type."""
        moved = times(self.beside(name, places), way)
        points = buffer_pool.maker(moved.shape, self.at[name].dtype)()
        return np.add(moved, start, out=points, casting="same_kind")

    def score_at(self, on_line: Callable[[str, Array], Array], places: Array) -> Array:
        """The explained value at `places`, [n, batch] like these."""
        rows = []
        for ids in chunks(len(places), self._size(len(places))):
            entries = {
                n: on_line(n, places[ids.start : ids.stop]).astype(a.dtype, copy=False) for n, a in self.at.items()
            }
            rows.append(self.scores.of(self._pass(entries, len(ids)).values, len(ids)))
        return np.concatenate(rows) if rows else np.zeros(places.shape)

    def mean_gradient(self, points: Points, weights: Array) -> dict[str, Array]:
        """By entry, the sum of the gradients at `points`, weighted by [points, batch]; as rows."""
        total = {name: np.zeros(array.shape) for name, array in self.at.items()}
        for ids in chunks(len(weights), self._size(len(weights))):
            entries = {name: points(name, ids).astype(array.dtype, copy=False) for name, array in self.at.items()}
            for name, gradient in self._gradients(entries, len(ids)).items():
                total[name] += times(self.beside(name, weights[ids.start : ids.stop]), gradient).sum(axis=0)
        return total

    def _size(self, wanted: int) -> int:
        return copies_for(self._bytes_a_copy) if wanted > 1 and self.stacks else 1

    @functools.cached_property
    def _bytes_a_copy(self) -> int:
        done = self.program.forward(self.inputs)
        return 3 * bytes_of(done)

    def _gradients(self, entries: Mapping[str, Array], copies: int) -> dict[str, Array]:
        """By entry, [copies, *rows]."""
        weights, axis = self.scores.selection.weights, self.task.target.batch_axis
        if copies > 1:
            assert axis is not None
            weights = tile(weights, axis % weights.ndim, copies)
        done = self._pass(entries, copies)
        # Samples do not mix, so the gradient of their sum holds each one's own, and one walk does for all.
        gradient = explain_one(self.program, done, Selection(weights, 1, None, None), None).relevance
        return {name: unstack(gradient[name], copies, self.rows[name]) for name in entries}

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
        """Numbers at the entries, as rows, as numbers at the inputs: a token gets the sum (or the norm) over its
        vectors."""
        at = {name: array.reshape(self.inputs[name].shape) for name, array in parts.items()}
        tokens = self.embedding_inputs.tokens(self.task.runner.engine, self.task.inputs, at, norms=norms)
        floats = {name: array for name, array in at.items() if name in self.task.inputs}
        return floats | {name: array + floats.get(name, 0) for name, array in tokens.items()}

    def total(self, relevance: Mapping[str, Array]) -> Array:
        """[batch]: all relevance of a sample at the inputs."""
        rows = [per_sample(array, self.layouts.get(name), self.scores.batch) for name, array in relevance.items()]
        return sum(rows, np.zeros(self.scores.batch))


MOST_SHAPES = 256


def times(weights: Array, array: Array) -> Array:
    """The product in float64, in memory that is used again: these are the largest arrays here."""
    return np.multiply(
        weights, array, out=buffer_pool.maker(np.broadcast_shapes(weights.shape, array.shape), np.float64)()
    )
