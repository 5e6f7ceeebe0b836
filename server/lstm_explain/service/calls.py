"""What every call to our own services goes through: request id, errors as statuses, metrics, log."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import status_pb2

from lstm_explain.errors import Error, InputError
from lstm_explain.service.errors import Dropped, TooLate, internal, status_of
from lstm_explain.service.metrics import Metrics
from lstm_explain.service.wire import locate

log = logging.getLogger(__name__)

REQUEST_ID = "x-request-id"
_SENSIBLE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
_MALFORMED = object()

Context = grpc.ServicerContext


class Calls(grpc.ServerInterceptor):
    """Wraps the handlers of the services whose methods begin with one of `prefixes`."""

    def __init__(self, metrics: Metrics, prefixes: tuple[str, ...]) -> None:
        self._metrics = metrics
        self._prefixes = prefixes

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler, method = continuation(handler_call_details), handler_call_details.method
        if handler is None or not method.startswith(self._prefixes):
            return handler
        rpc = method.rsplit("/", 1)[-1]
        coding = {
            "request_deserializer": _lenient(handler.request_deserializer),
            "response_serializer": handler.response_serializer,
        }
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(self._unary(rpc, handler.unary_unary), **coding)
        if handler.stream_unary:
            behaviour = _of_checked(handler.stream_unary)
            return grpc.stream_unary_rpc_method_handler(self._unary(rpc, behaviour), **coding)
        if handler.stream_stream:
            return grpc.stream_stream_rpc_method_handler(self._stream(rpc, handler.stream_stream), **coding)
        raise TypeError(f"{method}: calls of this kind are not wrapped")

    def _unary(self, rpc: str, behaviour: Callable[[Any, Context], Any]) -> Callable[[Any, Context], Any]:
        def answer(request: Any, context: Context) -> Any:
            with _Account(rpc, context, self._metrics) as account:
                try:
                    _refuse(request, context)
                    return behaviour(request, context)
                except Exception as error:
                    account.fail(error, request)
            account.abort()

        return answer

    def _stream(
        self, rpc: str, behaviour: Callable[[Any, Context], Iterator[Any]]
    ) -> Callable[[Any, Context], Iterator[Any]]:
        def answers(requests: Any, context: Context) -> Iterator[Any]:
            with _Account(rpc, context, self._metrics) as account:
                try:
                    yield from behaviour(_checked(requests), context)
                    return
                except Exception as error:
                    account.fail(error, None)
            account.abort()

        return answers


class _Account:
    """One call from its start to its end."""

    def __init__(self, rpc: str, context: Context, metrics: Metrics) -> None:
        self._rpc = rpc
        self._context = context
        self._metrics = metrics
        self._request_id = _request_id(context)
        self._status: status_pb2.Status | None = None

    def __enter__(self) -> _Account:
        self._start = time.perf_counter()
        self._metrics.at_work.inc()
        self._context.set_trailing_metadata(((REQUEST_ID, self._request_id),))
        return self

    def __exit__(self, *_: object) -> None:
        seconds = time.perf_counter() - self._start
        code = "OK" if self._status is None else _CODES[self._status.code].name
        self._metrics.at_work.dec()
        self._metrics.calls.labels(self._rpc, code).inc()
        self._metrics.seconds.labels(self._rpc).observe(seconds)
        level = logging.DEBUG if self._status is None else logging.INFO
        if log.isEnabledFor(level):
            log.log(level, "%s %s %s", self._rpc, code, self._request_id, extra=self._extra(code, seconds))

    def fail(self, error: Exception, request: object) -> None:
        """Decides what the caller is told."""
        if isinstance(error, Error):
            field = locate(error.field, request) if isinstance(request, Message) else error.field
            self._status = status_of(error, field)
        elif not self._context.is_active():
            # grpc itself raises a bare Exception where the caller leaves a stream.
            self._status = status_of(Dropped("the caller went away"))
        else:
            log.exception("%s failed, request id %s", self._rpc, self._request_id, extra=self._extra("INTERNAL", 0.0))
            self._status = internal(self._request_id)

    def abort(self) -> None:
        """Ends the call with the status that `fail` chose; raises, as grpc wants it."""
        assert self._status is not None
        trailers = ((REQUEST_ID, self._request_id), ("grpc-status-details-bin", self._status.SerializeToString()))
        self._context.set_trailing_metadata(trailers)
        self._context.abort(_CODES[self._status.code], self._status.message)

    def _extra(self, code: str, seconds: float) -> dict[str, object]:
        return {
            "request_id": self._request_id,
            "rpc": self._rpc,
            "code": code,
            "milliseconds": round(seconds * 1e3, 3),
        }


def _request_id(context: Context) -> str:
    """The caller's, if it sent one that is fit for a log, or a new one."""
    for key, value in context.invocation_metadata():
        if key == REQUEST_ID and isinstance(value, str) and _SENSIBLE_ID.fullmatch(value):
            return value
    return uuid.uuid4().hex


def _lenient(deserialise: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    """grpc answers bytes that are no message with INTERNAL; they are the caller's fault."""
    if deserialise is None:
        return None

    def attempt(data: bytes) -> Any:
        try:
            return deserialise(data)
        except DecodeError:
            return _MALFORMED

    return attempt


def _refuse(request: object, context: Context) -> None:
    if request is _MALFORMED:
        raise InputError("the request is not a valid protobuf message")
    if context.time_remaining() == 0.0:
        raise TooLate("the deadline passed before the work began")
    if not context.is_active():
        raise Dropped("the caller went away before the work began")


def _of_checked(behaviour: Callable[[Any, Context], Any]) -> Callable[[Any, Context], Any]:
    return lambda requests, context: behaviour(_checked(requests), context)


def _checked(requests: Iterator[Any]) -> Iterator[Any]:
    for request in requests:
        if request is _MALFORMED:
            raise InputError("a request is not a valid protobuf message")
        yield request
