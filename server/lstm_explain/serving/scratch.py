"""Folders for the time that a server runs. A server that was killed leaves its own; the next one takes it away."""

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
SECONDS_TO_LOCK = 60.0  # a folder so young may be one whose owner has not come to lock it yet


class Scratch:
    """A folder, locked as long as its owner lives. The lock goes with the process, however that ends."""

    def __init__(self) -> None:
        _sweep(Path(tempfile.gettempdir()))
        self.name = tempfile.mkdtemp(prefix=PREFIX)
        self._lock = os.open(self.name, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def cleanup(self) -> None:
        shutil.rmtree(self.name, ignore_errors=True)
        os.close(self._lock)


@contextmanager
def scratch() -> Iterator[str]:
    folder = Scratch()
    try:
        yield folder.name
    finally:
        folder.cleanup()


def _sweep(parent: Path) -> None:
    """Takes away folders of this user's that nobody has locked."""
    with suppress(OSError):
        for path in parent.iterdir():
            if OURS.fullmatch(path.name):
                _take_away(path)


def _take_away(path: Path) -> None:
    with suppress(OSError):  # locked by its owner, or by another server that takes it away, or gone
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
