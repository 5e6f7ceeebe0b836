"""Estimates Shapley values by sampling the orders in which players join."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

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

if TYPE_CHECKING:
    from lstm_explain.graph.ir import Array
    from lstm_explain.program.attribution import Attribution
    from lstm_explain.runner.cost import Cost
    from lstm_explain.runner.method_tools import MethodTools
    from lstm_explain.runner.players import PlayerSet

NORMAL_QUANTILE = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, eq=False)
class ShapleySampling(BaselineMethod):
    """Shapley values, estimated over random orders (Castro et al. 2009, doi 10.1016/j.cor.2008.04.004).

    Every second order is the reverse of the previous one (Mitchell et al. 2022, arXiv 2104.12199, section 2.2).

    permutations: orders drawn. over: the players: time steps, features (over all time steps), or single cells.
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
    permutations: int = parameter(25, "Orders", least=1, most=MAX_RUNS)
    seed: int = parameter(0, "Seed", least=0)
    baseline: Baseline = None
    over: Players = parameter("steps", "Between", choices=UNITS)

    def runs(self, players: CountPlayers) -> int:
        return self.permutations * max(1, sum(players(self.over)))

    def memory(self, cost: Cost) -> float:
        return cost.of_predictions()

    def cheapest_variant(self) -> Self:
        return replace(self, permutations=1)

    def explain(self, tools: MethodTools) -> Attribution:
        """Lets players join one by one in random order.

        The gains of each order add up to the whole difference, and so does their mean.
        """
        scores = tools.scores()
        player_set = tools.player_set(scores, self.baseline, self.over)
        orders = draw_orders(player_set.count, self.permutations, self.seed)
        baseline = player_set.baseline_scores()
        gains = np.stack([_gains(player_set, order, baseline) for order in orders])  # [orders, batch, players]
        mean, error = estimate(gains)
        standard_error = player_set.relevance(error)
        return tools.attribution_of(scores, player_set.relevance(mean), mean.sum(axis=1), baseline, standard_error)


def draw_orders(players: int, count: int, seed: int) -> Array:
    """[count, players]; every second order is the reverse of the previous one."""
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(players) for _ in range((count + 1) // 2)]
    return np.array([o for order in drawn for o in (order, order[::-1])][:count]).reshape(count, players)


def _gains(player_set: PlayerSet, order: Array, baseline_scores: Array) -> Array:
    """[batch, players]: what each player adds to those that joined before it."""
    place = np.empty(player_set.count, int)
    place[order] = np.arange(player_set.count)

    def joined(ids: range) -> Array:
        return place <= np.asarray(ids)[:, None]  # who is present after 1, 2, … players have joined

    inner = player_set.coalitions(player_set.count - 1, joined)
    values = np.vstack([baseline_scores, inner, player_set.scores.explained])
    gains = np.empty((player_set.scores.batch, player_set.count))
    gains[:, order] = np.diff(values, axis=0).T
    return gains


def estimate(gains: Array) -> tuple[Array, Array]:
    """The mean over the orders and its standard error, [batch, players] each.

    An order and its reverse depend on each other, so the error comes from the spread between pairs. It is NaN for one
    pair. Because few pairs tend to understate the spread, it contains the factor that makes 1.96 standard errors the
    half-width of the 95 % confidence interval of Student's t distribution.
    """
    mean = gains.mean(axis=0)
    pairs = [gains[i : i + 2] for i in range(0, len(gains), 2)]
    n = len(pairs)
    if n == 1:
        return mean, np.full(mean.shape, np.nan)
    weights = np.array([len(p) for p in pairs]) / len(gains)
    spread = sum(w**2 * (p.mean(axis=0) - mean) ** 2 for w, p in zip(weights, pairs, strict=True))
    return mean, np.sqrt(spread * n / (n - 1)) * t_quantile(n - 1) / NORMAL_QUANTILE


def t_quantile(degrees: int) -> float:
    """The 97.5 % quantile of Student's t distribution: closed forms for 1 and 2 degrees of freedom, and otherwise the
    expansion of Abramowitz and Stegun 1964, 26.7.5, whose error is below 0.13 %.
    """
    if degrees == 1:
        return math.tan(0.475 * math.pi)
    if degrees == 2:
        return 0.95 * math.sqrt(2 / (1 - 0.95**2))
    z, n = NORMAL_QUANTILE, degrees
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / n**power for power, term in enumerate(terms, start=1))
