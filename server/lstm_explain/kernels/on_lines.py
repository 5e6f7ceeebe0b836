# SPDX-License-Identifier: Apache-2.0
"""Points on lines, and weighted sums of the gradients there, each in one pass over the array with all points, where
NumPy would need several, and arrays for what is in between.

Arrays of one point are rows [before, batch, after], see `account.rows_of`; positions and weights are [points, batch].
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

from lstm_explain.kernels.compilation import declared
from lstm_explain.kernels.scalar_functions import STEP


def _read(kind: nb.types.Type, ndim: int) -> nb.types.Array:
    return nb.types.Array(kind, ndim, "C", readonly=True)


_32, _64 = nb.float32, nb.float64
_KINDS = (_32, _64)


def _points_in_numpy(start: Any, difference: Any, positions: Any, out: Any) -> None:
    np.add(positions[:, None, :, None] * difference, start, out=out, casting="same_kind")


@declared(
    [nb.void(_read(_64, 3), _read(_64, 3), _read(_64, 2), nb.types.Array(kind, 4, "C")) for kind in _KINDS],
    _points_in_numpy,
    **STEP,
)
def points(start, difference, positions, out):
    """out [points, *rows] = start + position * difference, computed in float64."""
    before, batch, after = start.shape
    for n in range(out.shape[0]):
        for i in range(before):
            for b in range(batch):
                for j in range(after):
                    out[n, i, b, j] = start[i, b, j] + positions[n, b] * difference[i, b, j]


def _sum_in_numpy(gradients: Any, weights: Any, total: Any) -> None:
    for n, weight in enumerate(weights):
        total += weight[:, None] * gradients[:, n]


@declared(
    [nb.void(_read(kind, 4), _read(_64, 2), nb.types.Array(_64, 3, "C")) for kind in _KINDS], _sum_in_numpy, **STEP
)
def add_weighted(gradients, weights, total):
    """total [rows] += weight * gradient of every point, in their order. gradients: [before, points, batch, after]."""
    before, count, batch, after = gradients.shape
    for i in range(before):
        for n in range(count):
            for b in range(batch):
                for j in range(after):
                    total[i, b, j] += weights[n, b] * gradients[i, n, b, j]
