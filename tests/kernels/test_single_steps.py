# SPDX-License-Identifier: Apache-2.0
"""What answers in place of the loops over time, compiled and in NumPy: a step of the plain LSTM, and which samples
differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstm_explain.kernels import single_steps


def sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


@pytest.mark.parametrize("how", [single_steps.next_step, single_steps._step_in_numpy], ids=["compiled", "in NumPy"])
def test_a_step(how: Any) -> None:
    rng, n, H = np.random.default_rng(4), 11, 5
    z, product = rng.standard_normal((2, n, 4 * H)).astype(np.float32)
    c = rng.standard_normal((n, H)).astype(np.float32)
    i, o, f, g = np.split(z.astype(np.float64) + product, 4, axis=1)  # ONNX's order
    cell = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = np.empty_like(c)
    how(z, product, c, h)
    np.testing.assert_allclose(c, cell, rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(h, sigmoid(o) * np.tanh(cell), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("how", [single_steps.differ, single_steps._differ_in_numpy], ids=["compiled", "in NumPy"])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_which_samples_differ_from_the_one_before(how: Any, kind: Any) -> None:
    x = np.zeros((2, 5, 3), kind)
    x[0, 2:, 1] = 1 + 1e-7  # differs once, then stays
    x[0, 2, 1] = 1
    x[1, 4, 2] = -1
    x[1, 1, 0] = np.nan
    x.flags.writeable = False
    found = np.zeros((2, 5), bool)
    how(x.view(np.int32), found)
    np.testing.assert_array_equal(found, [[1, 0, 1, 1, 0], [1, 1, 1, 0, 1]])
