# SPDX-License-Identifier: Apache-2.0
"""Writes files atomically: a file is complete or does not exist."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY = ".unfinished-"


@contextmanager
def atomically(path: Path) -> Iterator[Path]:
    """A path to write to. At the end it replaces `path`, and the change survives a power cut."""
    temporary = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}-{path.name}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_text(path: Path, text: str) -> None:
    with atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files of writers that were killed."""
    for path in folder.glob(f"{TEMPORARY}*"):
        path.unlink(missing_ok=True)
