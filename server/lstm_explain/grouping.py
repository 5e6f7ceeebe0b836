# SPDX-License-Identifier: Apache-2.0
"""Which group every entry of the inputs belongs to, and the relevance of each group.

What a caller asks for and what it gets are classes of the client, which the engine shares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain_client.groups import PADDING, ChangePoints, GroupRelevance, Groups

__all__ = ["NO_GROUPS", "PADDING", "ChangePoints", "GroupRelevance", "Grouping", "Groups", "InputGroups"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class InputGroups:
    """The groups of one input.

    numbers: of the input's shape, the group of each entry, from 0 in each sample. names, steps: see GroupRelevance.
    batch_axis: None where all samples share the input.
    """

    numbers: Array
    names: Array
    steps: Array
    batch_axis: int | None

    @property
    def count(self) -> int:
        """The groups of the sample that has most."""
        return int(self.names.shape[1])

    def relevance(self, relevance: Array, error: Array | None) -> GroupRelevance:
        """Returns the sums over the entries of each group. relevance, error: of the input's shape; error is the
        standard error of the entries.
        """
        sums = self._sums(relevance)
        return GroupRelevance(sums, self.names, self.steps, None if error is None else self._sums(error))

    def _sums(self, array: Array) -> Array:
        """Returns an array [batch, groups], float64."""
        rows, count = self.names.shape
        numbers, values = (
            (a if self.batch_axis is None else np.moveaxis(a, self.batch_axis, 0)).reshape(rows, -1)
            for a in (self.numbers, array)
        )
        places = (numbers + count * np.arange(rows)[:, None]).ravel()
        return np.bincount(places, values.ravel(), minlength=rows * count).reshape(rows, count)


Grouping = Mapping[str, InputGroups]  # by input
NO_GROUPS: Grouping = MappingProxyType({})
