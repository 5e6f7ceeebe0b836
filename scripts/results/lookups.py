# SPDX-License-Identifier: Apache-2.0
"""Sequences in which an answer is looked up by a key, for networks with attention.

Every step has a key and a number; the last step asks for a key. The answer is the mean of the numbers that stand beside
this key, 0 if there are none (`mean`), or whether the key occurs before (`occurs`: 1 or -1, whatever the numbers are).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
STEPS = 12
KEYS = {"mean": 3, "occurs": 8}  # by task


def sequences(task: str, count: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Return x [count, STEPS, keys + 2] (the key, the number, whether the step asks), the answers [count], and the
    steps [count, STEPS] before the last one that have its key.
    """
    several = KEYS[task]
    keys, numbers = rng.integers(0, several, (count, STEPS)), rng.uniform(-1, 1, (count, STEPS))
    numbers[:, -1] = 0
    x = np.zeros((count, STEPS, several + 2))
    np.put_along_axis(x, keys[:, :, None], 1, axis=2)
    x[:, :, several], x[:, -1, several + 1] = numbers, 1
    asked = (keys == keys[:, -1:]) & (np.arange(STEPS) < STEPS - 1)
    if task == "occurs":
        return x.astype(np.float32), np.where(asked.any(1), 1, -1).astype(np.float32), asked
    answers = (numbers * asked).sum(1) / np.maximum(asked.sum(1), 1)
    return x.astype(np.float32), answers.astype(np.float32), asked
