# SPDX-License-Identifier: Apache-2.0
"""Reads what precedes the message of an HTTP call (its encoding, its headers), and converts messages from JSON and to
JSON.
"""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf import json_format
from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive

from lstm_explain.serving.audit.note import PEER, SUBJECT
from lstm_explain.serving.call_record import CANARY, REQUEST_ID
from lstm_explain.serving.web import connections

# The headers that are forwarded to gRPC; the others concern browsers only.
FORWARDED = ("authorization", REQUEST_ID, CANARY, "traceparent", "tracestate")
# Python parses JSON element by element and holds the interpreter meanwhile. An array is one element, a base64 string;
# so clients never send more elements than this.
MAX_ELEMENTS = 100_000
MAX_PARSING = 2  # JSON bodies at a time: each takes several times its size while it is parsed


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


class Refused(Exception):  # noqa: N818 - as the service's errors are
    """An error for the caller.

    reason: for the metrics. code: the name of a gRPC status. retry: whether the caller may try again.
    """

    def __init__(self, reason: str, status: int, code: str, message: str, *, retry: bool = False) -> None:
        super().__init__(message)
        self.reason, self.status, self.code = reason, status, code
        self.headers = {"retry-after": "1"} if retry else {}


PRIVATE = {"cache-control": "no-store"}


async def gone(receive: Receive) -> None:
    """Returns when the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass


def request_id(trailers: dict[str, str | bytes]) -> dict[str, str]:
    return {REQUEST_ID: str(trailers[REQUEST_ID])} if REQUEST_ID in trailers else {}


def json_response(body: bytes, status: int, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, media_type="application/json", headers={**PRIVATE, **(headers or {})})


def is_json(request: Request, as_json: str, as_proto: str) -> bool:
    """Returns whether the message is JSON, or else protobuf; a form of another site cannot send either. as_json,
    as_proto: the content types of both. Raises Refused.
    """
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Refused("coding", 415, "UNIMPLEMENTED", "compressed requests are not supported")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in (as_json, as_proto):
        problem = f"the content type must be {as_json} or {as_proto}, not {kind!r}"
        raise Refused("coding", 415, "INVALID_ARGUMENT", problem)
    return kind == as_json


def timeout_of(request: Request) -> float | None:
    """Returns the header Connect-Timeout-Ms, in seconds. Raises Refused."""
    value = request.headers.get("connect-timeout-ms")
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= 10):
        raise Refused("coding", 400, "INVALID_ARGUMENT", "Connect-Timeout-Ms is not a number of up to ten digits")
    return int(value) / 1000


def metadata_of(request: Request) -> tuple[tuple[str, str], ...]:
    found = [(name, value) for name in FORWARDED for value in request.headers.getlist(name)]
    if request.client is not None:
        found.append((PEER, f"page:{request.client.host}:{request.client.port}"))
    if subject := request.scope.get("state", {}).get(connections.SUBJECT):
        found.append((SUBJECT, subject))
    return tuple((name, "".join(c if " " <= c <= "~" else "?" for c in value)) for name, value in found)


def parse_json(call: HttpCall, body: bytes) -> bytes:
    """Returns the JSON message in protobuf's binary format. Raises Refused."""
    if body.count(b",") > MAX_ELEMENTS:
        problem = f"the JSON has more than {MAX_ELEMENTS} elements; arrays are sent as base64 in `data`"
        raise Refused("json", 400, "INVALID_ARGUMENT", problem)
    try:
        if not body.lstrip().startswith(b"{"):  # json_format would read it as an empty message
            raise json_format.ParseError("it is not an object")
        return json_format.Parse(body, call.request()).SerializeToString()
    except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        problem = f"the request is not valid JSON for {call.request.DESCRIPTOR.full_name}: {error}"
        raise Refused("json", 400, "INVALID_ARGUMENT", problem[:1500]) from None


def to_json(call: HttpCall, answer: bytes) -> bytes:
    message = call.response()
    message.ParseFromString(answer)
    return json_format.MessageToJson(message, indent=None, ensure_ascii=False).encode()
