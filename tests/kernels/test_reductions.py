# SPDX-License-Identifier: Apache-2.0
"""The small reductions equal NumPy's, where numbers are not finite too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstm_explain.kernels import reductions

ODD = [np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -3.4e38]


def numbers(kind: Any, odd: list[float], size: int = 7 * 3 * 37) -> Any:
    rng = np.random.default_rng(len(odd))
    found = rng.standard_normal(size).astype(kind)
    found[rng.permutation(size)[: len(odd)]] = odd
    return found


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("odd", [[], [np.nan], ODD[:4], ODD], ids=len)
def test_the_largest_magnitude_leaves_nan_out(kind: Any, odd: list[float]) -> None:
    values = numbers(kind, odd)
    assert reductions.largest(values) == np.nanmax(np.abs(values))
    by_sample, found = values.reshape(7, 3, 37), np.zeros(3)
    reductions.largest_per_sample(by_sample, found)
    np.testing.assert_array_equal(found, np.nanmax(np.abs(by_sample), axis=(0, 2)))


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_what_is_nothing_but_nan_counts_as_zero(kind: Any) -> None:
    assert reductions.largest(np.full(20, np.nan, kind)) == 0
    assert reductions.largest(np.zeros(0, kind)) == 0
