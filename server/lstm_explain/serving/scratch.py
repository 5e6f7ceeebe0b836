# SPDX-License-Identifier: Apache-2.0
"""Temporary folders for the lifetime of a server. The next server removes the folder of one that was killed."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "lstm-explain-run-"
OURS = re.compile(re.escape(PREFIX) + "[a-z0-9_]{8}")
SECONDS_TO_LOCK = 60.0  # the owner of a younger folder may not have locked it yet


class ScratchFolder:
    """A temporary folder, locked while its owner lives. The lock ends with the process, however that ends."""

    def __init__(self) -> None:
        _remove_abandoned(Path(tempfile.gettempdir()))
        self.name = tempfile.mkdtemp(prefix=PREFIX)
        self._lock = os.open(self.name, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def cleanup(self) -> None:
        shutil.rmtree(self.name, ignore_errors=True)
        os.close(self._lock)


@contextmanager
def scratch_folder() -> Iterator[str]:
    """A ScratchFolder as a context; yields its path."""
    folder = ScratchFolder()
    try:
        yield folder.name
    finally:
        folder.cleanup()


def _remove_abandoned(parent: Path) -> None:
    """Removes this user's scratch folders that nobody has locked."""
    with suppress(OSError):
        for path in parent.iterdir():
            if OURS.fullmatch(path.name):
                _remove_if_abandoned(path)


def _remove_if_abandoned(path: Path) -> None:
    with suppress(OSError):  # its owner or another server that removes it has locked it, or it has gone
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            return
        if time.time() - found.st_mtime < SECONDS_TO_LOCK:
            return
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(lock)
