# SPDX-License-Identifier: Apache-2.0
"""One step of the plain LSTM, for the loops that save nothing.

NumPy would need some fifteen passes for it. `next_step` compiles in a fraction of the time of a loop over time, and is
ordered as soon as there is an LSTM (compilation.soon): so a service without compiled loops soon has it.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

from lstm_explain.kernels.compilation import declared
from lstm_explain.kernels.recurrent_matmul import multiply, width_of
from lstm_explain.kernels.scalar_functions import LOOP, STEP, exp, tanh, widest_vectors


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


def _in_numpy(z: Any, h: Any, R: Any, _: Any, c: Any, after: Any) -> None:
    H = h.shape[1]
    z += h @ R
    gates = np.negative(z[:, : 3 * H])
    np.exp(gates, out=gates)
    gates += 1
    np.reciprocal(gates, out=gates)
    c *= gates[:, 2 * H :]
    c += gates[:, :H] * np.tanh(z[:, 3 * H :])
    np.multiply(gates[:, H : 2 * H], np.tanh(c), out=after)


def _types(kind: nb.types.Type, weight: nb.types.Type) -> Any:
    h, R = (nb.types.Array(kind, 2, "C", readonly=True) for _ in range(2))
    return nb.void(kind[:, ::1], h, R, nb.types.Array(weight, 3, "C", readonly=True), kind[:, ::1], kind[:, ::1])


@declared(
    [_types(nb.float32, nb.float32), _types(nb.float64, nb.float32), _types(nb.float64, nb.float64)], _in_numpy, **LOOP
)
def next_step(z, h, R, packed, c, after):
    """Overwrites c, and fills `after`, with the states [n, H] that follow h and c. z [n, 4H]: what inputs and biases
    give the pre-activations; it is overwritten. R [H, 4H], packed: the recurrent weights, in rows and packed by `pack`.
    """
    product = np.empty((z.shape[0], width_of(packed)), z.dtype)
    multiply(h, packed, product, z.shape[0], 0)
    for g in range(z.shape[0]):
        for j in range(z.shape[1]):
            z[g, j] += product[g, j]
    next_states(z.shape[0], z, c, after)
