# SPDX-License-Identifier: Apache-2.0
"""What a recurrent node saves for the backward pass, and the lengths of its sequences."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.threads import threads


class SavedTensors(enum.Enum):
    """What a forward pass saves for the backward pass."""

    SIGNALS = "for LRP under signal takes all"
    GATES = "for LRP under the other rules"
    GATES_FLOAT64 = "the same, with the sums that these rules divide by in float64"
    SLOPES = "for gradients"


@dataclass(slots=True)
class Lengths:
    """steps [B]: the length of each sequence. whole: whether every sequence is as long as the array. order [B]: longest
    first. parts: the parts of `order`, one per thread.
    """

    steps: Array
    whole: bool
    order: Array
    parts: list[Array] = field(init=False)

    def __post_init__(self) -> None:
        count = min(threads(), len(self.order))
        self.parts = [np.ascontiguousarray(self.order[i::count]) for i in range(count)] if count > 1 else [self.order]

    def over(self, total: int) -> Array:
        """[T, B]: whether the position is after the end of the sequence."""
        return np.arange(total)[:, None] >= self.steps


@lru_cache(maxsize=256)
def all_of(steps: int, batch: int) -> Lengths:
    """Lengths of sequences that are as long as the array. The result is shared and must not be modified."""
    return Lengths(np.full(batch, steps, np.int64), True, np.arange(batch))


@lru_cache(maxsize=256)
def zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Initial states of zeros. The result is shared and must not be modified."""
    return np.zeros(shape, dtype)


def longest_first(steps: Array) -> Array:
    return np.argsort(-steps, kind="stable")


@dataclass
class Tape:
    """What the forward pass of one direction saves for the backward pass. x [T, B, D], hidden [T, B, H], h0 [B, H].
    dtype: the type of the backward pass. complete: whether `kept` holds what the kernels read; otherwise they were not
    compiled (operators/over_steps/without_kernels.py). at_rest: whether it is known that the states start from zeros.
    """

    x: Array
    hidden: Array
    h0: Array
    lens: Lengths
    kept: dict[str, Array]
    dtype: np.dtype[Any]
    complete: bool = True
    at_rest: bool = False

    def lengths_of(self, passes: int) -> Lengths:
        """Of the samples of several backward passes that run together, one pass after the other."""
        steps = np.tile(self.lens.steps, passes)
        return all_of(len(self.x), len(steps)) if self.lens.whole else Lengths(steps, False, longest_first(steps))


@dataclass(slots=True)
class BackwardResult:
    """The result of the backward pass through a node: relevance by input slot, and the absorbed relevance [batch] (LRP
    only).
    """

    inputs: dict[int, Array]
    absorbed: Array


Run = Callable[[Array], tuple[dict[str, Array], list[Tape]]]
Back = Callable[[list[Tape], "list[Array | None]"], BackwardResult]
# The last argument is the flag by which another thread stops the kernels.
DirectionRun = Callable[[Array, list[Array], Array], tuple[Tape, list[Array]]]
DirectionBack = Callable[[Tape, Array, list[Array], Array, Array], Array]
