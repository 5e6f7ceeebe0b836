# SPDX-License-Identifier: Apache-2.0
"""Computes SmoothGrad: the mean gradient over noisy copies of the input."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lstm_explain.errors import MethodError
from lstm_explain.methods.base import MAX_RUNS, Batching, Promise, Words
from lstm_explain.methods.gradient import MeanGradient
from lstm_explain.methods.parameters import parameter

if TYPE_CHECKING:
    from lstm_explain.graph.ir import Array
    from lstm_explain.program.attribution import Attribution
    from lstm_explain.runner.gradient_points import GradientPoints, Rows
    from lstm_explain.runner.method_tools import MethodTools

POSITION_DEPENDENT = (
    "noise depends on a sample's place in the batch: its size is fixed, and the graph does not show where in it a "
    "sample's vectors lie"
)


@dataclass(frozen=True)
class SmoothGrad(MeanGradient):
    """Gradients averaged over noisy copies of the input (Smilkov et al. 2017, arXiv 1706.03825).

    samples: noisy copies. noise: standard deviation, as a share of the range (largest minus smallest value) that a
    feature has over time. Where there is no time, and for embeddings, it is a share of the range of all entries.
    """

    name: ClassVar[str] = "smooth_grad"
    words: ClassVar[Words] = Words(
        label="SmoothGrad",
        hint="gradients averaged over noise; no shares",
        absorbed="kept by nothing",
        residual="not explained: derivatives are no shares",
        relevance="mean gradient over noisy copies; noise in proportion to the range of each feature over time",
        runs="`samples`, each with a backward pass",
    )
    promises: ClassVar[frozenset[Promise]] = frozenset()
    batching: ClassVar[Batching] = Batching.NONE  # not tested yet
    samples: int = parameter(25, "Noisy copies", least=1, most=MAX_RUNS)
    noise: float = parameter(0.1, "Noise, as a share of the range", least=0.0)
    seed: int = parameter(0, "Seed", least=0)

    @property
    def fixed_runs(self) -> int:
        return self.samples

    def not_finite(self) -> MethodError:
        return MethodError(
            f"smooth_grad: noise of {self.noise} moves the inputs to points where the model's gradient is not finite; "
            "set a smaller noise",
            field="method.noise",
        )

    def explain(self, tools: MethodTools) -> Attribution:
        """Computes the mean gradient around x; a token gets the norm of its vector's gradient, as under Gradient.

        All samples of a batch get the same noise, each scaled to its own ranges, so nothing depends on the rest of the
        batch or on a sample's position in it. Where the graph does not show the positions of samples, a note says so.
        """
        gradients = tools.gradient_points()
        noise_rows = {name: gradients.noise_rows(name) for name in gradients.at}
        ranges = {name: gradients.ranges(name, noise_rows[name] or gradients.rows[name]) for name in gradients.at}

        def points(name: str, ids: range) -> Array:
            at = gradients.at[name]
            rows = noise_rows[name] or gradients.rows[name]
            samples = at.reshape(rows)
            noise = np.stack([_noise(gradients, name, rows, (self.seed, copy)) for copy in ids])
            moved = samples + self.noise * ranges[name] * noise
            return moved.reshape(-1, *at.shape)

        weights = np.full((self.samples, gradients.scores.batch), 1 / self.samples)
        mean = gradients.mean_gradient(points, weights)
        relevance = gradients.by_input(mean, norms=True)
        answer = tools.attribution_of(gradients.scores, relevance, gradients.total(relevance))
        return answer if all(noise_rows.values()) else replace(answer, notes=(POSITION_DEPENDENT,))


def _noise(gradients: GradientPoints, name: str, rows: Rows, seed: tuple[int, ...]) -> Array:
    """Returns standard normal noise, [before, 1, after] as in these rows: the same for every sample."""
    before, _, after = rows
    entry = list(gradients.at).index(name)
    return np.random.default_rng((*seed, entry)).standard_normal((before, 1, after))
