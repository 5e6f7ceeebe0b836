# SPDX-License-Identifier: Apache-2.0
"""Reads background.npz, the background set of a model: by input, samples from data (`methods/background.py`).

The file lies next to model.yaml: in the version's folder, or else in the model's. It may come from a caller, so nothing
in it is unpickled, and its arrays are read only after their declared sizes are checked.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain.errors import ModelError
from lstm_explain.inputs import TensorSpec
from lstm_explain.npy_files import read_header, reason
from lstm_explain.program.axes import Axes
from lstm_explain.repository.model_folder import MODEL, Source

Array = npt.NDArray[Any]
BACKGROUND = "background.npz"
# What zipfile raises for a file that is damaged, encrypted, or compressed in another way.
FAULTS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
)
MAX_BYTES = 64 << 20  # of all arrays together, as they are after decompression


def read_background(
    source: Source, inputs: Mapping[str, TensorSpec], axes: Mapping[str, Axes]
) -> dict[str, Array] | None:
    """Returns arrays [samples, *shape without the batch axis] by input, in its type; None where there is no file.

    Raises ModelError, which names the entry, OSError.
    """
    path = _path(source)
    if path is None:
        return None
    if path.stat().st_size > MAX_BYTES:
        raise _error(f"{path.stat().st_size} bytes, at most {MAX_BYTES} are allowed")
    data = io.BytesIO(path.read_bytes())
    try:
        with zipfile.ZipFile(data) as file:
            samples = _read(file, inputs)
    except FAULTS as error:
        raise _error(f"not an .npz file: {error}") from error
    if not samples:
        raise _error(f"no entries, expected arrays named after inputs ({', '.join(inputs)})")
    counts = {name: len(array) for name, array in _checked(samples, inputs, axes).items()}
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{count} of {name!r}" for name, count in counts.items())
        raise _error(f"the numbers of samples are {found}, expected the same of every input")
    return samples


def _path(source: Source) -> Path | None:
    if source.model_file.name != MODEL:
        return None  # a file that shares its folder with other models
    paths = [source.model_file.parent / BACKGROUND, source.folder / BACKGROUND]
    return next((path for path in paths if path.is_file()), None)


def _read(file: zipfile.ZipFile, inputs: Mapping[str, TensorSpec]) -> dict[str, Array]:
    entries = {info.filename.removesuffix(".npy"): info for info in file.infolist()}
    for name in entries:
        if name not in inputs:
            raise _error(f"entry {name[:100]!r} is no input, the model has {', '.join(inputs)}")
    size = sum(info.file_size for info in entries.values())
    if size > MAX_BYTES:
        raise _error(f"{size} bytes of arrays, at most {MAX_BYTES} are allowed")
    samples = {}
    for name, info in entries.items():
        try:
            with file.open(info) as entry:
                _check_size(entry, info.file_size)
            with file.open(info) as entry:
                array = np.lib.format.read_array(entry, allow_pickle=False)
        except ValueError as error:
            raise _error(f"entry {name!r} is not an array of numbers: {reason(error)}") from error
        samples[name] = _converted(name, array, inputs[name].dtype)
    return samples


def _check_size(entry: Any, size: int) -> None:
    """Raises ValueError where an array claims more elements than its entry has bytes for: NumPy would allocate them."""
    shape, _, dtype = read_header(entry)
    if math.prod(shape) * dtype.itemsize > size:
        raise ValueError(f"shape {shape} of {dtype} does not fit into {size} bytes")


def _converted(name: str, array: Array, dtype: np.dtype[Any]) -> Array:
    if array.dtype.kind not in "fiub":
        raise _error(f"entry {name!r} has type {array.dtype}, expected numbers for an input of {dtype}")
    if not np.isfinite(array).all():
        raise _error(f"entry {name!r} has values that are not finite")
    with np.errstate(all="ignore"):
        made = array.astype(dtype)
    exact = dtype.kind == "f" or np.array_equal(made.astype(array.dtype), array)
    if not exact or not np.isfinite(made).all():
        raise _error(f"entry {name!r} has values that {dtype}, the type of the input, cannot represent")
    made.flags.writeable = False
    return made


def _checked(samples: dict[str, Array], inputs: Mapping[str, TensorSpec], axes: Mapping[str, Axes]) -> dict[str, Array]:
    """Returns the samples. Raises ModelError where a shape cannot be that of samples of an input."""
    for name, array in samples.items():
        shape = [extent for axis, extent in enumerate(inputs[name].shape) if axis != axes[name].batch]
        fits = array.ndim == 1 + len(shape) and len(array) > 0
        if not fits or any(isinstance(e, int) and e != n for e, n in zip(shape, array.shape[1:], strict=True)):
            expected = ", ".join(["samples", *map(str, shape)])
            raise _error(f"entry {name!r} has shape {array.shape}, expected ({expected}) with at least one sample")
    return samples


def _error(problem: str) -> ModelError:
    return ModelError(f"{BACKGROUND}: {problem}")
