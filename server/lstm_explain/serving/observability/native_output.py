"""Lines that native code or the interpreter writes to stdout and stderr: what they are, and how many are let through.

gRPC's core, ONNX Runtime, the C library and Python's own tracebacks know nothing of Python's logging. Whoever collects
the log still gets one record for each of their lines.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

MOST_OF_A_KIND, SECONDS = 5, 10.0  # so many lines of one kind are let through in so many seconds
MOST_KINDS = 1000
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# E0000 00:00:1764300000.123456   12345 ssl_transport_security.cc:1884] Handshake failed …
_GRPC = re.compile(r"([IWEF])\d{4} [\d:.]+\s+\d+ ([\w./+-]+:\d+)\] ?(.*)", re.DOTALL)
# 2026-01-01 00:00:00.000000000 [W:onnxruntime:, graph.cc:123 Function] …
_ONNXRUNTIME = re.compile(r"[\d-]+ [\d:.]+ \[([VIWEF]):onnxruntime:[^,\]]*, ?([\w./+-]+:\d+)[^\]]*\] ?(.*)", re.DOTALL)
_LEVELS = {"V": "debug", "I": "info", "W": "warning", "E": "error", "F": "critical"}
# gRPC calls an error what any caller can cause at will. It is worth a line, and no alarm.
_CAUSED_BY_CALLERS = ("ssl_transport", "security_handshaker", "handshake", "chttp2", "hpack", "frame_", "http_server")
# The last words of a process.
_FATAL = re.compile(
    r"Fatal Python error|terminate called|\*\*\* |(free|malloc|realloc|munmap_chunk)\(\)|double free|corrupted "
)
_NOISE = "WARNING: All log messages before absl::InitializeLog()"


@dataclass(frozen=True)
class OutputLine:
    """level: as Python's logging names it, in lower case. kind: equal for lines that say the same."""

    level: str
    kind: str
    text: str


def parse_line(data: bytes, dropped: int = 0) -> OutputLine:
    """One line without its end, which need be no UTF-8. dropped: how many bytes it had beyond those."""
    text = data.decode("utf-8", "backslashreplace")
    if dropped:
        text += f" … and {dropped} more bytes"
    plain = _COLOUR.sub("", text)
    for form in (_GRPC, _ONNXRUNTIME):
        if found := form.match(plain):
            letter, place, said = found.groups()
            level = "info" if any(part in place for part in _CAUSED_BY_CALLERS) else _LEVELS[letter]
            return OutputLine(level, place, f"{place}: {said}")
    if plain.startswith(_NOISE):
        return OutputLine("debug", _NOISE, plain)
    return OutputLine("error" if _FATAL.match(plain) else "warning", plain, plain)


class LineLimiter:
    """Lets the first few lines of each kind through and counts the others."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, list[float]] = {}  # by kind: when the first came, how many came

    def admits(self, line: OutputLine) -> bool:
        kind = line.kind if line.kind in self._seen or len(self._seen) < MOST_KINDS else ""
        seen = self._seen.setdefault(kind, [self._clock(), 0])
        seen[1] += 1
        return seen[1] <= MOST_OF_A_KIND

    def left_out(self, *, at_once: bool = False) -> Iterator[tuple[str, int]]:
        """Kinds whose time is over, with the number of lines that were left out; kinds that lost none are forgotten."""
        now = self._clock()
        for kind, (began, count) in list(self._seen.items()):
            if at_once or now - began >= SECONDS:
                del self._seen[kind]
                if count > MOST_OF_A_KIND:
                    yield kind or "lines of other kinds", int(count) - MOST_OF_A_KIND
