# SPDX-License-Identifier: Apache-2.0
"""Computes deletion and insertion curves: how the score falls (rises) when the most relevant players go (return).

Samek et al. 2017 (arXiv 1509.06321); for words Arras et al. 2019 (arXiv 1909.12114), section 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lstm_explain.evaluate.data import Array, Data, Progress, batches, ignore_progress, labelled, player_set_of
from lstm_explain.methods.base import Baseline, Method, Players
from lstm_explain.model import Model
from lstm_explain.runner.players import PlayerSet
from lstm_explain.target import Target


@dataclass(frozen=True)
class Curve:
    """scores: [samples, points], the explained value at every point."""

    scores: Array

    @property
    def mean(self) -> Array:
        return self.scores.mean(axis=0)

    @property
    def standard_error(self) -> Array:
        """The standard error of the mean, [points]; NaN for a single sample."""
        n = len(self.scores)
        return np.full(self.scores.shape[1], np.nan) if n < 2 else self.scores.std(axis=0, ddof=1) / np.sqrt(n)

    @property
    def auc(self) -> Array:
        """[samples]: the area under the curve, by the trapezoidal rule."""
        y = self.scores
        return y[:, 0] if y.shape[1] == 1 else ((y[:, 1:] + y[:, :-1]) / 2).mean(axis=1)


@dataclass(frozen=True)
class Curves:
    """The curves of several methods.

    fractions: [points], the share of players deleted (inserted). curves: by the method's name. random: the mean over
    random orders. reverse: by the method's name, the curve of its reverse order.
    """

    fractions: Array
    curves: dict[str, Curve]
    random: Curve
    reverse: dict[str, Curve]

    def auc(self) -> dict[str, float]:
        """Returns the mean area over the samples, by name, including the references."""
        named = {**self.curves, "random": self.random, **{f"reverse {n}": c for n, c in self.reverse.items()}}
        return {name: float(curve.auc.mean()) for name, curve in named.items()}


def deletion(
    model: Model,
    data: Data,
    methods: Sequence[Method] | Mapping[str, Method],
    target: Target = Target(),  # noqa: B008 - frozen
    *,
    baseline: Baseline = None,
    over: Players = "steps",
    points: int = 11,
    draws: int = 10,
    seed: int = 0,
    progress: Progress = ignore_progress,
) -> Curves:
    """Returns the score while the most relevant players are replaced by the baseline, from none of them to all."""
    return _curves(model, data, labelled(methods), target, baseline, over, points, draws, seed, progress, insert=False)


def insertion(
    model: Model,
    data: Data,
    methods: Sequence[Method] | Mapping[str, Method],
    target: Target = Target(),  # noqa: B008 - frozen
    *,
    baseline: Baseline = None,
    over: Players = "steps",
    points: int = 11,
    draws: int = 10,
    seed: int = 0,
    progress: Progress = ignore_progress,
) -> Curves:
    """Returns the score while the most relevant players return into the baseline, from none of them to all."""
    return _curves(model, data, labelled(methods), target, baseline, over, points, draws, seed, progress, insert=True)


def _curves(
    model: Model,
    data: Data,
    methods: Mapping[str, Method],
    target: Target,
    baseline: Baseline,
    over: Players,
    points: int,
    draws: int,
    seed: int,
    progress: Progress,
    *,
    insert: bool,
) -> Curves:
    fractions = np.linspace(0, 1, points)
    rows: dict[str, list[Array]] = {}
    rng = np.random.default_rng(seed)
    for batch in batches(data):
        player_set = player_set_of(model, batch, target, baseline, over)
        chosen = player_set.scores.selection
        fixed = replace(target, index=chosen.index, contrast=chosen.contrast)
        for name, method in methods.items():
            relevance = player_set.totals(model.explain(batch, method, fixed).relevance)
            rows.setdefault(name, []).append(curve(player_set, relevance, fractions, insert=insert))
            rows.setdefault(f"reverse {name}", []).append(curve(player_set, -relevance, fractions, insert=insert))
            progress(name)
        noise = [rng.standard_normal((player_set.scores.batch, player_set.count)) for _ in range(draws)]
        rows.setdefault("random", []).append(
            np.mean([curve(player_set, n, fractions, insert=insert) for n in noise], axis=0)
        )
        progress("random")
    by_name = {name: Curve(np.concatenate(parts)) for name, parts in rows.items()}
    reverse = {name: by_name[f"reverse {name}"] for name in methods}
    return Curves(fractions, {name: by_name[name] for name in methods}, by_name["random"], reverse)


def curve(player_set: PlayerSet, relevance: Array, fractions: Array, *, insert: bool = False) -> Array:
    """Returns an array [batch, points]: the score with this share of the most relevant players removed (or inserted).

    relevance: [batch, players]; ties are ordered by the player's number.
    """
    rank = np.empty(relevance.shape, int)
    order = np.argsort(-relevance, axis=1, kind="stable")
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(player_set.count), rank.shape), axis=1)
    counts = np.rint(fractions * player_set.count).astype(int)

    def present(ids: range) -> Array:
        touched = rank < counts[ids.start : ids.stop, None, None]
        return touched if insert else ~touched

    return player_set.coalitions(len(counts), present).T
