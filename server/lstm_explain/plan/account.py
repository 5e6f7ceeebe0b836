"""Adds up, per sample, where relevance went."""

from __future__ import annotations

import math

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.rules import Lane


class Account:
    """Relevance kept at nodes and given to constant initial states, [batch] each, in float64."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.by_node: dict[str, Array] = {}
        self.initial_states: Array = np.zeros(batch)

    def absorb(self, node: str, amounts: Array, lane: Lane | None) -> None:
        total = per_sample(amounts, lane, self.batch)
        self.by_node[node] = self.by_node[node] + total if node in self.by_node else total

    def absorbed(self) -> Array:
        return sum(self.by_node.values(), np.zeros(self.batch))


def per_sample(amounts: Array, lane: Lane | None, batch: int) -> Array:
    """Sums an array over everything but its samples: [batch], float64."""
    if lane is None:
        return np.array([amounts.sum()], np.float64)
    shape, axis, inner = amounts.shape, lane.axis, lane.inner
    before = math.prod(shape[:axis]) * (shape[axis] // (batch * inner))
    return amounts.reshape(before, batch, inner * math.prod(shape[axis + 1 :])).sum(axis=(0, 2)).astype(np.float64)
