"""Everything that the processes of one server write, brought together on the real stderr, one whole line at a time.

Of each process two pipes are read: one for the records of its log, which are passed on as they are, and one that stands
for its stdout and stderr, whose lines become records here. So lines of several processes never run into each other,
and the last words of a process that crashes are not lost.
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

from lstm_explain.service.native import Flood, understood

PIPE_BYTES = 1 << 20  # a process that writes more than this while nobody reads has to wait
LONGEST_RECORD, LONGEST_LINE = 1 << 22, 1 << 14  # bytes; of a longer line the rest is left out
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_TO_DRAIN = 2.0
LOGGER = "stderr"  # the name of what is no record of ours


@dataclass
class _Source:
    """One pipe's reading end. process: whose it is. native: whether its lines become records here."""

    process: int
    native: bool
    pending: bytearray
    dropped: int = 0  # bytes of the line that is coming, beyond what is kept


class Pump:
    """A thread that reads until it is closed. out: a file descriptor."""

    def __init__(self, out: int, formatter: logging.Formatter, level: int) -> None:
        self._out = out
        self._formatter = formatter
        self._level = level
        self._flood = Flood()
        self._selector = selectors.DefaultSelector()
        self._wake_reading, self._wake_writing = os.pipe()
        os.set_blocking(self._wake_writing, False)
        self._selector.register(self._wake_reading, selectors.EVENT_READ, None)
        self._orders: list[Callable[[], object]] = []
        self._lock = threading.Lock()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def pipe(self, process: int, *, native: bool) -> int:
        """The writing end of a new pipe that is read from now on."""
        reading, writing = os.pipe()
        with suppress(OSError):  # where an ordinary user may not have so much
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self.add(reading, process, native=native)
        return writing

    def add(self, reading: int, process: int, *, native: bool) -> None:
        os.set_blocking(reading, False)
        source = _Source(process, native, bytearray())
        self._order(lambda: self._selector.register(reading, selectors.EVENT_READ, source))

    def close(self) -> None:
        """Returns when what has been written so far is out, or after SECONDS_TO_DRAIN."""
        self._order(self._close)
        self._thread.join(SECONDS_TO_DRAIN)

    def _close(self) -> None:
        self._closing = True

    def _order(self, what: Callable[[], object]) -> None:
        """Does it in the thread."""
        with self._lock:
            self._orders.append(what)
        with suppress(BlockingIOError):  # it has enough to wake it
            os.write(self._wake_writing, b".")

    def _run(self) -> None:
        while True:
            ready = self._selector.select(0.0 if self._closing else SECONDS_BETWEEN_LOOKS)
            for key, _ in ready:
                if key.data is None:
                    os.read(self._wake_reading, 4096)
                    self._obey()
                else:
                    self._read(key.fd, key.data)
            if self._closing and not ready:
                self._account(at_once=True)
                return
            self._account()

    def _obey(self) -> None:
        with self._lock:
            orders, self._orders = self._orders, []
        for order in orders:
            order()

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
            if source.pending:  # its process has ended in the middle of it
                self._wrap(bytes(source.pending), source.dropped, source.process)
            return
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._keep(source, line)
            self._line(source)
        self._keep(source, rest)

    def _keep(self, source: _Source, part: bytes) -> None:
        room = (LONGEST_LINE if source.native else LONGEST_RECORD) - len(source.pending)
        source.pending += part[:room]
        source.dropped += max(0, len(part) - room)

    def _line(self, source: _Source) -> None:
        """The line that is complete."""
        line, dropped = bytes(source.pending), source.dropped
        source.pending.clear()
        source.dropped = 0
        if not source.native and not dropped:
            self._write(line + b"\n")
        elif line.strip():
            self._wrap(line.rstrip(b"\r"), dropped, source.process)

    def _wrap(self, data: bytes, dropped: int, process: int) -> None:
        line = understood(data, dropped)
        if self._flood.admits(line):
            self._say(line.level, line.text, process)

    def _account(self, *, at_once: bool = False) -> None:
        for kind, count in self._flood.left_out(at_once=at_once):
            self._say("warning", f"{count} more lines like this one were left out: {kind}", None)

    def _say(self, level: str, text: str, process: int | None) -> None:
        number = logging.getLevelName(level.upper())
        if number < self._level:
            return
        record = logging.LogRecord(LOGGER, number, "", 0, text, None, None)
        if process is not None:
            record.__dict__["process_id"] = process
        self._write(self._formatter.format(record).encode("utf-8", "backslashreplace") + b"\n")

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._out, rest) :]
            except BlockingIOError:  # whoever gave us this file reads it slowly and does not let us wait
                select.select([], [self._out], [], SECONDS_BETWEEN_LOOKS)
            except OSError:  # nobody reads it any more
                return
