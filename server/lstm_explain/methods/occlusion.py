# SPDX-License-Identifier: Apache-2.0
"""Computes occlusion: what the explained value loses when a baseline replaces time steps, features or cells."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from lstm_explain.errors import MethodError
from lstm_explain.methods.background import Comparison
from lstm_explain.methods.base import (
    UNITS,
    Baseline,
    BaselineMethod,
    Batching,
    CountPlayers,
    GroupedPlayers,
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

Quantity = Literal["score", "probability"]


@dataclass(frozen=True, eq=False)
class Occlusion(BaselineMethod):
    """The fall of the explained value when the baseline replaces a window of time steps, a feature or a cell.

    Zeiler and Fergus 2014 (arXiv 1311.2901); for time steps Arras et al. 2019 (arXiv 1909.12114).

    window: time steps replaced together, moved by one step at a time; a step gets the mean share of its windows.
        Must be 1 for other units.
    of: the score, or the probability (Softmax or Sigmoid of the output).
    over: the units: time steps, features (over all time steps), single cells, or the groups of the request.
    """

    name: ClassVar[str] = "occlusion"
    words: ClassVar[Words] = Words(
        label="Occlusion",
        hint="what the prediction loses without a step (feature, cell)",
        absorbed="score of the baseline",
        residual="what the units do together",
        relevance="decrease of the score (or of the probability) when time steps (a feature, a cell) are replaced",
        runs="one per window (feature, cell)",
    )
    promises: ClassVar[frozenset[Promise]] = frozenset({Promise.SHARES})
    batching: ClassVar[Batching] = Batching.EQUAL_LENGTHS  # padding would add windows
    window: int = parameter(1, "Window, in steps", least=1)
    baseline: Baseline = None
    of: Quantity = parameter("score", "Fall of", choices={"score": "the score", "probability": "the probability"})
    over: GroupedPlayers = parameter("steps", "Replaced", choices=UNITS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.over != "steps" and self.window != 1:
            problem = (
                f"{self.name}: window is {self.window} with over={self.over!r}, expected 1: only steps have windows"
            )
            raise MethodError(problem, field="method.window")

    def kept_beside(self, names: Collection[str]) -> dict[str, Any]:
        """As `Method.kept_beside`: a caller who names a unit drops the window, and one who names a window the unit."""
        dropped = {"over": "window", "window": "over"}
        excluded = {dropped[name] for name in names if name in dropped}
        return {name: value for name, value in super().kept_beside(names).items() if name not in excluded}

    def over_groups(self) -> Occlusion:
        return replace(self, over="groups", window=1)

    def runs(self, players: CountPlayers) -> int:
        return self.draws * sum(max(1, count - self.window + 1) for count in players(self.over))

    def memory(self, cost: Cost) -> float:
        return cost.of_predictions()

    @property
    def explains_probability(self) -> bool:
        return self.of == "probability"

    def explain(self, tools: MethodTools) -> Attribution:
        """Runs the model once per window, which is a single unit unless the units are steps, and once with everything
        replaced, for the ledger.
        """
        scores = tools.probabilities(self.name, self.over) if self.explains_probability else tools.scores(self.over)
        return tools.compared_with(
            self.baseline, scores, lambda baseline, _: self._compared(tools.player_set(scores, baseline, self.over))
        )

    def _compared(self, player_set: PlayerSet) -> Comparison:
        scores = player_set.scores
        of_inputs = [_windows(np.unique(players), self.window) for players in player_set.players.values()]
        windows = [window for own in of_inputs for window in own]
        first = [number == 0 for own in of_inputs for number in range(len(own))]

        def present(ids: range) -> Array:
            rows = np.ones((len(ids), player_set.count), bool)
            for row, window in zip(rows, windows[ids.start : ids.stop], strict=True):
                row[window] = False
            return rows

        falls = scores.explained - player_set.coalitions(len(windows), present)  # [windows, batch]
        real = player_set.present()
        counted = [_inside(real[:, window], alone=alone) for window, alone in zip(windows, first, strict=True)]
        covering = np.zeros((scores.batch, player_set.count))
        for window, inside in zip(windows, counted, strict=True):
            covering[:, window] += inside
        by_player = np.zeros((scores.batch, player_set.count))
        for window, inside, fall in zip(windows, counted, falls, strict=True):
            shares = inside.sum(axis=1, keepdims=True) * covering[:, window]
            by_player[:, window] += inside * fall[:, None] / np.maximum(shares, 1)
        baseline = player_set.baseline_scores()
        return Comparison(player_set.relevance(by_player), by_player.sum(axis=1), baseline)


def _inside(real: Array, *, alone: bool) -> Array:
    """Returns an array [batch, window]: the steps that share the fall of a window.

    A window that reaches into padding has none, except the only window (`alone`) of a sample that is shorter than it.
    """
    whole = real.all(axis=1, keepdims=True)
    return np.asarray(real & (whole | alone), np.float64)


def _windows(players: Array, width: int) -> list[Array]:
    """Returns the players that are hidden together: every `width` consecutive ones."""
    return [players[start : start + width] for start in range(max(1, len(players) - width + 1))]
