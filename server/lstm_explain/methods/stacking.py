"""Many copies of a batch as one larger batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.watch import checkpoint

ENOUGH_BYTES, MOST_BYTES = 24 << 20, 128 << 20  # of one pass over copies: of many, and of a few
FEW = 4  # copies that share most of what reading the weights costs; more of long sequences would leave the cache
MOST_COPIES = 256


def stack(copies: Array, axis: int) -> Array:
    """[copies, *shape] to shape with `axis` that many times longer, copy after copy."""
    moved = np.moveaxis(copies, 0, axis)
    shape = moved.shape
    return np.ascontiguousarray(moved.reshape(*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :]))


def unstack(array: Array, axis: int, copies: int) -> Array:
    """The inverse of `stack`: [copies, *shape]."""
    shape = array.shape
    return np.moveaxis(array.reshape(*shape[:axis], copies, shape[axis] // copies, *shape[axis + 1 :]), axis, 0)


def tile(array: Array, axis: int, copies: int) -> Array:
    return array if copies == 1 else np.concatenate([array] * copies, axis=axis)


def copies_for(bytes_a_copy: int) -> int:
    """How many copies to run together: as many as stay near the processor, but a few where memory allows them."""
    near, at_most = (limit // max(bytes_a_copy, 1) for limit in (ENOUGH_BYTES, MOST_BYTES))
    return max(1, min(MOST_COPIES, max(near, min(FEW, at_most))))


def chunks(count: int, size: int) -> Iterator[range]:
    for start in range(0, count, size):
        checkpoint()
        yield range(start, min(start + size, count))


def sum_per_sample(array: Array, axis: int | None, batch: int) -> Array:
    """[batch]: the sum over a sample. An array that all samples share counts in equal parts."""
    if axis is None:
        return np.full(batch, array.sum(dtype=np.float64) / batch)
    return np.moveaxis(array, axis, 0).reshape(batch, -1).sum(axis=1, dtype=np.float64)
