# SPDX-License-Identifier: Apache-2.0
"""Writes errors and streams as the Connect protocol (connectrpc.com/docs/protocol) defines them."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf import json_format
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

# The HTTP status of each gRPC status. Connect spells `canceled` in American English.
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
    error_details_pb2.QuotaFailure,
)


def error(code: str, message: str, details: Iterable[Packed] = ()) -> bytes:
    """Returns the body of an error response. code: the name of a gRPC status."""
    body: dict[str, Any] = {"code": _SPELLED.get(code, code.lower()), "message": message}
    if described := [_detail(packed) for packed in details]:
        body["details"] = described
    return json.dumps(body, ensure_ascii=False).encode()


def from_status(name: str, message: str, status: bytes) -> tuple[int, bytes, Mapping[str, str]]:
    """Returns HTTP status, body and headers for a failed call. status: a serialised google.rpc.Status, or empty."""
    details = status_pb2.Status.FromString(status).details
    retry = error_details_pb2.RetryInfo()
    wait = any(packed.Unpack(retry) for packed in details)
    seconds = math.ceil(retry.retry_delay.ToNanoseconds() / 1e9)
    headers = {"retry-after": str(max(1, seconds))} if wait else {}
    return HTTP_STATUS[name], error(name, message, details), headers


# --- streams: each message has a byte of flags and its length in four bytes in front ---------------------------------

END = 2  # the flag of the last message, which is JSON and holds the error, if any


def envelope(message: bytes, flags: int = 0) -> bytes:
    return flags.to_bytes(1) + len(message).to_bytes(4) + message


def messages_of(body: bytes) -> list[bytes]:
    """Returns the messages of a stream. Raises ValueError."""
    messages, at = [], 0
    while at < len(body):
        start = at + 5
        at = start + int.from_bytes(body[at + 1 : start])
        if body[start - 5]:
            raise ValueError(f"a message has the flags {body[start - 5]}, expected none")
        if start > len(body) or at > len(body):
            raise ValueError("the last message is not complete")
        messages.append(body[start:at])
    return messages


def end_of_stream(failure: bytes | None, metadata: Mapping[str, str]) -> bytes:
    """Returns the last message. failure: from `from_status`. metadata: of the end of the call."""
    last: dict[str, Any] = {} if failure is None else {"error": json.loads(failure)}
    if metadata:
        last["metadata"] = {name: [value] for name, value in metadata.items()}
    return envelope(json.dumps(last, ensure_ascii=False).encode(), END)


def _detail(packed: Packed) -> dict[str, Any]:
    """Returns the detail: `value` for programs, `debug` for people. Connect requires base64 without padding."""
    detail: dict[str, Any] = {
        "type": packed.TypeName(),
        "value": base64.b64encode(packed.value).decode().rstrip("="),
    }
    for kind in _DETAILS:
        message = kind()
        if packed.Unpack(message):
            detail["debug"] = json_format.MessageToDict(message)
    return detail
