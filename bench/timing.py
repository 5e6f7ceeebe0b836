# SPDX-License-Identifier: Apache-2.0
"""Times calls alternately, so that a machine that slows down slows all of them."""

from __future__ import annotations

import random
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
    times = rounds([theirs, ours], seconds, least, longest=longest, clock=clock)
    return ratio_of(times[:, 1], times[:, 0])


def rounds(
    calls: Sequence[Callable[[], object]],
    seconds: float,
    least: int,
    *,
    longest: float = 8.0,
    clock: Callable[[], float] = time.perf_counter,
) -> np.ndarray:
    """Make all calls in turn for about `seconds`, as `compare` does. Return seconds, [rounds, calls].

    More than two calls come in another order in each round: a call takes longer after one that fills the caches with
    other data.
    """
    times: list[list[float]] = []
    order, shuffle = list(range(len(calls))), random.Random(0).shuffle
    begin = now = time.perf_counter()
    while not times or now - begin < (seconds if len(times) >= least else longest):
        spent = [0.0] * len(calls)
        for index in order:
            start = clock()
            calls[index]()
            spent[index] = clock() - start
        times.append(spent)
        if len(calls) > 2:
            shuffle(order)
        now = time.perf_counter()
    return np.array(times)


def ratio_of(ours: np.ndarray, theirs: np.ndarray) -> Ratio:
    """ours, theirs: seconds, [rounds]."""
    low, median, high = np.percentile(ours / theirs, [25, 50, 75])
    ours_ms, theirs_ms = float(np.median(ours) * 1e3), float(np.median(theirs) * 1e3)
    return Ratio(float(median), float(low), float(high), ours_ms, theirs_ms, len(ours))


def spread(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Return the ratio of `ours` to `theirs`, round by round: median and quartiles."""
    low, median, high = np.percentile(np.divide(ours, theirs), [25, 50, 75])
    return {"median": float(median), "low": float(low), "high": float(high)}
