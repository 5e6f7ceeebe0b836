"""The log: a line an event on stderr, as text or as JSON."""

from __future__ import annotations

import fcntl
import io
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, TextIO

from lstm_explain.serving.observability.output_capture import LOGGER, PIPE_BYTES, OutputCapture, write

VARIABLE, FLAG = "LSTM_EXPLAIN_LOG_FORMAT", "--log-format"
# What a call puts on its log records, see account.py; what output_capture.py puts on those of native code.
FIELDS = ("request_id", "rpc", "code", "milliseconds", "caller", "trace_id", "process_id")
# JSON may hold these as they are, and many a reader takes them for the end of a line.
_ENDS = str.maketrans({end: f"\\u{ord(end):04x}" for end in "\x7f\x85\u2028\u2029"})

log = logging.getLogger(__name__)


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {key: record.__dict__[key] for key in FIELDS if key in record.__dict__}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False).translate(_ENDS)


class Records(logging.Handler):
    """Writes each record whole to a file descriptor."""

    def __init__(self, out: int) -> None:
        super().__init__()
        self.out = out

    def emit(self, record: logging.LogRecord) -> None:
        try:
            write(self.out, self.format(record))
        except Exception:
            self.handleError(record)


class _NobodyWaits(logging.Filter):
    """What gRPC calls an error, with a traceback, where an answer finds its caller gone: nobody's fault."""

    def filter(self, record: logging.LogRecord) -> bool:
        grpc = sys.modules.get("grpc.aio")  # the process that starts the workers has none
        if grpc is not None and record.exc_info and isinstance(record.exc_info[1], grpc.InternalError):
            record.levelno, record.levelname = logging.DEBUG, logging.getLevelName(logging.DEBUG)
        return logging.getLogger(record.name).isEnabledFor(record.levelno)


def formatter(form: str) -> logging.Formatter:
    return JsonFormatter() if form == "json" else logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")


def set_up(level: str, form: str, out: int = 2) -> Records:
    """Everything that Python code says goes to the file descriptor `out`: records, warnings, uncaught exceptions."""
    handler = Records(out)
    handler.setFormatter(formatter(form))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    logging.getLogger("grpc._cython.cygrpc").addFilter(_NobodyWaits())
    sys.excepthook = _uncaught
    threading.excepthook = lambda told: _uncaught(told.exc_type, told.exc_value, told.exc_traceback)
    sys.unraisablehook = lambda told: _uncaught(told.exc_type, told.exc_value, told.exc_traceback)
    return handler


@contextmanager
def collecting(level: str, form: str) -> Iterator[OutputCapture]:
    """Sets up the log of a process that starts others, and turns what they and it write to stderr into records."""
    out = os.dup(2)
    with suppress(OSError):  # where it is a pipe, so that long lines find room there as a whole
        fcntl.fcntl(out, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    pump = OutputCapture(out, formatter(form), logging.getLevelName(level.upper()))
    reading, native = os.pipe()
    pump.read(reading, os.getpid())
    plain, sys.stderr = sys.stderr, sys.__stderr__
    os.dup2(native, 2)
    os.close(native)
    handler = set_up(level, form, out)
    try:
        yield pump
    finally:
        with suppress(AttributeError, OSError):
            sys.stderr.flush()  # type: ignore[union-attr]
        os.dup2(out, 2)
        handler.out, sys.stderr = 2, plain
        pump.close()


def say(form: str, message: str) -> None:
    """One line on stdout, for whoever started the server."""
    if form == "json":
        message = JsonFormatter().format(logging.LogRecord(__name__, logging.INFO, "", 0, message, None, None))
    print(message, flush=True)


def asked_for(arguments: Sequence[str]) -> str:
    """The format that the command line or the environment names, before either is known to be right."""
    chosen = os.environ.get(VARIABLE, "text")
    for i, word in enumerate(arguments):
        if word == FLAG and i + 1 < len(arguments):
            chosen = arguments[i + 1]
        elif word.startswith(f"{FLAG}="):
            chosen = word.removeprefix(f"{FLAG}=")
    return "json" if chosen == "json" else "text"


class Wrapped(io.TextIOBase):
    """Stands for stderr while there is no log yet: each line becomes a record, as JSON."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._pending = ""

    def write(self, text: str) -> int:
        *lines, self._pending = (self._pending + text).split("\n")
        for line in lines:
            record = logging.LogRecord(LOGGER, logging.ERROR, "", 0, line, None, None)
            self._out.write(JsonFormatter().format(record) + "\n")
        return len(text)

    def flush(self) -> None:
        self._out.flush()

    def fileno(self) -> int:
        return self._out.fileno()


def _uncaught(kind: type[BaseException], error: BaseException | None, where: TracebackType | None) -> None:
    if error is not None:
        log.critical("uncaught %s: %s", kind.__name__, error, exc_info=(kind, error, where))
