# SPDX-License-Identifier: Apache-2.0
"""Measures how faithful the explanations of one batch are: what deletion and insertion of players do to the score."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lstm_explain.calibration.data import singles
from lstm_explain.errors import InputError
from lstm_explain.evaluate.curves import curve
from lstm_explain.evaluate.data import Array, Batch, player_set_of
from lstm_explain.methods.base import Baseline, Method, Players
from lstm_explain.model import Model
from lstm_explain.runner.players import PlayerSet
from lstm_explain.target import Target
from lstm_explain.verdict import Finding

POINTS = 8
RANDOM_ORDERS = 3  # of players, the mean of which is reported


@dataclass(frozen=True)
class Measured:
    """What was measured of one method, one row per sample.

    deletion, insertion: [samples, points], the change of the explained value after each count of players (see
        `counts_of`), as a gain: how far it falls when the most relevant players are deleted, and how far it rises when
        they are inserted into the baseline.
    trusted: [samples], whether the verdict has no finding and the relevance is finite.
    """

    deletion: Array
    insertion: Array
    trusted: Array

    @property
    def faithfulness(self) -> Array:
        """[samples]: the mean gain over the points of both curves, in units of the explained value."""
        return self.deletion.mean(axis=1) + self.insertion.mean(axis=1)


def joined(parts: Sequence[Measured]) -> Measured:
    """Returns the samples of all parts."""
    return Measured(
        np.concatenate([part.deletion for part in parts]),
        np.concatenate([part.insertion for part in parts]),
        np.concatenate([part.trusted for part in parts]),
    )


def finite_mean(values: Array) -> float:
    """Returns the mean of the finite entries; NaN if there are none. A deleted player may lead the model to
    infinity.
    """
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else np.nan


def counts_of(players: int) -> Array:
    """Returns an array [POINTS]: how many players the points of a curve delete, from 1 to half of them, in geometric
    steps.

    Explanations are read from the top, so most points are there. Small sets repeat counts, so that all samples have
    equally many points.
    """
    return np.rint(np.geomspace(1, max(1, players // 2), POINTS)).astype(int)


class Bench:
    """One batch on which methods are compared, with the target that its unchanged inputs have.

    players: those that are deleted and inserted. batch: all samples have the same shapes.
    """

    def __init__(self, model: Model, batch: Batch, target: Target, baseline: Baseline, over: Players) -> None:
        self.model, self.batch, self._baseline, self._over = model, batch, baseline, over
        self.players: PlayerSet = player_set_of(model, batch, target, baseline, over)
        chosen = self.players.scores.selection
        self.target = replace(target, index=chosen.index, contrast=chosen.contrast)
        counts = counts_of(self.players.count)
        self._fractions = np.concatenate([[0], counts, [self.players.count]]) / self.players.count

    @property
    def samples(self) -> int:
        return self.players.scores.batch

    def of_method(self, method: Method) -> Measured:
        """Returns the method's explanations, measured. Samples that cannot be explained have no relevance and no
        trust.
        """
        return self.of_relevance(*self.explained(method))

    def of_relevance(self, relevance: Array, trusted: Array | None = None) -> Measured:
        """Measures the given relevance, [samples, players]."""
        deletion = curve(self.players, relevance, self._fractions)
        insertion = curve(self.players, relevance, self._fractions, insert=True)
        return Measured(
            deletion[:, :1] - deletion[:, 1:-1],
            insertion[:, 1:-1] - insertion[:, :1],
            np.ones(len(relevance), bool) if trusted is None else trusted,
        )

    def random(self, rng: np.random.Generator) -> Measured:
        """Returns the mean of random orders."""
        orders = [
            self.of_relevance(rng.standard_normal((self.samples, self.players.count))) for _ in range(RANDOM_ORDERS)
        ]
        return replace(
            orders[0],
            deletion=np.mean([o.deletion for o in orders], axis=0),
            insertion=np.mean([o.insertion for o in orders], axis=0),
        )

    def seconds(self, runs: int) -> float:
        """Returns an estimate of how long it takes to run the model so often on the batch, from a few runs."""
        few = min(runs, 4)
        began = time.monotonic()
        self.players.coalitions(few, lambda ids: np.ones((len(ids), self.players.count), bool))
        return (time.monotonic() - began) * runs / few

    def explained(self, method: Method) -> tuple[Array, Array]:
        """Returns the relevance of the players, [samples, players], and whether it is trusted, [samples]."""
        try:
            explanation = self.model.explain(self.batch, method, self.target)
        except InputError:  # Relevance that is not finite, of one sample at least.
            if self.samples == 1:
                return np.zeros((1, self.players.count)), np.zeros(1, bool)
            parts = [self._alone(i).explained(method) for i in range(self.samples)]
            return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
        return self.players.totals(explanation.relevance), trusted(explanation.findings, self.samples)

    def _alone(self, sample: int) -> Bench:
        """Returns the batch of this sample alone."""
        rows = slice(sample, sample + 1)
        at = {k: v[rows] for k in ("index", "contrast") if (v := getattr(self.target, k)) is not None}
        batch = singles(self.model, self.batch)[sample]
        return Bench(self.model, batch, replace(self.target, **at), self._baseline, self._over)


def trusted(findings: Sequence[Finding], samples: int) -> Array:
    """Returns an array [samples]: which samples no finding names. That a value is close to zero is no fault of the
    method that is measured.
    """
    passed = np.ones(samples, bool)
    for finding in findings:
        passed[[n for n, near in zip(finding.samples, finding.crosses_zero, strict=True) if not near]] = False
    return passed
