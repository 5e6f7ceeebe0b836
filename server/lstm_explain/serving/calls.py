# SPDX-License-Identifier: Apache-2.0
"""Wraps the calls of every service: access control, conversion of errors to statuses, metrics and logs."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from lstm_explain.errors import Error, InputError
from lstm_explain.serving.audit.log import AuditLog
from lstm_explain.serving.call_record import CallRecord, Context
from lstm_explain.serving.errors import Forbidden, TooLate, Unauthenticated
from lstm_explain.serving.observability.metrics import Metrics
from lstm_explain.serving.scheduling.admission import PendingCall
from lstm_explain.serving.scheduling.background import BackgroundThreads
from lstm_explain.serving.security.access import REQUIRED_ROLES, Access
from lstm_explain.serving.security.permits import ANYBODY, Permit
from lstm_explain.serving.wire.counted import MAX_FIELDS, has_too_many_fields

# gRPC's own servicer answers these and does its own bookkeeping; every prober calls them every few seconds.
_HEALTH = "/grpc.health.v1.Health/"
# How asyncio's gRPC reports that the caller has gone: it cancels the task, or refuses to read and write.
_LEFT = (asyncio.CancelledError, grpc.aio.BaseError)

Handler = Callable[[Any, Context], Awaitable[Any]]


@dataclass(frozen=True)
class Malformed:
    """Stands for bytes that are not a message, or for a message that is not read; see `tolerant` of Calls."""

    problem: str


MALFORMED = Malformed("the request is not a valid protobuf message")
TOO_MANY = Malformed(f"the request has more than {MAX_FIELDS} fields and numbers outside of tensors' data")

# The size in bytes of the message that this context handles. The message's own method takes as long as serialising it.
received: ContextVar[int] = ContextVar("received", default=0)


class Calls(grpc.aio.ServerInterceptor):
    """Wraps the handlers of every service.

    A servicer's coroutines run in asyncio's loop, which they must not block; its plain functions run in background
    threads. Both get a PendingCall in place of gRPC's context.

    tolerant: streaming methods, by full name, that receive a Malformed in place of a request that is not a message;
    such a request ends a call of any other method. audit: None where there is no audit log.
    """

    def __init__(
        self,
        metrics: Metrics,
        access: Access,
        background: BackgroundThreads,
        tolerant: tuple[str, ...] = (),
        audit: AuditLog | None = None,
    ) -> None:
        self._metrics = metrics
        self._audit = audit
        self._access = access
        self._background = background
        self._tolerant = tolerant
        self._wrapped: dict[tuple[str, Permit], tuple[Any, Any]] = {}  # by method and permit; there is one per token

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        method = handler_call_details.method
        rpc = method.rsplit("/", 1)[-1] if method in REQUIRED_ROLES else "unknown"
        try:
            permit = self._access.check(method, handler_call_details.invocation_metadata)
        except (Unauthenticated, Forbidden) as error:
            # Registered as a stream, whatever the method is, so that not even one message is read.
            return grpc.stream_stream_rpc_method_handler(self._stream(rpc, _raising(error), ANYBODY, error.caller))
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        if method.startswith(_HEALTH):
            return _tolerating(handler)
        known = self._wrapped.get((method, permit))
        if known is None or known[0] is not handler:
            known = self._wrapped[method, permit] = handler, self._wrap(handler, method, rpc, permit)
        return known[1]

    def _wrap(self, handler: Any, method: str, rpc: str, permit: Permit) -> Any:
        coding = {
            "request_deserializer": _lenient(handler.request_deserializer),
            "response_serializer": handler.response_serializer,
        }
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(self._unary(rpc, handler.unary_unary, permit), **coding)
        if handler.stream_unary:
            behaviour = _strict(handler.stream_unary)
            return grpc.stream_unary_rpc_method_handler(self._unary(rpc, behaviour, permit), **coding)
        if handler.stream_stream:
            tolerant = method in self._tolerant
            behaviour = handler.stream_stream if tolerant else _strict(handler.stream_stream)
            return grpc.stream_stream_rpc_method_handler(self._stream(rpc, behaviour, permit), **coding)
        raise TypeError(f"{method}: calls of this kind are not wrapped")

    def _unary(self, rpc: str, behaviour: Callable[[Any, PendingCall], Any], permit: Permit) -> Handler:
        if not inspect.iscoroutinefunction(behaviour):
            behaviour = self._in_thread(behaviour)

        async def answer(request: Any, context: Context) -> Any:
            with CallRecord(rpc, context, self._metrics, permit, self._audit) as account:
                call = account.call
                try:
                    _refuse(request, call)
                    return await behaviour(request, call)
                except _LEFT:
                    raise account.left() from None
                except Exception as error:
                    account.fail(error, request)
            del request  # the traceback of `abort`'s exception keeps this frame until a garbage collection
            await account.abort()

        return answer

    def _stream(
        self,
        rpc: str,
        behaviour: Callable[[Any, PendingCall], AsyncGenerator[Any, None]],
        permit: Permit,
        caller: str = "",
    ) -> Handler:
        async def answers(requests: Any, context: Context) -> None:
            with CallRecord(rpc, context, self._metrics, permit, self._audit, caller) as account:
                call = account.call
                try:
                    async with aclosing(behaviour(requests, call)) as coming:
                        async for answer in coming:
                            await context.write(answer)
                    if not call.too_late():
                        return
                    # The last request ran out of time just before gRPC would have ended the stream.
                    account.fail(TooLate("the deadline passed"), None)
                except _LEFT:
                    raise account.left() from None
                except Exception as error:
                    account.fail(error, None)
            await account.abort()

        return answers

    def _in_thread(self, behaviour: Callable[[Any, PendingCall], Any]) -> Callable[[Any, PendingCall], Awaitable[Any]]:
        async def background(request: Any, call: PendingCall) -> Any:
            return await self._background.do(partial(behaviour, request, call), call)

        return background


def _tolerating(handler: Any) -> Any:
    """Returns the handler, which receives a Malformed in place of bytes that are not a message."""
    return handler._replace(request_deserializer=_lenient(handler.request_deserializer))


def _lenient(deserialise: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    """gRPC answers bytes that are not a message with INTERNAL, although they are the caller's fault."""
    if deserialise is None:
        return None
    kind = deserialise.__self__.DESCRIPTOR  # type: ignore[attr-defined]  # of the class whose FromString it is

    def attempt(data: bytes) -> Any:
        received.set(len(data))
        if has_too_many_fields(data, kind):
            return TOO_MANY
        try:
            return deserialise(data)
        except DecodeError:
            return MALFORMED

    return attempt


def _refuse(request: object, call: PendingCall) -> None:
    if isinstance(request, Malformed):
        raise InputError(request.problem)
    if call.too_late():
        raise TooLate("the deadline passed before the work began")


def _strict(behaviour: Callable[[Any, PendingCall], Any]) -> Callable[[Any, PendingCall], Any]:
    async def checked(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for request in requests:
            if isinstance(request, Malformed):
                raise InputError(request.problem)
            yield request

    if inspect.iscoroutinefunction(behaviour):

        async def one(requests: AsyncIterator[Any], call: PendingCall) -> Any:
            return await behaviour(checked(requests), call)

        return one
    return lambda requests, call: behaviour(checked(requests), call)


def _raising(error: Error) -> Callable[[Any, PendingCall], NoReturn]:
    def refused(requests: object, call: PendingCall) -> NoReturn:
        raise error

    return refused
