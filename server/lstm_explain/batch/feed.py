# SPDX-License-Identifier: Apache-2.0
"""Converts the columns of a data file to a model's inputs: one Row per row, and rows stacked into a batch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain.batch.cells import Array, Cell, Unusable, cells, kind_of
from lstm_explain.batch.source import Columns
from lstm_explain.errors import Error, InputError
from lstm_explain.grouping import Grouping
from lstm_explain.inputs import TensorSpec
from lstm_explain.program.axes import Axes, fixed_batch
from lstm_explain.repository.served_model import ServedModel
from lstm_explain.repository.text_inputs import TextInput

PADDING = 0


@dataclass(frozen=True)
class Row:
    """inputs: without the batch axis. tokens: of the inputs that came as text. words: the word of each token, where the
    groups are words. groups: of the entries, with a batch axis of one. problem: why there are no inputs.
    """

    inputs: Mapping[str, Array] = field(default_factory=dict)
    tokens: Mapping[str, list[str]] = field(default_factory=dict)
    problem: str = ""
    words: Mapping[str, Array] = field(default_factory=dict)
    groups: Grouping = field(default_factory=dict)


@dataclass(frozen=True)
class Feed:
    """The mapping from columns to inputs.

    specs, axes: of the model's inputs. texts: inputs that may come as text. columns: by input, the column. lengths:
    inputs of lengths that no column provides: by name, the input whose time steps they count. with_words: whether
    rows hold the words of texts.
    """

    specs: Mapping[str, TensorSpec]
    axes: Mapping[str, Axes]
    texts: Mapping[str, TextInput]
    columns: Mapping[str, str]
    lengths: Mapping[str, str]
    with_words: bool = False

    def rows(self, columns: Columns) -> list[Row]:
        """Returns the rows. Raises InputError where a column cannot be the input, whatever its rows contain."""
        read: dict[str, list[Cell]] = {}
        for name, column in self.columns.items():
            self._check(name, column, kind_of(columns[column]))
            read[name] = cells(columns[column])
        count = len(next(iter(read.values())))
        return [self._row({name: column[i] for name, column in read.items()}) for i in range(count)]

    def time_axis(self, name: str) -> int | None:
        """Returns the time axis of an input of one row."""
        axes = self.axes[name]
        if axes.time is None or axes.batch is None:
            return axes.time
        return axes.time - (axes.batch < axes.time)

    def time_axis_in(self, name: str, array: Array) -> int | None:
        """Returns the time axis of an array in the shape of an input of one row, if it has that axis."""
        axis = self.time_axis(name)
        return axis if axis is not None and axis < array.ndim else None

    def steps(self, row: Row) -> tuple[int, ...]:
        """Returns the number of time steps of each input that has any."""
        return tuple(row.inputs[n].shape[a] for n in self.specs if (a := self._time(n, row)) is not None)

    def frame(self, row: Row) -> tuple[tuple[int, ...], ...]:
        """Returns every extent except the time steps; rows of one batch have the same ones."""
        frames = []
        for name in self.specs:
            axis, shape = self._time(name, row), row.inputs[name].shape
            frames.append(shape if axis is None else (*shape[:axis], *shape[axis + 1 :]))
        return tuple(frames)

    def stack(self, rows: Sequence[Row]) -> dict[str, Array]:
        """Returns one batch; shorter rows are padded with zeros at the end."""
        batch = {}
        for name in self.specs:
            parts = [row.inputs[name] for row in rows]
            where = self.axes[name].batch
            if where is None:  # The model takes one sample.
                batch[name] = parts[0]
                continue
            axis = self._time(name, rows[0])
            if axis is not None:
                longest = max(part.shape[axis] for part in parts)
                parts = [pad(part, axis, longest) for part in parts]
            batch[name] = np.stack(parts, where) if parts[0].ndim >= where else np.stack(parts)
        return batch

    def shorten(self, row: Row, steps: int) -> Row:
        """Returns the first time steps of the row, as a row of its own."""
        inputs = dict(row.inputs)
        for name in self.specs:
            axis = self._time(name, row)
            if axis is not None:
                inputs[name] = inputs[name].take(range(min(steps, inputs[name].shape[axis])), axis)
        for name in self.lengths:
            inputs[name] = np.minimum(inputs[name], steps).astype(self.specs[name].dtype)
        return Row(inputs)

    @property
    def fixed_batch(self) -> int | None:
        """How many rows a batch must have; None: any number."""
        return fixed_batch(self.axes, {name: spec.shape for name, spec in self.specs.items()})

    def _time(self, name: str, row: Row) -> int | None:
        return self.time_axis_in(name, row.inputs[name])

    def _check(self, name: str, column: str, kind: str) -> None:
        expected = self.specs[name].dtype
        takes = {"f": "fiub", "i": "iub", "u": "iub", "b": "b"}.get(expected.kind, expected.kind)
        if kind == "U" and name in self.texts:
            return
        if kind not in list(takes):
            actual = {"f": "floating-point numbers", "U": "text", "b": "booleans"}.get(kind, kind)
            raise InputError(
                f"column {column!r} contains {actual}, input {name!r} requires {expected}", field=f"inputs.{name}"
            )

    def _row(self, cells_by_input: Mapping[str, Cell]) -> Row:
        inputs: dict[str, Array] = {}
        tokens: dict[str, list[str]] = {}
        numbers: dict[str, Array] = {}
        for name, cell in cells_by_input.items():
            if isinstance(cell, str):
                try:
                    ids, words = self.texts[name].encode(np.array([cell], object))
                    if self.with_words:
                        numbers[name] = self.texts[name].word_numbers(np.array([cell], object))[0]
                except Error as error:
                    return Row(problem=str(error))
                inputs[name], tokens[name] = ids[0], words[0].tolist()
                continue
            value = cell if isinstance(cell, Unusable) else self._converted(name, cell)
            if isinstance(value, Unusable):
                return Row(problem=f"input {name!r} {value.reason}")
            inputs[name] = value
        self._count(inputs)
        return Row(inputs, tokens, words=numbers)

    def _count(self, inputs: dict[str, Array]) -> None:
        for name, of in self.lengths.items():
            axis = self.time_axis(of)
            if name not in self.columns and axis is not None and axis < inputs[of].ndim:
                inputs[name] = np.asarray(inputs[of].shape[axis], self.specs[name].dtype)

    def _converted(self, name: str, array: Array) -> Array | Unusable:
        """Returns the array in the input's type, and in its shape where a flat list determines it."""
        spec, batch = self.specs[name], self.axes[name].batch
        if array.dtype.kind in "iu" and spec.dtype.kind in "iu" and array.dtype != spec.dtype and array.size:
            bounds = np.iinfo(spec.dtype)
            if not bounds.min <= array.min() <= array.max() <= bounds.max:
                return Unusable(f"contains numbers outside the range of {spec.dtype}")
        with np.errstate(over="ignore"):  # Infinities are refused later, by name.
            array = array.astype(spec.dtype, copy=False)
        shape = [extent for axis, extent in enumerate(spec.shape) if axis != batch]
        open_ = [axis for axis, extent in enumerate(shape) if isinstance(extent, str)]
        if array.ndim == 1 and len(shape) > 1 and len(open_) <= 1:
            flat = [-1 if isinstance(extent, str) else extent for extent in shape]
            if array.size and array.size % int(np.prod([n for n in flat if n != -1])) == 0:
                return array.reshape(flat) if open_ or array.size == np.prod(flat) else array
        return array


