# SPDX-License-Identifier: Apache-2.0
"""Decides where Numba keeps the compiled kernels: in a folder that every installation with the same kernels shares.

Compiling all kernels takes minutes. By itself, Numba stores them next to the source, so that a new clone or virtual
environment starts without any; and it looks for changes only in the file of a function, not in files that the function
inlines code from. Here, a folder's name is a digest of the source file, of the kernel files that it imports, and of the
versions of Python, Numba, LLVM and NumPy. Folders are in NUMBA_CACHE_DIR where that is set, else in the user's cache
(XDG_CACHE_HOME, or ~/.cache), else next to the source.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

LOCATORS, CHOSEN = "NUMBA_CACHE_LOCATOR_CLASSES", "NUMBA_CACHE_DIR"
NUMBAS_OWN = (
    "UserProvidedCacheLocator", "InTreeCacheLocator", "UserWideCacheLocator", "IPythonCacheLocator", "ZipCacheLocator"
)  # fmt: skip
HERE = Path(__file__).resolve().parent
IMPORTED = re.compile(rb"^from lstm_explain\.kernels\.(\w+) import", re.MULTILINE)
AROUND = (b"compilation",)  # modules of which nothing is compiled into a kernel
BUILT_WITH = ("numba", "llvmlite", "numpy")
UNUSED_DAYS = 60  # after which a folder is removed


class ByContent:
    """A cache locator of Numba (numba.core.caching) for the functions of this package."""

    def __init__(self, folder: Path, digest: str, line: int) -> None:
        self._folder, self._digest, self._line = folder, digest, line

    @classmethod
    def from_function(cls, function: Any, file: str) -> ByContent | None:
        """None for functions of other packages, and where no folder can be written to."""
        path = Path(file).resolve()
        folder = folder_of(path) if path.parent == HERE else None
        return None if folder is None else cls(folder, digest_of(path), function.__code__.co_firstlineno)

    def ensure_cache_path(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        return self._digest

    def get_disambiguator(self) -> str:
        return str(self._line)


def register() -> None:
    """Makes Numba use `ByContent` for functions that are defined from now on; a choice of the user's stays."""
    os.environ.setdefault(LOCATORS, ",".join((f"{__name__}.{ByContent.__name__}", *NUMBAS_OWN)))
    if (numba := sys.modules.get("numba")) is not None:  # it has read the environment
        numba.config.CACHE_LOCATOR_CLASSES = os.environ[LOCATORS]


@cache
def digest_of(path: Path) -> str:
    """Returns the digest of all that the compiled code of this file depends on, except the processor, which Numba
    itself tells apart.
    """
    digest = hashlib.sha256(_versions())
    for file in sorted(_with_imports(path)):
        digest.update(f"{file.name}\n".encode() + _read(file))
    return digest.hexdigest()


@cache
def _versions() -> bytes:
    from importlib.metadata import version  # slow to import, and most commands need no kernel

    names = ", ".join(f"{name} {version(name)}" for name in BUILT_WITH)
    return f"python {platform.python_version()}, {names}\n".encode()


@cache
def _read(path: Path) -> bytes:
    return path.read_bytes()


def _with_imports(path: Path) -> set[Path]:
    """Returns the file, and the files of this package that it imports, directly or not."""
    found, queue = {path}, [path]
    while queue:
        for name in IMPORTED.findall(_read(queue.pop())):
            file = path.with_name(f"{name.decode()}.py")
            if file not in found and name not in AROUND:
                found.add(file)
                queue.append(file)
    return found


@cache
def folder_of(path: Path) -> Path | None:
    """Returns the folder for the compiled functions of this file; None where there is none that can be written to."""
    try:
        base = _base()
        if base is None:
            return None
        folder = base / f"{path.stem}-{digest_of(path)[:16]}"
        if not folder.is_dir():
            folder.mkdir(exist_ok=True)  # in a container image, another user reads what root compiled
            if CHOSEN not in os.environ:
                _remove_unused(base)
        os.utime(folder)
    except OSError:
        return None
    return folder


@contextmanager
def locked(folder: Path, name: str = "index", *, wait: bool = True) -> Iterator[None]:
    """Keeps other processes from doing the same thing in a folder of compiled kernels meanwhile. Raises BlockingIOError
    where another one does it and the caller does not wait.
    """
    with (folder / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _base() -> Path | None:
    if chosen := os.environ.get(CHOSEN):
        Path(chosen).mkdir(parents=True, exist_ok=True)
        return Path(chosen)
    try:
        user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lstm-explain" / "kernels"
    except RuntimeError:  # no home
        return _if_safe(HERE / "__pycache__")
    return _if_safe(user) or _if_safe(HERE / "__pycache__")


def _if_safe(base: Path) -> Path | None:
    """Returns the folder, made where it is missing. None unless only this user can write to it: Numba runs what it
    finds.
    """
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = base.lstat()
    except OSError:
        return None
    safe = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022
    return base if safe and os.access(base, os.W_OK) else None


def _remove_unused(base: Path) -> None:
    """Removes folders that no process has used for a long time; they belong to other versions."""
    oldest = time.time() - UNUSED_DAYS * 86400
    for folder in base.glob("*-*"):
        if folder.is_dir() and folder.stat().st_mtime < oldest:
            shutil.rmtree(folder, ignore_errors=True)
