"""Translates HTTP calls to gRPC: a JSON or protobuf message in, the response or the error of the same gRPC call out.

The gRPC server does all the rest, as for every other caller: access, limits, deadlines, metrics, the log. The gateway
checks only what precedes a message: its encoding and its size.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from lstm_explain.errors import Error
from lstm_explain.serving.call_record import DETAILS, REQUEST_ID
from lstm_explain.serving.observability.metrics import Metrics
from lstm_explain.serving.security.access import Access
from lstm_explain.serving.web import connect
from lstm_explain.serving.web.bodies import Bodies, Body, TooMuch, TooSlow
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2, model_pb2

log = logging.getLogger(__name__)

# The headers that are forwarded to gRPC; the others concern browsers only.
_FORWARDED = ("authorization", REQUEST_ID, "traceparent", "tracestate")
# Python parses JSON element by element and holds the interpreter meanwhile. An array is one element, a base64 string;
# so clients never send more elements than this.
MAX_ELEMENTS = 100_000
MAX_PARSING = 2  # JSON bodies at a time: each takes several times its size while it is parsed
HEAVY_BYTES = 1 << 20  # bytes of a body; after larger ones, free memory is returned to the system
# Both send and receive bytes.
Forward = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
GrpcCall = grpc.aio.UnaryUnaryCall[bytes, bytes]


@dataclass(frozen=True)
class HttpCall:
    """A call that the page may make."""

    service: str
    method: str
    request: type[Message]
    response: type[Message]

    @property
    def path(self) -> str:
        return f"/{self.service}/{self.method}"


# Unary calls that change nothing. Models are imported and deleted over gRPC only.
CALLS = (
    HttpCall("lstm_explain.v1.ModelService", "ListModels", model_pb2.ListModelsRequest, model_pb2.ListModelsResponse),
    HttpCall("lstm_explain.v1.ModelService", "GetModel", model_pb2.GetModelRequest, model_pb2.GetModelResponse),
    HttpCall(
        "lstm_explain.v1.ExplanationService",
        "Explain",
        explanation_pb2.ExplainRequest,
        explanation_pb2.ExplainResponse,
    ),
)


class _Refused(Exception):  # noqa: N818 - as the service's errors are
    """An error for the caller.

    reason: for the metrics. code: the name of a gRPC status. retry: whether the caller may try again.
    """

    def __init__(self, reason: str, status: int, code: str, message: str, *, retry: bool = False) -> None:
        super().__init__(message)
        self.reason, self.status, self.code = reason, status, code
        self.headers = {"retry-after": "1"} if retry else {}


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
        self._channel = channel
        self._access = access
        self._metrics = metrics
        self._most_bytes = most_bytes
        self._bodies = bodies
        self._after_heavy = after_heavy
        self._parsing = asyncio.Semaphore(MAX_PARSING)

    def routes(self) -> list[Route]:
        return [Route(call.path, self._endpoint(call), methods=["POST"]) for call in CALLS]

    def _endpoint(self, call: HttpCall) -> Callable[[Request], object]:
        forward: Forward = self._channel.unary_unary(call.path)

        async def endpoint(request: Request) -> Response:
            body = Body()
            try:
                return await self._answer(call, forward, request, body)
            except _Refused as refused:
                self._metrics.web_refusals.labels(refused.reason).inc()
                log.info("%s refused: %s", call.method, refused)
                return _json(connect.error(refused.code, str(refused)), refused.status, refused.headers)
            except ClientDisconnect:
                return Response(status_code=499)
            finally:
                if body.size > HEAVY_BYTES or body.evicted:
                    self._after_heavy()
                self._bodies.drop(body)

        return endpoint

    async def _answer(self, call: HttpCall, forward: Forward, request: Request, body: Body) -> Response:
        is_json = _is_json(request)
        timeout = _timeout(request)
        metadata = _metadata(request)
        try:
            self._access.check(call.path, metadata)
        except Error:
            message = b""  # the gRPC server refuses the call; the body need not be read
        else:
            message = await self._read_body(request, body)
            if is_json:
                async with self._parsing:
                    message = await run_in_threadpool(_parse_json, call, message)
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
            return _json(error_body, status, {**headers, **_request_id(trailers)})
        headers = _request_id(dict(await grpc_call.trailing_metadata()))
        if not is_json:
            return Response(answer, media_type="application/proto", headers={**_PRIVATE, **headers})
        return _json(await run_in_threadpool(_to_json, call, answer), 200, headers)

    async def _read_body(self, request: Request, body: Body) -> bytes:
        """The whole body. Raises _Refused."""
        too_large = _Refused("size", 413, "RESOURCE_EXHAUSTED", f"a request has at most {self._most_bytes} bytes")
        if int(request.headers.get("content-length", "0")) > self._most_bytes:  # h11 has checked that it is a number
            raise too_large
        try:
            whole = await self._bodies.read(body, request.stream(), self._most_bytes)
        except TooSlow:
            problem = f"the request did not arrive within {self._bodies.timeout:g} seconds"
            raise _Refused("slow", 408, "DEADLINE_EXCEEDED", problem) from None
        except TooMuch:
            problem = "the requests that are arriving take all available memory, try again later"
            raise _Refused("room", 429, "RESOURCE_EXHAUSTED", problem, retry=True) from None
        if whole is None:
            raise too_large
        return whole


_PRIVATE = {"cache-control": "no-store"}


async def _client_waits(request: Request, call: GrpcCall) -> bool:
    """Waits until the call is done. Cancels it and returns False if the client disconnects first."""
    done = asyncio.ensure_future(_ended(call))
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({done, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not done.done():
            call.cancel()
            return False
        return True
    finally:
        gone.cancel()
        done.cancel()


async def _ended(call: GrpcCall) -> None:
    await call.code()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _is_json(request: Request) -> bool:
    """Whether the message is JSON, or else protobuf; a form of another site cannot send either. Raises _Refused."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise _Refused("coding", 415, "UNIMPLEMENTED", "compressed requests are not supported")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("application/json", "application/proto"):
        problem = f"the content type must be application/json or application/proto, not {kind!r}"
        raise _Refused("coding", 415, "INVALID_ARGUMENT", problem)
    return kind == "application/json"


