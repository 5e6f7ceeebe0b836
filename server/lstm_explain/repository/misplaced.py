# SPDX-License-Identifier: Apache-2.0
"""Finds files in the folder of models that look like models but are not in a place where models are expected."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lstm_explain.repository.model_folder import CONFIG, MODEL, NAME, VERSION

ENDING = ".onnx"
MAX_DEPTH = 4  # levels of folders below a model's own that are searched
MAX_ENTRIES = 1000  # entries that are searched below one folder, which may hold many other files
NO_VERSION = 0  # stands for a model that has no version


@dataclass(frozen=True)
class Misplaced:
    """One finding.

    name: the model, or empty if its name is not valid. version: NO_VERSION if the finding is not about one version.
    """

    name: str
    version: int
    reason: str


def find_misplaced(root: Path, name: str | None = None) -> list[Misplaced]:
    """Returns the findings in the folder, or for one model. Hidden files and whatever does not look like a model are
    ignored.

    Raises OSError.
    """
    paths = sorted(root.iterdir()) if name is None else [root / name]
    return [found for path in paths if not path.name.startswith(".") for found in _in(path)]


def _in(path: Path) -> Iterator[Misplaced]:
    if path.is_dir():
        yield from _in_folder(path)
    elif _is_model(path) and not (path.suffix == ENDING and NAME.fullmatch(path.stem)):
        name = path.stem if NAME.fullmatch(path.stem) else ""
        expected = f"expected {name}{ENDING}" if name else _invalid_name(path.stem)
        yield Misplaced(name, NO_VERSION, f"{path.name!r} is not served: {expected}")


def _in_folder(folder: Path) -> Iterator[Misplaced]:
    try:
        inside = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        yield from _of(folder, f"cannot be read: {error.strerror}")
        return
    versions = [entry for entry in inside if VERSION.fullmatch(entry.name) and entry.is_dir()]
    files = list(_model_files(folder))
    if not NAME.fullmatch(folder.name):
        if files:
            yield Misplaced("", NO_VERSION, f"folder {folder.name!r} is not served: {_invalid_name(folder.name)}")
        return
    for version in versions:
        if not (version / MODEL).is_file():
            own = [file for file in files if version in file.parents]
            yield Misplaced(folder.name, int(version.name), _missing(folder, version, own))
    if versions:  # the model is served, so only the log mentions other files, if they are named like a model's file
        named = [file for file in files if file.name.lower() == MODEL]
        lost = [file for file in named if not any(version in file.parents for version in versions)]
        if lost:
            expected = f"expected {folder.name}/<version>/{MODEL}, versions being whole numbers from 1"
            yield Misplaced("", NO_VERSION, f"{_names(folder, lost)} is not served: {expected}")
    else:
        expected = f"expected {folder.name}/1/{MODEL}"
        if files:
            yield from _of(folder, f"it has no version: {expected}, found {_names(folder, files)}")
        elif not inside or any(entry.name == CONFIG for entry in inside):
            yield from _of(folder, f"it has no version: {expected}, but the folder has no model")


def _of(folder: Path, reason: str) -> Iterator[Misplaced]:
    if NAME.fullmatch(folder.name):
        yield Misplaced(folder.name, NO_VERSION, reason)


def _missing(folder: Path, version: Path, files: list[Path]) -> str:
    found = f"found {_names(folder, files)}" if files else "but the folder has no model"
    return f"expected {folder.name}/{version.name}/{MODEL}, {found}"


def _names(folder: Path, files: list[Path]) -> str:
    names = [repr(str(file.relative_to(folder.parent))) for file in files[:3]]
    return ", ".join(names) + (" and more" if len(files) > len(names) else "")


def _invalid_name(name: str) -> str:
    rule = "at most 128 letters, digits, '.', '_' and '-', beginning with a letter or digit"
    return f"{name!r} is not a valid name ({rule})"


def _is_model(path: Path) -> bool:
    return path.suffix.lower() == ENDING


def _model_files(folder: Path) -> Iterator[Path]:
    """Files with the extension of a model, down to MAX_DEPTH."""
    searched = 0
    for place, folders, files in os.walk(folder):
        depth = len(Path(place).relative_to(folder).parts)
        folders[:] = [] if depth >= MAX_DEPTH else sorted(name for name in folders if not name.startswith("."))
        searched += len(files) + len(folders)
        yield from (Path(place, name) for name in sorted(files) if _is_model(Path(name)))
        if searched > MAX_ENTRIES:
            return
