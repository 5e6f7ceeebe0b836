"""Writes errors as JSON, as the Connect protocol (connectrpc.com/docs/protocol) defines them for unary calls."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf import json_format
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

# By the name of a gRPC status. Connect spells `canceled` in American English.
HTTP_STATUS: dict[str, int] = {
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
}
_SPELLED = {"CANCELLED": "canceled"}
_DETAILS: tuple[type[Message], ...] = (
    error_details_pb2.BadRequest,
    error_details_pb2.ErrorInfo,
    error_details_pb2.RetryInfo,
)


def error(code: str, message: str, details: Iterable[Packed] = ()) -> bytes:
    """The body of an error response. code: the name of a gRPC status."""
    body: dict[str, Any] = {"code": _SPELLED.get(code, code.lower()), "message": message}
    if described := [_detail(packed) for packed in details]:
        body["details"] = described
    return json.dumps(body, ensure_ascii=False).encode()


def from_status(name: str, message: str, status: bytes) -> tuple[int, bytes, Mapping[str, str]]:
    """HTTP status, body and headers for a failed call. status: a serialised google.rpc.Status, or empty."""
    details = status_pb2.Status.FromString(status).details
    retry = error_details_pb2.RetryInfo()
    wait = any(packed.Unpack(retry) for packed in details)
    headers = {"retry-after": str(max(1, retry.retry_delay.seconds))} if wait else {}
    return HTTP_STATUS[name], error(name, message, details), headers


def _detail(packed: Packed) -> dict[str, Any]:
    """`value` for programs, `debug` for people. Connect requires base64 without padding."""
    detail: dict[str, Any] = {
        "type": packed.TypeName(),
        "value": base64.b64encode(packed.value).decode().rstrip("="),
    }
    for kind in _DETAILS:
        message = kind()
        if packed.Unpack(message):
            detail["debug"] = json_format.MessageToDict(message)
    return detail
