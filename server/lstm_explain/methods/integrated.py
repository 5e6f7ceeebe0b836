"""Gradients averaged over many inputs: IntegratedGradients and SmoothGrad."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.kernels import memory
from lstm_explain.methods.field import Field, Rows, times
from lstm_explain.methods.study import Found, Task, found
from lstm_explain.spec.method import IntegratedGradients, SmoothGrad

PANEL = 5  # points between two edges
FEWEST = 4 * PANEL  # steps from which on it pays to look where the score changes


def explain_by_integration(task: Task, method: IntegratedGradients) -> Found:
    """(x - x') times the mean gradient on the line from x' to x."""
    field = Field(task)
    start, end = field.start(method.baseline), field.at
    way = {name: end[name] - start[name] for name in end}

    def on_line(name: str, places: Array) -> Array:
        moved = times(field.beside(name, places), way[name])
        points = memory.maker(moved.shape, end[name].dtype)()
        return np.add(moved, start[name], out=points, casting="same_kind")

    places, weights = quadrature(_edges(field, on_line, method.steps), method.steps)
    mean = field.mean_gradient(lambda name, ids: on_line(name, places[ids.start : ids.stop]), weights)
    relevance = field.by_input({name: way[name] * gradient for name, gradient in mean.items()})
    return found(field.scores, relevance, field.total(relevance), field.score(start))


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
    if steps < FEWEST:
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


PLACED = (
    "noise depends on a sample's place in the batch: its size is fixed, and the graph does not show where in it a "
    "sample's vectors lie"
)


def explain_by_smoothing(task: Task, method: SmoothGrad) -> Found:
    """The mean gradient around x; a token gets the norm of its vector's, as under Gradient.

    All samples of a batch meet the same noise, each scaled to its own range: nothing depends on the rest of the batch,
    nor on a sample's place in it. Where the graph does not show the places, a note says so.
    """
    field = Field(task)
    places = {name: field.noise_rows(name) for name in field.at}

    def points(name: str, ids: range) -> Array:
        at = field.at[name]
        rows = places[name] or field.rows[name]
        samples = at.reshape(rows)
        noise = np.stack([_noise(field, name, rows, (method.seed, copy)) for copy in ids])
        return (samples + method.noise * np.ptp(samples, axis=(0, 2), keepdims=True) * noise).reshape(-1, *at.shape)

    weights = np.full((method.samples, field.scores.batch), 1 / method.samples)
    mean = field.mean_gradient(points, weights)
    relevance = field.by_input(mean, norms=True)
    answer = found(field.scores, relevance, field.total(relevance), None)
    return answer if all(places.values()) else replace(answer, notes=(PLACED,))


def _noise(field: Field, name: str, rows: Rows, seed: tuple[int, ...]) -> Array:
    """Standard normal, [before, 1, after] as in these rows: the same for every sample."""
    before, _, after = rows
    entry = list(field.at).index(name)
    return np.random.default_rng((*seed, entry)).standard_normal((before, 1, after))
