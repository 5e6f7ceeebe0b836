# SPDX-License-Identifier: Apache-2.0
"""Finds the versions of models in a folder.

A version lies at DIR/<model>/<version>/model.onnx, versions being whole numbers from 1. Its configuration is the
model.yaml next to its model.onnx, or else DIR/<model>/model.yaml. A bare DIR/<model>.onnx, with DIR/<model>.yaml, is
version 1 of a model.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lstm_explain.errors import ModelError

log = logging.getLogger(__name__)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
VERSION = re.compile(r"[1-9][0-9]{0,17}")
MODEL, CONFIG = "model.onnx", "model.yaml"
ROUTE = "route.yaml"  # see model_route.py; it does not change what a version answers
DRIFT = "drift.json"  # see drift_reference.py; nor does it

State = tuple[tuple[str, int, int], ...]


class Tag(NamedTuple):
    """One version of a model in one state of its files. files: their `fingerprint`."""

    name: str
    version: int
    files: str

    @property
    def key(self) -> tuple[str, int]:
        return self.name, self.version

    def encoded(self) -> bytes:
        return "\0".join((self.name, str(self.version), self.files)).encode()

    @classmethod
    def decoded(cls, data: bytes) -> Tag:
        name, version, files = data.decode().split("\0")
        return cls(name, int(version), files)


def fingerprint(state: State) -> str:
    """Returns sixteen characters that are the same for the same state, in every process."""
    return hashlib.sha256(repr(state).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Source:
    """The files of one version. folder: holds the files that the configuration names."""

    name: str
    version: int
    model_file: Path
    config_file: Path
    folder: Path

    @property
    def key(self) -> tuple[str, int]:
        return self.name, self.version

    @property
    def bare(self) -> bool:
        """Whether it is a file without a folder of its own."""
        return self.model_file.name != MODEL or self.model_file.parent == self.folder

    def state(self) -> State:
        """Returns name, modification time and size of each file of the version. Raises OSError."""
        return tuple((os.path.relpath(p, self.folder), (s := p.stat()).st_mtime_ns, s.st_size) for p in self.files())

    def files(self) -> list[Path]:
        """Returns all files that belong to the version. Raises OSError."""
        files = (
            [self.model_file, self.config_file] if self.bare else [*self._files_next_to_model(), *self.folder.iterdir()]
        )
        return sorted({path for path in files if path.is_file() and path.name.removeprefix(".") != ROUTE})

    def size(self) -> int:
        """Returns the bytes of the model's file, and of all files in the same folder and below. Raises OSError."""
        files = [self.model_file] if self.bare else self._files_next_to_model()
        return sum(path.stat().st_size for path in files if path.is_file())

    def _files_next_to_model(self) -> list[Path]:
        return list(self.model_file.parent.rglob("*"))


def find_sources(root: Path, name: str | None = None) -> list[Source]:
    """Returns every version in the folder, or of one model, by name and ascending version. Files and folders whose name
    is not that of a model or version are ignored. Raises OSError.
    """
    if name is None:
        paths = list(root.iterdir())
    else:
        paths = [root / name, root / f"{name}.onnx"] if NAME.fullmatch(name) else []
    sources = [s for path in paths for s in _sources_of(path) if name in (None, s.name)]
    unique = {s.key: s for s in sources}  # a folder's version 1 and a bare file may have the same key
    if len(unique) < len(sources):
        log.warning("a model exists twice, as a folder and as a file")
    return [unique[key] for key in sorted(unique)]


def source_in(folder: Path, name: str, version: int, *, model_folder: Path | None = None) -> Source:
    """Returns the source of the version in `folder`. model_folder: of its model; by default the folder above it."""
    above = folder.parent if model_folder is None else model_folder
    own = folder / CONFIG
    return Source(name, version, folder / MODEL, own if os.path.lexists(own) else above / CONFIG, above)


def _sources_of(path: Path) -> list[Source]:
    if path.is_file() and path.suffix == ".onnx" and NAME.fullmatch(path.stem):
        return [Source(path.stem, 1, path, path.with_suffix(".yaml"), path.parent)]
    if not path.is_dir() or not NAME.fullmatch(path.name):
        return []
    versions = [v for v in path.iterdir() if VERSION.fullmatch(v.name) and (v / MODEL).is_file()]
    return [source_in(v, path.name, int(v.name)) for v in versions]


def find_model(path: Path) -> Source:
    """Returns the model in a file, a version's folder, or a model's folder (its highest version). Raises ModelError,
    OSError.

    model.yaml is expected where a model repository has it.
    """
    path = path.absolute()
    if path.is_dir():
        versions = find_sources(path.parent, path.name)
        if versions and versions[-1].folder == path:
            return versions[-1]
        if not (path / MODEL).is_file():
            raise ModelError(f"{path}: contains neither {MODEL} nor the folder of a version with one")
        path = path / MODEL
    path.stat()  # Raises the OSError that describes the fault.
    if path.name != MODEL:
        return Source(path.stem, 1, path, path.with_suffix(".yaml"), path.parent)
    folder = path.parent
    if VERSION.fullmatch(folder.name):
        return source_in(folder, folder.parent.name, int(folder.name))
    return source_in(folder, folder.name, 1, model_folder=folder)
