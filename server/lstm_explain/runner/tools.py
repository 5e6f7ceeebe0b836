"""What a method has at hand to explain with: it lets the file of a method do without the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lstm_explain.graph.ir import Array
from lstm_explain.methods.base import Baseline, Players
from lstm_explain.runner.decomposition import decomposed
from lstm_explain.runner.field import Field
from lstm_explain.runner.players import Board, board_for
from lstm_explain.runner.probability import probabilities
from lstm_explain.runner.study import Found, Scores, Task, found


@dataclass(frozen=True)
class Tools:
    """For one task: a batch of inputs and the value that is explained."""

    task: Task

    def scores(self) -> Scores:
        """The explained value of changed inputs."""
        return Scores(self.task)

    def probabilities(self, method: str) -> Scores:
        """The same of the output as a probability. method: its name, for the MethodError where the output is none."""
        return probabilities(self.task, method)

    def board(self, scores: Scores, baseline: Baseline, over: Players) -> Board:
        """The parts of the inputs that can be replaced by the baseline."""
        return board_for(scores, baseline, over)

    def field(self) -> Field:
        """Gradients at any place. Raises LaneLost where the graph mixes the samples of the batch."""
        return Field(self.task)

    def decomposed(self) -> Found:
        """The answer by contextual decomposition."""
        return decomposed(self.task)

    def found(
        self,
        scores: Scores,
        relevance: Mapping[str, Array],
        total: Array,
        baseline: Array | None = None,
        standard_error: Mapping[str, Array] | None = None,
    ) -> Found:
        """The answer, with its ledger.

        relevance: by input. total: [batch], all of it. baseline: [batch], what the baseline scores, where there is one.
        """
        return found(scores, relevance, total, baseline, standard_error)
