# SPDX-License-Identifier: Apache-2.0
"""Splits the absolute relevance of one sample by feature and by lag, as sums and as shares of the sample's total.

The lag of a time step is its distance from the last one. Shares add up to 1 for every sample, so neither the size of
the explained value nor the length of a sequence changes their scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Group = tuple[str, str]  # an input, and FEATURE or LAG
FEATURE, LAG = "feature", "lag"
MAX_FEATURES = 512  # of an input whose relevance is split by feature
LAG_GROUPS = 20  # of lags: 0, 1 to 2, 3 to 6, 7 to 14, …
_FIRST_LAGS = 2 ** np.arange(LAG_GROUPS) - 1


def feature_axis(rank: int, time: int | None) -> int | None:
    """Returns the axis along which the features of one sample lie: the last one but that of its time steps, if any."""
    last = rank - 1 if time != rank - 1 else rank - 2
    return last if last >= 0 else None


def other_axes(rank: int, axis: int) -> tuple[int, ...]:
    return tuple(other for other in range(rank) if other != axis)


def shares(relevance: Mapping[str, Array], times: Mapping[str, int | None]) -> dict[Group, Array]:
    """Returns the shares of one sample's absolute relevance, of which each input has up to two groups: by feature, and
    by lag in LAG_GROUPS groups whose sizes double. Empty where the total is 0 or not finite.

    relevance: by input, without the batch axis. times: by input, its axis of time steps. Steps without relevance at the
    end of a sequence count as padding.
    """
    found, total = dict[Group, Array](), 0.0
    for name, array in relevance.items():
        size, time, rank = np.abs(array, dtype=np.float64), times[name], array.ndim
        total += float(np.add.reduce(size, axis=None))
        features = feature_axis(rank, time)
        if features is not None and size.shape[features] <= MAX_FEATURES:
            found[name, FEATURE] = np.add.reduce(size, axis=other_axes(rank, features))
        if time is not None:
            found[name, LAG] = _by_lag(size if rank == 1 else np.add.reduce(size, axis=other_axes(rank, time)))
    if not 0.0 < total < np.inf:
        return {}
    for sums in found.values():
        sums /= total
    return found


def lags_of(group: int) -> str:
    """Returns the lags of a group in words."""
    first, last = _FIRST_LAGS[group], 2 * _FIRST_LAGS[group]
    if group == LAG_GROUPS - 1:
        return f"lags from {first}"
    return f"lag {first}" if first == last else f"lags {first} to {last}"


def _by_lag(steps: Array) -> Array:
    sums, lags = np.zeros(LAG_GROUPS), steps[::-1]
    if len(lags) and not lags[0]:
        lags = lags[np.argmax(lags != 0) :]
    groups = min(len(lags).bit_length(), LAG_GROUPS)
    if groups:
        sums[:groups] = np.add.reduceat(lags, _FIRST_LAGS[:groups])
    return sums
