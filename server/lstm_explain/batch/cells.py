# SPDX-License-Identifier: Apache-2.0
"""Converts a column of Arrow or NumPy data to one cell per row: an array or a text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Unusable:
    """A cell or row that cannot be used, with the reason. error: the class of the exception that was raised."""

    reason: str
    error: str = "InputError"


Cell = Array | str | Unusable


def cells(column: pa.Array | Array) -> list[Cell]:
    """Returns one entry per row. (Nested) lists become arrays, text stays text, and a row that is or contains null is
    Unusable.
    """
    if isinstance(column, np.ndarray):
        return list(column) if column.ndim > 1 else [np.asarray(value) for value in column]
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return [Unusable("is null") if text is None else text for text in column.to_pylist()]
    return list(_arrays(column.cast(_plain(column.type))))


def kind_of(column: pa.Array | Array) -> str:
    """Returns NumPy's kind (f, i, u or b), U for text, otherwise Arrow's name of the type."""
    if isinstance(column, np.ndarray):
        return column.dtype.kind
    kind = column.type
    while isinstance(kind, pa.BaseExtensionType) or pa.types.is_dictionary(kind) or pa.types.is_nested(kind):
        if isinstance(kind, pa.BaseExtensionType):
            kind = kind.storage_type
        elif not pa.types.is_dictionary(kind) and not _is_list(kind):
            return str(kind)
        else:
            kind = kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "U"
    numeric = pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)
    return np.dtype(kind.to_pandas_dtype()).kind if numeric else str(kind)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _plain(kind: pa.DataType) -> pa.DataType:
    """Returns the same type with lists of 64-bit offsets at every level."""
    return pa.large_list(_plain(kind.value_type)) if _is_list(kind) else kind


def _arrays(column: pa.Array) -> Iterator[Cell]:
    rows, missing = len(column), np.zeros(len(column), bool)
    offsets: list[Array] = []
    inner = column
    while True:
        if inner.null_count:
            at = np.flatnonzero(inner.is_null().to_numpy(zero_copy_only=False))
            for level in reversed(offsets):
                at = np.searchsorted(level, at, side="right") - 1
            missing[at[(at >= 0) & (at < rows)]] = True
        if not pa.types.is_large_list(inner.type):
            break
        level = inner.offsets.to_numpy()
        inner = inner.values.slice(level[0], level[-1] - level[0])
        offsets.append(level - level[0])
    values = inner.fill_null(0) if inner.null_count else inner
    numbers = values.to_numpy(zero_copy_only=False)
    sizes = [np.diff(level) for level in offsets]
    for row in range(rows):
        yield Unusable("is null or contains a null") if missing[row] else _array(row, offsets, sizes, numbers)


def _array(row: int, offsets: list[Array], sizes: list[Array], numbers: Array) -> Cell:
    low, high, shape = row, row + 1, []
    for level, (ends, lengths) in enumerate(zip(offsets, sizes, strict=True)):
        within = lengths[low:high]
        if level and len(within) and (within != within[0]).any():
            return Unusable("contains lists of different lengths")
        shape.append(int(within[0]) if len(within) else 0)
        low, high = int(ends[low]), int(ends[high])
    return numbers[low:high].reshape(shape)
