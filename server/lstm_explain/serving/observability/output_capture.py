# SPDX-License-Identifier: Apache-2.0
"""Turns what the processes of one server write to stdout and stderr into records of its log.

The parent reads one pipe per process, which stands for that process's stdout and stderr, so that the last words of a
crashing process are not lost. Records of Python's logging do not pass through it: each process writes them as a whole
to the real stderr, see logs.py.
"""

from __future__ import annotations

import fcntl
import logging
import os
import select
import selectors
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from lstm_explain.serving.observability.native_output import LineLimiter, parse_line

PIPE_BYTES = 1 << 20  # a process that writes more than this while nobody reads must wait
MAX_LINE_BYTES = 1 << 14  # the rest of a longer line is omitted
POLL_SECONDS = 1.0
SECONDS_TO_DRAIN = 2.0
LOGGER = "stderr"  # the logger that these records name


@dataclass
class _Source:
    """The reading end of a pipe.

    process: the id of the writing process. pending: the line that is still incomplete. dropped: how many bytes of it
    exceed MAX_LINE_BYTES.
    """

    process: int
    pending: bytearray
    dropped: int = 0


class OutputCapture:
    """Reads in a thread until it is closed. out: the file descriptor of the log."""

    def __init__(self, out: int, formatter: logging.Formatter, level: int) -> None:
        self.out = out
        self._formatter = formatter
        self._level = level
        self._limiter = LineLimiter()
        self._selector = selectors.DefaultSelector()
        self._wake_reading, self._wake_writing = os.pipe()
        os.set_blocking(self._wake_writing, False)
        self._selector.register(self._wake_reading, selectors.EVENT_READ, None)
        self._tasks: list[Callable[[], object]] = []
        self._lock = threading.Lock()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def read(self, reading: int, process: int) -> None:
        """Begins to read this end of a pipe, until its writing ends are closed."""
        with suppress(OSError):  # the system may not allow this size
            fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        os.set_blocking(reading, False)
        source = _Source(process, bytearray())
        self._submit(lambda: self._selector.register(reading, selectors.EVENT_READ, source))

    def close(self) -> None:
        """Returns when the output so far is in the log, or after SECONDS_TO_DRAIN."""
        self._submit(self._close)
        self._thread.join(SECONDS_TO_DRAIN)

    def _close(self) -> None:
        self._closing = True

    def _submit(self, task: Callable[[], object]) -> None:
        """Runs the task in the thread."""
        with self._lock:
            self._tasks.append(task)
        with suppress(BlockingIOError):  # the pipe is full, so the thread wakes up anyway
            os.write(self._wake_writing, b".")

    def _run(self) -> None:
        while True:
            ready = self._selector.select(0.0 if self._closing else POLL_SECONDS)
            for key, _ in ready:
                if key.data is None:
                    os.read(self._wake_reading, 4096)
                    self._run_tasks()
                else:
                    self._read(key.fd, key.data)
            if self._closing and not ready:
                self._log_omitted(at_once=True)
                return
            self._log_omitted()

    def _run_tasks(self) -> None:
        with self._lock:
            tasks, self._tasks = self._tasks, []
        for task in tasks:
            task()

    def _read(self, fd: int, source: _Source) -> None:
        try:
            data = os.read(fd, 1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(fd)
            os.close(fd)
            self._log_line(source)
            return
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._append(source, line)
            self._log_line(source)
        self._append(source, rest)

    def _append(self, source: _Source, part: bytes) -> None:
        room = MAX_LINE_BYTES - len(source.pending)
        source.pending += part[:room]
        source.dropped += max(0, len(part) - room)

    def _log_line(self, source: _Source) -> None:
        """Logs the pending line, which is complete or was cut off."""
        data, dropped = bytes(source.pending).rstrip(b"\r"), source.dropped
        source.pending.clear()
        source.dropped = 0
        if data.strip():
            line = parse_line(data, dropped)
            if self._limiter.admits(line):
                self._log(line.level, line.text, source.process)

    def _log_omitted(self, *, at_once: bool = False) -> None:
        for kind, count in self._limiter.pop_omitted(at_once=at_once):
            self._log("warning", f"{count} more lines like this one were omitted: {kind}", None)

    def _log(self, level: str, text: str, process: int | None) -> None:
        number = logging.getLevelName(level.upper())
        if number < self._level:
            return
        record = logging.LogRecord(LOGGER, number, "", 0, text, None, None)
        if process is not None:
            record.__dict__["process_id"] = process
        write(self.out, self._formatter.format(record))


def write(out: int, text: str) -> None:
    """Writes a line in one system call if possible, since several processes write to the same file."""
    rest = memoryview(text.encode("utf-8", "backslashreplace") + b"\n")
    while rest:
        try:
            rest = rest[os.write(out, rest) :]
        except BlockingIOError:  # the file descriptor is non-blocking
            select.select([], [out], [], POLL_SECONDS)
        except OSError:  # nobody reads it
            return
