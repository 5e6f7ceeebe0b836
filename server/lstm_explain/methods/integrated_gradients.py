# SPDX-License-Identifier: Apache-2.0
"""Computes integrated gradients: the mean gradient on the line from a baseline to the input, times the difference."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lstm_explain.methods.background import Comparison
from lstm_explain.methods.base import (
    MAX_RUNS,
    Baseline,
    BaselineMethod,
    Batching,
    CountPlayers,
    Promise,
    SingleBaseline,
    Words,
)
from lstm_explain.methods.gradient import MeanGradient
from lstm_explain.methods.parameters import parameter

if TYPE_CHECKING:
    from lstm_explain.graph.ir import Array
    from lstm_explain.program.attribution import Attribution
    from lstm_explain.runner.gradient_points import GradientPoints
    from lstm_explain.runner.method_tools import MethodTools

PANEL_POINTS = 5  # between two edges
MIN_ADAPTIVE_STEPS = 4 * PANEL_POINTS  # From this many steps on, it pays to find where the score changes.
TOLERANCE = 0.01  # share of the reference value; a larger error of the integral requires more steps
# Share of the difference of the two scores, for points at even distances: a steep score makes a larger error likely
# even where the integral happens to be within TOLERANCE.
EVEN_TOLERANCE = 0.001
FLOOR = 0.1  # share of the difference of the two scores: the smallest reference value


@dataclass(frozen=True, eq=False)
class IntegratedGradients(MeanGradient, BaselineMethod):
    """Gradients averaged along the straight line from the baseline to the input, times the difference.

    Sundararajan et al. 2017 (arXiv 1703.01365), equation 1; the integral by Gauss-Legendre quadrature.

    steps: points on the line. max_steps: points on the line at most, where the error of the integral exceeds 1 % of the
    explained value; if it is below `steps`, no points are added.
    """

    name: ClassVar[str] = "integrated_gradients"
    words: ClassVar[Words] = Words(
        label="Integrated gradients",
        hint="gradients along the way from a baseline",
        absorbed="score of the baseline",
        residual="error of the integral (convergence delta)",
        relevance="mean gradient on the line from the baseline, times the difference; "
        "where even points do not suffice, they are denser where the score changes, and more",
        runs="`steps`, each with a backward pass; where the error of a sample is not small, again with as many forward "
        "passes to find where the score changes, and then with more steps, up to `max_steps`",
    )
    promises: ClassVar[frozenset[Promise]] = frozenset({Promise.SHARES, Promise.COMPLETE})
    batching: ClassVar[Batching] = Batching.PADDED
    steps: int = parameter(50, "Steps", least=1, most=MAX_RUNS)
    baseline: Baseline = None
    max_steps: int = parameter(500, "Steps at most", least=1, most=MAX_RUNS)

    @property
    def fixed_runs(self) -> int:
        return self.draws * sum(self.rounds())

    def rounds(self) -> list[int]:
        """Returns the numbers of steps to try in turn, the last with `max_steps`. The first is tried twice where it
        pays to look where the score changes: without looking, because most scores change evenly, and with.
        """
        found = [self.steps] * (2 if self.steps >= MIN_ADAPTIVE_STEPS else 1)
        while found[-1] < self.max_steps:
            found.append(2 * found[-1] if 4 * found[-1] <= self.max_steps else self.max_steps)
        return found

    def likely_runs(self, players: CountPlayers) -> int:
        return self.draws * self.steps

    def advice(self, broken: Promise) -> str:
        return (
            f"set max_steps above {max(self.steps, self.max_steps)}"
            if broken is Promise.COMPLETE
            else super().advice(broken)
        )

    def explain(self, tools: MethodTools) -> Attribution:
        """Returns (x - x') times the mean gradient on the line from x' to x.

        Every sample keeps the first round of steps whose error is small enough, or else the round with the smallest
        error, so its answer does not depend on the other samples.
        """
        gradients = tools.gradient_points()
        return tools.compared_with(
            self.baseline, gradients.scores, lambda baseline, _: self._compared(gradients, baseline)
        )

    def _compared(self, gradients: GradientPoints, against: SingleBaseline) -> Comparison:
        start, end = gradients.baseline_entries(against), gradients.at
        difference = {name: end[name] - start[name] for name in end}

        def on_line(name: str, places: Array) -> Array:
            return gradients.on_line(name, start[name], difference[name], places)

        baseline, scores = gradients.score(start), gradients.scores
        shares = scores.explained - baseline
        reference = np.maximum(np.abs(scores.explained), FLOOR * np.abs(shares))
        error, used = np.full(scores.batch, np.inf), np.zeros(scores.batch, np.int64)
        accepted = np.zeros(scores.batch, np.bool_)
        kept = {name: np.zeros(array.shape) for name, array in difference.items()}
        for number, steps in enumerate(self.rounds()):
            places, weights = (
                _even_rule(scores.batch, steps) if number == 0 else quadrature(_edges(gradients, on_line, steps), steps)
            )
            mean = gradients.mean_gradient(functools.partial(_points, on_line, places), weights)
            parts = {name: difference[name] * gradient for name, gradient in mean.items()}
            found = np.abs(shares - gradients.total(gradients.by_input(parts)))
            better = ~accepted & ((found < error) | (used == 0))
            for name, part in parts.items():
                np.copyto(kept[name], part, where=gradients.broadcast(name, better[None])[0])
            error, used = np.where(better, found, error), np.where(better, steps, used)
            accepted |= error <= (EVEN_TOLERANCE * np.abs(shares) if number == 0 else TOLERANCE * reference)
            if accepted.all():
                break
        relevance = gradients.by_input(kept)
        return Comparison(relevance, gradients.total(relevance), baseline, steps=used)


# --- points on the line ------------------------------------------------------------------------------------------


def _points(on_line: Callable[[str, Array], Array], places: Array, name: str, ids: range) -> Array:
    """Returns the points of one entry at these rows of `places`, [steps, batch]."""
    return on_line(name, places[ids.start : ids.stop])


def quadrature(edges: Array, steps: int) -> tuple[Array, Array]:
    """Returns Gauss-Legendre points in (0, 1) and weights that sum to 1, both [steps, batch], between edges [panels
    + 1, batch].
    """
    panels = len(edges) - 1
    rules = [_gauss_legendre(steps // panels + (k < steps % panels)) for k in range(panels)]
    widths = np.diff(edges, axis=0)
    places = [edges[k] + np.multiply.outer((x + 1) / 2, widths[k]) for k, (x, _) in enumerate(rules)]
    weights = [np.multiply.outer(w / 2, widths[k]) for k, (_, w) in enumerate(rules)]
    return np.concatenate(places), np.concatenate(weights)


@functools.cache
def _gauss_legendre(count: int) -> tuple[Array, Array]:
    return np.polynomial.legendre.leggauss(count)


def _even_rule(batch: int, steps: int) -> tuple[Array, Array]:
    """Returns points and weights, [steps, batch], between edges at equal distances. They are read-only."""
    places, weights = _even_rule_of_one(steps)
    return np.broadcast_to(places, (steps, batch)), np.broadcast_to(weights, (steps, batch))


@functools.lru_cache(64)
def _even_rule_of_one(steps: int) -> tuple[Array, Array]:
    return quadrature(_even_edges(1, steps), steps)


def _even_edges(batch: int, steps: int) -> Array:
    """Edges of the panels, [panels + 1, batch], at equal distances."""
    return np.tile(np.linspace(0, 1, -(-steps // PANEL_POINTS) + 1)[:, None], batch)


def _edges(gradients: GradientPoints, on_line: Callable[[str, Array], Array], steps: int) -> Array:
    """Returns the same, close together where the score changes fast.

    Gates that open at some point of the line can concentrate the whole change on a thousandth of it. Two rounds of
    scores (without gradients) find such points; the second round probes where the first one found a change.
    """
    if steps < MIN_ADAPTIVE_STEPS:
        return _even_edges(gradients.scores.batch, steps)
    probes = np.tile(np.linspace(0, 1, steps // 2)[:, None], gradients.scores.batch)
    scores = gradients.score_at(on_line, probes)
    refined = equal_change(probes, scores, steps // 2)[1:-1]
    all_probes = np.concatenate([probes, refined])
    order = np.argsort(all_probes, axis=0, kind="stable")
    scores = np.take_along_axis(np.concatenate([scores, gradients.score_at(on_line, refined)]), order, axis=0)
    return equal_change(np.take_along_axis(all_probes, order, axis=0), scores, -(-steps // PANEL_POINTS))


def equal_change(places: Array, scores: Array, parts: int) -> Array:
    """Returns positions, [parts + 1, batch], between which the score changes equally; a third of the measure is the
    line's length.
    """
    change = np.abs(np.diff(scores, axis=0))
    total = np.maximum(change.sum(axis=0), np.finfo(np.float64).tiny)
    along = np.vstack([np.zeros(places.shape[1]), np.cumsum(np.diff(places, axis=0) / 2 + change / total, axis=0)])
    columns = range(places.shape[1])
    edges = [np.interp(np.linspace(0, along[-1, b], parts + 1), along[:, b], places[:, b]) for b in columns]
    return np.stack(edges, axis=1)
