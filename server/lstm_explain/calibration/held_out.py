# SPDX-License-Identifier: Apache-2.0
"""Measures the choice, the default and the papers' setting next to other methods, on samples without a part in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lstm_explain.calibration.measure import Measured, joined
from lstm_explain.calibration.setup import Clock, Setup
from lstm_explain.evaluate.data import Batch
from lstm_explain.methods import GradientTimesInput, IntegratedGradients, Method, Occlusion

OCCLUSION, RANDOM, GRADIENT, INTEGRATED = "occlusion", "random order", "gradient × input", "integrated gradients"


def measure_held_out(
    setup: Setup, methods: Mapping[str, Method], samples: Sequence[Batch], clock: Clock, seed: int
) -> dict[str, Measured]:
    """Returns the settings of LRP, then the references, by name. References run on the samples for which there is
    time, and Occlusion not at all where it would take too long.
    """
    parts: dict[str, list[Measured]] = {}
    _settings(setup, methods, samples, clock, parts)
    _references(setup, samples, clock, seed, parts)
    return {name: joined(part) for name, part in parts.items()}


def _settings(
    setup: Setup,
    methods: Mapping[str, Method],
    samples: Sequence[Batch],
    clock: Clock,
    parts: dict[str, list[Measured]],
) -> None:
    count = 0
    for bench in setup.benches(samples):
        for name, method in methods.items():
            parts.setdefault(name, []).append(bench.of_method(method))
        count += bench.samples
        clock.report(f"the choice on {count} other samples")
        if clock.remaining("choice") < 0:
            return


def _references(
    setup: Setup, samples: Sequence[Batch], clock: Clock, seed: int, parts: dict[str, list[Measured]]
) -> None:
    rng, count = np.random.default_rng(seed), 0
    with_occlusion: bool | None = None
    for bench in setup.benches(samples):
        if with_occlusion is None:
            with_occlusion = bench.seconds(bench.players.count) < clock.remaining("references") / 2
        if with_occlusion:
            parts.setdefault(OCCLUSION, []).append(bench.of_method(Occlusion(baseline=setup.baseline, over=setup.over)))
        parts.setdefault(GRADIENT, []).append(bench.of_method(GradientTimesInput()))
        parts.setdefault(INTEGRATED, []).append(bench.of_method(IntegratedGradients(baseline=setup.baseline)))
        parts.setdefault(RANDOM, []).append(bench.random(rng))
        count += bench.samples
        clock.report(f"references on {count} samples")
        if clock.remaining("references") < 0:
            return
