# SPDX-License-Identifier: Apache-2.0
"""What all phases of a calibration share: what is explained and deleted, and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lstm_explain.calibration.data import batches_of
from lstm_explain.calibration.measure import Bench
from lstm_explain.errors import InputError
from lstm_explain.evaluate.data import Batch
from lstm_explain.methods.base import Baseline, Players
from lstm_explain.model import Model
from lstm_explain.target import Target

BATCH = 8  # samples that are measured together
SHARES = {
    "race": 0.5,
    "agreement": 0.15,
    "choice": 0.2,
    "references": 0.15,
}  # of the budget, in the order of the phases
Progress = Callable[[float, str], None]  # the share of the budget that is used, and what is done


class Clock:
    """The budget of a calibration, in seconds from now. progress: called after each piece of work."""

    def __init__(self, budget: float, progress: Progress) -> None:
        self._start, self._budget, self._progress = time.monotonic(), budget, progress

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._start

    def remaining(self, phase: str) -> float:
        """Returns the seconds until the phase should end; what earlier phases have not used belongs to it."""
        phases = list(SHARES)
        share = sum(SHARES[name] for name in phases[: phases.index(phase) + 1])
        return self._budget * share - self.seconds

    def report(self, what: str) -> None:
        self._progress(min(1.0, self.seconds / self._budget), what)


@dataclass
class Setup:
    """What is explained (target), and what is deleted (over) and by what it is replaced (baseline).

    refused: samples that are not finite, and batches that the model does not accept or that have nothing to rank.
    """

    model: Model
    target: Target
    baseline: Baseline
    over: Players
    refused: int = 0

    def bench(self, batch: Batch, target: Target | None = None) -> Bench:
        return Bench(self.model, batch, self.target if target is None else target, self.baseline, self.over)

    def benches(self, samples: Sequence[Batch], size: int = BATCH) -> Iterator[Bench]:
        """Yields the batches that the model accepts. Raises the first error if it accepts none."""
        accepted, problem = 0, None
        for batch in batches_of(self.model, samples, size):
            try:
                bench = self.bench(batch)
                if bench.players.count < 2:
                    raise InputError(f"a sample has a single player when {self.over} are deleted", field="over")
            except InputError as error:
                problem = problem or error
                self.refused += 1
                continue
            accepted += 1
            yield bench
        if problem is not None and not accepted:
            raise problem
