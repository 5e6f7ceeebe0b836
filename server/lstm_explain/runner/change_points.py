# SPDX-License-Identifier: Apache-2.0
"""Cuts a time series into segments by binary segmentation.

The cut that lowers the sum of squared deviations from the segments' means most comes first, then the best cut of any
segment, as long as it lowers the sum by more than a penalty (Scott and Knott 1974, A cluster analysis method for
grouping means in the analysis of variance, Biometrics 30). The default penalty is that of the Schwarz criterion (Yao
1988, Estimating the number of change-points via Schwarz' criterion, Statistics & Probability Letters 6).
"""

from __future__ import annotations

import heapq
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain.cancellation import checkpoint

Array = npt.NDArray[Any]
NORMAL_MAD = 0.6745  # the median of the absolute value of a standard normal variable


def change_points(series: Array, segments: int, penalty: float | None = None) -> list[int]:
    """Returns the first step of every segment, in ascending order, the first of which is 0.

    series: [steps, features]. segments: their number at most. penalty: in units of the variance of the noise; None:
    (features + 1) log(steps). Features that never change are left out.
    """
    steps = len(series)
    values = series.astype(np.float64)
    noise = noise_of(values)
    changing = noise > 0
    values = values[:, changing] / noise[changing]
    if penalty is None:
        penalty = (values.shape[1] + 1) * math.log(max(steps, 2))
    sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values - values.mean(axis=0), axis=0)])
    starts, best = [0], [_best_cut(sums, 0, steps)]
    while len(starts) < segments and best:
        checkpoint()
        gain, cut, start, end = heapq.heappop(best)
        if -gain <= penalty:
            break
        starts.append(cut)
        heapq.heappush(best, _best_cut(sums, start, cut))
        heapq.heappush(best, _best_cut(sums, cut, end))
    return sorted(starts)


def noise_of(values: Array) -> Array:
    """Returns the standard deviation of the noise of each feature, [features], from the differences between consecutive
    steps: by their median, which changes of the mean hardly influence, or where more than half of them are zero, by
    their root mean square.
    """
    if len(values) < 2:
        return np.zeros(values.shape[1])
    differences = np.abs(np.diff(values, axis=0)) / math.sqrt(2)
    by_median = np.median(differences, axis=0) / NORMAL_MAD
    return np.where(by_median > 0, by_median, np.sqrt(np.mean(differences**2, axis=0)))


def _best_cut(sums: Array, start: int, end: int) -> tuple[float, int, int, int]:
    """Returns minus the gain of the best cut of the steps [start, end), where it is, and the segment; the gain is 0
    where there is no cut.

    The gain is a b / (a + b) times the squared distance between the means of the two parts, of a and b steps.
    """
    if end - start < 2:
        return 0.0, start, start, end
    left = np.arange(1, end - start)
    right = end - start - left
    before, after = sums[start + 1 : end] - sums[start], sums[end] - sums[start + 1 : end]
    gains = (left * right / (left + right)) * ((before / left[:, None] - after / right[:, None]) ** 2).sum(axis=1)
    place = int(gains.argmax())
    return -float(gains[place]), start + 1 + place, start, end
