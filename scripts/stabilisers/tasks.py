# SPDX-License-Identifier: Apache-2.0
"""Sequences of which it is known what an answer depends on, for networks trained on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FIRST, SECOND = np.array([1, 2, 2, 1, -1.5]), np.array([-1, 1.5, -1.5, 1.5, 2])


class Sequences(NamedTuple):
    """x [N, T, 3] float32. y [N]: a class (int64) or a number (float32). matters [N, T]: steps that y depends on."""

    x: npt.NDArray[np.float32]
    y: npt.NDArray[np.int64] | npt.NDArray[np.float32]
    matters: npt.NDArray[np.bool_]


Task = Callable[[int, np.random.Generator, int], Sequences]


def motifs(count: int, rng: np.random.Generator, steps: int) -> Sequences:
    """Noise with up to two motifs of five steps; class 1 if the first motif comes before the second."""
    x = rng.normal(0, 0.4, (count, steps, 3))
    y, matters = np.zeros(count, np.int64), np.zeros((count, steps), bool)
    for i in range(count):
        early, late = sorted(rng.choice(np.arange(5, steps - 10), 2, replace=False))
        at = [early, max(late, early + 6)]
        kind = 3 if rng.random() < 0.5 else int(rng.integers(0, 3))  # first alone, second alone, reversed, in order
        y[i] = kind == 3
        if kind == 2:
            at.reverse()
        if kind != 1:
            x[i, at[0] : at[0] + 5, 0] += FIRST
            matters[i, at[0] : at[0] + 5] = True
        if kind != 0:
            x[i, at[1] : at[1] + 5, 1] += SECOND
            matters[i, at[1] : at[1] + 5] = True
    return Sequences(x.astype(np.float32), y, matters)


def events(count: int, rng: np.random.Generator, steps: int) -> Sequences:
    """Noise with eight marked events; the answer is the sum of their sizes, scaled."""
    x = rng.normal(0, 0.3, (count, steps, 3))
    y, matters = np.zeros(count), np.zeros((count, steps), bool)
    for i in range(count):
        at = rng.choice(steps, 8, replace=False)
        sizes = rng.uniform(0.5, 1.5, 8)
        x[i, at, 0], x[i, at, 1] = sizes, 3
        matters[i, at] = True
        y[i] = sizes.sum() / 4 - 2
    return Sequences(x.astype(np.float32), y.astype(np.float32), matters)
