# SPDX-License-Identifier: Apache-2.0
"""One step of the plain LSTM equals the operator's formulas, compiled and in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstm_explain.kernels import lstm_states
from lstm_explain.kernels.recurrent_matmul import pack


def sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


@pytest.mark.parametrize("how", [lstm_states.next_step, lstm_states._in_numpy], ids=["compiled", "in NumPy"])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("narrow", [True, False], ids=["weights in float32", "weights in float64"])
def test_a_step(how: Any, kind: Any, narrow: bool) -> None:
    rng, n, H = np.random.default_rng(4), 11, 5
    z, R = rng.standard_normal((n, 4 * H)).astype(kind), rng.standard_normal((H, 4 * H)).astype(kind)
    h, c = rng.standard_normal((2, n, H)).astype(kind)
    R = R.astype(np.float32).astype(kind) if narrow else R
    i, o, f, g = np.split(z.astype(np.float64) + h.astype(np.float64) @ R.astype(np.float64), 4, axis=1)  # ONNX's order
    cell = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h.flags.writeable = False  # as initial states may be
    after = np.empty_like(c)
    how(z, h, R, pack(R), c, after)
    close = {"rtol": 2e-5, "atol": 2e-6} if kind == np.float32 else {"rtol": 1e-12}
    np.testing.assert_allclose(c, cell, **close)
    np.testing.assert_allclose(after, sigmoid(o) * np.tanh(cell), **close)
