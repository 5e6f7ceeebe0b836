# SPDX-License-Identifier: Apache-2.0
"""Counts how often a method runs the model on a batch, before it does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

from lstm_explain.methods.base import CountPlayers, GroupedPlayers, Method
from lstm_explain.program.axes import Axes
from lstm_explain.runner.players import no_groups, player_shape

Inputs = Mapping[str, npt.NDArray[Any]]
NO_AXES = Axes(None, None)
Counts = Sequence[int]
NO_GROUPS: Counts = ()


def runs(axes: Mapping[str, Axes], inputs: Inputs, method: Method | None, groups: Counts = NO_GROUPS) -> int:
    """Returns how often the method runs the model on the whole batch at most; 1 for LRP and gradients.

    axes: by input. method: None for a prediction. groups: see `players_of`.
    """
    return 1 if method is None else method.runs(players_of(axes, inputs, groups))


def players_of(axes: Mapping[str, Axes], inputs: Inputs, groups: Counts = NO_GROUPS) -> CountPlayers:
    """Returns what counts the players of every input. Inputs may have fewer axes than declared. groups: the number of
    groups of every input; empty where the request has no groups.
    """

    def count(over: GroupedPlayers) -> list[int]:
        if over == "groups":
            if not groups:
                raise no_groups()
            return list(groups)
        return [math.prod(player_shape(a.shape, _present(axes, name, a), over)) for name, a in inputs.items()]

    return count


def extents(axes: Mapping[str, Axes], inputs: Inputs) -> tuple[int, int]:
    """Returns the largest batch and the largest number of time steps."""
    batch = steps = 1
    for name, array in inputs.items():
        samples, length = extents_of(axes, name, array)
        batch, steps = max(batch, samples), max(steps, length)
    return batch, steps


def extents_of(axes: Mapping[str, Axes], name: str, array: npt.NDArray[Any]) -> tuple[int, int]:
    """Returns the samples and time steps of one input; 1 if it has no such axis, or has fewer axes."""
    present, shape = _present(axes, name, array), array.shape
    return (1 if present.batch is None else shape[present.batch]), (1 if present.time is None else shape[present.time])


def _present(axes: Mapping[str, Axes], name: str, array: npt.NDArray[Any]) -> Axes:
    own = axes.get(name, NO_AXES)
    if (own.batch is None or own.batch < array.ndim) and (own.time is None or own.time < array.ndim):
        return own
    batch, time = (axis if axis is not None and axis < array.ndim else None for axis in (own.batch, own.time))
    return Axes(batch, time)
