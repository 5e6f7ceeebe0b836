# SPDX-License-Identifier: Apache-2.0
"""Translates HTTP calls to gRPC: a JSON or protobuf message in, the response or the error of the same gRPC call out.

The gRPC server does all the rest, as for every other caller: access, limits, deadlines, metrics, the log. The gateway
checks only what precedes a message: its encoding and its size.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import grpc
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from lstm_explain.errors import Error
from lstm_explain.serving.call_record import DETAILS
from lstm_explain.serving.observability.metrics import Metrics
from lstm_explain.serving.security.access import Access
from lstm_explain.serving.web import connect
from lstm_explain.serving.web.bodies import Bodies, Body, TooMuch, TooSlow
from lstm_explain.serving.web.http_calls import (
    MAX_PARSING,
    PRIVATE,
    HttpCall,
    Refused,
    gone,
    is_json,
    json_response,
    metadata_of,
    parse_json,
    request_id,
    timeout_of,
    to_json,
)
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2, model_pb2, operation_pb2

log = logging.getLogger(__name__)

HEAVY_BYTES = 1 << 20  # bytes of a body; after larger ones, free memory is returned to the system
# Both send and receive bytes.
Forward = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
GrpcCall = grpc.aio.UnaryUnaryCall[bytes, bytes]


_OPERATIONS = "lstm_explain.v1.OperationService"
# Unary calls that leave the models as they are; these are imported, deleted and routed over gRPC only.
CALLS = (
    HttpCall("lstm_explain.v1.ModelService", "ListModels", model_pb2.ListModelsRequest, model_pb2.ListModelsResponse),
    HttpCall("lstm_explain.v1.ModelService", "GetModel", model_pb2.GetModelRequest, model_pb2.GetModelResponse),
    HttpCall(
        "lstm_explain.v1.ExplanationService",
        "Explain",
        explanation_pb2.ExplainRequest,
        explanation_pb2.ExplainResponse,
    ),
    *(
        HttpCall(_OPERATIONS, name, getattr(operation_pb2, f"{name}Request"), getattr(operation_pb2, f"{name}Response"))
        for name in operation_pb2.DESCRIPTOR.services_by_name["OperationService"].methods_by_name
    ),
)


class Gateway:
    """channel: to the gRPC server of this process. most_bytes: the size limit of a body. after_heavy: called after a
    large request.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        access: Access,
        metrics: Metrics,
        most_bytes: int,
        bodies: Bodies,
        after_heavy: Callable[[], None],
    ) -> None:
        self.channel = channel
        self._access = access
        self._metrics = metrics
        self._most_bytes = most_bytes
        self._bodies = bodies
        self._after_heavy = after_heavy
        self._parsing = asyncio.Semaphore(MAX_PARSING)

    def routes(self) -> list[Route]:
        return [Route(call.path, self._endpoint(call), methods=["POST"]) for call in CALLS]

    def _endpoint(self, call: HttpCall) -> Callable[[Request], object]:
        forward: Forward = self.channel.unary_unary(call.path)

        async def endpoint(request: Request) -> Response:
            body = Body()
            try:
                return await self._answer(call, forward, request, body)
            except Refused as refused:
                return self.refusal(call, refused)
            except ClientDisconnect:
                return Response(status_code=499)
            finally:
                self.release(body)

        return endpoint

    def refusal(self, call: HttpCall, refused: Refused) -> Response:
        self._metrics.web_refusals.labels(refused.reason).inc()
        log.info("%s refused: %s", call.method, refused)
        return json_response(connect.error(refused.code, str(refused)), refused.status, refused.headers)

    def release(self, body: Body) -> None:
        """Call it when a request is answered."""
        if body.size > HEAVY_BYTES or body.evicted:
            self._after_heavy()
        self._bodies.drop(body)

    def may_call(self, call: HttpCall, metadata: tuple[tuple[str, str], ...]) -> bool:
        """Returns whether the caller has access. If not, the gRPC server refuses the call, and the body need not be
        read.
        """
        try:
            self._access.check(call.path, metadata)
        except Error:
            return False
        return True

    async def parsed(self, call: HttpCall, message: bytes) -> bytes:
        """Returns a JSON message in protobuf's binary format. Raises Refused."""
        async with self._parsing:
            return await run_in_threadpool(parse_json, call, message)

    async def _answer(self, call: HttpCall, forward: Forward, request: Request, body: Body) -> Response:
        as_json = is_json(request, "application/json", "application/proto")
        timeout = timeout_of(request)
        metadata = metadata_of(request)
        message = b""
        if self.may_call(call, metadata):
            message = await self.read_body(request, body)
            message = await self.parsed(call, message) if as_json else message
        grpc_call = forward(message, metadata=metadata, timeout=timeout)
        if not await _client_waits(request, grpc_call):
            return Response(status_code=499)
        try:
            answer = await grpc_call
        except grpc.aio.AioRpcError as error:
            trailers = dict(error.trailing_metadata())
            status, error_body, headers = connect.from_status(
                error.code().name, error.details() or "", bytes(trailers.get(DETAILS, b""))
            )
            return json_response(error_body, status, {**headers, **request_id(trailers)})
        headers = request_id(dict(await grpc_call.trailing_metadata()))
        if not as_json:
            return Response(answer, media_type="application/proto", headers={**PRIVATE, **headers})
        return json_response(await run_in_threadpool(to_json, call, answer), 200, headers)

    async def read_body(self, request: Request, body: Body) -> bytes:
        """Returns the whole body. Raises Refused."""
        too_large = Refused("size", 413, "RESOURCE_EXHAUSTED", f"a request has at most {self._most_bytes} bytes")
        if int(request.headers.get("content-length", "0")) > self._most_bytes:  # h11 has checked that it is a number
            raise too_large
        try:
            whole = await self._bodies.read(body, request.stream(), self._most_bytes)
        except TooSlow:
            problem = f"the request did not arrive within {self._bodies.timeout:g} seconds"
            raise Refused("slow", 408, "DEADLINE_EXCEEDED", problem) from None
        except TooMuch:
            problem = "the requests that are arriving take all available memory, try again later"
            raise Refused("room", 429, "RESOURCE_EXHAUSTED", problem, retry=True) from None
        if whole is None:
            raise too_large
        return whole


async def _client_waits(request: Request, call: GrpcCall) -> bool:
    """Waits until the call is done. Cancels it and returns False if the client disconnects first."""
    done = asyncio.ensure_future(_ended(call))
    left = asyncio.ensure_future(gone(request.receive))
    try:
        await asyncio.wait({done, left}, return_when=asyncio.FIRST_COMPLETED)
        if not done.done():
            call.cancel()
            return False
        return True
    finally:
        left.cancel()
        done.cancel()


async def _ended(call: GrpcCall) -> None:
    await call.code()
