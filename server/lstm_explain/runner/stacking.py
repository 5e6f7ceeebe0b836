"""Many copies of a batch as one larger batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from lstm_explain.cancellation import checkpoint
from lstm_explain.graph.ir import Array
from lstm_explain.graph.session import shrink_arena
from lstm_explain.kernels import buffer_pool

ENOUGH_BYTES, MOST_BYTES = 24 << 20, 128 << 20  # of one pass over copies: of many, and of a few
FEW = 4  # copies that share most of what reading the weights costs; more of long sequences would leave the cache
MOST_COPIES = 256


def stack(copies: Array, shape: Sequence[int], axis: int) -> Array:
    """Copies as rows, [copies, before, batch, after], as one array: of `shape`, but its `axis` holds them all."""
    whole = (*shape[:axis], shape[axis] * len(copies), *shape[axis + 1 :])
    return np.ascontiguousarray(np.moveaxis(copies, 0, 1).reshape(whole))


def unstack(array: Array, copies: int, rows: tuple[int, int, int]) -> Array:
    """The inverse of `stack`: [copies, *rows]."""
    before, batch, after = rows
    return np.moveaxis(array.reshape(before, copies, batch, after), 1, 0)


def tile(array: Array, axis: int, copies: int) -> Array:
    return array if copies == 1 else np.concatenate([array] * copies, axis=axis)


def copies_for(bytes_a_copy: int) -> int:
    """How many copies to run together: as many as stay near the processor, but a few where memory allows them."""
    near, at_most = (limit // max(bytes_a_copy, 1) for limit in (ENOUGH_BYTES, MOST_BYTES))
    return max(1, min(MOST_COPIES, max(near, min(FEW, at_most))))


def give_back(tried: int) -> None:
    """Releases memory after a trial that took so many bytes, in arrays of other sizes than those that follow."""
    if tried > ENOUGH_BYTES:
        buffer_pool.give_back()
        shrink_arena()


def chunks(count: int, size: int) -> Iterator[range]:
    for start in range(0, count, size):
        checkpoint()
        yield range(start, min(start + size, count))
