# SPDX-License-Identifier: Apache-2.0
"""Stacks many copies of a batch into one larger batch, within a limit on memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from lstm_explain.cancellation import checkpoint
from lstm_explain.graph.ir import Array
from lstm_explain.graph.session import shrink_arena
from lstm_explain.kernels import buffer_pool
from lstm_explain.progress import current_meter

CACHE_BYTES, MAX_BYTES = 24 << 20, 128 << 20  # bytes of one pass over many copies, and over a few
# As many copies share most of the cost of reading the weights; more copies of long sequences would not fit the cache.
FEW_COPIES = 4
MAX_COPIES = 256
ALIKE_BYTES = 48 << 20  # of a pass over copies that begin alike, which share more the more of them there are


def stack(copies: Array, shape: Sequence[int], axis: int) -> Array:
    """Copies as rows, [copies, before, batch, after], as one array of `shape` whose `axis` holds all copies."""
    whole = (*shape[:axis], shape[axis] * len(copies), *shape[axis + 1 :])
    return np.ascontiguousarray(np.moveaxis(copies, 0, 1).reshape(whole))


def unstack(array: Array, copies: int, rows: tuple[int, int, int]) -> Array:
    """Returns the inverse of `stack`: [copies, *rows]."""
    before, batch, after = rows
    return np.moveaxis(array.reshape(before, copies, batch, after), 1, 0)


def tile(array: Array, axis: int, copies: int) -> Array:
    return array if copies == 1 else np.concatenate([array] * copies, axis=axis)


def copies_for(bytes_per_copy: int) -> int:
    """Returns how many copies to run together: as many as fit the cache, but at least a few where memory allows
    them.
    """
    cached, limit = (limit // max(bytes_per_copy, 1) for limit in (CACHE_BYTES, MAX_BYTES))
    return max(1, min(MAX_COPIES, max(cached, min(FEW_COPIES, limit))))


def copies_alike_for(bytes_per_copy: int) -> int:
    """Returns how many copies that begin alike to run together."""
    return max(FEW_COPIES, min(MAX_COPIES, ALIKE_BYTES // max(bytes_per_copy, 1)))


def release_trial_memory(trial_bytes: int) -> None:
    """Releases the memory of a trial, whose arrays have other sizes than those of the following runs."""
    if trial_bytes > CACHE_BYTES:
        buffer_pool.release_unused()
        shrink_arena()


def chunks(count: int, size: int) -> Iterator[range]:
    """Yields the numbers of `count` runs of the model, `size` at a time. A chunk counts as done when the next one is
    requested.
    """
    meter = current_meter()
    if meter is not None:
        meter.announce(count)
    for start in range(0, count, size):
        checkpoint()
        ids = range(start, min(start + size, count))
        yield ids
        if meter is not None:
            meter.advance(len(ids))
