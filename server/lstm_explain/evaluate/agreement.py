# SPDX-License-Identifier: Apache-2.0
"""Measures whether methods rank the same players first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lstm_explain.evaluate.data import Array, Data, Progress, batches, ignore_progress, labelled, player_set_of
from lstm_explain.methods.base import Method, Players
from lstm_explain.model import Model
from lstm_explain.target import Target


@dataclass(frozen=True)
class Agreement:
    """names: of the methods. correlation: [methods, methods], Spearman's rank correlation, averaged over all
    samples.
    """

    names: list[str]
    correlation: Array


def agreement(
    model: Model,
    data: Data,
    methods: Sequence[Method] | Mapping[str, Method],
    target: Target = Target(),  # noqa: B008 - frozen
    *,
    over: Players = "steps",
    absolute: bool = False,
    progress: Progress = ignore_progress,
) -> Agreement:
    """Compares the rankings of methods. absolute: rank by the magnitude of the relevance (the norm of a gradient has no
    sign).
    """
    named = labelled(methods)
    correlations = []
    for batch in batches(data):
        player_set = player_set_of(model, batch, target, over=over)
        rankings = []
        for name, method in named.items():
            relevance = player_set.totals(model.explain(batch, method, target).relevance)
            rankings.append(np.abs(relevance) if absolute else relevance)
            progress(name)
        correlations.append(np.array([[rank_correlation(a, b) for b in rankings] for a in rankings]))
    all_samples = np.concatenate(correlations, axis=2)
    return Agreement(list(named), np.nanmean(all_samples, axis=2))


def rank_correlation(a: Array, b: Array) -> Array:
    """Returns Spearman's rank correlation of each pair of rows, [rows]. NaN where a row is constant."""
    x, y = ranks(a), ranks(b)
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    scale = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    return np.where(scale > 0, (x * y).sum(axis=1) / np.where(scale > 0, scale, 1), np.nan)


def ranks(values: Array) -> Array:
    """Returns the ranks within every row, from 0; equal values share the mean of their ranks."""
    return np.stack([_ranks(row) for row in values])


def _ranks(row: Array) -> Array:
    _, inverse, counts = np.unique(row, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts + 1) / 2)[inverse.reshape(-1)]
