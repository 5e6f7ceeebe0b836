# SPDX-License-Identifier: Apache-2.0
"""Gives methods access to the engine, so that their files need not import it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lstm_explain.graph.ir import Array
from lstm_explain.methods.background import Background
from lstm_explain.methods.base import Baseline, GroupedPlayers, Players, SingleBaseline
from lstm_explain.operators import SamplesMixed
from lstm_explain.program.attribution import Attribution
from lstm_explain.runner.background import Compare, compare_with, draws
from lstm_explain.runner.decomposition import contextual_decomposition
from lstm_explain.runner.gradient_points import GradientPoints
from lstm_explain.runner.margins import margins
from lstm_explain.runner.model_runner import ExplainTask
from lstm_explain.runner.players import PlayerSet, player_set
from lstm_explain.runner.probability import probabilities
from lstm_explain.runner.scores import Scores, attribution_of


@dataclass(frozen=True)
class MethodTools:
    """The tools for one task: a batch of inputs and the value that is explained."""

    task: ExplainTask

    def scores(self, over: GroupedPlayers = "features") -> Scores:
        """Scores changed inputs by the explained value. over: what changes from one input to the next."""
        return Scores(self.task, begin_alike=self._begin_alike(over))

    def probabilities(self, method: str, over: GroupedPlayers = "features") -> Scores:
        """Scores changed inputs by the output as a probability. method: named in the MethodError where the output is
        none. over: see `scores`.
        """
        return probabilities(self.task, method, begin_alike=self._begin_alike(over))

    def margins(self, method: str, threshold: float | None, over: Players) -> Scores:
        """Scores changed inputs by what is left until the prediction turns. method, over: see `probabilities`.
        threshold: of the explained value, in place of the other entries of the output.
        """
        return margins(self.task, method, threshold, begin_alike=over != "features")

    def draws(self, baseline: Baseline) -> Sequence[SingleBaseline]:
        """Returns the baseline, or the draws from a background set."""
        return draws(baseline, self.task) if isinstance(baseline, Background) else [baseline]

    def counterfactual(
        self,
        scores: Scores,
        relevance: Mapping[str, Array],
        total: Array,
        margin: Array,
        runs: Array,
        notes: tuple[str, ...],
    ) -> Attribution:
        """Returns the answer with its ledger. margin: [batch], of the changed input. runs: [batch], of the model."""
        answer = attribution_of(scores, relevance, total, margin)
        return replace(answer, steps_used=runs, notes=notes)

    def _begin_alike(self, over: GroupedPlayers) -> bool:
        """Returns whether inputs in which one of these parts is changed begin alike."""
        if over != "groups":
            return over != "features"
        times = {name: axes.time for name, axes in self.task.runner.axes.items()}
        return any(
            (groups != groups.take([0], time)).any()
            for name, groups in self.task.groups.items()
            if (time := times[name]) is not None
        )

    def player_set(self, scores: Scores, baseline: Baseline, over: GroupedPlayers) -> PlayerSet:
        """Returns the parts of the inputs that can be replaced by the baseline."""
        return player_set(scores, baseline, over)

    def own_players(self, scores: Scores, baseline: Baseline, over: GroupedPlayers) -> PlayerSet:
        """Returns the same for a method that replaces other parts in every sample. Raises SamplesMixed where several
        samples share an input.
        """
        found = player_set(scores, baseline, over)
        if scores.batch > 1 and found.shared:
            raise SamplesMixed
        return found

    def gradient_points(self) -> GradientPoints:
        """Evaluates gradients at any point. Raises SamplesMixed where the graph mixes the samples of the batch."""
        return GradientPoints(self.task)

    def compared_with(self, baseline: Baseline, scores: Scores, compare: Compare) -> Attribution:
        """Returns the answer against a baseline, or the mean of the answers against every draw from a background
        set.
        """
        found = compare_with(baseline, self.task, compare)
        answer = attribution_of(scores, found.relevance, found.total, found.baseline, found.error)
        return replace(answer, steps_used=found.steps)

    def contextual_decomposition(self, span: Sequence[int] | None) -> Attribution:
        """Returns the answer by contextual decomposition. span: (start, end), time steps that are one phrase."""
        return contextual_decomposition(self.task, span)

    def attribution_of(
        self,
        scores: Scores,
        relevance: Mapping[str, Array],
        total: Array,
    ) -> Attribution:
        """Returns the answer of a method without a baseline, with its ledger. relevance: by input. total: [batch], its
        sum.
        """
        return attribution_of(scores, relevance, total, None)
