# SPDX-License-Identifier: Apache-2.0
"""Chooses among candidates on the same samples, and drops those that fall behind, so that most samples go to the best.

A race by paired comparisons (Maron and Moore 1993, "Hoeffding races"; Birattari et al. 2002, "A racing algorithm for
configuring metaheuristics"), with normal intervals in place of Hoeffding's bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from lstm_explain.calibration.measure import Bench, Measured, finite_mean, joined
from lstm_explain.calibration.setup import Clock
from lstm_explain.evaluate.data import Array
from lstm_explain.methods.base import Method

MAX_UNTRUSTED = 0.02  # the largest share of untrusted answers of a candidate that can be chosen
FIRST_CUT = 16  # samples before the first candidate is dropped
Z = 1.96  # of a 95 % interval
MARGIN = 0.02  # of the best mean: smaller differences do not matter, however sure they are
Z_DROP = 3.0  # candidates are compared many times, so dropping one takes more


@dataclass(frozen=True)
class Difference:
    """A mean paired difference with half of its 95 % interval; `half` is infinite for a single sample."""

    mean: float
    half: float

    @property
    def is_better(self) -> bool:
        return self.mean > self.half

    @property
    def is_worse(self) -> bool:
        return self.mean < -self.half

    def __str__(self) -> str:
        return f"{self.mean:+.3g} ± {self.half:.2g}"


def difference(a: Array, b: Array) -> Difference:
    """Returns the difference a - b over the samples in which both are numbers."""
    d = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    d = d[np.isfinite(d)]
    if len(d) < 2:
        return Difference(float(d.sum()), np.inf)
    return Difference(float(d.mean()), float(Z * d.std(ddof=1) / np.sqrt(len(d))))


@dataclass
class Race:
    """measured: by candidate, of all samples until it was dropped. alive: the candidates that are not dropped.
    samples: how many the survivors ran on.
    """

    measured: dict[str, Measured]
    alive: list[str]
    samples: int
    dropped: dict[str, str] = field(default_factory=dict)

    @property
    def best(self) -> str:
        return self.best_of(self.alive)

    def best_of(self, names: Sequence[str]) -> str:
        return max(names, key=self.faithfulness)

    def faithfulness(self, name: str) -> float:
        """Returns the candidate's mean; minus infinity where no sample has a finite one."""
        return float(np.nan_to_num(finite_mean(self.measured[name].faithfulness), nan=-np.inf))

    @property
    def tied(self) -> list[str]:
        """The candidates that cannot be distinguished from the best, or are worse by less than MARGIN of it."""
        trusted = [name for name in self.alive if not self.is_distrusted(name)]
        return [name for name in trusted or self.alive if not self.is_behind(name, Z)]

    def untrusted(self, name: str) -> float:
        """Returns the share of the candidate's answers."""
        return float((~self.measured[name].trusted).mean())

    def is_distrusted(self, name: str) -> bool:
        """Returns whether more than MAX_UNTRUSTED of its answers are untrusted, by more than Z_DROP standard errors."""
        share = self.untrusted(name)
        return share - Z_DROP * float(np.sqrt(share * (1 - share) / self.samples)) > MAX_UNTRUSTED

    def is_behind(self, name: str, z: float) -> bool:
        """Returns whether a candidate is worse than the best by more than `z` standard errors, and by more than
        MARGIN.
        """
        best = self.measured[self.best].faithfulness
        gap = difference(self.measured[name].faithfulness, best)
        return gap.mean < -max(gap.half * z / Z, MARGIN * abs(finite_mean(best)))


def race(candidates: Mapping[str, Method], benches: Iterable[Bench], clock: Clock, current: str = "") -> Race:
    """Runs the first batch, and more until the phase's time is used or one candidate is left.

    current: the candidate that does not drop out for being less faithful, because the choice is compared with it.
    """
    parts: dict[str, list[Measured]] = {name: [] for name in candidates}
    state, cut = Race({}, list(candidates), 0), FIRST_CUT
    for bench in benches:
        for name in state.alive:
            parts[name].append(bench.of_method(candidates[name]))
        state.samples += bench.samples
        state.measured |= {name: joined(parts[name]) for name in state.alive}
        if state.samples >= cut:
            _drop(state, current)
            cut *= 2
        clock.report(f"{len(state.alive)} candidates, {state.samples} samples")
        if len(state.alive) == 1 or clock.remaining("race") < 0:
            break
    _drop(state, current)
    return state


def _drop(state: Race, current: str) -> None:
    """Drops the candidates that the samples so far rule out."""
    best = state.best
    for name in state.alive:
        if state.is_distrusted(name):
            state.dropped[name] = f"{100 * state.untrusted(name):.0f} % untrusted answers"
        elif name != current and state.is_behind(name, Z_DROP):
            gap = difference(state.measured[name].faithfulness, state.measured[best].faithfulness)
            state.dropped[name] = f"less faithful than {best}: {gap}"
    # Where no candidate is trusted, the most trusted ones stay.
    least = min(state.untrusted(name) for name in state.alive)
    kept = [name for name in state.alive if name not in state.dropped]
    state.alive = kept or [name for name in state.alive if state.untrusted(name) == least]
    for name in state.alive:
        state.dropped.pop(name, None)
