"""One call from start to end: its request id, status, metrics, log line and span."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import status_pb2

from lstm_explain.errors import Error, drop_tracebacks
from lstm_explain.serving.errors import Dropped, Overloaded, TooLate, internal, status_of
from lstm_explain.serving.observability import tracing
from lstm_explain.serving.observability.metrics import DISCARDED, Metrics
from lstm_explain.serving.observability.tracing import Metadata
from lstm_explain.serving.scheduling.admission import PendingCall
from lstm_explain.serving.wire import locate

log = logging.getLogger(__name__)

REQUEST_ID = "x-request-id"
DETAILS = "grpc-status-details-bin"
# Milliseconds after which gRPC's own retries try again; clients that read the details use RetryInfo.
PUSHBACK = "grpc-retry-pushback-ms"
_SENSIBLE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}

Context = grpc.aio.ServicerContext[Any, Any]


class CallRecord:
    """Enter it, do the work inside, pass an error to `fail`, and then call `abort` outside.

    If the caller has gone, raise what `left` returns instead.

    caller: who calls, as the token's file names it, or empty. Calls that DISCARDED counts are not logged or traced
    either.
    """

    def __init__(self, rpc: str, context: Context, metrics: Metrics, caller: str = "") -> None:
        self._rpc = rpc
        self._context = context
        self._metrics = metrics
        self._reported = metrics is not DISCARDED
        self._caller = caller
        self._metadata = context.invocation_metadata() or ()
        self.request_id = _request_id(self._metadata)
        self._status: status_pb2.Status | None = None
        self._pushback: float | None = None

    def __enter__(self) -> CallRecord:
        self._start = time.perf_counter()
        self._metrics.at_work.inc()
        self._context.set_trailing_metadata(((REQUEST_ID, self.request_id),))
        self._span = tracing.start(self._rpc, self._metadata) if self._reported else tracing.NOTHING
        self._span.note("request_id", self.request_id)
        return self

    def __exit__(self, *_: object) -> None:
        seconds = time.perf_counter() - self._start
        code = "OK" if self._status is None else _CODES[self._status.code].name
        self._metrics.at_work.dec()
        self._metrics.calls[self._rpc, code].inc()
        self._metrics.seconds[(self._rpc,)].observe(seconds)
        self._span.end(code)
        level = logging.DEBUG if self._status is None else logging.INFO
        if self._reported and log.isEnabledFor(level):
            log.log(level, "%s %s %s", self._rpc, code, self.request_id, extra=self._extra(code, seconds))

    def fail(self, error: Exception, request: object) -> None:
        """Chooses the status that the caller receives, and releases what the error's traceback holds."""
        if isinstance(error, Error):
            field = locate(error.field, request) if isinstance(request, Message) else error.field
            self._status = status_of(error, field)
            self._pushback = error.retry_after if isinstance(error, Overloaded) else None
        else:
            if self._reported:
                extra = self._extra("INTERNAL", 0.0)
                log.exception("%s failed, request id %s", self._rpc, self.request_id, extra=extra)
            self._status = internal(self.request_id)
        drop_tracebacks(error)

    def left(self, call: PendingCall) -> asyncio.CancelledError:
        """The exception to raise so that gRPC releases a call that nobody waits for."""
        call.leave()
        late = call.end is not None and time.monotonic() >= call.end
        self._status = status_of(TooLate("the deadline passed") if late else Dropped("the caller went away"))
        return asyncio.CancelledError()

    async def abort(self) -> None:
        """Ends the call with the status that `fail` chose; raises, as grpc requires."""
        assert self._status is not None
        trailers: list[tuple[str, str | bytes]] = [(REQUEST_ID, self.request_id)]
        trailers.append((DETAILS, self._status.SerializeToString()))
        if self._pushback is not None:
            trailers.append((PUSHBACK, str(int(self._pushback * 1000))))
        self._context.set_trailing_metadata(tuple(trailers))
        await self._context.abort(_CODES[self._status.code], self._status.message)

    def _extra(self, code: str, seconds: float) -> dict[str, object]:
        extra: dict[str, object] = {
            "request_id": self.request_id,
            "rpc": self._rpc,
            "code": code,
            "milliseconds": round(seconds * 1e3, 3),
        }
        if self._caller:
            extra["caller"] = self._caller
        if self._span.trace_id:
            extra["trace_id"] = self._span.trace_id
        return extra


def _request_id(metadata: Metadata) -> str:
    """The caller's request id if it may appear in a log; otherwise a new one."""
    for key, value in metadata:
        if key == REQUEST_ID and isinstance(value, str) and _SENSIBLE_ID.fullmatch(value):
            return value
    return os.urandom(16).hex()
