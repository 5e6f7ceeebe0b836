# SPDX-License-Identifier: Apache-2.0
"""Memory that all processes of a server share, with a lock that keeps nobody waiting for long."""

from __future__ import annotations

import fcntl
import mmap
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ATTEMPTS, PAUSE = 50, 0.0002  # seconds; another process holds the lock for microseconds, unless somebody stopped it


class SharedMemory:
    """path: of a file that the processes share; without it, the memory is this process's own. size: in bytes; memory
    that nobody has written is zero. Thread-safe.
    """

    def __init__(self, path: Path | None, size: int) -> None:
        self._fd = -1
        if path is not None:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.ftruncate(self._fd, size)  # a file that has this size already stays as it is
        self.data = mmap.mmap(self._fd, size)
        self._lock = threading.Lock()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other threads and processes from doing the same. If another process has stopped while it holds the
        lock, it is ignored: two processes may then overwrite each other's change, which is better than to wait.
        """
        with self._lock:
            locked = self._acquire()
            try:
                yield
            finally:
                if locked:
                    fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _acquire(self) -> bool:
        if self._fd < 0:
            return False
        for _ in range(ATTEMPTS):
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(PAUSE)
            else:
                return True
        return False
