"""Shapley values by sampling orders of players."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from lstm_explain.methods.base import (
    MOST_RUNS,
    Baseline,
    BaselineMethod,
    Batching,
    CountPlayers,
    Players,
    Promise,
    Words,
)
from lstm_explain.methods.parameters import parameter

if TYPE_CHECKING:
    from lstm_explain.graph.ir import Array
    from lstm_explain.program.attribution import Attribution
    from lstm_explain.runner.cost import Cost
    from lstm_explain.runner.method_tools import MethodTools
    from lstm_explain.runner.players import PlayerSet


@dataclass(frozen=True, eq=False)
class ShapleySampling(BaselineMethod):
    """Shapley values, estimated over random orders (Castro et al. 2009, doi 10.1016/j.cor.2008.04.004).

    Every second order is the reverse of the one before it (Mitchell et al. 2022, arXiv 2104.12199, section 2.2).

    permutations: orders drawn. over: who plays: time steps, features (for all of time), or every cell for itself.
    """

    name: ClassVar[str] = "shapley_sampling"
    words: ClassVar[Words] = Words(
        label="Shapley values",
        hint="fair shares over random orders",
        absorbed="score of the baseline",
        residual="rounding",
        relevance="mean gain when a step (feature, cell) joins the previous ones",
        runs="permutations × players",
    )
    promises: ClassVar[frozenset[Promise]] = frozenset({Promise.SHARES, Promise.COMPLETE})
    batching: ClassVar[Batching] = Batching.EQUAL_LENGTHS  # padding would add players
    standard_error: ClassVar[bool] = True
    permutations: int = parameter(25, "Orders", least=1, most=MOST_RUNS)
    seed: int = parameter(0, "Seed", least=0)
    baseline: Baseline = None
    over: Players = parameter(
        "steps",
        "Between",
        choices={"steps": "time steps", "features": "features", "cells": "features of every step"},
    )

    def runs(self, players: CountPlayers) -> int:
        return self.permutations * max(1, sum(players(self.over)))

    def memory(self, cost: Cost) -> float:
        return cost.of_predictions()

    def cheapest(self) -> Self:
        return replace(self, permutations=1)

    def explain(self, tools: MethodTools) -> Attribution:
        """Players join one by one in random order; each order's gains add up to the whole difference, and so does
        their mean."""
        scores = tools.scores()
        player_set = tools.player_set(scores, self.baseline, self.over)
        orders = draw_orders(player_set.count, self.permutations, self.seed)
        ends = player_set.nobody()
        gains = np.stack([_gains(player_set, order, ends) for order in orders])  # [orders, batch, players]
        mean, error = estimate(gains)
        standard_error = player_set.relevance(error)
        return tools.attribution_of(scores, player_set.relevance(mean), mean.sum(axis=1), ends, standard_error)


def draw_orders(players: int, count: int, seed: int) -> Array:
    """[count, players]; every second order is the reverse of the one before it."""
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(players) for _ in range((count + 1) // 2)]
    return np.array([o for order in drawn for o in (order, order[::-1])][:count]).reshape(count, players)


def _gains(player_set: PlayerSet, order: Array, nobody: Array) -> Array:
    """[batch, players]: what each adds to those who came before it."""
    place = np.empty(player_set.count, int)
    place[order] = np.arange(player_set.count)

    def joined(ids: range) -> Array:
        return place <= np.asarray(ids)[:, None]  # after 1, 2, … players

    values = np.vstack([nobody, player_set.coalitions(player_set.count - 1, joined), player_set.scores.explained])
    gains = np.empty((player_set.scores.batch, player_set.count))
    gains[:, order] = np.diff(values, axis=0).T
    return gains


def estimate(gains: Array) -> tuple[Array, Array]:
    """Mean over the orders and its standard error, [batch, players] each.

    An order and its reverse depend on each other: the error comes from the spread between pairs. NaN: one pair tells
    nothing.
    """
    mean = gains.mean(axis=0)
    pairs = [gains[i : i + 2] for i in range(0, len(gains), 2)]
    n = len(pairs)
    if n == 1:
        return mean, np.full(mean.shape, np.nan)
    weights = np.array([len(p) for p in pairs]) / len(gains)
    spread = sum(w**2 * (p.mean(axis=0) - mean) ** 2 for w, p in zip(weights, pairs, strict=True))
    return mean, np.sqrt(spread * n / (n - 1))
