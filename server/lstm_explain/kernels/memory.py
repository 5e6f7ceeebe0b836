"""Arrays for the time loops, in memory that is used again.

The system hands out large blocks page by page, on first touch, and takes them back when they are freed: for a batch
that costs as much as its arithmetic. Blocks come back here instead, once no array looks at them any more.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

LARGE = 1 << 17  # bytes; what is smaller, the allocator keeps by itself
MOST_KEPT = 1 << 28  # bytes that wait for use
_waiting: dict[int, list[npt.NDArray[np.uint8]]] = {}  # by size


class _Lease:
    """Owns a block for as long as an array, or a view of one, points to it."""

    def __init__(self, block: npt.NDArray[np.uint8], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.block = block
        data = (block.__array_interface__["data"][0], False)
        self.__array_interface__ = {"version": 3, "data": data, "shape": shape, "typestr": dtype.str}

    def __del__(self) -> None:  # may run anywhere, within `empty` too: no locks, only what one step of Python does
        waiting = sum(size * len(blocks) for size, blocks in list(_waiting.items()))
        if waiting + self.block.nbytes <= MOST_KEPT:
            _waiting.setdefault(self.block.nbytes, []).append(self.block)


def empty(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """As np.empty."""
    kind = np.dtype(dtype)
    needed = math.prod(shape) * kind.itemsize
    if needed < LARGE:
        return np.empty(shape, kind)
    size = _rounded(needed)
    try:
        block = _waiting[size].pop()
    except (KeyError, IndexError):
        block = np.empty(size, np.uint8)
    return np.asarray(_Lease(block, shape, kind))


def zeros(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """As np.zeros."""
    array = empty(shape, dtype)
    array.fill(0)
    return array


def _rounded(size: int) -> int:
    """Up to a quarter more, so that lengths of all kinds share their blocks."""
    step = 1 << (size.bit_length() - 3)
    return -(-size // step) * step
