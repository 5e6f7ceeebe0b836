# SPDX-License-Identifier: Apache-2.0
"""Writes answers and failures as Arrow tables, with the column names of `lstm-explain explain --out`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from lstm_explain.batch.cells import Array, Unusable
from lstm_explain.batch.explain import Explainer, RowResult
from lstm_explain.batch.feed import Row

LEDGER = ("inputs", "initial_states", "absorbed", "residual")


@dataclass(frozen=True)
class Key:
    """Where rows come from. values: of the requested key column, or None."""

    file: str
    rows: Sequence[int]
    values: pa.Array | None

    def take(self, at: Sequence[int]) -> dict[str, pa.Array]:
        positions = np.asarray(at, np.int64)
        columns = {
            "file": pa.array([self.file] * len(positions), pa.string()),
            "row": pa.array(np.asarray(self.rows, np.int64)[positions]),
        }
        return columns if self.values is None else {**columns, "key": self.values.take(pa.array(positions))}


@dataclass(frozen=True)
class Format:
    """The schemas of both tables."""

    answers: pa.Schema
    failures: pa.Schema

    def answer_table(self, key: Key, at: Sequence[int], rows: Sequence[Row], answers: Sequence[RowResult]) -> pa.Table:
        """rows, answers: one for each of `at`, which are positions in `key`. A job of several targets gets one row of
        the table for each row and target.
        """
        many = "target_number" in self.answers.names
        numbers = [number for a in answers for number in range(len(a.each))]
        at = [one for one, a in zip(at, answers, strict=True) for _ in a.each]
        rows = [row for row, a in zip(rows, answers, strict=True) for _ in a.each]
        answers = [one for a in answers for one in a.each]
        columns: dict[str, Any] = key.take(at) | ({"target_number": pa.array(numbers, pa.int64())} if many else {})
        columns["target"] = pa.array([a.target for a in answers], pa.list_(pa.int64()))
        columns["explained"] = pa.array([a.explained for a in answers])
        columns["explained_quantity"] = pa.array([a.quantity for a in answers], pa.string())
        columns |= {
            f"ledger/{entry}": pa.array([None if a.not_explained else getattr(a, entry) for a in answers], pa.float64())
            for entry in LEDGER
        }
        if "not_explained" in self.answers.names:
            columns["not_explained"] = pa.array([a.not_explained or None for a in answers], pa.string())
        columns["warning"] = pa.array([a.warning or None for a in answers], pa.string())
        for field in self.answers:
            kind, _, name = field.name.partition("/")
            if kind == "tokens":
                columns[field.name] = pa.array([row.tokens.get(name) for row in rows], field.type)
            elif kind in ("relevance", "output", "standard_error"):
                parts = [getattr(a, "outputs" if kind == "output" else kind)[name] for a in answers]
                missing = np.array([bool(a.not_explained) and kind != "output" for a in answers])
                columns[field.name] = nested(parts, field.type, missing)
            elif kind == "groups":
                columns[field.name] = _of_groups(name, answers, field.type)
        return pa.Table.from_arrays([columns[field.name] for field in self.answers], schema=self.answers)

    def failure_table(self, key: Key, at: Sequence[int], failures: Sequence[Unusable]) -> pa.Table:
        columns = key.take(at)
        columns["error"] = pa.array([failure.error for failure in failures], pa.string())
        columns["reason"] = pa.array([failure.reason for failure in failures], pa.string())
        return pa.Table.from_arrays([columns[field.name] for field in self.failures], schema=self.failures)


def format_of(explainer: Explainer, key: pa.DataType | None) -> Format:
    """key: the type of the requested key column."""
    model, feed = explainer.model, explainer.feed
    origin = {"file": pa.string(), "row": pa.int64()} | ({} if key is None else {"key": key})
    columns = dict(origin)
    for name, axis in explainer.outputs.items():
        spec = model.outputs[name]
        columns[f"output/{name}"] = _list(len(spec.shape) - (axis is not None), spec.dtype)
    columns |= {"target_number": pa.int64()} if explainer.targets else {}
    columns |= {"target": pa.list_(pa.int64()), "explained": pa.float64(), "explained_quantity": pa.string()}
    columns |= {f"ledger/{entry}": pa.float64() for entry in LEDGER}
    double = any(s.dtype == np.float64 for s in (*model.inputs.values(), *model.outputs.values()))
    number = np.dtype(np.float64 if double else np.float32)
    for name in feed.columns:
        levels = len(feed.specs[name].shape) - (feed.axes[name].batch is not None)
        columns[f"relevance/{name}"] = _list(levels, number)
        if explainer.method.has_standard_error:
            columns[f"standard_error/{name}"] = _list(levels, number)
        if name in feed.texts:
            columns[f"tokens/{name}"] = pa.list_(pa.string())
        if explainer.groups is not None:
            columns[f"groups/{name}/relevance"] = pa.list_(pa.float64())
            columns[f"groups/{name}/names"] = pa.list_(pa.string())
            columns[f"groups/{name}/steps"] = _list(2, np.dtype(np.int64))
            if explainer.method.has_standard_error:
                columns[f"groups/{name}/standard_error"] = pa.list_(pa.float64())
    columns |= {"not_explained": pa.string()} if explainer.condition else {}
    columns["warning"] = pa.string()
    return Format(
        pa.schema(columns.items()), pa.schema([*origin.items(), ("error", pa.string()), ("reason", pa.string())])
    )


def _of_groups(name: str, answers: Sequence[RowResult], kind: pa.DataType) -> pa.Array:
    """name: of the input and the part, such as `x/steps`."""
    name, _, part = name.rpartition("/")
    return pa.array([getattr(a.groups[name], part).tolist() for a in answers], kind)


def nested(arrays: Sequence[Array], kind: pa.DataType, missing: Array) -> pa.Array:
    """Returns one entry per array, with as many list levels as the arrays have axes. missing: which ones are null."""
    levels = 0
    while pa.types.is_list(kind):
        kind, levels = kind.value_type, levels + 1
    flat = [np.ravel(a) for a in arrays]
    column = pa.array(np.concatenate(flat) if flat else np.zeros(0)).cast(kind, safe=False)
    for level in reversed(range(levels)):
        sizes = [np.full(int(np.prod(a.shape[:level])), a.shape[level], np.int64) for a in arrays]
        ends = np.cumsum(np.concatenate([[0], *sizes]))
        null = pa.array(missing) if level == 0 and missing.any() else None
        column = pa.ListArray.from_arrays(pa.array(ends.astype(np.int32)), column, mask=null)
    return column


def _list(levels: int, dtype: np.dtype[Any]) -> pa.DataType:
    kind = pa.from_numpy_dtype(dtype)
    for _ in range(levels):
        kind = pa.list_(kind)
    return kind
