# SPDX-License-Identifier: Apache-2.0
"""Prepares a time-by-feature table for drawing: selects features, sums steps if there are too many, places ticks."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Step = str | int | dt.date
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, eq=False)
class Grid:
    """relevance: [time, rows]. values: [time, rows] or None. names: one per row. steps: a label per step, or None.

    kept: how many of the rows are features; one more may sum up the others and has no values.
    every: steps in one column.
    """

    relevance: Array
    values: Array | None
    names: tuple[str, ...]
    steps: tuple[Step, ...] | None
    kept: int
    every: int = 1

    @property
    def width(self) -> int:
        """Return the number of columns."""
        return int(self.relevance.shape[0])

    def label(self, column: int) -> str:
        """Return the label of a column: its step, or its first and last step."""
        first = column * self.every
        if self.every == 1:
            return self._step(first)
        return f"{self._step(first)} to {self._step(min(first + self.every, self._length) - 1)}"

    @property
    def _length(self) -> int:
        return len(self.steps) if self.steps is not None else self.width * self.every

    def _step(self, index: int) -> str:
        return f"step {index}" if self.steps is None else str(self.steps[index])


def grid(
    relevance: npt.ArrayLike,
    features: Sequence[str] | None,
    values: npt.ArrayLike | None,
    steps: Sequence[Step] | None,
    most_features: int,
    most_columns: int,
) -> Grid:
    """Check shapes (ValueError) and reduce the table to the largest features and to sums over equal spans of time."""
    table = np.asarray(relevance, dtype=np.float64)
    if table.ndim == 1:
        table = table[:, None]
    if table.ndim != 2 or table.size == 0:
        raise ValueError(f"relevance has the shape {table.shape}; expected [time, features] with at least one of each")
    series = None if values is None else np.asarray(values, dtype=np.float64).reshape(table.shape)
    names = tuple(features) if features is not None else tuple(f"feature {i}" for i in range(table.shape[1]))
    for what, got, wanted in (("features", len(names), table.shape[1]), ("steps", len(steps or ()), len(table))):
        if got != wanted and not (what == "steps" and steps is None):
            raise ValueError(f"{got} {what} for relevance of shape {table.shape}")
    whole = Grid(table, series, names, None if steps is None else tuple(steps), len(names))
    return _thin_columns(_thin_rows(whole, most_features), most_columns)


def _thin_rows(grid: Grid, most: int) -> Grid:
    """Keeps the features with the most relevance, in their order; one more row sums up the others."""
    count = len(grid.names)
    if count <= most:
        return grid
    order = np.argsort(-np.abs(np.nan_to_num(grid.relevance)).sum(0), kind="stable")
    kept, rest = np.sort(order[: most - 1]), order[most - 1 :]
    others = grid.relevance[:, rest].sum(1, keepdims=True)
    return replace(
        grid,
        relevance=np.concatenate([grid.relevance[:, kept], others], axis=1),
        values=None if grid.values is None else grid.values[:, kept],
        names=(*(grid.names[i] for i in kept), f"{len(rest)} others"),
        kept=len(kept),
    )


def _thin_columns(grid: Grid, most: int) -> Grid:
    every = math.ceil(grid.width / most)
    if every == 1:
        return grid
    starts = np.arange(0, grid.width, every)
    counts = np.diff(np.append(starts, grid.width))[:, None]
    means = None if grid.values is None else np.add.reduceat(grid.values, starts, axis=0) / counts
    return replace(grid, relevance=np.add.reduceat(grid.relevance, starts, axis=0), values=means, every=every)


def ticks(grid: Grid, most: int = 14) -> list[tuple[float, str]]:
    """Return the labels of the time axis with their columns."""
    if grid.steps is not None and all(isinstance(step, dt.date) for step in grid.steps):
        months = _months([step for step in grid.steps if isinstance(step, dt.date)], grid.every)
        if len(months) >= 3:
            return months[:: math.ceil(len(months) / (most + 4))]
    length = grid.width * grid.every if grid.steps is None else len(grid.steps)
    gap = _round_up(length / most)
    labels = ((i, str(i) if grid.steps is None else str(grid.steps[i])) for i in range(0, length, gap))
    return [(i / grid.every, label) for i, label in labels]


def _months(dates: list[dt.date], every: int) -> list[tuple[float, str]]:
    found: list[tuple[float, str]] = []
    for i, day in enumerate(dates):
        if i == 0 or (day.year, day.month) != (dates[i - 1].year, dates[i - 1].month):
            year = f" {day.year}" if not found or day.month == 1 else ""
            found.append((i / every, _MONTHS[day.month - 1] + year))
    # a first month of a few days would collide with the next
    if len(found) > 1 and (found[1][0] - found[0][0]) * every < 20:
        del found[0]
        found[0] = (found[0][0], f"{found[0][1].split()[0]} {dates[round(found[0][0] * every)].year}")
    return found


def _round_up(least: float) -> int:
    """Return the smallest of 1, 2, 5, 10, 20, 50, … that is not below `least`."""
    power = 1
    while True:
        for digit in (1, 2, 5):
            if digit * power >= least:
                return digit * power
        power *= 10
