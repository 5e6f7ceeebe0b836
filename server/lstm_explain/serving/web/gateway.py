"""Calls over HTTP: a message as JSON or as protobuf in, the same call over gRPC, its answer or its error out.

The gRPC server does all the rest, as for every other caller: who may call, limits, deadlines, metrics, the log. Here
is only what comes before a message is one: its coding, its size.
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

# What goes on to gRPC; all else that a browser sends is no business of a call.
_FORWARDED = ("authorization", REQUEST_ID, "traceparent", "tracestate")
# Python reads JSON element by element and lets nobody else work meanwhile. Arrays are base64, one element each, so that
# a request with more elements than this is none of ours.
MOST_ELEMENTS = 100_000
MOST_READ_AT_A_TIME = 2  # bodies of JSON: each takes several times its size meanwhile
MUCH = 1 << 20  # bytes of a body whose memory is given back to the system
# Bytes in and out.
Forward = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
Coming = grpc.aio.UnaryUnaryCall[bytes, bytes]


@dataclass(frozen=True)
class HttpCall:
    """One that the page may make."""

    service: str
    method: str
    request: type[Message]
    response: type[Message]

    @property
    def path(self) -> str:
        return f"/{self.service}/{self.method}"


# Those that change nothing, with one message each way. Models come and go over gRPC only.
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
    """Told to the caller. code: the name of a gRPC status; why: for the metrics; retry: whether it may come again."""

    def __init__(self, why: str, status: int, code: str, message: str, *, retry: bool = False) -> None:
        super().__init__(message)
        self.why, self.status, self.code = why, status, code
        self.headers = {"retry-after": "1"} if retry else {}


class Gateway:
    """channel: to our own server. most_bytes: largest body. much_was_used: called after a request with a large one."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        access: Access,
        metrics: Metrics,
        most_bytes: int,
        bodies: Bodies,
        much_was_used: Callable[[], None],
    ) -> None:
        self._channel = channel
        self._access = access
        self._metrics = metrics
        self._most_bytes = most_bytes
        self._bodies = bodies
        self._much_was_used = much_was_used
        self._reading = asyncio.Semaphore(MOST_READ_AT_A_TIME)

    def routes(self) -> list[Route]:
        return [Route(call.path, self._endpoint(call), methods=["POST"]) for call in CALLS]

    def _endpoint(self, call: HttpCall) -> Callable[[Request], object]:
        forward: Forward = self._channel.unary_unary(call.path)

        async def endpoint(request: Request) -> Response:
            body = Body()
            try:
                return await self._answer(call, forward, request, body)
            except _Refused as refused:
                self._metrics.web_refusals.labels(refused.why).inc()
                log.info("%s refused: %s", call.method, refused)
                return _json(connect.error(refused.code, str(refused)), refused.status, refused.headers)
            except ClientDisconnect:
                return Response(status_code=499)
            finally:
                if body.size > MUCH or body.gave_way:
                    self._much_was_used()
                self._bodies.drop(body)

        return endpoint

    async def _answer(self, call: HttpCall, forward: Forward, request: Request, body: Body) -> Response:
        is_json = _is_json(request)
        timeout = _timeout(request)
        metadata = _metadata(request)
        try:
            self._access.check(call.path, metadata)
        except Error:
            message = b""  # refused over there, as every call is; the body is not even read
        else:
            message = await self._arrived(request, body)
            if is_json:
                async with self._reading:
                    message = await run_in_threadpool(_message, call, message)
        coming = forward(message, metadata=metadata, timeout=timeout)
        if not await _outlasts(request, coming):
            return Response(status_code=499)
        try:
            answer = await coming
        except grpc.aio.AioRpcError as error:
            trailers = dict(error.trailing_metadata())
            status, told, headers = connect.from_status(
                error.code().name, error.details() or "", bytes(trailers.get(DETAILS, b""))
            )
            return _json(told, status, {**headers, **_own(trailers)})
        headers = _own(dict(await coming.trailing_metadata()))
        if not is_json:
            return Response(answer, media_type="application/proto", headers={**_PRIVATE, **headers})
        return _json(await run_in_threadpool(_as_json, call, answer), 200, headers)

    async def _arrived(self, request: Request, body: Body) -> bytes:
        """All bytes of the body. Raises _Refused."""
        too_large = _Refused("size", 413, "RESOURCE_EXHAUSTED", f"a request has at most {self._most_bytes} bytes")
        if int(request.headers.get("content-length", "0")) > self._most_bytes:  # h11 has seen that it is a number
            raise too_large
        try:
            whole = await self._bodies.read(body, request.stream(), self._most_bytes)
        except TooSlow:
            told = f"the request was not there after {self._bodies.deadline:g} seconds"
            raise _Refused("slow", 408, "DEADLINE_EXCEEDED", told) from None
        except TooMuch:
            told = "the requests that are arriving hold as much as they may, try again later"
            raise _Refused("room", 429, "RESOURCE_EXHAUSTED", told, retry=True) from None
        if whole is None:
            raise too_large
        return whole


_PRIVATE = {"cache-control": "no-store"}


async def _outlasts(request: Request, call: Coming) -> bool:
    """Waits until the call is done; cancels it, and says False, if who asked leaves first."""
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


async def _ended(call: Coming) -> None:
    await call.code()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _is_json(request: Request) -> bool:
    """Whether the message is JSON; a form of another site can be neither that nor protobuf."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise _Refused("coding", 415, "UNIMPLEMENTED", "compressed requests are not taken")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("application/json", "application/proto"):
        told = f"the content type is {kind!r}, wanted application/json or application/proto"
        raise _Refused("coding", 415, "INVALID_ARGUMENT", told)
    return kind == "application/json"


def _timeout(request: Request) -> float | None:
    """Seconds, as Connect-Timeout-Ms says."""
    told = request.headers.get("connect-timeout-ms")
    if told is None:
        return None
    if not (told.isascii() and told.isdigit() and len(told) <= 10):
        raise _Refused("coding", 400, "INVALID_ARGUMENT", "Connect-Timeout-Ms is not a number of up to ten digits")
    return int(told) / 1000


def _metadata(request: Request) -> tuple[tuple[str, str], ...]:
    found = ((name, value) for name in _FORWARDED for value in request.headers.getlist(name))
    return tuple((name, "".join(c if " " <= c <= "~" else "?" for c in value)) for name, value in found)


def _message(call: HttpCall, body: bytes) -> bytes:
    """The message as gRPC carries it. Raises _Refused."""
    if body.count(b",") > MOST_ELEMENTS:
        told = f"the JSON has more than {MOST_ELEMENTS} elements; arrays travel as base64 in `data`"
        raise _Refused("json", 400, "INVALID_ARGUMENT", told)
    try:
        if not body.lstrip().startswith(b"{"):  # which would be taken for an empty one
            raise json_format.ParseError("it is no object")
        return json_format.Parse(body, call.request()).SerializeToString()
    except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        told = f"the request is not the JSON of {call.request.DESCRIPTOR.full_name}: {error}"
        raise _Refused("json", 400, "INVALID_ARGUMENT", told[:1500]) from None


def _as_json(call: HttpCall, answer: bytes) -> bytes:
    message = call.response()
    message.ParseFromString(answer)
    return json_format.MessageToJson(message, indent=None, ensure_ascii=False).encode()


def _own(trailers: dict[str, str | bytes]) -> dict[str, str]:
    return {REQUEST_ID: str(trailers[REQUEST_ID])} if REQUEST_ID in trailers else {}


def _json(body: bytes, status: int, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, media_type="application/json", headers={**_PRIVATE, **(headers or {})})
