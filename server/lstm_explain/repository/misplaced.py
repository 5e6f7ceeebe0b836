"""What lies in the folder of models, looks like a model, and is not where one is looked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lstm_explain.repository.model_folder import CONFIG, MODEL, NAME, VERSION

ENDING = ".onnx"
DEPTH = 4  # folders below a model's own in which files are looked for
MOST_FILES = 1000  # that are looked at below one folder: what else lies there may be large
NO_VERSION = 0  # stands for a model of which no version can be found


@dataclass(frozen=True)
class Misplaced:
    """One finding. name: the model that is meant, or empty where that is no name. version: or NO_VERSION."""

    name: str
    version: int
    reason: str


def find_misplaced(root: Path, name: str | None = None) -> list[Misplaced]:
    """All in the folder, or of one model. Hidden files and what does not look like a model are passed over.

    Raises OSError.
    """
    paths = sorted(root.iterdir()) if name is None else [root / name]
    return [found for path in paths if not path.name.startswith(".") for found in _in(path)]


def _in(path: Path) -> Iterator[Misplaced]:
    if path.is_dir():
        yield from _in_folder(path)
    elif _is_model(path) and not (path.suffix == ENDING and NAME.fullmatch(path.stem)):
        name = path.stem if NAME.fullmatch(path.stem) else ""
        wanted = f"{name}{ENDING}" if name else _naming(path.stem)
        yield Misplaced(name, NO_VERSION, f"{path.name!r} is not served: expected {wanted}")


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
            yield Misplaced("", NO_VERSION, f"folder {folder.name!r} is not served: {_naming(folder.name)}")
        return
    for version in versions:
        if not (version / MODEL).is_file():
            own = [file for file in files if version in file.parents]
            yield Misplaced(folder.name, int(version.name), _missing(folder, version, own))
    if versions:  # of the others only the log speaks, and only of what is named like a model's file: the model is there
        named = [file for file in files if file.name.lower() == MODEL]
        lost = [file for file in named if not any(version in file.parents for version in versions)]
        if lost:
            told = (
                f"{_names(folder, lost)} is not served: expected {folder.name}/<version>/{MODEL}, whole numbers from 1"
            )
            yield Misplaced("", NO_VERSION, told)
    else:
        expected = f"expected {folder.name}/1/{MODEL}"
        if files:
            yield from _of(folder, f"no version of it is found: {expected}, found {_names(folder, files)}")
        elif not inside or any(entry.name == CONFIG for entry in inside):
            yield from _of(folder, f"no version of it is found: {expected}, the folder has no model")


def _of(folder: Path, reason: str) -> Iterator[Misplaced]:
    if NAME.fullmatch(folder.name):
        yield Misplaced(folder.name, NO_VERSION, reason)


def _missing(folder: Path, version: Path, files: list[Path]) -> str:
    found = f"found {_names(folder, files)}" if files else "the folder has no model"
    return f"expected {folder.name}/{version.name}/{MODEL}, {found}"


def _names(folder: Path, files: list[Path]) -> str:
    names = [repr(str(file.relative_to(folder.parent))) for file in files[:3]]
    return ", ".join(names) + (" and more" if len(files) > len(names) else "")


def _naming(name: str) -> str:
    return f"{name!r} is no name: letters, digits, '.', '_' and '-', first a letter or digit, at most 128"


def _is_model(path: Path) -> bool:
    return path.suffix.lower() == ENDING


def _model_files(folder: Path) -> Iterator[Path]:
    """Files that end like a model's, a few folders down."""
    looked_at = 0
    for place, folders, files in os.walk(folder):
        depth = len(Path(place).relative_to(folder).parts)
        folders[:] = [] if depth >= DEPTH else sorted(name for name in folders if not name.startswith("."))
        looked_at += len(files) + len(folders)
        yield from (Path(place, name) for name in sorted(files) if _is_model(Path(name)))
        if looked_at > MOST_FILES:
            return
