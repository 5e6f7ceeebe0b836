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

MAX_BYTES = 128 << 20  # of a pass over many copies
MAX_COPIES = 256
TOGETHER = 8  # rows of a product that share the reading of the weights; what is left over takes almost as long
KEPT_BYTES = 24 << 20  # of a trial, whose memory is not worth releasing
LEAST_ALIKE = 4
ALIKE_BYTES = 48 << 20  # of a pass over copies that begin alike, which share more the more of them there are


def stack(copies: Array, shape: Sequence[int], axis: int) -> Array:
    """Copies as rows, [copies, before, batch, after], as one array of `shape` whose `axis` holds all copies."""
    whole = (*shape[:axis], shape[axis] * len(copies), *shape[axis + 1 :])
    return np.ascontiguousarray(np.moveaxis(copies, 0, 1).reshape(whole))


def tile(array: Array, axis: int, copies: int) -> Array:
    return array if copies == 1 else np.concatenate([array] * copies, axis=axis)


def copies_for(bytes_per_copy: int) -> int:
    """Returns how many copies to run together, where there are that many."""
    fit = MAX_BYTES // max(bytes_per_copy, 1)
    return max(1, min(MAX_COPIES, fit if fit < TOGETHER else fit // TOGETHER * TOGETHER))


def copies_alike_for(bytes_per_copy: int) -> int:
    """Returns how many copies that begin alike to run together."""
    return max(LEAST_ALIKE, min(MAX_COPIES, ALIKE_BYTES // max(bytes_per_copy, 1)))


def release_trial_memory(trial_bytes: int) -> None:
    """Releases the memory of a trial, whose arrays have other sizes than those of the following runs."""
    if trial_bytes > KEPT_BYTES:
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
