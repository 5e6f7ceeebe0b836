# SPDX-License-Identifier: Apache-2.0
"""Estimates Shapley values by sampling the orders in which players join."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from lstm_explain.methods.background import Comparison
from lstm_explain.methods.base import (
    MAX_RUNS,
    UNITS,
    Baseline,
    BaselineMethod,
    Batching,
    CountPlayers,
    Players,
    Promise,
    Words,
)
from lstm_explain.methods.parameters import parameter
from lstm_explain.methods.student import NORMAL_QUANTILE, t_quantile

if TYPE_CHECKING:
    from lstm_explain.graph.ir import Array
    from lstm_explain.program.attribution import Attribution
    from lstm_explain.runner.cost import Cost
    from lstm_explain.runner.method_tools import MethodTools
    from lstm_explain.runner.players import PlayerSet

ORDERS_OF_A_DRAW = 4  # two pairs, which show how much the orders matter


@dataclass(frozen=True, eq=False)
class ShapleySampling(BaselineMethod):
    """Shapley values, estimated over random orders (Castro et al. 2009, doi 10.1016/j.cor.2008.04.004).

    Every second order is the reverse of the previous one (Mitchell et al. 2022, arXiv 2104.12199, section 2.2).

    permutations: orders drawn; draws from a background set share them, but each has at least four. over: the players:
    time steps, features (over all time steps), or single cells.
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
    permutations: int = parameter(25, "Orders", least=1, most=MAX_RUNS)
    seed: int = parameter(0, "Seed", least=0)
    baseline: Baseline = None
    over: Players = parameter("steps", "Between", choices=UNITS)

    @property
    def standard_error(self) -> bool:
        return True

    @property
    def orders(self) -> int:
        """The number of orders for each baseline: the draws from a background set share them."""
        return (
            self.permutations
            if self.draws == 1
            else max(ORDERS_OF_A_DRAW, 2 * -(-self.permutations // (2 * self.draws)))
        )

    def runs(self, players: CountPlayers) -> int:
        return self.draws * self.orders * max(1, sum(players(self.over)))

    def memory(self, cost: Cost) -> float:
        return cost.of_predictions()

    def cheapest_variant(self) -> Self:
        return replace(self, permutations=1)

    def explain(self, tools: MethodTools) -> Attribution:
        """Lets players join one by one in random order.

        The gains of each order add up to the whole difference, and so does their mean. Every draw from a background set
        has orders of its own.
        """
        scores = tools.scores(self.over)
        return tools.compared_with(
            self.baseline,
            scores,
            lambda baseline, draw: self._compared(tools.player_set(scores, baseline, self.over), draw),
        )

    def _compared(self, player_set: PlayerSet, draw: int) -> Comparison:
        orders = draw_orders(player_set.count, self.orders, self.seed if self.draws == 1 else (self.seed, draw))
        baseline = player_set.baseline_scores()
        gains = np.stack([_gains(player_set, order, baseline) for order in orders])  # [orders, batch, players]
        mean, error = estimate(gains, self.draws)
        return Comparison(player_set.relevance(mean), mean.sum(axis=1), baseline, player_set.relevance(error))


def draw_orders(players: int, count: int, seed: int | tuple[int, ...]) -> Array:
    """[count, players]; every second order is the reverse of the previous one."""
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(players) for _ in range((count + 1) // 2)]
    return np.array([o for order in drawn for o in (order, order[::-1])][:count]).reshape(count, players)


def _gains(player_set: PlayerSet, order: Array, baseline_scores: Array) -> Array:
    """Returns an array [batch, players]: what each player adds to those that joined before it."""
    place = np.empty(player_set.count, int)
    place[order] = np.arange(player_set.count)

    def joined(ids: range) -> Array:
        return place <= np.asarray(ids)[:, None]  # who is present after 1, 2, … players have joined

    inner = player_set.coalitions(player_set.count - 1, joined)
    values = np.vstack([baseline_scores, inner, player_set.scores.explained])
    gains = np.empty((player_set.scores.batch, player_set.count))
    gains[:, order] = np.diff(values, axis=0).T
    return gains


def estimate(gains: Array, draws: int = 1) -> tuple[Array, Array]:
    """Returns the mean over the orders and its standard error, [batch, players] each.

    An order and its reverse depend on each other, so the error comes from the spread between pairs. It is NaN for one
    pair. Because few pairs tend to understate the spread, it contains the factor that makes 1.96 standard errors the
    half-width of the 95 % confidence interval of Student's t distribution. Where the errors of several draws from a
    background set are added up, the pairs of all draws count.
    """
    mean = gains.mean(axis=0)
    pairs = [gains[i : i + 2] for i in range(0, len(gains), 2)]
    n = len(pairs)
    if n == 1:
        return mean, np.full(mean.shape, np.nan)
    weights = np.array([len(p) for p in pairs]) / len(gains)
    spread = sum(w**2 * (p.mean(axis=0) - mean) ** 2 for w, p in zip(weights, pairs, strict=True))
    return mean, np.sqrt(spread * n / (n - 1)) * t_quantile(draws * (n - 1)) / NORMAL_QUANTILE
