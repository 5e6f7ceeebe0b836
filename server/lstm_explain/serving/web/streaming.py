# SPDX-License-Identifier: Apache-2.0
"""Answers ExplainStream over HTTP, by the Connect protocol for streams: all requests in one body, answers as they come.

So the page hears of the progress of long requests. HTTP/1.1 carries the answers only when all requests have arrived.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import grpc
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from lstm_explain.serving.call_record import DETAILS
from lstm_explain.serving.web import connect
from lstm_explain.serving.web.bodies import Body
from lstm_explain.serving.web.gateway import Gateway
from lstm_explain.serving.web.http_calls import (
    PRIVATE,
    HttpCall,
    Refused,
    gone,
    is_json,
    metadata_of,
    request_id,
    timeout_of,
    to_json,
)
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2 as pb

STREAM = HttpCall(
    "lstm_explain.v1.ExplanationService", "ExplainStream", pb.ExplainStreamRequest, pb.ExplainStreamResponse
)
AS_JSON, AS_PROTO = "application/connect+json", "application/connect+proto"
Call = grpc.aio.StreamStreamCall[bytes, bytes]


class StreamGateway:
    """gateway: whose limits and access it shares."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._forward: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = gateway.channel.stream_stream(STREAM.path)

    def route(self) -> Route:
        return Route(STREAM.path, self._answer, methods=["POST"])

    async def _answer(self, request: Request) -> Response:
        body, gateway = Body(), self._gateway
        try:
            as_json, timeout, metadata = is_json(request, AS_JSON, AS_PROTO), timeout_of(request), metadata_of(request)
            messages: list[bytes] = []
            if gateway.may_call(STREAM, metadata):
                messages = _messages(await gateway.read_body(request, body))
                if as_json:
                    messages = [await gateway.parsed(STREAM, message) for message in messages]
        except BaseException as error:
            gateway.release(body)
            if isinstance(error, Refused):
                return gateway.refusal(STREAM, error)
            if isinstance(error, ClientDisconnect):
                return Response(status_code=499)
            raise
        call = self._forward(iter(messages), metadata=metadata, timeout=timeout)

        def finish() -> None:
            call.cancel()
            gateway.release(body)

        return _Streamed(_pieces(call, as_json=as_json), AS_JSON if as_json else AS_PROTO, finish)


class _Streamed(StreamingResponse):
    """A response of many pieces, which ends when the client disconnects. finish: called at the end in any case."""

    def __init__(self, pieces: AsyncIterator[bytes], kind: str, finish: Callable[[], None]) -> None:
        super().__init__(pieces, media_type=kind, headers=PRIVATE)
        self._finish = finish

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending, left = asyncio.ensure_future(self.stream_response(send)), asyncio.ensure_future(gone(receive))
        try:
            await asyncio.wait({sending, left}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sending.cancel()
            left.cancel()
            self._finish()
            await asyncio.gather(sending, left, return_exceptions=True)


async def _pieces(call: Call, *, as_json: bool) -> AsyncIterator[bytes]:
    failure: bytes | None = None
    try:
        async for answer in call:
            yield connect.envelope(await run_in_threadpool(to_json, STREAM, answer) if as_json else answer)
        trailers = dict(await call.trailing_metadata())
    except grpc.aio.AioRpcError as error:
        trailers = dict(error.trailing_metadata())
        details = trailers.get(DETAILS, b"")
        told = details if isinstance(details, bytes) else b""
        failure = connect.from_status(error.code().name, error.details() or "", told)[1]
    yield connect.end_of_stream(failure, request_id(trailers))


def _messages(body: bytes) -> list[bytes]:
    try:
        return connect.messages_of(body)
    except ValueError as error:
        raise Refused("coding", 400, "INVALID_ARGUMENT", f"the body is no stream of messages: {error}") from None
