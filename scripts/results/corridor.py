# SPDX-License-Identifier: Apache-2.0
"""A corridor with a key and a reward that comes much later: the smallest task in which credit is hard to assign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
CELLS, START, KEY, STEPS = 9, 4, 0, 24
MOVES = (-1, 1)


@dataclass(frozen=True)
class Episodes:
    """x [episodes, STEPS, CELLS]: where the agent stands after each move, one-hot.

    taken [episodes]: the step at which it came to the key, STEPS where it never did. returns [episodes]: 1 with the
    key, else 0, paid after the last step and unseen before.
    """

    x: Array
    taken: Array

    @property
    def returns(self) -> Array:
        return (self.taken < STEPS).astype(np.float32)


def walk(position: int, move: int) -> int:
    """Walls at both ends."""
    return min(max(position + move, 0), CELLS - 1)


def wander(rng: np.random.Generator, count: int) -> Episodes:
    """Episodes of an agent that moves at random."""
    moves = rng.choice(MOVES, (count, STEPS))
    return played(np.array([_path(row) for row in moves]))


def played(positions: Array) -> Episodes:
    """positions [episodes, STEPS]."""
    at_key = positions == KEY
    taken = np.where(at_key.any(axis=1), at_key.argmax(axis=1), STEPS)
    return Episodes(np.eye(CELLS, dtype=np.float32)[positions], taken)


def _path(moves: Array) -> list[int]:
    path, position = [], START
    for move in moves:
        position = walk(position, int(move))
        path.append(position)
    return path
