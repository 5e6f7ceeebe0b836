# SPDX-License-Identifier: Apache-2.0
"""Inputs of the bundled models, as batches: from the data that trained them, and from data that did not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import toy
import words
from bundled_models import HELD_OUT, weather
from corridor import wander

Array = npt.NDArray[Any]
Batches = list[dict[str, Array]]
TRAINED_ON = ("2000", "2001")  # years of weather; HELD_OUT was not used in training
JOINED = (2, 4, 8, 16)  # sentences in a longer text: about 40 to 300 words


def inputs_of(name: str, data_folder: Path, count: int, *, trained: bool) -> Batches:
    """At least `count` samples, if the data has them; an empty list where the data is missing."""
    seed = 2024 if trained else 2025
    if name in ("addition", "subtraction"):
        return [{"x": batch.x[: -(-count // len(toy.LENGTHS))]} for batch in toy.draw(seed)]
    if name == "corridor":
        return [{"x": wander(np.random.default_rng(seed), count).x}]
    if name == "discharge":
        years = TRAINED_ON if trained else (HELD_OUT,)
        return [batch for year in years for batch in weather(data_folder / "camels", year, count // 4 // len(years))]
    path = data_folder / "sst" / f"fine.{'train' if trained else 'test'}.txt"
    return [{"tokens": np.array([ids])} for ids in texts(path, count, seed)] if path.is_file() else []


def texts(path: Path, count: int, seed: int, lengths: Sequence[int] = (1, 1, 1, 1, *JOINED)) -> Iterator[list[int]]:
    """Token ids of texts made of sentences: half of them one sentence each, half longer."""
    rng = np.random.default_rng(seed)
    sentences = [ids for ids, _ in words.read(path)]
    order, at = rng.permutation(len(sentences)), 0
    for i in range(count):
        size = lengths[i % len(lengths)]
        if at + size > len(order):
            return
        yield [token for k in order[at : at + size] for token in sentences[k]]
        at += size
