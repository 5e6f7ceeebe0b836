# SPDX-License-Identifier: Apache-2.0
"""Files that are complete or absent, and survive a power cut."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

TEMPORARY = ".unfinished-"


def write(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replaces the file. durable: whether the new content must survive a power cut."""
    temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(4)}")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync(path.parent)


def sync(folder: Path) -> None:
    """Makes the names in the folder survive a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
