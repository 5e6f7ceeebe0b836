# SPDX-License-Identifier: Apache-2.0
"""Compares candidates with Shapley values, and measures how far their answers move under small noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from lstm_explain.calibration.setup import Clock, Setup
from lstm_explain.evaluate.agreement import rank_correlation
from lstm_explain.evaluate.data import Array, Batch
from lstm_explain.methods import Method, ShapleySampling

SAMPLES, ORDERS = 24, 20  # at most
NOISE = 0.02  # its standard deviation, in units of each input's own


@dataclass
class Agreement:
    """shapley: by candidate, the rank correlation of each sample with sampled Shapley values. sensitivity: by
    candidate, for each sample the distance between its relevance with and without noise, relative to its norm (Yeh et
    al. 2019, arXiv 1901.09392, with one draw). Both are empty where there was no time; tokens take no noise.
    """

    shapley: dict[str, Array] = field(default_factory=dict)
    sensitivity: dict[str, Array] = field(default_factory=dict)


def measure_agreement(
    setup: Setup, methods: Mapping[str, Method], samples: Sequence[Batch], clock: Clock, seed: int
) -> Agreement:
    """One sample at a time, until the phase's time is used, or ends before the first where that would take too long."""
    rng, found, count = np.random.default_rng(seed), Agreement(), 0
    scale = _spread(setup, samples)
    for bench in setup.benches(samples, 1):
        if bench.seconds(ORDERS * bench.players.count) > clock.remaining("agreement") or count >= SAMPLES:
            break
        shapley = ShapleySampling(ORDERS, seed, setup.baseline, setup.over)
        truth = bench.players.totals(setup.model.explain(bench.batch, shapley, bench.target).relevance)
        noisy = {n: _noisy(x, scale[n], rng) if n in scale else x for n, x in bench.batch.items()}
        other = setup.bench(noisy, bench.target) if scale else None
        for name, method in methods.items():
            relevance, _ = bench.explained(method)
            _append(found.shapley, name, rank_correlation(relevance, truth))
            if other is not None:
                change = other.explained(method)[0] - relevance
                norms = np.linalg.norm(relevance, axis=1)
                moved = np.linalg.norm(change, axis=1) / np.where(norms > 0, norms, 1)
                _append(found.sensitivity, name, moved)
        count += bench.samples
        clock.report(f"Shapley values of {count} samples")
    return found


def _append(arrays: dict[str, Array], name: str, more: Array) -> None:
    arrays[name] = np.concatenate([arrays[name], more]) if name in arrays else more


def _spread(setup: Setup, samples: Sequence[Batch]) -> dict[str, Array]:
    """Returns the standard deviation of each entry of the last axis, over all samples and steps, by floating-point
    input.
    """
    spread = {}
    for name, spec in setup.model.inputs.items():
        extents = {np.shape(sample[name])[-1:] for sample in samples}
        if spec.dtype.kind == "f" and len(extents) == 1:
            rows = np.concatenate(
                [np.reshape(sample[name], (-1, *next(iter(extents)))) for sample in samples[:SAMPLES]]
            )
            spread[name] = rows.std(axis=0, dtype=np.float64)
    return spread


def _noisy(x: Array, spread: Array, rng: np.random.Generator) -> Array:
    noisy: Array = (x + NOISE * spread * rng.standard_normal(x.shape)).astype(x.dtype)
    return noisy
