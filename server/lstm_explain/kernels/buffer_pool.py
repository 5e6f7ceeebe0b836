# SPDX-License-Identifier: Apache-2.0
"""Allocates the arrays of the time loops in memory that it reuses.

The system allocates large blocks page by page, on first access, and unmaps them when they are freed. For a batch, that
costs as much as the arithmetic. Blocks therefore return to this pool once no array refers to them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain.memory_budget import available_memory

LARGE = 1 << 17  # bytes; the allocator itself reuses smaller blocks
MOST_KEPT = min(1 << 28, available_memory() // 16)  # bytes of unused blocks
_waiting: dict[int, list[_Block]] = {}  # by size


class _Block(np.ndarray):
    """Bytes."""


class _Lease(np.ndarray):
    """Holds a block for as long as an array, or a view of one, refers to it.

    The base of a view is the owner of the memory, unless an object of another class lies between them.
    """

    def __del__(self) -> None:  # may run anywhere, even inside `maker`: no locks, atomic operations only
        block = self.base
        if not isinstance(block, _Block):  # a copy or a slice of the lease itself
            return
        waiting = sum(size * len(blocks) for size, blocks in list(_waiting.items()))
        if waiting + block.nbytes <= MOST_KEPT:
            _waiting.setdefault(block.nbytes, []).append(block)


def release_unused() -> None:
    """Returns the unused blocks to the system."""
    while _waiting:
        try:
            _waiting.popitem()
        except KeyError:  # another thread was first
            return


def maker(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Callable[[], npt.NDArray[Any]]:
    """Returns a function that returns arrays as `np.empty` does."""
    kind = np.dtype(dtype)
    needed = math.prod(shape) * kind.itemsize
    if needed < LARGE:
        return partial(np.empty, shape, kind)
    size = _rounded(needed)

    def lease() -> npt.NDArray[Any]:
        try:
            block = _waiting[size].pop()
        except (KeyError, IndexError):
            block = _Block(size, np.uint8)
        return np.ndarray(shape, kind, block.view(_Lease))

    return lease


def maker_of_zeros(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Callable[[], npt.NDArray[Any]]:
    """Returns a function that returns arrays as `np.zeros` does."""
    room = maker(shape, dtype)

    def filled() -> npt.NDArray[Any]:
        array = room()
        array.fill(0)
        return array

    return filled


def _rounded(size: int) -> int:
    """Rounds up by at most a quarter, so that sequences of different lengths can share blocks."""
    step = 1 << (size.bit_length() - 3)
    return -(-size // step) * step