def _timeout(request: Request) -> float | None:
    """The header Connect-Timeout-Ms, in seconds. Raises _Refused."""
    value = request.headers.get("connect-timeout-ms")
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= 10):
        raise _Refused("coding", 400, "INVALID_ARGUMENT", "Connect-Timeout-Ms is not a number of up to ten digits")
    return int(value) / 1000


def _metadata(request: Request) -> tuple[tuple[str, str], ...]:
    found = ((name, value) for name in _FORWARDED for value in request.headers.getlist(name))
    return tuple((name, "".join(c if " " <= c <= "~" else "?" for c in value)) for name, value in found)


def _parse_json(call: HttpCall, body: bytes) -> bytes:
    """The JSON message in protobuf's binary format. Raises _Refused."""
    if body.count(b",") > MAX_ELEMENTS:
        problem = f"the JSON has more than {MAX_ELEMENTS} elements; arrays are sent as base64 in `data`"
        raise _Refused("json", 400, "INVALID_ARGUMENT", problem)
    try:
        if not body.lstrip().startswith(b"{"):  # json_format would read it as an empty message
            raise json_format.ParseError("it is not an object")
        return json_format.Parse(body, call.request()).SerializeToString()
    except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        problem = f"the request is not valid JSON for {call.request.DESCRIPTOR.full_name}: {error}"
        raise _Refused("json", 400, "INVALID_ARGUMENT", problem[:1500]) from None


def _to_json(call: HttpCall, answer: bytes) -> bytes:
    message = call.response()
    message.ParseFromString(answer)
    return json_format.MessageToJson(message, indent=None, ensure_ascii=False).encode()


def _request_id(trailers: dict[str, str | bytes]) -> dict[str, str]:
    return {REQUEST_ID: str(trailers[REQUEST_ID])} if REQUEST_ID in trailers else {}


def _json(body: bytes, status: int, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, media_type="application/json", headers={**_PRIVATE, **(headers or {})})
