# SPDX-License-Identifier: Apache-2.0
"""Writes files atomically: a file is complete or does not exist, and survives a power cut."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY = ".unfinished-"


@contextmanager
def atomically(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A path to write to. At the end it replaces `path`. durable: whether the change must survive a power cut."""
    temporary = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}-{path.name}")
    try:
        yield temporary
        if durable:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync(path.parent)


def write_text(path: Path, text: str) -> None:
    with atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_private(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replaces a file that only this user may read. durable: see `atomically`."""
    with (
        atomically(path, durable=durable) as temporary,
        open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file,
    ):
        file.write(data)


def sync(folder: Path) -> None:
    """Makes the names in the folder survive a power cut: a rename is only as durable as its folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files of writers that were killed."""
    for path in folder.glob(f"{TEMPORARY}*"):
        path.unlink(missing_ok=True)
