# SPDX-License-Identifier: Apache-2.0
"""The fewest replaced steps, features or cells that turn the prediction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

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

TINY = 1e-30


@dataclass(frozen=True, eq=False)
class Counterfactual(BaselineMethod):
    """The fewest units whose replacement by the baseline turns the prediction, found greedily and checked by the model.

    Units are replaced in the order of their relevance, which is what the margin loses when one is replaced alone, until
    the prediction turns. Then those that can be put back without turning it again are put back, the one first that
    leaves the prediction furthest on the other side. What remains is minimal: none of it can be put back alone. A
    smaller set may exist elsewhere. After Martens and Provost 2014 (SEDC, doi 10.25300/MISQ/2014/38.1.04).

    The explained value is the margin: the target's entry minus the largest other entry, before the activation; where an
    output has one entry or there is a `threshold`, the value minus the threshold. The prediction turns where the margin
    changes its sign. Against a background set, each draw is tried and the one with the fewest units is kept.

    most: the most units that may be replaced; 0: any number. max_runs: how often the model may run on the batch to put
        units back, for each draw. threshold: of the explained value, instead of the other classes.
    """

    name: ClassVar[str] = "counterfactual"
    words: ClassVar[Words] = Words(
        label="Counterfactual",
        hint="the fewest steps (features, cells) whose replacement turns the prediction",
        absorbed="margin of the changed input",
        residual="what the replaced units do together",
        relevance="what the margin regains when a replaced unit is put back; 0 for units that are not replaced",
        runs="one or two per unit, and some for each replaced unit",
    )
    promises: ClassVar[frozenset[Promise]] = frozenset()  # shares of a margin that is close to zero may be large
    batching: ClassVar[Batching] = Batching.NONE  # the number of runs depends on the batch
    most: int = parameter(0, "Replace at most", least=0)
    max_runs: int = parameter(1000, "Runs to put units back", least=0, most=MAX_RUNS)
    threshold: float | None = parameter(None, "Threshold", least=-1e12, most=1e12)
    baseline: Baseline = None
    over: Players = parameter("steps", "Replaced", choices=UNITS)

    def runs(self, players: CountPlayers) -> int:
        count = sum(players(self.over))
        limit = min(count, self.most or count)
        return self.draws * (count + limit + min(self.max_runs, limit * limit))

    def likely_runs(self, players: CountPlayers) -> int:
        return self.draws * 2 * sum(players(self.over))

    def memory(self, cost: Cost) -> float:
        return cost.of_predictions()

    def explain(self, tools: MethodTools) -> Attribution:
        """Searches against every draw, for all samples of the batch at once."""
        scores = tools.margins(self.name, self.threshold, self.over)
        found: Found | None = None
        for baseline in tools.draws(self.baseline):
            search = Search(tools.own_players(scores, baseline, self.over), self.most, self.max_runs)
            found = search.run() if found is None else found.better(search.run())
        assert found is not None  # there is at least one draw
        return tools.counterfactual(scores, found.relevance, found.total, found.margin, found.runs, self._notes(found))

    def _notes(self, found: Found) -> tuple[str, ...]:
        """Returns notes without numbers of samples, which may be explained in several parts of the batch."""
        notes = []
        if not found.turned.all():
            which = "the units" if not self.most else f"up to {self.most} units"
            notes.append(f"{self.name}: replacing {which} in their order does not turn every prediction")
        if found.cut.any():
            notes.append(
                f"{self.name}: fewer units may suffice: the search ended after {self.max_runs} runs (max_runs)"
            )
        return tuple(notes)


@dataclass
class Found:
    """The replaced units of every sample of a batch, and the margin without them.

    relevance: by input. total: [batch], its sum. margin: [batch], of the changed input. turned: [batch]. count:
    [batch], of replaced units. runs: [batch], of the model. cut: [batch], whether max_runs ended the search. choose:
    see PlayerSet.chosen.
    """

    relevance: dict[str, Array]
    total: Array
    margin: Array
    turned: Array
    count: Array
    runs: Array
    cut: Array
    choose: Callable[[str, Array, Array, Array], Array]

    def better(self, other: Found) -> Found:
        """Returns what is better for each sample: fewer units that turn the prediction."""
        take = other.turned & (~self.turned | (other.count < self.count))

        def one(mine: Array, theirs: Array) -> Array:
            return np.where(take, theirs, mine)

        return Found(
            {n: self.choose(n, take, other.relevance[n], a) for n, a in self.relevance.items()},
            one(self.total, other.total),
            one(self.margin, other.margin),
            self.turned | other.turned,
            one(self.count, other.count),
            self.runs + other.runs,
            one(self.cut, other.cut),
            self.choose,
        )


class Search:
    """Searches the fewest players of one set. Arrays are [batch, players]; a margin counts as positive at the start."""

    def __init__(self, player_set: PlayerSet, most: int, max_runs: int) -> None:
        self._set, self._max_runs = player_set, max_runs
        self._start = np.asarray(player_set.scores.explained, np.float64)
        self._sign = np.where(self._start >= 0, 1.0, -1.0)
        self._real = player_set.present()
        self._limit = min(player_set.count, most or player_set.count)
        self._runs = np.zeros(len(self._start), np.int64)

    def run(self) -> Found:
        batch, players = self._real.shape
        every, rows = np.arange(players), np.arange(batch)
        alone = self._margins(players, lambda ids: (every[ids.start : ids.stop, None, None] == every) & self._real)
        alone = np.where(self._real, alone.T, np.inf)
        rank = np.argsort(np.argsort(alone, axis=1, kind="stable"), axis=1)

        def grown(counts: Array) -> Array:
            return (rank < counts[..., None]) & self._real

        steps = np.arange(1, self._limit + 1)
        margins = self._margins(self._limit, lambda ids: grown(steps[ids.start : ids.stop, None]))
        turned: Array = np.asarray((margins < 0).any(axis=0))
        first = (margins < 0).argmax(axis=0)
        removed = grown(np.where(turned, first + 1, 0))
        margin = np.where(turned, margins[first, rows], self._start * self._sign)
        self._runs += players + self._limit
        removed, margin, back, cut = self._pruned(removed, margin)
        regained = np.where(removed, np.maximum(back - margin[:, None], TINY), 0.0) * self._sign[:, None]
        relevance, total, runs = self._set.relevance(regained), regained.sum(axis=1), self._runs
        return Found(
            relevance, total, margin * self._sign, turned, removed.sum(axis=1), runs, cut, self._set.chosen
        )  # fmt: skip

    def _pruned(self, removed: Array, margin: Array) -> tuple[Array, Array, Array, Array]:
        """Puts players back while the prediction stays turned. Returns who remains removed, the margin, the margin with
        each of them back alone, and whether the search ended early. What happens to a sample does not depend on others.
        """
        back, left = np.full(removed.shape, -np.inf), np.full(len(removed), self._max_runs)
        at_work = np.flatnonzero(removed.any(axis=1))
        while True:
            at_work = at_work[removed[at_work].sum(axis=1) <= left[at_work]]
            if not len(at_work):
                return removed, margin, back, np.asarray((removed & np.isneginf(back)).any(axis=1))
            columns = {sample: np.flatnonzero(removed[sample]) for sample in at_work.tolist()}

            def without_one(ids: range, columns: dict[int, Array] = columns) -> Array:
                trials = np.repeat(removed[None], len(ids), axis=0)
                for sample, players in columns.items():
                    back_now = players[ids.start : ids.stop]
                    trials[np.arange(len(back_now)), sample, back_now] = False
                return trials

            margins = self._margins(max(map(len, columns.values())), without_one)
            again = []
            for sample, players in columns.items():
                own = margins[: len(players), sample]
                left[sample] -= len(players)
                back[sample, players] = own
                self._runs[sample] += len(players)
                if own.min() < 0:
                    best = int(own.argmin())
                    removed[sample, players[best]], margin[sample] = False, own[best]
                    back[sample] = -np.inf  # of another set
                    again.append(sample)
            at_work = np.array(again, np.intp)

    def _margins(self, count: int, removed: Callable[[range], Array]) -> Array:
        """Returns [count, batch]: the margins without the `removed` players, positive where nothing has turned."""
        margins = self._set.coalitions(count, lambda ids: ~removed(ids))
        return np.asarray(margins, np.float64) * self._sign
