# SPDX-License-Identifier: Apache-2.0
"""One step of the plain LSTM, for the loops that save nothing.

NumPy would need some fifteen passes for it. `next_step` compiles in a fraction of the time of a loop over time, and is
ordered as soon as there is an LSTM (compilation.soon): so a service without compiled loops soon has it. It therefore
leaves the product to BLAS: our own takes longer to compile than all the rest.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

from lstm_explain.kernels.compilation import declared
from lstm_explain.kernels.scalar_functions import STEP, exp, tanh, widest_vectors


@nb.njit(**STEP)
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


def _in_numpy(z: Any, product: Any, c: Any, h: Any) -> None:
    H = h.shape[1]
    z += product
    gates = np.negative(z[:, : 3 * H])
    np.exp(gates, out=gates)
    gates += 1
    np.reciprocal(gates, out=gates)
    c *= gates[:, 2 * H :]
    c += gates[:, :H] * np.tanh(z[:, 3 * H :])
    np.multiply(gates[:, H : 2 * H], np.tanh(c), out=h)


@declared([nb.void(*(kind[:, ::1],) * 4) for kind in (nb.float32, nb.float64)], _in_numpy, **STEP)
def next_step(z, product, c, h):
    """Overwrites c [n, H] with the cells that follow, and fills h with the hidden states. z, product [n, 4H]: what
    inputs and biases and what the hidden states before give the pre-activations; z is overwritten.
    """
    for g in range(z.shape[0]):
        for j in range(z.shape[1]):
            z[g, j] += product[g, j]
    next_states(z.shape[0], z, c, h)
