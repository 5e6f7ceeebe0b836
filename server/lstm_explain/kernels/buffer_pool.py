"""Arrays for the time loops, in memory that is used again.

The system hands out large blocks page by page, on first touch, and takes them back when they are freed: for a batch
that costs as much as its arithmetic. Blocks come back here instead, once no array looks at them any more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain.memory_budget import available_memory

LARGE = 1 << 17  # bytes; what is smaller, the allocator keeps by itself
MOST_KEPT = min(1 << 28, available_memory() // 16)  # bytes that wait for use
_waiting: dict[int, list[_Block]] = {}  # by size


class _Block(np.ndarray):
    """Bytes."""


class _Lease(np.ndarray):
    """A block for as long as an array, or a view of one, looks at it.

    NumPy takes the owner of memory for a view's base, unless what lies between is of a class of its own.
    """

    def __del__(self) -> None:  # may run anywhere, within `maker` too: no locks, only what one step of Python does
        block = self.base
        if not isinstance(block, _Block):  # a copy, or a part, that somebody made of the lease itself
            return
        waiting = sum(size * len(blocks) for size, blocks in list(_waiting.items()))
        if waiting + block.nbytes <= MOST_KEPT:
            _waiting.setdefault(block.nbytes, []).append(block)


def give_back() -> None:
    """Gives the system the blocks that wait for use."""
    while _waiting:
        try:
            _waiting.popitem()
        except KeyError:  # another thread was first
            return


def maker(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Callable[[], npt.NDArray[Any]]:
    """What makes arrays as np.empty does."""
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
    """What makes arrays as np.zeros does."""
    room = maker(shape, dtype)

    def filled() -> npt.NDArray[Any]:
        array = room()
        array.fill(0)
        return array

    return filled


def _rounded(size: int) -> int:
    """Up to a quarter more, so that lengths of all kinds share their blocks."""
    step = 1 << (size.bit_length() - 3)
    return -(-size // step) * step
