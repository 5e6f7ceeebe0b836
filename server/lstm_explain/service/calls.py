"""What every call goes through, of whichever service: who may call, errors as statuses, what is counted and logged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from lstm_explain.errors import Error, InputError
from lstm_explain.service.access import NEEDED, Access
from lstm_explain.service.account import Account, Context
from lstm_explain.service.errors import Dropped, TooLate
from lstm_explain.service.metrics import Metrics

# Answered by grpc's own servicer, which does its own bookkeeping, and asked every few seconds by every prober.
_HEALTH = "/grpc.health.v1.Health/"


class Malformed:
    """Stands for bytes that are no message; see `tolerant` of Calls."""


MALFORMED = Malformed()


class Calls(grpc.ServerInterceptor):
    """Wraps the handlers of every service.

    tolerant: streaming methods, by full name, that see MALFORMED in the place of a request that is no message; of the
    others such a request ends the call.
    """

    def __init__(self, metrics: Metrics, access: Access, tolerant: tuple[str, ...] = ()) -> None:
        self._metrics = metrics
        self._access = access
        self._tolerant = tolerant
        self._wrapped: dict[tuple[str, str], tuple[Any, Any]] = {}  # by method and caller; as many as tokens, at most

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        method = handler_call_details.method
        rpc = method.rsplit("/", 1)[-1] if method in NEEDED else "unknown"
        try:
            caller = self._access.check(method, handler_call_details.invocation_metadata)
        except Error as error:
            # As a stream, whatever the method is: so not even one message is read.
            return grpc.stream_stream_rpc_method_handler(self._stream(rpc, _raising(error), ""))
        handler = continuation(handler_call_details)
        if handler is None or method.startswith(_HEALTH):
            return handler
        name = caller.name if caller is not None else ""
        known = self._wrapped.get((method, name))
        if known is None or known[0] is not handler:
            known = self._wrapped[method, name] = handler, self._wrap(handler, method, rpc, name)
        return known[1]

    def _wrap(self, handler: grpc.RpcMethodHandler[Any, Any], method: str, rpc: str, name: str) -> Any:
        coding = {
            "request_deserializer": _lenient(handler.request_deserializer),
            "response_serializer": handler.response_serializer,
        }
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(self._unary(rpc, handler.unary_unary, name), **coding)
        if handler.stream_unary:
            behaviour = _strict(handler.stream_unary)
            return grpc.stream_unary_rpc_method_handler(self._unary(rpc, behaviour, name), **coding)
        if handler.stream_stream:
            tolerant = method in self._tolerant
            behaviour = handler.stream_stream if tolerant else _strict(handler.stream_stream)
            return grpc.stream_stream_rpc_method_handler(self._stream(rpc, behaviour, name), **coding)
        raise TypeError(f"{method}: calls of this kind are not wrapped")

    def _unary(self, rpc: str, behaviour: Callable[[Any, Context], Any], caller: str) -> Callable[[Any, Context], Any]:
        def answer(request: Any, context: Context) -> Any:
            with Account(rpc, context, self._metrics, caller) as account:
                try:
                    _refuse(request, context)
                    return behaviour(request, context)
                except Exception as error:
                    account.fail(error, request)
            account.abort()

        return answer

    def _stream(
        self, rpc: str, behaviour: Callable[[Any, Context], Iterator[Any]], caller: str
    ) -> Callable[[Any, Context], Iterator[Any]]:
        def answers(requests: Any, context: Context) -> Iterator[Any]:
            with Account(rpc, context, self._metrics, caller) as account:
                try:
                    yield from behaviour(requests, context)
                    return
                except Exception as error:
                    account.fail(error, None)
            account.abort()

        return answers


def _lenient(deserialise: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    """grpc answers bytes that are no message with INTERNAL; they are the caller's fault."""
    if deserialise is None:
        return None

    def attempt(data: bytes) -> Any:
        try:
            return deserialise(data)
        except DecodeError:
            return MALFORMED

    return attempt


def _refuse(request: object, context: Context) -> None:
    if request is MALFORMED:
        raise InputError("the request is not a valid protobuf message")
    if context.time_remaining() == 0.0:
        raise TooLate("the deadline passed before the work began")
    if not context.is_active():
        raise Dropped("the caller went away before the work began")


def _strict(behaviour: Callable[[Any, Context], Any]) -> Callable[[Any, Context], Any]:
    def checked(requests: Iterator[Any]) -> Iterator[Any]:
        for request in requests:
            if request is MALFORMED:
                raise InputError("a request is not a valid protobuf message")
            yield request

    return lambda requests, context: behaviour(checked(requests), context)


def _raising(error: Error) -> Callable[[Any, Context], NoReturn]:
    def refused(requests: Iterator[Any], context: Context) -> NoReturn:
        raise error

    return refused
