# SPDX-License-Identifier: Apache-2.0
"""Which samples of a batch have other inputs than their predecessor: prefixes.py without its loops over time.

It compiles in a moment, and is ordered as soon as there is a recurrent node (compilation.soon).
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

from lstm_explain.kernels.compilation import declared
from lstm_explain.kernels.scalar_functions import BARE


def _in_numpy(x: Any, found: Any) -> None:
    found[:, :1] = True
    np.any(x[:, 1:] != x[:, :-1], axis=-1, out=found[:, 1:])


@declared(
    [
        nb.void(nb.types.Array(kind, 3, "C", readonly=True), nb.boolean[:, ::1])
        for kind in (nb.float32, nb.float64)
    ],
    _in_numpy,
    **{**BARE, "fastmath": False},
)  # fmt: skip
def differ(x, found):
    """Fills found [T, n]: whether x [T, n, D] differs from the sample before; the first one does."""
    for t in range(x.shape[0]):
        found[t, 0] = True
        for i in range(1, x.shape[1]):
            differs = False
            for d in range(x.shape[2]):
                differs |= x[t, i - 1, d] != x[t, i, d]
            found[t, i] = differs
