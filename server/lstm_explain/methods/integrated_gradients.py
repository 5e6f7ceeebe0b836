"""Integrated gradients: the mean gradient on the line from a baseline to the input, times the difference."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lstm_explain.methods.base import MOST_RUNS, Baseline, BaselineMethod, Batching, Method, Promise, Words
from lstm_explain.methods.gradient import Gradient
from lstm_explain.methods.parameters import parameter

if TYPE_CHECKING:
    from lstm_explain.graph.ir import Array
    from lstm_explain.program.attribution import Attribution
    from lstm_explain.runner.cost import Cost
    from lstm_explain.runner.gradient_points import GradientPoints
    from lstm_explain.runner.method_tools import MethodTools

PANEL = 5  # points between two edges
FEWEST = 4 * PANEL  # steps from which on it pays to look where the score changes


@dataclass(frozen=True, eq=False)
class IntegratedGradients(BaselineMethod):
    """Gradients averaged along the straight line from the baseline to the input, times the difference.

    Sundararajan et al. 2017 (arXiv 1703.01365), equation 1; the integral by Gauss-Legendre quadrature.

    steps: points on the line.
    """

    name: ClassVar[str] = "integrated_gradients"
    words: ClassVar[Words] = Words(
        label="Integrated gradients",
        hint="gradients along the way from a baseline",
        absorbed="score of the baseline",
        residual="error of the integral (convergence delta)",
        relevance="mean gradient on the line from the baseline, times the difference; "
        "points are denser where the score changes",
        runs="`steps`, each with a backward pass, and as many forward passes to find where the score changes",
    )
    promises: ClassVar[frozenset[Promise]] = frozenset({Promise.SHARES, Promise.COMPLETE})
    batching: ClassVar[Batching] = Batching.PADDED
    steps: int = parameter(50, "Steps", least=1, most=MOST_RUNS)
    baseline: Baseline = None

    @property
    def fixed_runs(self) -> int:
        return self.steps

    @property
    def walk(self) -> Method:
        return Gradient()

    def memory(self, cost: Cost) -> float:
        return cost.of_gradients()

    def advice(self, broken: Promise) -> str:
        return f"set steps above {self.steps}" if broken is Promise.COMPLETE else super().advice(broken)

    def explain(self, tools: MethodTools) -> Attribution:
        """(x - x') times the mean gradient on the line from x' to x."""
        field = tools.field()
        start, end = field.start(self.baseline), field.at
        way = {name: end[name] - start[name] for name in end}

        def on_line(name: str, places: Array) -> Array:
            return field.on_line(name, start[name], way[name], places)

        places, weights = quadrature(_edges(field, on_line, self.steps), self.steps)
        mean = field.mean_gradient(lambda name, ids: on_line(name, places[ids.start : ids.stop]), weights)
        relevance = field.by_input({name: way[name] * gradient for name, gradient in mean.items()})
        return tools.attribution_of(field.scores, relevance, field.total(relevance), field.score(start))


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


def _edges(field: GradientPoints, on_line: Callable[[str, Array], Array], steps: int) -> Array:
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
