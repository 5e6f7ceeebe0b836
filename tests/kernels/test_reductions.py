# SPDX-License-Identifier: Apache-2.0
"""The small reductions equal NumPy's, where numbers are not finite too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstm_explain.kernels import numpy_reductions, reductions

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


def stabilised(z: Any, epsilon: float, terms: Any, beta: float) -> Any:
    """In float64, from the formula."""
    added = epsilon + (beta * np.maximum(terms - np.abs(z), 0) if terms.size else 0)
    return z + np.where(z >= 0, added, -added)


@pytest.mark.parametrize("where", [reductions, numpy_reductions], ids=["compiled", "in NumPy"])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("beta", [0.0, 0.02])
@pytest.mark.parametrize("with_bias", [False, True])
def test_a_dense_layer_takes_the_epsilon_rule_row_by_row(where: Any, kind: Any, beta: float, with_bias: bool) -> None:
    rng = np.random.default_rng(7)
    B, N, M, epsilon = 5, 6, 4, 0.01
    r, z, x, weights = (rng.standard_normal(shape) for shape in ((B, N), (B, N), (B, M), (N, M)))
    bias = rng.standard_normal(N // 2) if with_bias else np.zeros(0)  # of the last axis of [2, N / 2]
    terms = np.abs(z) + rng.random(z.shape) if beta else np.zeros((0, N))
    due_density = r / stabilised(z, epsilon, terms, beta)
    kept = due_density * (stabilised(z, epsilon, terms, beta) - z)
    lost_due = kept.sum(axis=1) + (due_density.reshape(B, 2, -1) * bias if with_bias else np.zeros((B, 1, 1))).sum(
        (1, 2)
    )
    lost, out = np.ones(B), np.empty((B, M), kind)
    given = [a.astype(kind) for a in (r, z, bias)]
    where.dense_back(*given, epsilon, terms.astype(kind), beta, weights.astype(kind), x.astype(kind), out, lost)
    close = {"rtol": 1e-4, "atol": 1e-4} if kind == np.float32 else {"rtol": 1e-12}
    np.testing.assert_allclose(out, (due_density @ weights) * x, **close)
    np.testing.assert_allclose(lost - 1, lost_due, **close)


@pytest.mark.parametrize("where", [reductions, numpy_reductions], ids=["compiled", "in NumPy"])
def test_a_sum_of_zero_without_a_stabiliser_keeps_everything(where: Any) -> None:
    r, z = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[0.0, 1.0], [-0.0, np.inf]])
    density, lost = np.empty((2, 2)), np.zeros(2)
    where.settle_rows(r, z, np.zeros(0), 0.0, np.zeros((0, 2)), 0.0, density, lost)
    np.testing.assert_array_equal(density, [[0, 2], [0, 0]])
    np.testing.assert_array_equal(lost, [1, 7])


@pytest.mark.parametrize("where", [reductions, numpy_reductions], ids=["compiled", "in NumPy"])
def test_what_is_not_a_number_is_not_within_a_limit(where: Any) -> None:
    values = np.array([-2.0, 1.0])
    assert where.within(np.array([1.0, -0.5]), 0.5, values)
    assert not where.within(np.array([1.0, -0.6]), 0.5, values)
    assert not where.within(np.array([np.nan, 0.0]), 0.5, values)
    assert not where.within(np.array([0.0, 0.0]), 0.5, np.array([np.nan, 1.0]))


@pytest.mark.parametrize("where", [reductions, numpy_reductions], ids=["compiled", "in NumPy"])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_sums_and_largest_magnitudes_come_together(where: Any, kind: Any) -> None:
    amounts, total, found = numbers(kind, []).reshape(7, 3, 37), np.ones(3), np.zeros(3)
    where.add_with_largest(amounts, total, found)
    np.testing.assert_allclose(total, 1 + amounts.sum(axis=(0, 2), dtype=np.float64), rtol=1e-12)
    np.testing.assert_array_equal(found, np.abs(amounts).max(axis=(0, 2)))


LIMITS = 0.01, 2.0, 3.0  # of the residual, of what is absorbed and of one entry


@pytest.mark.parametrize("where", [reductions, numpy_reductions], ids=["compiled", "in NumPy"])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"left": 0.05},
        {"absorbed": -9.0},
        {"peak": 13.0},
        {"peak": np.nan},
        {"explained": np.nan},
        {"explained": np.inf},
    ],
    ids=str,
)
def test_a_ledger_is_completed_and_held_to_limits(where: Any, change: dict[str, float]) -> None:
    due = {"left": 0.02, "absorbed": 1.5, "peak": 11.0} | change  # of the second sample, which has the value -4
    explained = np.array([1.0, due.get("explained", -4.0)])
    by_node = np.array([[0.25, 1.0], [-0.5, due["absorbed"] - 1.0]])
    amounts = np.array([[1.0, -5.5 - due["left"] + 1.5 - due["absorbed"]], [0.25, 0.0], [9.0, 9.0], [9.0, 9.0]])
    peaks = np.array([[0.5, 0.1], [2.5, due["peak"]]])
    book = np.concatenate([amounts, by_node])
    assert where.balance(explained, peaks, *LIMITS, book) == (not change)
    np.testing.assert_array_equal(book[2], by_node.sum(axis=0))
    np.testing.assert_allclose(book[3], [0.0, due.get("explained", due["left"])], atol=1e-12)
