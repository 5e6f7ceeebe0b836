# SPDX-License-Identifier: Apache-2.0
"""Adds up, per sample, where relevance went."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.kernels import reductions
from lstm_explain.ledger import Ledger
from lstm_explain.operators import BatchLayout
from lstm_explain.program.limits import MAX_ABSORBED, MAX_ENTRY, WORST_RESIDUAL

OWN_AXIS = BatchLayout(0)
INPUTS, STATES, ABSORBED, RESIDUAL, NODES = range(5)  # rows of the book
FEW = 12  # nodes that absorb relevance, for which there is room at first


def row_in(rows: dict[str, int], node: str) -> int:
    """Returns the row of the book in which a node absorbs relevance. rows: by node; the function adds to it."""
    return rows.setdefault(node, NODES + len(rows))


class RelevanceAccount:
    """Where relevance went, in float64.

    book [rows, batch]: the four parts of the ledger, and what each node absorbs. by_node: the rows of nodes.
    """

    __slots__ = ("batch", "book", "by_node")

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.book = np.zeros((NODES + FEW, batch))
        self.by_node: dict[str, Array] = {}

    def of_node(self, node: str) -> Array:
        """Returns the relevance [batch] that a node absorbs in total. The caller adds to it."""
        row = self.by_node.get(node)
        if row is None:
            number = NODES + len(self.by_node)
            if number == len(self.book):
                self.book = np.concatenate([self.book, np.zeros_like(self.book)])
                self.by_node = dict(zip(self.by_node, self.book[NODES:], strict=False))
            row = self.by_node[node] = self.book[number]
        return row

    def keep(self, node: str, amounts: Array) -> None:
        """Records a part [batch] of the relevance that a node absorbs."""
        row = self.of_node(node)
        row += amounts

    def absorb(self, node: str, amounts: Array, layout: BatchLayout | None) -> None:
        """Records a part of the relevance that a node absorbs, in the shape in which it arrived."""
        if amounts.shape == (self.batch,) and (layout is None or layout == OWN_AXIS):
            self.keep(node, amounts)
        else:
            add_per_sample(amounts, layout, self.of_node(node))

    def keep_initial_state(self, amounts: Array, layout: BatchLayout | None) -> None:
        """Records the relevance of an initial state that is a constant."""
        add_per_sample(amounts, layout, self.book[STATES])

    def closed(self, explained: Array, peaks: Array) -> tuple[Ledger, bool]:
        """Returns the ledger of explained [batch], once the relevance of inputs has been added, and whether every
        sample keeps to the limits of LRP (limits.py). peaks [inputs, batch]: the largest relevance of an entry.
        """
        return closed(self.book[: NODES + len(self.by_node)], self.by_node, explained, peaks)


def closed(book: Array, by_node: dict[str, Array], explained: Array, peaks: Array) -> tuple[Ledger, bool]:
    """Does the same for a book in which every row is in use."""
    usual = reductions.balance(explained, peaks, WORST_RESIDUAL, MAX_ABSORBED, MAX_ENTRY, book)
    return Ledger(book[INPUTS], book[STATES], book[ABSORBED], book[RESIDUAL], by_node), usual


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
