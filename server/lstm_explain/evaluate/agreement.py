"""Do methods rank the same players first?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lstm_explain.evaluate.data import Array, Data, Progress, batches, board_of, labelled, nothing
from lstm_explain.methods.base import Method, Players
from lstm_explain.model import Model
from lstm_explain.target import Target


@dataclass(frozen=True)
class Agreement:
    """names: of the methods. correlation: [methods, methods], Spearman's, the mean over all samples."""

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
    progress: Progress = nothing,
) -> Agreement:
    """absolute: rank by the size of the relevance, whatever its sign (a gradient's norm has none)."""
    named = labelled(methods)
    correlations = []
    for batch in batches(data):
        player_set = board_of(model, batch, target, over=over)
        found = []
        for name, method in named.items():
            relevance = player_set.of(model.explain(batch, method, target).relevance)
            found.append(np.abs(relevance) if absolute else relevance)
            progress(name)
        correlations.append(np.array([[rank_correlation(a, b) for b in found] for a in found]))
    every = np.concatenate(correlations, axis=2)
    return Agreement(list(named), np.nanmean(every, axis=2))


def rank_correlation(a: Array, b: Array) -> Array:
    """Spearman's, row by row: [rows]. NaN where a row is constant."""
    x, y = ranks(a), ranks(b)
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    scale = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    return np.where(scale > 0, (x * y).sum(axis=1) / np.where(scale > 0, scale, 1), np.nan)


def ranks(values: Array) -> Array:
    """Of every row, from 0; equal values share the mean of their ranks."""
    return np.stack([_ranks(row) for row in values])


def _ranks(row: Array) -> Array:
    _, inverse, counts = np.unique(row, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts + 1) / 2)[inverse.reshape(-1)]
