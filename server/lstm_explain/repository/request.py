# SPDX-License-Identifier: Apache-2.0
"""A request to a model, from its message to the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from lstm_explain.condition import Condition
from lstm_explain.errors import InputError
from lstm_explain.grouping import Grouping, Groups
from lstm_explain.methods.base import Method
from lstm_explain.target import Target
from lstm_explain.target_sets import TargetSet

Array = npt.NDArray[Any]


@dataclass(eq=False)
class ModelRequest:
    """One caller's request to a model.

    targets: several at once; if there are any, `target` does not count.
    inputs: text as object arrays of str, until it becomes tokens. method: None for a prediction. tokens: by text input,
    the tokens in the shape of the input's relevance, as an object array of str. receipt: whether the answer comes with
    a signed receipt. condition: what a sample's prediction must meet to be explained.
    through: by inner value, the units that relevance passes through. groups: as asked for. words: the words of text
    inputs, where the groups are words. grouping: the groups that were found in the inputs.
    """

    inputs: Mapping[str, Array]
    method: Method | None = None
    target: Target = Target()  # noqa: RUF009 - frozen
    targets: tuple[TargetSet, ...] = ()
    capture: tuple[str, ...] = ()
    tokens: dict[str, Array] = field(default_factory=dict)
    receipt: bool = False
    condition: Condition | None = None
    groups: Groups | None = None
    through: dict[str, tuple[int, ...]] = field(default_factory=dict)
    words: dict[str, Array] = field(default_factory=dict)
    grouping: Grouping = field(default_factory=dict)

    @property
    def group_counts(self) -> list[int]:
        """The number of groups of every input; empty for a request without groups."""
        return [own.count for own in self.grouping.values()]


def check_combination(
    condition: Condition | None, groups: Groups | None, through: Mapping[str, tuple[int, ...]]
) -> None:
    """Raises InputError, as the engine does, where a condition on predictions comes with groups or units."""
    for name, given in (("groups", groups), ("through", through)):
        if condition and given:
            raise InputError(f"{name} and a condition exclude each other", field=name)
