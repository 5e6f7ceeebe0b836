"""Times two calls alternately, so that a machine that slows down slows both."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ratio:
    """The ratio of `ours` to `theirs`, pair by pair: median and quartiles, and both medians in milliseconds."""

    median: float
    low: float
    high: float
    ours_ms: float
    theirs_ms: float
    pairs: int

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def compare(
    ours: Callable[[], object],
    theirs: Callable[[], object],
    seconds: float = 1.0,
    least: int = 9,
    *,
    longest: float = 8.0,
    warm: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> Ratio:
    """Alternate the two for about `seconds`: at least `least` pairs, or as many as begin within `longest` seconds.

    warm: both have run before; otherwise each runs once without being timed. clock: returns seconds.
    """
    if not warm:
        theirs()
        ours()
    pairs: list[tuple[float, float]] = []
    begin = now = time.perf_counter()
    while not pairs or now - begin < (seconds if len(pairs) >= least else longest):
        start = clock()
        theirs()
        middle = clock()
        ours()
        pairs.append((clock() - middle, middle - start))
        now = time.perf_counter()
    times = np.array(pairs)
    ratios = times[:, 0] / times[:, 1]
    low, median, high = np.percentile(ratios, [25, 50, 75])
    ours_ms, theirs_ms = np.median(times, axis=0) * 1e3
    return Ratio(float(median), float(low), float(high), float(ours_ms), float(theirs_ms), len(pairs))


def spread(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Return the ratio of `ours` to `theirs`, round by round: median and quartiles."""
    low, median, high = np.percentile(np.divide(ours, theirs), [25, 50, 75])
    return {"median": float(median), "low": float(low), "high": float(high)}
