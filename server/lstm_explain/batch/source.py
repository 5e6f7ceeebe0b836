# SPDX-License-Identifier: Apache-2.0
"""Reads data files (Parquet, Arrow, NumPy): the number of rows, and the rows of a range, a few at a time."""

from __future__ import annotations

import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lstm_explain.errors import InputError
from lstm_explain.npy_files import read_header

Columns = dict[str, Any]  # by name: a pyarrow Array, or a NumPy array whose first axis is rows
CHUNK_ROWS = 256
PARQUET_BUFFER = 1 << 20  # bytes read ahead per column: a row group is never in memory as a whole


class DataFile(ABC):
    """Base class, with one subclass per format.

    pieces: the number of rows of each part that can be read without the preceding ones (row groups, record batches).
    """

    pieces: Sequence[int]
    columns: Sequence[str]

    @abstractmethod
    def __init__(self, path: Path) -> None: ...

    @property
    def rows(self) -> int:
        return sum(self.pieces)

    @abstractmethod
    def type_of(self, column: str) -> pa.DataType: ...

    @abstractmethod
    def read(self, start: int, stop: int, columns: Sequence[str]) -> Iterator[Columns]:
        """Returns the rows from `start` up to `stop`, in order, at most CHUNK_ROWS at once."""


class ParquetFile(DataFile):
    def __init__(self, path: Path) -> None:
        self._file = pq.ParquetFile(path, buffer_size=PARQUET_BUFFER, pre_buffer=False)
        metadata = self._file.metadata
        self.pieces = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        self.columns = self._file.schema_arrow.names

    def type_of(self, column: str) -> pa.DataType:
        return self._file.schema_arrow.field(column).type

    def read(self, start: int, stop: int, columns: Sequence[str]) -> Iterator[Columns]:
        first, groups = _overlapping(self.pieces, start, stop)
        batches = self._file.iter_batches(CHUNK_ROWS, row_groups=groups, columns=list(columns), use_threads=False)
        for batch in batches:
            yield from _within(batch, first, start, stop)
            first += len(batch)
            if first >= stop:
                return


class ArrowFile(DataFile):
    """The IPC file format (.arrow, .feather), mapped into memory: data that was read does not stay there."""

    def __init__(self, path: Path) -> None:
        self._file = pa.ipc.open_file(pa.memory_map(str(path)))
        self.pieces = [len(self._file.get_batch(i)) for i in range(self._file.num_record_batches)]
        self.columns = self._file.schema.names

    def type_of(self, column: str) -> pa.DataType:
        return self._file.schema.field(column).type

    def read(self, start: int, stop: int, columns: Sequence[str]) -> Iterator[Columns]:
        first, numbers = _overlapping(self.pieces, start, stop)
        for number in numbers:
            batch = self._file.get_batch(number).select(list(columns))
            for at in range(0, len(batch), CHUNK_ROWS):
                yield from _within(batch.slice(at, CHUNK_ROWS), first + at, start, stop)
            first += len(batch)


class NumpyFile(DataFile):
    """One array (.npy), as a column without a name, or several arrays with the same number of rows (.npz)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._packed = path.suffix == ".npz"
        names = [""]
        if self._packed:
            with zipfile.ZipFile(path) as archive:
                names = [name.removesuffix(".npy") for name in archive.namelist()]
        counts = {}
        for name in names:
            with self._open(name) as file:
                shape, _ = _header(file, name)
                counts[name] = shape[0] if shape else 0
        if len(set(counts.values())) > 1:
            raise InputError(f"the arrays have different numbers of rows: {counts}")
        self.pieces = [next(iter(counts.values()), 0)]
        self.columns = names

    def type_of(self, column: str) -> pa.DataType:
        with self._open(column) as file:
            return pa.from_numpy_dtype(_header(file, column)[1])

    def read(self, start: int, stop: int, columns: Sequence[str]) -> Iterator[Columns]:
        files = {name: self._open(name) for name in columns}
        try:
            kinds = {name: _header(file, name) for name, file in files.items()}
            for name, (shape, dtype) in kinds.items():
                files[name].seek(start * _row_bytes(shape, dtype), 1)
            for first in range(start, stop, CHUNK_ROWS):
                count = min(CHUNK_ROWS, stop - first)
                yield {n: _rows(files[n], count, shape, dtype) for n, (shape, dtype) in kinds.items()}
        finally:
            for file in files.values():
                file.close()

    def _open(self, name: str) -> IO[bytes]:
        if not self._packed:
            return self._path.open("rb")
        with zipfile.ZipFile(self._path) as archive:  # the open member keeps the file open
            return archive.open(f"{name}.npy")


FORMATS: dict[str, type[DataFile]] = {
    ".parquet": ParquetFile,
    ".pq": ParquetFile,
    ".arrow": ArrowFile,
    ".feather": ArrowFile,
    ".npy": NumpyFile,
    ".npz": NumpyFile,
}


def open_data(path: Path) -> DataFile:
    """Opens a data file. Raises OSError, and InputError where it is not a valid file of a known format."""
    try:
        return FORMATS[path.suffix.lower()](path)
    except KeyError:
        raise InputError(f"{path}: expected one of {', '.join(FORMATS)}", field="input") from None
    except (pa.ArrowInvalid, zipfile.BadZipFile, ValueError, EOFError, InputError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} cannot be read as {path.suffix}: {reason}", field="input") from error


def find_data(path: Path) -> list[Path]:
    """Returns the file, or all data files below a folder, sorted. Names that begin with `.` or `_` are skipped.

    Raises InputError, OSError.
    """
    if not path.is_dir():
        path.stat()  # Raises the OSError that describes the fault.
        return [path]
    inside = [p.relative_to(path) for p in path.rglob("*") if p.suffix.lower() in FORMATS and p.is_file()]
    found = sorted(path / p for p in inside if not any(part.startswith((".", "_")) for part in p.parts))
    if not found:
        raise InputError(f"{path}: contains no file with one of the suffixes {', '.join(FORMATS)}", field="input")
    return found


def _overlapping(pieces: Sequence[int], start: int, stop: int) -> tuple[int, list[int]]:
    """Returns the first row of the first piece that overlaps the range, and the numbers of all that do."""
    ends = np.cumsum([0, *pieces])
    numbers = [i for i in range(len(pieces)) if ends[i] < stop and ends[i + 1] > start]
    return int(ends[numbers[0]]) if numbers else start, numbers


def _within(batch: pa.RecordBatch, first: int, start: int, stop: int) -> Iterator[Columns]:
    """Yields the part of the batch, which begins at row `first`, that lies in the range."""
    low, high = max(start - first, 0), min(stop - first, len(batch))
    if low < high:
        part = batch.slice(low, high - low)
        yield dict(zip(part.schema.names, part.columns, strict=True))


def _header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Returns the shape and type; afterwards the file is positioned at the first number."""
    shape, fortran, dtype = read_header(file)
    if not shape or dtype.hasobject or (fortran and len(shape) > 1):
        problem = "a number" if not shape else "Python objects" if dtype.hasobject else "in Fortran order"
        raise InputError(f"array {name!r} is {problem}, expected rows of numbers in C order")
    return shape, dtype


def _row_bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))


def _rows(file: IO[bytes], count: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    size = count * _row_bytes(shape, dtype)
    data = file.read(size)
    if len(data) < size:
        raise InputError("the file is shorter than its header says")
    return np.frombuffer(data, dtype).reshape(count, *shape[1:])
