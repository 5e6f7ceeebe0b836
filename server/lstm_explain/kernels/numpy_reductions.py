# SPDX-License-Identifier: Apache-2.0
"""The functions of reductions.py in NumPy, which answer while those are being compiled. The arguments are theirs."""

from __future__ import annotations

from typing import Any

import numpy as np


def add_per_sample(amounts: Any, total: Any) -> None:
    total += amounts.sum(axis=(0, 2), dtype=np.float64)


def largest_per_sample(amounts: Any, found: Any) -> None:
    if amounts.size:
        np.maximum(found, np.fmax.reduce(np.abs(amounts), axis=(0, 2), initial=0), out=found)


def add_with_largest(amounts: Any, total: Any, found: Any) -> None:
    add_per_sample(amounts, total)
    largest_per_sample(amounts, found)


def balance(explained: Any, peaks: Any, most_left: float, most_absorbed: float, most_in_one: float, book: Any) -> bool:
    book[2] = book[4:].sum(axis=0)
    book[3] = explained - book[0] - book[1] - book[2]
    return (
        all_finite(explained)
        and within(book[3], most_left, explained)
        and within(book[2], most_absorbed, explained)
        and within(peaks, most_in_one, explained)
    )


def largest(values: Any) -> float:
    return float(np.fmax.reduce(np.abs(values), initial=0))


def magnitude(left: Any, right: Any) -> float:
    return float(np.abs(np.where(left != 0, left * right, 0)).sum(dtype=np.float64))


def all_finite(values: Any) -> bool:
    return bool(np.isfinite(values).all())


def sound(values: Any, alignment: int) -> bool:
    return all_finite(values) and bool(values.ctypes.data % alignment == 0)


def _stabilised(z: Any, epsilon: float, terms: Any, beta: float) -> tuple[Any, Any, Any]:
    """Returns stab(z), what it adds to z, and whether it divides."""
    added = np.full_like(z, epsilon)
    if terms.size:
        added += z.dtype.type(beta) * np.fmax(terms - np.abs(z), 0)
    signed = np.where(z >= 0, added, -added)
    safe = z + signed
    return safe, signed, (safe != 0) & ~np.isinf(safe)


def settle(r: Any, z: Any, epsilon: float, terms: Any, beta: float, density: Any, kept: Any) -> None:
    safe, signed, divides = _stabilised(z, epsilon, terms, beta)
    density[:] = np.where(divides, r / safe, 0)
    kept[:] = np.where(divides, signed * density, r)


def settling(z: Any, epsilon: float, terms: Any, beta: float, divisor: Any, share: Any) -> None:
    safe, signed, divides = _stabilised(z, epsilon, terms, beta)
    divisor[:] = np.where(divides, safe, np.inf)
    share[:] = np.where(divides, signed / safe, 1)


def settle_rows(r: Any, z: Any, bias: Any, epsilon: float, terms: Any, beta: float, density: Any, lost: Any) -> None:
    kept = np.empty_like(density)
    settle(r, z, epsilon, terms, beta, density, kept)
    lost += kept.sum(axis=1, dtype=np.float64)
    if bias.size:
        shares = density.reshape(len(r), -1, bias.size)
        lost += np.where(shares != 0, shares * bias, 0).sum(axis=(1, 2), dtype=np.float64)


def rows_times(rows: Any, weights: Any, out: Any) -> None:
    """Adds up in the order of the kernel, so that programs are specialised as with it (program/steps/linear.py)."""
    out[...] = 0
    for k in range(rows.shape[1]):
        out += rows[:, k, None] * weights[k]


def dense_back(
    r: Any, z: Any, bias: Any, epsilon: float, terms: Any, beta: float, weights: Any, x: Any, out: Any, lost: Any
) -> None:
    density = np.empty_like(r)
    settle_rows(r, z, bias, epsilon, terms, beta, density, lost)
    rows_times(density, weights, out)
    product = out * x
    out[:] = np.where((out == 0) & np.isnan(product), 0, product)


def within(figures: Any, limit: float, values: Any) -> bool:
    return bool((np.abs(figures) <= limit * np.abs(values)).all())


def address(values: Any) -> int:
    return int(values.ctypes.data)
