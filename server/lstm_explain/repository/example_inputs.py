# SPDX-License-Identifier: Apache-2.0
"""Reads the examples of inputs that model.yaml names. They are sent with the model's description, so they are small."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from lstm_explain.errors import ModelError
from lstm_explain.inputs import TensorSpec
from lstm_explain.repository.model_folder import Source
from lstm_explain.repository.model_keys import file_in_folder
from lstm_explain.repository.model_yaml import ConfigFile

MAX_BYTES = 256 << 10  # of all examples of a model


def read_examples(
    config_file: ConfigFile, source: Source, inputs: Mapping[str, TensorSpec], texts: frozenset[str]
) -> dict[str, tuple[str, ...]]:
    """Returns the examples by input. texts: the inputs that accept text; those of others are files. Raises ModelError,
    OSError.
    """
    found, size = dict[str, tuple[str, ...]](), 0
    for name, values in config_file.config.examples.items():
        if name not in inputs:
            known = ", ".join(map(repr, inputs))
            raise config_file.error(("examples", name), f"the model has no input {name!r}, only {known}")
        found[name] = tuple(values if name in texts else _tables(config_file, source, name, values))
        size += sum(len(text.encode()) for text in found[name])
        if size > MAX_BYTES:
            raise config_file.error(("examples", name), f"the examples have more than {MAX_BYTES} bytes")
    return found


def _tables(config_file: ConfigFile, source: Source, name: str, values: list[str]) -> Iterator[str]:
    for i, value in enumerate(values):
        try:
            yield _read(source, file_in_folder(value))
        except (ValueError, ModelError) as error:
            raise config_file.error(("examples", name, i), f"{value[:100]!r}: {error}") from error


def _read(source: Source, name: str) -> str:
    """Reads a file of the version, or else of the model. Raises ValueError, OSError."""
    path = next((p for p in _places(source, name) if p.is_file()), None)
    if path is None:
        raise ValueError("there is no such file in the model's folder")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"the file has more than {MAX_BYTES} bytes")
    return path.read_text(encoding="utf-8")  # what is not UTF-8 raises UnicodeDecodeError, a ValueError


def _places(source: Source, name: str) -> tuple[Path, ...]:
    own = source.model_file.parent / name
    return (own,) if source.bare else (own, source.folder / name)
