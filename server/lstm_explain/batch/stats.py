# SPDX-License-Identifier: Apache-2.0
"""Accumulates the mean absolute relevance per feature and per lag, row by row and over shards.

A row's value for a feature is the mean of |relevance| over its time steps; for a lag (0: the last step) it is the mean
over the features of that step. Mean and spread over rows follow from the sums. Token inputs have lags only. The
explained value itself is accumulated under the kind `explained`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lstm_explain.batch.cells import Array
from lstm_explain.batch.feed import Feed
from lstm_explain.repository.relevance_shares import FEATURE, LAG, Group, feature_axis, other_axes

SCHEMA = pa.schema(
    [
        ("input", pa.string()),
        ("kind", pa.string()),  # feature, lag or explained
        ("position", pa.int64()),
        ("rows", pa.int64()),
        ("sum", pa.float64()),
        ("squares", pa.float64()),
    ]
)
Sums = npt.NDArray[np.float64]


@dataclass
class Stats:
    """By input and kind, [3, positions]: rows, sum, and sum of squares."""

    groups: dict[Group, Sums] = field(default_factory=dict)

    def add(self, name: str, relevance: Array, time: int | None) -> None:
        """Adds one row. time: the axis of time steps; features lie along the last of the other axes."""
        size = np.abs(relevance, dtype=np.float64)
        features = feature_axis(size.ndim, time)
        if features is not None:
            self._add((name, FEATURE), size.mean(axis=other_axes(size.ndim, features)))
        if time is not None:
            self._add((name, LAG), size.mean(axis=other_axes(size.ndim, time))[::-1])

    def add_explained(self, value: float) -> None:
        self._add(("", "explained"), np.array([value]))

    def _add(self, group: Group, values: Array) -> None:
        self._merge(group, np.stack([np.ones(len(values)), values, values**2]))

    def _merge(self, group: Group, sums: Sums) -> None:
        known = self.groups.get(group, np.zeros((3, 0)))
        if known.shape[1] < sums.shape[1]:
            known = np.pad(known, ((0, 0), (0, sums.shape[1] - known.shape[1])))
        known[:, : sums.shape[1]] += sums
        self.groups[group] = known

    def table(self) -> pa.Table:
        parts = [
            pa.table(
                {
                    "input": [name] * sums.shape[1],
                    "kind": [kind] * sums.shape[1],
                    "position": np.arange(sums.shape[1]),
                    "rows": sums[0].astype(np.int64),
                    "sum": sums[1],
                    "squares": sums[2],
                },
                SCHEMA,
            )
            for (name, kind), sums in self.groups.items()
        ]
        return pa.concat_tables(parts) if parts else SCHEMA.empty_table()


def add_row(stats: Stats, feed: Feed, relevance: Iterable[tuple[str, Array]]) -> None:
    for name, array in relevance:
        if name not in feed.lengths and array.size:
            stats.add(name, array, feed.time_axis_in(name, array))


def merge(tables: Iterable[pa.Table]) -> Stats:
    """Returns the sums of all tables together, in their order."""
    stats = Stats()
    for table in tables:
        for group, sums in _groups(table):
            stats._merge(group, sums)
    return stats


def _groups(table: pa.Table) -> Iterator[tuple[Group, Sums]]:
    """The positions within a group are in order and complete."""
    columns: dict[str, Any] = {name: table[name].to_numpy() for name in ("rows", "sum", "squares")}
    names = list(zip(table["input"].to_pylist(), table["kind"].to_pylist(), strict=True))
    for group in dict.fromkeys(names):
        at = [i for i, name in enumerate(names) if name == group]
        yield group, np.stack([columns[c][at].astype(np.float64) for c in ("rows", "sum", "squares")])
