# SPDX-License-Identifier: Apache-2.0
"""Parses lines that native code or the interpreter writes to stdout and stderr, and limits how many of a kind pass.

gRPC's core, ONNX Runtime, the C library and the interpreter's last words bypass Python's logging. Each of their lines
still becomes one record of the log.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

MAX_LINES, SECONDS = 5, 10.0  # at most MAX_LINES lines of one kind pass in SECONDS
MAX_KINDS = 1000
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# E0000 00:00:1764300000.123456   12345 ssl_transport_security.cc:1884] Handshake failed …
_GRPC = re.compile(r"([IWEF])\d{4} [\d:.]+\s+\d+ ([\w./+-]+:\d+)\] ?(.*)", re.DOTALL)
# 2026-01-01 00:00:00.000000000 [W:onnxruntime:, graph.cc:123 Function] …
_ONNXRUNTIME = re.compile(r"[\d-]+ [\d:.]+ \[([VIWEF]):onnxruntime:[^,\]]*, ?([\w./+-]+:\d+)[^\]]*\] ?(.*)", re.DOTALL)
_LEVELS = {"V": "debug", "I": "info", "W": "warning", "E": "error", "F": "critical"}
# gRPC reports these as errors although any caller can cause them. They deserve a line in the log, but not an alarm.
_CAUSED_BY_CALLERS = ("ssl_transport", "security_handshaker", "handshake", "chttp2", "hpack", "frame_", "http_server")
# The last words of a process.
_FATAL = re.compile(
    r"Fatal Python error|terminate called|\*\*\* |(free|malloc|realloc|munmap_chunk)\(\)|double free|corrupted "
)
_NOISE = "WARNING: All log messages before absl::InitializeLog()"


@dataclass(frozen=True)
class OutputLine:
    """level: the name of a level of Python's logging, in lower case. kind: equal for lines with the same meaning."""

    level: str
    kind: str
    text: str


def parse_line(data: bytes, dropped: int = 0) -> OutputLine:
    """Parses a line without its end; it need not be UTF-8. dropped: how many further bytes the line had."""
    text = data.decode("utf-8", "backslashreplace")
    if dropped:
        text += f" … and {dropped} more bytes"
    plain = _COLOUR.sub("", text)
    for form in (_GRPC, _ONNXRUNTIME):
        if found := form.match(plain):
            letter, place, message = found.groups()
            level = "info" if any(part in place for part in _CAUSED_BY_CALLERS) else _LEVELS[letter]
            return OutputLine(level, place, f"{place}: {message}")
    if plain.startswith(_NOISE):
        return OutputLine("debug", _NOISE, plain)
    return OutputLine("error" if _FATAL.match(plain) else "warning", plain, plain)


class LineLimiter:
    """Lets the first few lines of each kind pass and counts the others."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, list[float]] = {}  # by kind: the time of the first line, and the number of lines

    def admits(self, line: OutputLine) -> bool:
        """Counts the line, and returns whether it passes."""
        kind = line.kind if line.kind in self._seen or len(self._seen) < MAX_KINDS else ""
        seen = self._seen.setdefault(kind, [self._clock(), 0])
        seen[1] += 1
        return seen[1] <= MAX_LINES

    def pop_omitted(self, *, at_once: bool = False) -> Iterator[tuple[str, int]]:
        """Forgets kinds whose time is over (at_once: all kinds), and yields those with omitted lines, and how many."""
        now = self._clock()
        for kind, (began, count) in list(self._seen.items()):
            if at_once or now - began >= SECONDS:
                del self._seen[kind]
                if count > MAX_LINES:
                    yield kind or "lines of other kinds", int(count) - MAX_LINES
