# SPDX-License-Identifier: Apache-2.0
"""Adds up, per sample, where relevance went."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.kernels import reductions
from lstm_explain.operators import BatchLayout
from lstm_explain.operators.formulas import in_dtype

OWN_AXIS = BatchLayout(0)
DOUBLE = np.dtype(np.float64)


class RelevanceAccount:
    """Relevance that nodes absorb and that constant initial states receive, [batch] each, in float64."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.by_node: dict[str, Array] = {}
        self.initial_states: Array | None = None  # None: there are none

    def keep(self, node: str, amounts: Array) -> None:
        """Records the relevance [batch] that a node absorbs in total, in an array that nothing else refers to."""
        earlier = self.by_node.get(node)
        if earlier is not None:
            self.by_node[node] = earlier + amounts
        else:
            self.by_node[node] = amounts if amounts.dtype is DOUBLE else in_dtype(amounts, DOUBLE)

    def absorb(self, node: str, amounts: Array, layout: BatchLayout | None) -> None:
        """Records a part of the relevance that a node absorbs, in the shape in which it arrived."""
        total = self.by_node.get(node)
        own = amounts.shape == (self.batch,) and (layout is None or layout == OWN_AXIS)
        if total is None and own:
            self.by_node[node] = amounts.astype(np.float64)
            return
        if total is None:
            total = self.by_node[node] = np.zeros(self.batch)
        if own:
            total += amounts
        else:
            add_per_sample(amounts, layout, total)

    def keep_initial_state(self, amounts: Array, layout: BatchLayout | None) -> None:
        """Records the relevance of an initial state that is a constant."""
        if self.initial_states is None:
            self.initial_states = np.zeros(self.batch)
        add_per_sample(amounts, layout, self.initial_states)


def per_sample(amounts: Array, layout: BatchLayout | None, batch: int) -> Array:
    """Sums an array over everything but its samples: [batch], float64."""
    total = np.zeros(batch)
    add_per_sample(amounts, layout, total)
    return total


def largest_per_sample(amounts: Array, layout: BatchLayout | None, batch: int) -> Array:
    """Returns the largest magnitude over everything but the samples, ignoring NaN: [batch], float64."""
    found = np.zeros(batch)
    reductions.largest_per_sample(_by_sample(amounts, layout, batch), found)
    return found


def add_per_sample(amounts: Array, layout: BatchLayout | None, total: Array) -> None:
    reductions.add_per_sample(_by_sample(amounts, layout, len(total)), total)


def add_with_largest(amounts: Array, layout: BatchLayout | None, total: Array, found: Array) -> None:
    """Does both of the above for one array: adds to `total`, and fills `found`, which holds zeros."""
    reductions.add_with_largest(_by_sample(amounts, layout, len(total)), total, found)


def rows_of(shape: Sequence[int], layout: BatchLayout | None, batch: int) -> tuple[int, int, int]:
    """Returns the shape [before, batch, after] in which an array of `shape` has its samples on an axis of their own.

    layout: where they lie; None: all samples share the array.
    """
    if layout is None:
        return 1, 1, math.prod(shape)
    before = math.prod(shape[: layout.axis]) * (shape[layout.axis] // (batch * layout.inner))
    return before, batch, layout.inner * math.prod(shape[layout.axis + 1 :])


def _by_sample(amounts: Array, layout: BatchLayout | None, batch: int) -> Array:
    """[before, batch, after]"""
    if amounts.dtype.char not in "fd":
        amounts = amounts.astype(np.float64)
    if batch == 1:
        return amounts.ravel()[None, None]
    return amounts.ravel().reshape(rows_of(amounts.shape, layout, batch))
