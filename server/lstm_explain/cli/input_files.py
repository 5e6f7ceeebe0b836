# SPDX-License-Identifier: Apache-2.0
"""Reads the file of one input: a NumPy array, or a table in CSV or Parquet.

The content says which of these a file is, whatever its name is. A table has a row per time step, or per sample where an
input has no other axis than samples and features; its columns are the features.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lstm_explain.cli.options import pair

if TYPE_CHECKING:
    import numpy as np

    from lstm_explain.model import Model

    Array = np.ndarray[Any, Any]

STDIN = "-"
DELIMITERS = ",;\t"


def read_inputs(
    given: Sequence[str], model: Model, features: Mapping[str, Sequence[str]] | None = None, option: str = "--input"
) -> dict[str, Array]:
    """Returns the arrays of NAME=FILE, or of FILE where the model has one input. features: by input, see `read_input`.
    Raises OSError and typer.BadParameter.
    """
    named = [pair(text, option) if "=" in text else (_only_input(text, model, option), text) for text in given]
    return {name: read_input(name, path, model, (features or {}).get(name, ())) for name, path in named}


def _only_input(path: str, model: Model, option: str) -> str:
    if path != STDIN and not Path(path).exists():
        raise typer.BadParameter(f"{option} {path!r} is neither NAME=VALUE nor a file")
    if len(model.inputs) != 1:
        raise typer.BadParameter(f"{option} {path!r} is not NAME=VALUE, and the inputs are {', '.join(model.inputs)}")
    return next(iter(model.inputs))


def read_input(name: str, path: str, model: Model, features: Sequence[str] = ()) -> Array:
    """Returns the array for the input `name`. path: of the file, or "-" for standard input. features: names of the
    columns to take from a table that has others as well. Raises OSError, and typer.BadParameter where the content is no
    array.
    """
    import numpy as np

    data = sys.stdin.buffer.read() if path == STDIN else Path(path).read_bytes()
    if data.startswith(b"\x93NUMPY"):
        return _npy(path, data)
    if data.startswith(b"PK"):
        return _npz(path, data, name)
    columns = (_parquet if data.startswith(b"PAR1") else _csv)(path, data)
    chosen = [*features] if features and set(features) <= set(columns) else [*columns]
    table = np.stack([_numbers(path, column, columns[column]) for column in chosen], axis=1)
    return _shaped(name, table, model)


def read_npy(path: str) -> Array:
    """Returns the array of a .npy file. Raises OSError, and typer.BadParameter where the file holds no array of
    numbers.
    """
    return _npy(path, Path(path).read_bytes())


def _npy(path: str, data: bytes) -> Array:
    import numpy as np

    from lstm_explain.npy_files import reason

    try:
        return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise typer.BadParameter(f"{path} cannot be read as .npy: {reason(error)}") from None


def _npz(path: str, data: bytes, name: str) -> Array:
    """Returns the array of this name, or the only one."""
    import zipfile

    import numpy as np

    from lstm_explain.npy_files import reason

    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            if name not in arrays and len(arrays.files) != 1:
                listed = ", ".join(map(repr, arrays.files)) or "none"
                raise typer.BadParameter(f"{path} has no array {name!r}, only {listed}")
            return np.asarray(arrays[name if name in arrays else arrays.files[0]])
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise typer.BadParameter(f"{path} cannot be read as .npz: {reason(error)}") from None


def _csv(path: str, data: bytes) -> dict[str, Sequence[Any]]:
    """Cells by column. A first line with a cell that is no number is the header."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{path} is neither .npy, .npz, Parquet nor CSV") from None
    first = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=first.count)
    rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if row]
    header = rows[:1] if rows and not all(map(_is_number, rows[0])) else []
    names = header[0] if header else [str(i) for i in range(len(rows[0]))] if rows else []
    body = rows[len(header) :]
    if not body:
        raise typer.BadParameter(f"{path} has no rows")
    for number, row in enumerate(body, start=1 + len(header)):
        if len(row) != len(names):
            raise typer.BadParameter(f"{path}, row {number}: {len(row)} cells, expected {len(names)}")
    return {name.strip(): column for name, column in zip(names, zip(*body, strict=True), strict=True)}


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _parquet(path: str, data: bytes) -> Mapping[str, Sequence[Any]]:
    try:
        from pyarrow import ArrowException, BufferReader, parquet
    except ImportError:
        raise typer.BadParameter(f"{path}: Parquet files need pyarrow: pip install pyarrow") from None
    try:
        table = parquet.read_table(BufferReader(data))
    except ArrowException as error:
        raise typer.BadParameter(f"{path} cannot be read as Parquet: {error}") from None
    if not table.num_rows:
        raise typer.BadParameter(f"{path} has no rows")
    return {name: table.column(name).to_pylist() for name in table.column_names}


def _numbers(path: str, column: str, cells: Sequence[Any]) -> Array:
    import numpy as np

    found = np.empty(len(cells))
    for row, cell in enumerate(cells):
        try:
            found[row] = float(cell)
        except (TypeError, ValueError):
            problem = f"{path}: column {column!r} has {cell!r} in row {row + 1}, expected a number"
            hint = "`features` in model.yaml names the columns to take, if the file has others as well"
            raise typer.BadParameter(f"{problem}; {hint}") from None
    return found


def _shaped(name: str, table: Array, model: Model) -> Array:
    """Returns the table with a batch axis where the input has one more axis, and as integers where the input has
    integers.
    """
    import numpy as np

    spec = model.inputs.get(name)
    if spec is None:
        return table
    batch = model.axes[name].batch
    if len(spec.shape) == 3 and batch is not None:
        table = np.expand_dims(table, batch)
    whole = spec.dtype.kind in "iu" and bool((table == np.rint(table)).all())
    return table.astype(np.int64) if whole else table
