# SPDX-License-Identifier: Apache-2.0
"""Computes GradientSHAP: expected gradients, estimated at random points on the lines from baselines to the input."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lstm_explain.methods.background import Comparison
from lstm_explain.methods.base import (
    MAX_RUNS,
    Baseline,
    BaselineMethod,
    Batching,
    Promise,
    SingleBaseline,
    Words,
)
from lstm_explain.methods.gradient import MeanGradient
from lstm_explain.methods.parameters import parameter
from lstm_explain.methods.student import NORMAL_QUANTILE, t_quantile

if TYPE_CHECKING:
    from lstm_explain.graph.ir import Array
    from lstm_explain.program.attribution import Attribution
    from lstm_explain.runner.gradient_points import GradientPoints
    from lstm_explain.runner.method_tools import MethodTools

GROUPS = 10  # of points, over all baselines; the spread between groups gives the standard error
LEAST_GROUPS = 2  # for each baseline


@dataclass(frozen=True, eq=False)
class GradientShap(MeanGradient, BaselineMethod):
    """Gradients at random points on the line from the baseline to the input, times the difference, averaged.

    The sampling estimator of expected gradients (Erion et al. 2021, arXiv 1906.10670), which SHAP's GradientExplainer
    (Lundberg and Lee 2017, arXiv 1705.07874) and Captum's GradientShap compute too, the latter without noise. Its
    expectation is IntegratedGradients with the same baseline.

    samples: points; the draws from a background set share them, but each has at least two.
    """

    name: ClassVar[str] = "gradient_shap"
    words: ClassVar[Words] = Words(
        label="GradientSHAP",
        hint="gradients at random points between baselines and the input",
        absorbed="score of the baseline",
        residual="error of the sampling",
        relevance="mean gradient at random points on the line from the baseline, times the difference; an estimate of "
        "integrated gradients, with a standard error",
        runs="`samples`, each with a backward pass",
    )
    promises: ClassVar[frozenset[Promise]] = frozenset({Promise.SHARES})
    batching: ClassVar[Batching] = Batching.NONE  # not tested yet
    samples: int = parameter(50, "Points", least=1, most=MAX_RUNS)
    seed: int = parameter(0, "Seed", least=0)
    baseline: Baseline = None

    @property
    def has_standard_error(self) -> bool:
        return True

    @property
    def groups(self) -> int:
        """The number of groups of points for each baseline."""
        return max(LEAST_GROUPS, -(-min(GROUPS, self.samples) // self.draws))

    @property
    def points(self) -> int:
        """The number of points in a group."""
        return -(-self.samples // (self.draws * self.groups))

    @property
    def fixed_runs(self) -> int:
        return self.draws * self.groups * self.points

    def advice(self, broken: Promise) -> str:
        return "set more samples, or compare it with integrated_gradients"

    def explain(self, tools: MethodTools) -> Attribution:
        """Returns the mean over the points. All samples of a batch get the same positions on their lines."""
        gradients = tools.gradient_points()
        return tools.compared_with(
            self.baseline, gradients.scores, lambda baseline, draw: self._compared(gradients, baseline, draw)
        )

    def _compared(self, gradients: GradientPoints, against: SingleBaseline, draw: int) -> Comparison:
        start, end, batch = gradients.baseline_entries(against), gradients.at, gradients.scores.batch
        difference = {name: end[name] - start[name] for name in end}
        positions = np.random.default_rng((self.seed, draw)).random((self.groups, self.points))
        weights = np.full((self.points, batch), 1 / self.points)
        found: dict[str, list[Array]] = {}
        for group in positions:
            places = np.repeat(group[:, None], batch, axis=1)
            mean = gradients.mean_gradient(functools.partial(_points, gradients, start, difference, places), weights)
            relevance = gradients.by_input({name: difference[name] * mean[name] for name in mean})
            for name, array in relevance.items():
                found.setdefault(name, []).append(array)
        factor = t_quantile(self.draws * (self.groups - 1)) / NORMAL_QUANTILE / np.sqrt(self.groups)
        relevance = {name: np.mean(arrays, axis=0) for name, arrays in found.items()}
        error = {name: factor * np.std(arrays, axis=0, ddof=1) for name, arrays in found.items()}
        return Comparison(relevance, gradients.total(relevance), gradients.score(start), error)


def _points(
    gradients: GradientPoints,
    start: dict[str, Array],
    difference: dict[str, Array],
    places: Array,
    name: str,
    ids: range,
) -> Array:
    """Returns the points of one entry at these rows of `places`, [points, batch]."""
    return gradients.on_line(name, start[name], difference[name], places[ids.start : ids.stop])
