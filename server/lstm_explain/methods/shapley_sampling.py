# SPDX-License-Identifier: Apache-2.0
"""Computes Shapley values: exactly where there are few players, otherwise by sampling the orders in which they join."""

from __future__ import annotations

import math
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
    GroupedPlayers,
    Promise,
    SingleBaseline,
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
MOST_EXACT = 13  # players whose coalitions are fewer than MAX_RUNS


@dataclass(frozen=True, eq=False)
class ShapleySampling(BaselineMethod):
    """Shapley values (Shapley 1953, A value for n-person games), exact for few players and otherwise estimated over
    random orders (Castro et al. 2009, doi 10.1016/j.cor.2008.04.004).

    Every second order is the reverse of the previous one (Mitchell et al. 2022, arXiv 2104.12199, section 2.2).

    permutations: orders drawn; draws from a background set share them, but each has at least four. over: the players:
        time steps, features (over all time steps), single cells, or the groups of the request.
    standard_error: more orders are drawn until no player of any sample has a larger standard error, in units of the
        explained value, or until there are `max_permutations`, which is a warning. Draws from a background set add an
        error of their own, which more orders do not lower.
    exact_players: up to this many players, every coalition is scored instead, 2 to the power of their number. 0: never.
    """

    name: ClassVar[str] = "shapley_sampling"
    words: ClassVar[Words] = Words(
        label="Shapley values",
        hint="fair shares over all or over random orders",
        absorbed="score of the baseline",
        residual="rounding",
        relevance="mean gain when a step (feature, cell) joins the previous ones",
        runs="permutations × players; up to `exact_players` players, 2 to the power of their number",
    )
    promises: ClassVar[frozenset[Promise]] = frozenset({Promise.SHARES, Promise.COMPLETE})
    batching: ClassVar[Batching] = Batching.EQUAL_LENGTHS  # padding would add players
    permutations: int = parameter(25, "Orders", least=1, most=MAX_RUNS)
    seed: int = parameter(0, "Seed", least=0)
    baseline: Baseline = None
    over: GroupedPlayers = parameter("steps", "Between", choices=UNITS)
    standard_error: float | None = parameter(None, "Until the standard error is", least=0)
    max_permutations: int = parameter(1000, "Orders at most", least=1, most=MAX_RUNS)
    exact_players: int = parameter(10, "Exact up to players", least=0, most=MOST_EXACT)

    @property
    def has_standard_error(self) -> bool:
        return True

    def over_groups(self) -> ShapleySampling:
        return replace(self, over="groups")

    @property
    def orders(self) -> int:
        """The number of orders for each baseline to begin with: the draws from a background set share them."""
        return self._of_each_draw(self.permutations)

    @property
    def most_orders(self) -> int:
        """The number of orders for each baseline at most."""
        most = self.permutations if self.standard_error is None else max(self.permutations, self.max_permutations)
        return self._of_each_draw(most)

    def _of_each_draw(self, permutations: int) -> int:
        if self.draws == 1:
            return permutations
        return max(ORDERS_OF_A_DRAW, 2 * -(-permutations // (2 * self.draws)))

    def runs(self, players: CountPlayers) -> int:
        return self._runs(players, self.most_orders)

    def likely_runs(self, players: CountPlayers) -> int:
        return self._runs(players, self.orders)

    def _runs(self, players: CountPlayers, orders: int) -> int:
        count = sum(players(self.over))
        return self.draws * (2**count if count <= self.exact_players else orders * count)

    def memory(self, cost: Cost) -> float:
        return cost.of_predictions()

    def cheapest_variant(self) -> Self:
        return replace(self, permutations=1, standard_error=None, exact_players=0)

    def explain(self, tools: MethodTools) -> Attribution:
        """Scores every coalition of few players, or lets players join one by one in random order.

        The gains of each order add up to the whole difference, and so does their mean. Every draw from a background set
        has orders of its own.
        """
        scores, errors = tools.scores(self.over), list[float]()

        def compared(baseline: SingleBaseline, draw: int) -> Comparison:
            player_set = tools.player_set(scores, baseline, self.over)
            exact = player_set.count <= self.exact_players
            start, mean, error = shapley_values(player_set) if exact else self._sampled(player_set, draw)
            errors.append(float(error.max(initial=0.0)))
            return Comparison(player_set.relevance(mean), mean.sum(axis=1), start, player_set.relevance(error))

        answer = tools.compared_with(self.baseline, scores, compared)
        if self.standard_error is None or self._suffices(max(errors)):
            return answer
        reached = f"after {self.most_orders} orders, the standard error is up to {max(errors):.3g}"
        return replace(answer, notes=(*answer.notes, f"{reached}, more than {self.standard_error:g}"))

    def _sampled(self, player_set: PlayerSet, draw: int) -> tuple[Array, Array, Array]:
        """Returns the scores of the baseline, [batch], the estimated values and their standard errors, [batch, players]
        each.
        """
        seed = self.seed if self.draws == 1 else (self.seed, draw)
        orders, done = draw_orders(player_set.count, self.most_orders, seed), self.orders
        baseline = player_set.baseline_scores()
        gains = [_gains(player_set, order, baseline) for order in orders[:done]]  # [batch, players] each
        while True:
            mean, error = estimate(np.stack(gains), self.draws)
            if done == len(orders) or self._suffices(float(error.max(initial=0.0))):
                return baseline, mean, error
            more = min(2 * done, len(orders))
            gains += [_gains(player_set, order, baseline) for order in orders[done:more]]
            done = more

    def _suffices(self, error: float) -> bool:
        """Returns whether the standard error of one draw is small enough; NaN is not."""
        return self.standard_error is not None and error <= self.standard_error * math.sqrt(self.draws)


def shapley_values(player_set: PlayerSet) -> tuple[Array, Array, Array]:
    """Returns the scores of the baseline, [batch], the exact Shapley values and their standard errors, which are zero,
    [batch, players] each.

    The value of player i is the sum over coalitions S without i of |S|! (n - |S| - 1)! / n! (v(S with i) - v(S)).
    """
    n = player_set.count
    bits = 1 << np.arange(n)

    def present(ids: range) -> Array:
        return (np.asarray(ids)[:, None] & bits) > 0

    scores = player_set.coalitions(
        2**n, present
    )  # [coalitions, batch], coalition c has player i where its bit i is set
    scores[-1] = player_set.scores.explained  # nobody is absent
    numbers = np.arange(2**n)
    sizes = present(range(2**n)).sum(axis=1)
    weights = np.array([1 / (n * math.comb(n - 1, size)) for size in range(n)])
    values = np.empty((player_set.scores.batch, n))
    for player, bit in enumerate(bits):
        without = numbers[(numbers & bit) == 0]
        values[:, player] = weights[sizes[without]] @ (scores[without | bit] - scores[without])
    return scores[0], values, np.zeros(values.shape)


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
