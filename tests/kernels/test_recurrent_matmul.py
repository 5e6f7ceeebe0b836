# SPDX-License-Identifier: Apache-2.0
"""The recurrent product equals NumPy's, with the same bits in any batch and in either direction through the matrix."""

from __future__ import annotations

import numpy as np
import pytest

from lstm_explain.kernels.recurrent_matmul import LINE, multiply, pack, width_of

SIZES = [(1, 1), (7, 28), (60, 240), (240, 60), (61, 183), (64, 64), (128, 513)]


@pytest.mark.parametrize("size", SIZES, ids=repr)
@pytest.mark.parametrize("number", [np.float32, np.float64])
def test_product(size: tuple[int, int], number: type[np.floating]) -> None:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=size).astype(np.float32)
    vectors = rng.normal(size=(15, size[0])).astype(number)
    packed = pack(matrix)
    assert packed.ctypes.data % LINE == 0
    together = np.empty((15, width_of(packed)), number)
    multiply(vectors, packed, together, 15, 0)
    expected = vectors.astype(np.float64) @ matrix.astype(np.float64)
    error = np.abs(vectors).astype(np.float64) @ np.abs(matrix) * np.finfo(number).eps * size[0]
    assert (np.abs(together[:, : size[1]] - expected) <= error).all()
    assert not together[:, size[1] :].any()
    for count in range(1, 16):
        for step in (0, 1):
            some = np.empty((count, width_of(packed)), number)
            multiply(vectors[-count:], packed, some, count, step)
            np.testing.assert_array_equal(some, together[-count:])
