"""What the processes of one server write past Python's logging becomes records of its log.

For each process one pipe is read that stands for its stdout and stderr. So the last words of a process that crashes are
not lost. Its records do not come this way: it writes each of them whole to the real stderr, see logs.py.
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

PIPE_BYTES = 1 << 20  # a process that writes more than this while nobody reads has to wait
LONGEST_LINE = 1 << 14  # bytes; of a longer line the rest is left out
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_TO_DRAIN = 2.0
LOGGER = "stderr"  # the name of what is no record of ours


@dataclass
class _Source:
    """One pipe's reading end. process: whose it is. dropped: bytes of the line that is coming, beyond what is kept."""

    process: int
    pending: bytearray
    dropped: int = 0


class OutputCapture:
    """A thread that reads until it is closed. out: the file descriptor of the log."""

    def __init__(self, out: int, formatter: logging.Formatter, level: int) -> None:
        self.out = out
        self._formatter = formatter
        self._level = level
        self._flood = LineLimiter()
        self._selector = selectors.DefaultSelector()
        self._wake_reading, self._wake_writing = os.pipe()
        os.set_blocking(self._wake_writing, False)
        self._selector.register(self._wake_reading, selectors.EVENT_READ, None)
        self._orders: list[Callable[[], object]] = []
        self._lock = threading.Lock()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def read(self, reading: int, process: int) -> None:
        """From now on, this reading end of a pipe; until its other ends are closed."""
        with suppress(OSError):  # where an ordinary user may not have so much
            fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        os.set_blocking(reading, False)
        source = _Source(process, bytearray())
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
            self._line(source)
            return
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._keep(source, line)
            self._line(source)
        self._keep(source, rest)

    def _keep(self, source: _Source, part: bytes) -> None:
        room = LONGEST_LINE - len(source.pending)
        source.pending += part[:room]
        source.dropped += max(0, len(part) - room)

    def _line(self, source: _Source) -> None:
        """The line that is complete, or that no more will come of."""
        data, dropped = bytes(source.pending).rstrip(b"\r"), source.dropped
        source.pending.clear()
        source.dropped = 0
        if data.strip():
            line = parse_line(data, dropped)
            if self._flood.admits(line):
                self._say(line.level, line.text, source.process)

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
        write(self.out, self._formatter.format(record))


def write(out: int, text: str) -> None:
    """One line, by one call where whoever reads it is not too slow: several processes write to the same file."""
    rest = memoryview(text.encode("utf-8", "backslashreplace") + b"\n")
    while rest:
        try:
            rest = rest[os.write(out, rest) :]
        except BlockingIOError:  # whoever gave us this file does not let us wait
            select.select([], [out], [], SECONDS_BETWEEN_LOOKS)
        except OSError:  # nobody reads it any more
            return
