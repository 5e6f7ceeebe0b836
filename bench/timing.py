"""Two calls timed in turn, so that a machine that slows down slows both."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ratio:
    """Of `ours` over `theirs`, pair by pair: median and quartiles; and each side's median in milliseconds."""

    median: float
    low: float
    high: float
    ours_ms: float
    theirs_ms: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def compare(ours: Callable[[], object], theirs: Callable[[], object], seconds: float = 1.0, least: int = 9) -> Ratio:
    """Alternates the two for about `seconds`, at least `least` pairs, after one of each that does not count."""
    theirs()
    ours()
    pairs: list[tuple[float, float]] = []
    end = time.perf_counter() + seconds
    while len(pairs) < least or (time.perf_counter() < end and len(pairs) < 1000):
        start = time.perf_counter()
        theirs()
        middle = time.perf_counter()
        ours()
        pairs.append((time.perf_counter() - middle, middle - start))
    times = np.array(pairs)
    ratios = times[:, 0] / times[:, 1]
    low, median, high = np.percentile(ratios, [25, 50, 75])
    ours_ms, theirs_ms = np.median(times, axis=0) * 1e3
    return Ratio(float(median), float(low), float(high), float(ours_ms), float(theirs_ms))
