# SPDX-License-Identifier: Apache-2.0
"""Tells a caller how far an explanation is that runs the model many times.

Methods run the model in chunks (runner/stacking.py), each of which counts as done when the next one begins. Work is
counted in runs on one sample, because parts of a batch may be explained separately and at their own length; the caller
hears of runs on the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from lstm_explain.kernels import flush_to_zero

Report = Callable[[int, int], None]  # with the runs that are done, and all that are now expected


class Meter:
    """The progress of one call. targets: how many explanations it consists of, one after the other."""

    def __init__(self, report: Report) -> None:
        self.targets = 1
        self._report, self._reported = report, (0, 0)
        self._callers_state = flush_to_zero.state_of_thread()
        self._batch, self._runs = 1, 0.0  # samples of the whole call, and runs of one target on them
        self._done = self._total = 0.0  # runs on one sample
        self._samples, self._end = 1, 0.0  # of the current part, and where it is expected to end

    def begin(self, runs: int, batch: int) -> None:
        """Sets how many runs are expected for every target, unless an earlier target has set it."""
        if not self._total:
            self._runs, self._batch = runs, batch
            self._total = float(runs * batch * self.targets)
            self._tell()

    @contextmanager
    def part(self, runs: int, samples: int) -> Iterator[None]:
        """The work inside explains this many samples, in this many runs as far as is known. If it fails, these samples
        are still to be explained.
        """
        share, start = self._runs * samples, self._done
        self._samples, self._end = samples, start + runs * samples
        self._total += self._end - start - share
        failed = True
        try:
            yield
            failed = False
        finally:
            self._total += self._done - self._end + (share if failed else 0)

    def announce(self, runs: int) -> None:
        """Says how many runs follow at least."""
        end = self._done + runs * self._samples
        if end > self._end:
            self._total += end - self._end
            self._end = end

    def advance(self, runs: int) -> None:
        self._done += runs * self._samples
        self._tell()

    def finish(self) -> None:
        if self._total:
            self._total = self._done
            self._tell()

    def _tell(self) -> None:
        done = int(self._done / self._batch)
        count = done, max(done, round(self._total / self._batch))
        if count != self._reported:
            self._reported = count
            ours = flush_to_zero.state_of_thread()
            flush_to_zero.restore(self._callers_state)
            try:
                self._report(*count)
            finally:
                flush_to_zero.restore(ours)


_meter: ContextVar[Meter | None] = ContextVar("lstm_explain_meter", default=None)
current_meter = _meter.get  # the meter of the current work, or None


@contextmanager
def metered(report: Report) -> Iterator[None]:
    """Reports the progress of the explanation within this context, in its thread."""
    meter = Meter(report)
    token = _meter.set(meter)
    try:
        yield
        meter.finish()
    finally:
        _meter.reset(token)


def expect_targets(count: int) -> None:
    """Says how many targets the explanation has."""
    if (meter := _meter.get()) is not None:
        meter.targets = count
