# SPDX-License-Identifier: Apache-2.0
"""The states of an LSTM after one step, from its pre-activations, for the loops that save nothing else.

NumPy would need a dozen passes for it. It compiles in a fraction of the time of a loop over time, and is ordered as
soon as there is an LSTM (compilation.soon): so a service without compiled loops soon has it.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

from lstm_explain.kernels.compilation import declared
from lstm_explain.kernels.scalar_functions import STEP, exp, tanh, widest_vectors


def _in_numpy(count: int, z: Any, c: Any, h: Any) -> None:
    H = h.shape[1]
    gates = np.negative(z[:count, : 3 * H])
    np.exp(gates, out=gates)
    gates += 1
    np.reciprocal(gates, out=gates)
    c[:count] *= gates[:, 2 * H :]
    c[:count] += gates[:, :H] * np.tanh(z[:count, 3 * H :])
    np.multiply(gates[:, H : 2 * H], np.tanh(c[:count]), out=h[:count])


def _types(kind: nb.types.Type) -> Any:
    return nb.void(nb.int64, kind[:, ::1], kind[:, ::1], kind[:, ::1])


@declared([_types(nb.float32), _types(nb.float64)], _in_numpy, **STEP)
def next_states(count, z, c, h):
    """Overwrites the first `count` rows of c and h [n, H] with the states of the plain cell that follow. z [n, 4H]: the
    pre-activations, in ONNX's order, which it overwrites too. A loop for each function: see lstm.py.
    """
    widest_vectors()
    H, one = h.shape[1], h.dtype.type(1)
    for g in range(count):
        for j in range(3 * H):
            z[g, j] = one + exp(-z[g, j])
        for j in range(H):
            z[g, 3 * H + j] = tanh(z[g, 3 * H + j])
        for j in range(H):
            cell = z[g, 3 * H + j] / z[g, j] + c[g, j] / z[g, 2 * H + j]
            c[g, j] = cell
            h[g, j] = tanh(cell) / z[g, H + j]
