"""Gradients averaged over many inputs: IntegratedGradients and SmoothGrad."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.kernels import memory
from lstm_explain.methods.baselines import given_baselines
from lstm_explain.methods.propagation import Context, explain_by_propagation
from lstm_explain.methods.stacking import chunks, copies_for, stack, sum_per_sample, tile, unstack
from lstm_explain.methods.study import Found, Scores, Task, found
from lstm_explain.plan.forward import Pass
from lstm_explain.rules.recurrent import Tape
from lstm_explain.spec.method import Baseline, Gradient, IntegratedGradients, SmoothGrad
from lstm_explain.target import Selection

PANEL = 5  # points between two edges
FEWEST = 4 * PANEL  # steps from which on it pays to look where the score changes
Points = Callable[[str, range], Array]


def explain_by_integration(task: Task, method: IntegratedGradients) -> Found:
    """(x - x') times the mean gradient on the line from x' to x."""
    field = Field(task)
    start, end = field.start(method.baseline), field.at
    way = {name: end[name] - start[name] for name in end}

    def on_line(name: str, places: Array) -> Array:
        moved = _times(field.beside(name, places), way[name])
        points = memory.maker(moved.shape, end[name].dtype)()
        return np.add(moved, start[name], out=points, casting="same_kind")

    places, weights = quadrature(_edges(field, on_line, method.steps), method.steps)
    mean = field.mean_gradient(lambda name, ids: on_line(name, places[ids.start : ids.stop]), weights)
    parts = {name: way[name] * gradient for name, gradient in mean.items()}
    return found(field.scores, field.by_input(parts), field.total(parts), field.score(start))


def _times(weights: Array, array: Array) -> Array:
    """The product in float64, in memory that is used again: these are the largest arrays here."""
    return np.multiply(weights, array, out=memory.maker(np.broadcast_shapes(weights.shape, array.shape), np.float64)())


# --- where on the line -------------------------------------------------------------------------------------------


def quadrature(edges: Array, steps: int) -> tuple[Array, Array]:
    """Places in (0, 1) and weights that sum to 1, [steps, batch]: Gauss-Legendre between edges [panels + 1, batch]."""
    panels = len(edges) - 1
    rules = [_gauss_legendre(steps // panels + (k < steps % panels)) for k in range(panels)]
    widths = np.diff(edges, axis=0)
    places = [edges[k] + np.multiply.outer((x + 1) / 2, widths[k]) for k, (x, _) in enumerate(rules)]
    weights = [np.multiply.outer(w / 2, widths[k]) for k, (_, w) in enumerate(rules)]
    return np.concatenate(places), np.concatenate(weights)


@functools.cache
def _gauss_legendre(count: int) -> tuple[Array, Array]:
    return np.polynomial.legendre.leggauss(count)


def _edges(field: Field, on_line: Callable[[str, Array], Array], steps: int) -> Array:
    """[panels + 1, batch]: edges close together where the score changes fast.

    Gates that open at some point of the line can put all of the change into a thousandth of it. Two rounds of scores
    (no gradients) find such points, the second where the first saw change.
    """
    panels = -(-steps // PANEL)
    edges = np.tile(np.linspace(0, 1, panels + 1)[:, None], field.scores.batch)
    if steps < FEWEST or not field.separable:
        return edges
    probes = np.tile(np.linspace(0, 1, steps // 2)[:, None], field.scores.batch)
    scores = field.score_at(on_line, probes)
    finer = equal_change(probes, scores, steps // 2)[1:-1]
    every = np.concatenate([probes, finer])
    order = np.argsort(every, axis=0, kind="stable")
    scores = np.take_along_axis(np.concatenate([scores, field.score_at(on_line, finer)]), order, axis=0)
    return equal_change(np.take_along_axis(every, order, axis=0), scores, panels)


def equal_change(places: Array, scores: Array, parts: int) -> Array:
    """[parts + 1, batch]: places between which the score changes equally; a third of them go by the line's length."""
    change = np.abs(np.diff(scores, axis=0))
    total = np.maximum(change.sum(axis=0), np.finfo(np.float64).tiny)
    along = np.vstack([np.zeros(places.shape[1]), np.cumsum(np.diff(places, axis=0) / 2 + change / total, axis=0)])
    columns = range(places.shape[1])
    edges = [np.interp(np.linspace(0, along[-1, b], parts + 1), along[:, b], places[:, b]) for b in columns]
    return np.stack(edges, axis=1)


# --- noise -------------------------------------------------------------------------------------------------------


def explain_by_smoothing(task: Task, method: SmoothGrad) -> Found:
    """The mean gradient around x; a token gets the norm of its vector's, as under Gradient.

    All samples of a batch meet the same noise, each scaled to its own range: nothing depends on the rest of the batch.
    """
    field = Field(task)

    def points(name: str, ids: range) -> Array:
        noise = [_noise(field, name, (method.seed, copy)) for copy in ids]
        return field.at[name] + method.noise * field.ranges(name) * np.stack(noise)

    weights = np.full((method.samples, field.scores.batch), 1 / method.samples)
    mean = field.mean_gradient(points, weights)
    relevance = field.by_input(mean, norms=True)
    return found(field.scores, relevance, field.total(relevance), None)


def _noise(field: Field, name: str, seed: tuple[int, ...]) -> Array:
    """Standard normal, the same for every sample."""
    axis, entry = field.axes[name], list(field.at).index(name)
    shape = tuple(1 if i == axis else extent for i, extent in enumerate(field.at[name].shape))
    return np.random.default_rng((*seed, entry)).standard_normal(shape)


class Field:
    """Where gradients are taken: at the floating-point inputs and at the vectors that integer inputs look up.

    at: by entry, the value that the task's inputs give. axes: by entry, the batch axis.
    """

    def __init__(self, task: Task) -> None:
        self.task, self.scores = task, Scores(task)
        self.opened = task.study.opened(task.head.value)
        self.engine = self.opened.engine
        self.inputs = {**task.inputs, **self.opened.looked_up(task.study.engine, task.inputs)}
        self.at = {name: self.inputs[name] for name in self.opened.entries}
        self.plan = self.engine.plan(task.head, Gradient(), ())
        axes = {**{name: found.batch for name, found in task.study.axes.items()}, **self.opened.doors}
        fits = {n: a is not None and array.shape[a] == self.scores.batch for n, a, array in _zip(axes, self.inputs)}
        self.axes = {n: axis if fits[n] and task.target.batch_axis is not None else None for n, axis in axes.items()}

    def start(self, baseline: Baseline) -> dict[str, Array]:
        """The entries' values at the baseline; vectors of zeros for tokens without one."""
        inputs = self.task.inputs
        given = given_baselines(baseline, inputs, self.task.study.reachable(self.task.head.value))
        start = {name: np.zeros_like(array) for name, array in self.at.items()}
        if any(name not in self.at for name in given):
            start |= self.opened.looked_up(self.task.study.engine, {**inputs, **given})
        return start | {name: array for name, array in given.items() if name in self.at}

    def score(self, entries: Mapping[str, Array]) -> Array:
        """[batch]: the explained value with these entries."""
        return self.scores.of(self.engine.forward(self.plan, {**self.inputs, **entries}).values, 1)[0]

    @property
    def separable(self) -> bool:
        """Whether every sample can be at a place of its own."""
        return self.scores.batch == 1 or all(self.axes[name] is not None for name in self.at)

    def beside(self, name: str, numbers: Array) -> Array:
        """[n, batch] with the axes of the entry behind the first; where samples share the entry, they agree."""
        axis, shape = self.axes[name], [1] * self.at[name].ndim
        if axis is None:
            return numbers[:, 0].reshape(-1, *shape)
        shape[axis] = numbers.shape[1]
        return numbers.reshape(-1, *shape)

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
        """By entry, the sum of the gradients at `points`, weighted by [points, batch]."""
        total = {name: np.zeros(array.shape) for name, array in self.at.items()}
        for ids in chunks(len(weights), self._size(len(weights))):
            entries = {name: points(name, ids).astype(array.dtype, copy=False) for name, array in self.at.items()}
            for name, gradient in self._gradients(entries, len(ids)).items():
                total[name] += _times(self.beside(name, weights[ids.start : ids.stop]), gradient).sum(axis=0)
        return total

    def _size(self, wanted: int) -> int:
        stacks = wanted > 1 and self.scores.stacks() and all(axis is not None for axis in self.axes.values())
        return copies_for(self._bytes_a_copy) if stacks else 1

    @functools.cached_property
    def _bytes_a_copy(self) -> int:
        done = self.engine.forward(self.plan, self.inputs)
        return 3 * _bytes([*done.values.values(), *done.tapes.values()])

    def _gradients(self, entries: Mapping[str, Array], copies: int) -> dict[str, Array]:
        """By entry, [copies, *shape]."""
        weights, axis = self.scores.selection.weights, self.task.target.batch_axis
        if copies > 1:
            assert axis is not None
            weights = tile(weights, axis % weights.ndim, copies)
        done = self._pass(entries, copies)
        context = Context(self.plan, self.task.head, self.engine.cells, done, list(entries), [])
        # Samples do not mix, so the gradient of their sum holds each one's own, and one walk does for all.
        gradient = explain_by_propagation(context, Gradient(), [(Selection(weights, 1, None, None), None)])[0].relevance
        if copies == 1:
            return {name: array[None] for name, array in gradient.items()}
        return {name: unstack(array, self.axes[name] or 0, copies) for name, array in gradient.items()}

    def _pass(self, entries: Mapping[str, Array], copies: int) -> Pass:
        if copies == 1:
            inputs = {**self.inputs, **{name: array[0] for name, array in entries.items()}}
        else:
            inputs = {name: self._stacked(name, entries, copies) for name in self.inputs}
        return self.engine.forward(self.plan, inputs)

    def _stacked(self, name: str, entries: Mapping[str, Array], copies: int) -> Array:
        axis = self.axes[name]
        assert axis is not None
        return stack(entries[name], axis) if name in entries else tile(self.inputs[name], axis, copies)

    def ranges(self, name: str) -> Array:
        """Largest minus smallest entry of every sample, with the axes of the entry."""
        others = tuple(i for i in range(self.at[name].ndim) if i != self.axes[name])
        return np.ptp(self.at[name], axis=others, keepdims=True)

    def by_input(self, parts: Mapping[str, Array], *, norms: bool = False) -> dict[str, Array]:
        """Numbers at the entries as numbers at the inputs: a token gets the sum (or the norm) over its vectors."""
        tokens = self.opened.tokens(self.task.study.engine, self.task.inputs, parts, norms=norms)
        floats = {name: array for name, array in parts.items() if name in self.task.inputs}
        return floats | {name: array + floats.get(name, 0) for name, array in tokens.items()}

    def total(self, parts: Mapping[str, Array]) -> Array:
        """[batch]: the sum over everything."""
        axes = {name: self.axes.get(name) for name in parts}
        return sum(
            (sum_per_sample(array, axes[name], self.scores.batch) for name, array in parts.items()),
            np.zeros(self.scores.batch),
        )


def _zip(axes: Mapping[str, int | None], arrays: Mapping[str, Array]) -> list[tuple[str, int | None, Array]]:
    return [(name, axes[name], array) for name, array in arrays.items()]


def _bytes(held: object) -> int:
    """Of all arrays in a forward pass, those on the tapes of recurrent nodes and bodies too."""
    if isinstance(held, np.ndarray):
        return held.nbytes
    if isinstance(held, Mapping):
        return sum(map(_bytes, held.values()))
    if isinstance(held, (list, tuple)):
        return sum(map(_bytes, held))
    return _bytes(vars(held)) if isinstance(held, (Pass, Tape)) else _bytes(getattr(held, "passes", ()))
