# SPDX-License-Identifier: Apache-2.0
"""Loads weights that a model keeps in other files, which must lie in the model's own folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from onnx import ModelProto, TensorProto
from onnx.external_data_helper import load_external_data_for_model, uses_external_data

from lstm_explain.errors import ModelError
from lstm_explain.graph.protos import tensors_of
from lstm_explain.graph.tensors import first_line

NUMBER = re.compile("[0-9]{1,18}")
MAX_LOCATION = 4096  # characters: the longest path that operating systems accept
MAX_REUSE = 4  # times the size of the files: tensors may share bytes, but a small file must not fill the memory


def load_external_data(model: ModelProto, folder: Path | None) -> None:
    """Loads the weights into the model. Raises ModelError that names the tensor and the fault in its entry."""
    external = [t for t in tensors_of(model) if uses_external_data(t)]
    if not external:
        return
    if folder is None:
        raise ModelError(f"tensor {external[0].name!r} has external data; load the model from its path")
    sizes: dict[Path, int] = {}
    total = sum(_checked(tensor, folder, sizes) for tensor in external)
    file_bytes = sum(sizes.values())
    if total > MAX_REUSE * file_bytes:
        raise ModelError(f"external data: {len(external)} tensors need {total} bytes, their files have {file_bytes}")
    try:
        load_external_data_for_model(model, str(folder))
    except Exception as error:  # Several types, for faults that only reading reveals.
        raise ModelError(f"external data cannot be read: {first_line(error)}") from error


def _checked(tensor: TensorProto, folder: Path, sizes: dict[Path, int]) -> int:
    """Returns the number of bytes that the tensor's entry refers to. Adds the size of its file to `sizes`."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    path = _inside(tensor, folder, entries.get("location", ""))
    size = sizes.setdefault(path, path.stat().st_size)
    offset = _number(tensor, entries, "offset", 0)
    length = _number(tensor, entries, "length", max(0, size - offset))
    if offset + length > size:
        raise ModelError(
            f"tensor {tensor.name!r}: external data from {offset} to {offset + length}, its file has {size} bytes"
        )
    return length


def _inside(tensor: TensorProto, folder: Path, location: str) -> Path:
    where = f"tensor {tensor.name!r}: external data {location[:200]!r}"
    if "\0" in location or len(location) > MAX_LOCATION:
        raise ModelError(f"{where} is not a path")
    try:
        target = (folder / location).resolve()
        if not location or Path(location).is_absolute() or not target.is_relative_to(folder):
            raise ModelError(f"{where} is outside the model's folder")
        if not target.is_file():
            raise ModelError(f"{where} is missing")
    except (OSError, RuntimeError, ValueError) as error:  # Names that are too long, or links that form a cycle.
        reason = error.strerror if isinstance(error, OSError) else first_line(error)
        raise ModelError(f"{where} cannot be found: {reason}") from error
    return target


def _number(tensor: TensorProto, entries: Mapping[str, str], key: str, default: int) -> int:
    text = entries.get(key)
    if text is None:
        return default
    if not NUMBER.fullmatch(text):
        raise ModelError(f"tensor {tensor.name!r}: external data has the {key} {text[:50]!r}, expected a whole number")
    return int(text)
