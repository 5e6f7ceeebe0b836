# SPDX-License-Identifier: Apache-2.0
"""Sets up the log: one line per event on stderr, as text or as JSON."""

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
# Extra fields of log records: those of a call (call_record.py), and process_id (output_capture.py).
FIELDS = ("request_id", "rpc", "code", "milliseconds", "caller", "trace_id", "process_id")
# JSON allows these characters unescaped, but some readers take them for the end of a line.
_LINE_ENDS = str.maketrans({end: f"\\u{ord(end):04x}" for end in "\x7f\x85\u2028\u2029"})

log = logging.getLogger(__name__)


class JsonFormatter(logging.Formatter):
    """Formats a record as one line with a JSON object."""

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
        return json.dumps(line, ensure_ascii=False).translate(_LINE_ENDS)


class FileDescriptorHandler(logging.Handler):
    """Writes each record as a whole to a file descriptor."""

    def __init__(self, out: int) -> None:
        super().__init__()
        self.out = out

    def emit(self, record: logging.LogRecord) -> None:
        try:
            write(self.out, self.format(record))
        except Exception:
            self.handleError(record)


class _CallerGoneFilter(logging.Filter):
    """Demotes gRPC's record of an error to DEBUG where the caller of an answer had gone, which is nobody's fault."""

    def filter(self, record: logging.LogRecord) -> bool:
        grpc = sys.modules.get("grpc.aio")  # the parent process does not import it
        if grpc is not None and record.exc_info and isinstance(record.exc_info[1], grpc.InternalError):
            record.levelno, record.levelname = logging.DEBUG, logging.getLevelName(logging.DEBUG)
        return logging.getLogger(record.name).isEnabledFor(record.levelno)


def formatter(form: str) -> logging.Formatter:
    """Returns the formatter for `json` or `text`."""
    return JsonFormatter() if form == "json" else logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")


def set_up(level: str, form: str, out: int = 2) -> FileDescriptorHandler:
    """Sends log records, warnings and uncaught exceptions to the file descriptor `out`."""
    handler = FileDescriptorHandler(out)
    handler.setFormatter(formatter(form))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    logging.getLogger("grpc._cython.cygrpc").addFilter(_CallerGoneFilter())
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda args: _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)
    sys.unraisablehook = lambda args: _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)
    return handler


@contextmanager
def capture_output(level: str, form: str) -> Iterator[OutputCapture]:
    """Sets up the log of the parent process; what it and its children write to stderr becomes records of the log."""
    out = os.dup(2)
    with suppress(OSError):  # if it is a pipe: makes room for long lines as a whole
        fcntl.fcntl(out, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    capture = OutputCapture(out, formatter(form), logging.getLevelName(level.upper()))
    reading, native = os.pipe()
    capture.read(reading, os.getpid())
    plain, sys.stderr = sys.stderr, sys.__stderr__
    os.dup2(native, 2)
    os.close(native)
    handler = set_up(level, form, out)
    try:
        yield capture
    finally:
        with suppress(AttributeError, OSError):
            sys.stderr.flush()  # type: ignore[union-attr]
        os.dup2(out, 2)
        handler.out, sys.stderr = 2, plain
        capture.close()


def announce(form: str, message: str) -> None:
    """Prints a line to stdout, for the person or program that started the server."""
    if form == "json":
        message = JsonFormatter().format(logging.LogRecord(__name__, logging.INFO, "", 0, message, None, None))
    print(message, flush=True)


def requested_format(arguments: Sequence[str]) -> str:
    """Returns the format that the command line or the environment asks for, before the settings are validated."""
    chosen = os.environ.get(VARIABLE, "text")
    for i, word in enumerate(arguments):
        if word == FLAG and i + 1 < len(arguments):
            chosen = arguments[i + 1]
        elif word.startswith(f"{FLAG}="):
            chosen = word.removeprefix(f"{FLAG}=")
    return "json" if chosen == "json" else "text"


class JsonStderr(io.TextIOBase):
    """Replaces stderr before the log is set up: each line becomes a record, as JSON."""

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


def _log_uncaught(kind: type[BaseException], error: BaseException | None, where: TracebackType | None) -> None:
    if error is not None:
        log.critical("uncaught %s: %s", kind.__name__, error, exc_info=(kind, error, where))