def pad(array: npt.NDArray[Any], axis: int, extent: int) -> npt.NDArray[Any]:
    """Appends zeros along one axis."""
    if array.shape[axis] == extent:
        return array
    shape = list(array.shape)
    shape[axis] = extent
    padded = np.full(shape, PADDING, array.dtype)
    padded[(slice(None),) * axis + (slice(array.shape[axis]),)] = array
    return padded


def feed_of(
    served: ServedModel, renamed: Mapping[str, str], available: Collection[str], *, with_words: bool = False
) -> Feed:
    """renamed: columns by input, where the names differ. available: the columns of the data. Raises InputError."""
    model = served.model
    for name in renamed:
        if name not in model.inputs:
            raise InputError(f"--column {name}: the model has the inputs {', '.join(model.inputs)}", field="column")
    columns = {name: renamed.get(name, name) for name in model.inputs}
    if len(columns) == 1 and list(available) == [""]:
        columns = dict.fromkeys(columns, "")  # One array without a name, for the only input.
    counted = [name for name in model.lengths if columns[name] not in available and name not in renamed]
    columns = {name: column for name, column in columns.items() if name not in counted}
    for name, column in columns.items():
        if column not in available:
            listed = ", ".join(map(repr, sorted(available)))
            raise InputError(f"no column {column!r} for input {name!r}, the data has {listed}", field="input")
    return Feed(model.inputs, model.axes, served.text_inputs, columns, model.lengths, with_words)
