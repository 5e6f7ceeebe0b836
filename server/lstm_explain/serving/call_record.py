# SPDX-License-Identifier: Apache-2.0
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
from lstm_explain.serving.audit.log import AuditLog
from lstm_explain.serving.audit.note import PEER, SUBJECT, Origin
from lstm_explain.serving.errors import Dropped, Overloaded, OverQuota, TooLate, internal, refusal_of, status_of
from lstm_explain.serving.observability import tracing
from lstm_explain.serving.observability.metrics import DISCARDED, Metrics
from lstm_explain.serving.observability.tracing import Metadata
from lstm_explain.serving.scheduling.admission import PendingCall
from lstm_explain.serving.security.permits import ANYBODY, Permit
from lstm_explain.serving.wire import locate

log = logging.getLogger(__name__)

REQUEST_ID = "x-request-id"
CANARY = "x-canary"
_ANSWERS = {"true": True, "false": False}
DETAILS = "grpc-status-details-bin"
# Milliseconds after which gRPC's own retries try again; clients that read the details use RetryInfo.
PUSHBACK = "grpc-retry-pushback-ms"
DO_NOT_RETRY = "-1"
_SENSIBLE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}

Context = grpc.aio.ServicerContext[Any, Any]


class CallRecord:
    """Enter it, do the work of `call` inside, pass an error to `fail`, and then call `abort` outside.

    If the caller has gone, raise what `left` returns instead.

    permit: what the caller may do. caller: its name, if it has no permit. audit: None where there is no audit log.
    Calls that DISCARDED counts are not logged or traced either.
    """

    def __init__(
        self,
        rpc: str,
        context: Context,
        metrics: Metrics,
        permit: Permit = ANYBODY,
        audit: AuditLog | None = None,
        caller: str = "",
    ) -> None:
        self._rpc = rpc
        self._context = context
        self._metrics = metrics
        self._reported = metrics is not DISCARDED
        self._audit = audit
        self._metadata = context.invocation_metadata() or ()
        self._caller = caller = permit.name or caller
        self.request_id = _request_id(self._metadata)
        origin = Origin(self.request_id, caller) if audit is None else _origin(context, self.request_id, caller, audit)
        self.call = PendingCall(context.time_remaining(), origin, permit, _canary(self._metadata))
        self._status: status_pb2.Status | None = None
        self._pushback: str | None = None

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
        note = self.call.note
        if note.digest:
            self._metrics.answered(note.model, note.version, code, seconds)
        level = logging.DEBUG if self._status is None else logging.INFO
        if self._reported and log.isEnabledFor(level):
            log.log(level, "%s %s %s", self._rpc, code, self.request_id, extra=self._extra(code, seconds))
        if self._audit is not None:
            note.error = "" if self._status is None else self._status.message
            self._audit.call(self._rpc, self.call.origin, note, code, seconds)

    def fail(self, error: Exception, request: object) -> None:
        """Chooses the status that the caller receives, and releases what the error's traceback holds."""
        if isinstance(error, Error):
            field = locate(error.field, request) if isinstance(request, Message) else error.field
            self._status = status_of(error, field)
            self._pushback = _pushback(error)
            if why := refusal_of(error):
                self._metrics.refusals[why,].inc()
        else:
            if self._reported:
                extra = self._extra("INTERNAL", 0.0)
                log.exception("%s failed, request id %s", self._rpc, self.request_id, extra=extra)
            self._status = internal(self.request_id)
        drop_tracebacks(error)

    def left(self) -> asyncio.CancelledError:
        """Returns the exception to raise so that gRPC releases a call that nobody waits for."""
        call = self.call
        call.leave()
        self._status = status_of(TooLate("the deadline passed") if call.too_late() else Dropped("the caller went away"))
        return asyncio.CancelledError()

    async def abort(self) -> None:
        """Ends the call with the status that `fail` chose; raises, as grpc requires."""
        assert self._status is not None
        trailers: list[tuple[str, str | bytes]] = [(REQUEST_ID, self.request_id)]
        trailers.append((DETAILS, self._status.SerializeToString()))
        if self._pushback is not None:
            trailers.append((PUSHBACK, self._pushback))
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


def _canary(metadata: Metadata) -> bool | None:
    """Returns whether the caller asks for the canary (`true`) or against it (`false`)."""
    for key, value in metadata:
        if key == CANARY:
            return _ANSWERS.get(str(value).strip().lower())
    return None


def _pushback(error: Error) -> str | None:
    """Returns the value of PUSHBACK. A caller over its quota is told at once, since gRPC would let it wait until its
    deadline.
    """
    if isinstance(error, OverQuota):
        return DO_NOT_RETRY
    return str(int(error.retry_after * 1000)) if isinstance(error, Overloaded) else None


def _request_id(metadata: Metadata) -> str:
    """Returns the caller's request id if it may appear in a log; otherwise a new one."""
    for key, value in metadata:
        if key == REQUEST_ID and isinstance(value, str) and _SENSIBLE_ID.fullmatch(value):
            return value
    return os.urandom(16).hex()


def _origin(context: Context, request_id: str, caller: str, audit: AuditLog) -> Origin:
    """Returns where the call comes from. The page is the only caller that connects by a Unix socket, and it names its
    own caller.
    """
    peer = str(context.peer())
    if peer.startswith("unix:"):
        named = {key: str(value) for key, value in context.invocation_metadata() or () if key in (PEER, SUBJECT)}
        return Origin(request_id, caller, named.get(SUBJECT, ""), named.get(PEER, ""), "page")
    if not audit.with_subjects:
        return Origin(request_id, caller, "", peer)
    subjects = context.auth_context().get("x509_subject", ())
    return Origin(request_id, caller, b", ".join(subjects).decode(errors="replace"), peer)
