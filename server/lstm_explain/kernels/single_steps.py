# SPDX-License-Identifier: Apache-2.0
"""What a service without compiled loops over time soon has in their place: kernels that compile in a fraction of the
time, and are ordered as soon as there is a recurrent node (compilation.soon). Each has one version only.

A step of the plain LSTM, for which NumPy would need some fifteen passes, and which samples of a batch differ from their
predecessor. The product of a step is BLAS's, since our own takes longer to compile than all of this.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

from lstm_explain.kernels.compilation import declared
from lstm_explain.kernels.scalar_functions import BARE, STEP, exp, tanh, widest_vectors


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


def _step_in_numpy(z: Any, product: Any, c: Any, h: Any) -> None:
    H = h.shape[1]
    z += product
    gates = np.negative(z[:, : 3 * H])
    np.exp(gates, out=gates)
    gates += 1
    np.reciprocal(gates, out=gates)
    c *= gates[:, 2 * H :]
    c += gates[:, :H] * np.tanh(z[:, 3 * H :])
    np.multiply(gates[:, H : 2 * H], np.tanh(c), out=h)


@declared([nb.void(*(nb.float32[:, ::1],) * 4)], _step_in_numpy, **STEP)
def next_step(z, product, c, h):
    """In float32: overwrites c [n, H] with the cells that follow, and fills h with the hidden states. z, product [n,
    4H]: what inputs and biases, and what the hidden states before, give the pre-activations; z is overwritten.
    """
    for g in range(z.shape[0]):
        for j in range(z.shape[1]):
            z[g, j] += product[g, j]
    next_states(z.shape[0], z, c, h)


def _differ_in_numpy(x: Any, found: Any) -> None:
    found[:, :1] = True
    np.any(x[:, 1:] != x[:, :-1], axis=-1, out=found[:, 1:])


# of bits, so that one version suffices for every type of numbers
@declared([nb.void(nb.types.Array(nb.int32, 3, "C", readonly=True), nb.boolean[:, ::1])], _differ_in_numpy, **BARE)
def differ(x, found):
    """Fills found [T, n]: whether the bits of x [T, n, D] differ from the sample before; those of the first one do."""
    for t in range(x.shape[0]):
        found[t, 0] = True
        for i in range(1, x.shape[1]):
            differs = False
            for d in range(x.shape[2]):
                differs |= x[t, i - 1, d] != x[t, i, d]
            found[t, i] = differs
