# SPDX-License-Identifier: Apache-2.0
"""Defines background sets, which are samples that replace a single baseline, and the answer against one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain.errors import MethodError

Array = npt.NDArray[Any]
FIELD = "method.baseline"
MAX_DRAWS = 10_000


@dataclass(frozen=True, eq=False)
class Background:
    """A background set: a method answers against each of some samples drawn from it, and reports the mean.

    samples: by input, the samples along the first axis and then the shape of the input without its batch axis. An
        input without samples keeps its own values and gets no relevance. None: the samples of the model itself
        (`background.npz`).
    draws: how many samples are drawn, without replacement; all of them if there are no more than that.
    seed: of the random number generator that draws them. Every sample of a batch is compared with the same draws.
    """

    samples: Mapping[str, Array] | None = None
    draws: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, least in (("draws", self.draws, 1), ("seed", self.seed, 0)):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
                expected = f"a whole number of at least {least}"
                raise MethodError(f"background: {name} is {value!r}, expected {expected}", field=FIELD)
        if self.draws > MAX_DRAWS:
            raise MethodError(f"background: draws is {self.draws}, expected at most {MAX_DRAWS}", field=FIELD)
        if self.samples is None:
            return
        arrays = {name: np.asarray(array) for name, array in self.samples.items()}
        counts = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
        if len(set(counts.values())) != 1 or not all(counts.values()):
            found = ", ".join(f"{count} of {name!r}" for name, count in counts.items()) or "none"
            problem = f"background: the numbers of samples are {found}, expected the same of every input, at least 1"
            raise MethodError(problem, field=FIELD)
        object.__setattr__(self, "samples", arrays)

    @property
    def count(self) -> int | None:
        """The number of samples in the set; None for the model's own, which are not known here."""
        return None if self.samples is None else len(next(iter(self.samples.values())))

    @property
    def used(self) -> int:
        """The number of samples that a method is run against; for the model's own, at most."""
        return int(self.draws) if self.count is None else min(self.count, int(self.draws))

    @property
    def numbers(self) -> list[int]:
        """The positions in the set of the samples that are drawn, in ascending order."""
        count = self.used if self.count is None else self.count
        if count <= self.draws:
            return list(range(count))
        drawn: list[int] = np.random.default_rng(self.seed).choice(count, self.draws, replace=False).tolist()
        return sorted(drawn)

    def of_input(self, name: str) -> Background:
        """Returns the set without the samples of all other inputs."""
        assert self.samples is not None
        return Background({name: self.samples[name]}, self.draws, self.seed)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Background):
            return NotImplemented
        if (self.draws, self.seed) != (other.draws, other.seed):
            return False
        mine, theirs = self.samples, other.samples
        if mine is None or theirs is None or mine is theirs:
            return mine is theirs
        return mine.keys() == theirs.keys() and all(np.array_equal(mine[name], theirs[name]) for name in mine)

    def __hash__(self) -> int:
        return hash((self.draws, self.seed))

    def __str__(self) -> str:
        return f"draws {self.draws}; seed {self.seed}"

    def __repr__(self) -> str:
        of = "the model's own samples" if self.samples is None else f"{self.count} samples of {', '.join(self.samples)}"
        return f"Background({of}, draws={self.draws}, seed={self.seed})"


@dataclass
class Comparison:
    """A method's answer against one baseline.

    relevance: by input. total: [batch], its sum. baseline: [batch], the score of the baseline. error: by input, the
    standard error of the relevance, where the method itself draws samples. steps: [batch], the points on the line.
    """

    relevance: Mapping[str, Array]
    total: Array
    baseline: Array
    error: Mapping[str, Array] = field(default_factory=dict)
    steps: Array | None = None
