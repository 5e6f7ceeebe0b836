# SPDX-License-Identifier: Apache-2.0
"""Writes the lines of the audit log to a file, or to stdout or stderr, without ever waiting for it.

A line is written before its answer leaves the server. Where that is not possible (the disk is full, nobody reads the
pipe), lines wait in memory, up to MAX_WAITING_BYTES, and are written as soon as it is. Lines beyond that are lost: the
metrics and the log count them, and the first line that can be written again says how many are missing before it.
"""

from __future__ import annotations

import json
import logging
import os
import select
import stat
import sys
import threading
import time
from collections import deque
from functools import lru_cache

from lstm_explain.serving.audit.destination import STDERR, STDOUT, open_file
from lstm_explain.serving.observability.metrics import Metrics

log = logging.getLogger(__name__)

MAX_WAITING_BYTES = 16 << 20
SECONDS_BETWEEN_ATTEMPTS = 0.5
SECONDS_BETWEEN_LOOKS = 0.2  # at what has the file's path
SECONDS_TO_FLUSH = 2.0  # at the end of the process


class CannotWrite(Exception):  # noqa: N818 - it says what happened
    """The line cannot be written at the moment, for the given reason."""


class _File:
    """A file that others may rename or remove at any time: a new one is begun within SECONDS_BETWEEN_LOOKS."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd, self._opened, self._next_look = -1, (0, 0), 0.0
        self._is_cut = False  # whether the last line is incomplete

    def write(self, line: bytes) -> None:
        """Appends a line. The lines of several processes do not mix, since each is one write. Raises CannotWrite."""
        try:
            self._open()
            whole = b"\n" + line if self._is_cut else line
            self._is_cut = os.write(self._fd, whole) < len(whole)
        except OSError as error:
            raise CannotWrite(error.strerror or type(error).__name__) from error
        if self._is_cut:
            raise CannotWrite("there was no room for a whole line")

    def _open(self) -> None:
        """Opens the file that has the path now. Raises OSError."""
        if self._fd >= 0:
            if time.monotonic() < self._next_look:
                return
            self._next_look = time.monotonic() + SECONDS_BETWEEN_LOOKS
            try:
                there = os.stat(self._path)
                if (there.st_ino, there.st_dev) == self._opened:
                    return
            except FileNotFoundError:
                pass
            os.close(self._fd)
            self._fd, self._is_cut = -1, False
        self._fd = open_file(self._path)
        own = os.fstat(self._fd)
        self._opened = own.st_ino, own.st_dev


class _Descriptor:
    """An open file descriptor that this process shares with others, such as stdout."""

    def __init__(self, fd: int) -> None:
        self._fd, self._is_regular = _reopened(fd), stat.S_ISREG(os.fstat(fd).st_mode)
        self._most = sys.maxsize if self._is_regular else select.PIPE_BUF  # bytes of one write
        self._rest = b""

    def write(self, line: bytes) -> None:
        """Writes a line; one of up to 4 KiB does not mix with those of other processes. Raises CannotWrite."""
        rest = self._rest or line
        while rest:
            if not self._is_regular and not select.select([], [self._fd], [], 0)[1]:
                self._wait(line, rest)
            try:
                rest = rest[os.write(self._fd, rest[: self._most]) :]
            except BlockingIOError:
                self._wait(line, rest)
            except OSError as error:
                self._rest = b"" if len(rest) == len(line) else rest
                raise CannotWrite(error.strerror or type(error).__name__) from error
        self._rest = b""

    def _wait(self, line: bytes, rest: bytes) -> None:
        self._rest = rest if len(rest) < len(line) else b""
        raise CannotWrite("nobody reads it")


def _reopened(fd: int) -> int:
    """Returns the same file or pipe, opened for this process alone, so that its flags can be set; where the system
    does not allow that, as for a socket, the same descriptor.
    """
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return fd


class AuditStream:
    """Thread-safe. where: a path; `stdout` or `stderr` with the descriptor in `fd`."""

    def __init__(self, where: str, fd: int, metrics: Metrics) -> None:
        self._out = _Descriptor(fd) if where in (STDOUT, STDERR) else _File(where)
        self._metrics, self._written = metrics, metrics.audit_lines["written",]
        self._lock = threading.Lock()
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = self._lost = 0
        self._problem = ""
        self._wake = threading.Event()
        threading.Thread(target=self._retry, name="audit", daemon=True).start()

    def write(self, line: bytes) -> None:
        """Writes a line, which ends in a newline, or lets it wait."""
        with self._lock:
            if not self._waiting and self._put_gap() and self._put(line):
                return
            if self._waiting and (self._lost or self._waiting_bytes + len(line) > MAX_WAITING_BYTES):
                self._lose(1)
                return
            self._waiting.append(line)
            self._waiting_bytes += len(line)
            self._metrics.audit_waiting.set(len(self._waiting))
        self._wake.set()

    def close(self) -> None:
        """Writes what waits, within SECONDS_TO_FLUSH; the log says how many lines are lost."""
        end = time.monotonic() + SECONDS_TO_FLUSH
        while self._flush() and time.monotonic() < end:
            time.sleep(0.05)
        with self._lock:
            if self._waiting:
                self._lose(len(self._waiting))
                log.error("the process ends with %d lines of the audit log unwritten", len(self._waiting))

    def _lose(self, count: int) -> None:
        if not self._lost:
            log.error("lines of the audit log are lost, because it cannot be written: %s", self._problem)
        self._lost += count
        self._metrics.audit_lines["lost",].inc(count)

    def _put(self, line: bytes) -> bool:
        """Returns whether the line has been written."""
        try:
            self._out.write(line)
        except CannotWrite as problem:
            if str(problem) != self._problem:
                log.error("the audit log cannot be written: %s; its lines wait in memory", problem)
                self._problem = str(problem)
            return False
        self._problem = ""
        self._written.inc()
        return True

    def _put_gap(self) -> bool:
        """Writes the line that takes the place of lost ones, if there are any; returns whether none is due now."""
        if self._lost and self._put(_gap(self._lost)):
            log.warning("the audit log can be written again; %d lines are lost", self._lost)
            self._lost = 0
        return not self._lost

    def _retry(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._flush():
                time.sleep(SECONDS_BETWEEN_ATTEMPTS)

    def _flush(self) -> bool:
        """Writes what waits; returns whether some of it still does."""
        while True:
            with self._lock:
                if not self._waiting:
                    return not self._put_gap()
                line = self._waiting[0]
                if not self._put(line):
                    return True
                self._waiting.popleft()
                self._waiting_bytes -= len(line)
                self._metrics.audit_waiting.set(len(self._waiting))


def _gap(lost: int) -> bytes:
    """Returns the line that takes the place of lost ones."""
    line = {"time": moment(time.time()), "event": "lost", "lines": lost, "process": os.getpid()}
    return json.dumps(line).encode() + b"\n"


def moment(seconds: float) -> str:
    """Returns a time (time.time()) in UTC as RFC 3339 writes it, in milliseconds."""
    milliseconds = int(seconds * 1000)
    return f"{_second(milliseconds // 1000)}.{milliseconds % 1000:03d}Z"


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
