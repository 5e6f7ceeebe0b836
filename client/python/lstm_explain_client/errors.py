# SPDX-License-Identifier: Apache-2.0
"""The errors that the client raises.

ExplainError
├── InvalidRequest      the request is invalid; `field` names the field (also a ValueError)
│   └── TooLarge        a message is larger than the client or the server allows
├── ModelNotFound       the model or version does not exist
├── OperationNotFound   the operation does not exist, or has expired
├── AlreadyExists       the imported version already exists
├── NotExplainable      the method does not support the model
├── Overloaded          the server is overloaded; `retry_after` says when to retry
├── Unauthenticated     the caller is not authenticated
├── PermissionDenied    the caller lacks the permission for this call
├── DeadlineExceeded    the answer did not arrive in time
├── Cancelled           the call was cancelled
├── Unavailable         the server cannot be reached
├── Unimplemented       the server does not know the call
├── ServerFault         an internal error of the server
└── MalformedResponse   the answer cannot be read
"""

# ruff: noqa: N818 - named for what went wrong, as callers write it in `except`
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

_DETAILS_KEY = "grpc-status-details-bin"
_PUSHBACK_KEY = "grpc-retry-pushback-ms"
_KNOWN_DETAILS: tuple[Any, ...] = (
    error_details_pb2.BadRequest,
    error_details_pb2.RetryInfo,
    error_details_pb2.PreconditionFailure,
    error_details_pb2.QuotaFailure,
    error_details_pb2.ResourceInfo,
    error_details_pb2.ErrorInfo,
    error_details_pb2.RequestInfo,
    error_details_pb2.DebugInfo,
    error_details_pb2.Help,
    error_details_pb2.LocalizedMessage,
)


class ExplainError(Exception):
    """Base class.

    message: the message of the server or of this client.
    code: the gRPC status.
    field: path of the invalid field of the request, for example `inputs[0].shape`, or empty.
    details: the google.rpc messages of the error (BadRequest, RetryInfo, …).
    """

    default_code = grpc.StatusCode.UNKNOWN

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode | None = None,
        field: str = "",
        details: Sequence[Message] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.field = field
        self.details = tuple(details)

    def __str__(self) -> str:
        named = self.field and self.field not in self.message
        return f"{self.message} ({self.field})" if named else self.message


class InvalidRequest(ExplainError, ValueError):
    """The request is invalid; `field` names the field. A retry cannot help."""

    default_code = grpc.StatusCode.INVALID_ARGUMENT


class TooLarge(InvalidRequest):
    """A message is larger than the client or the server allows (`max_message_bytes`)."""

    default_code = grpc.StatusCode.RESOURCE_EXHAUSTED


class ModelNotFound(ExplainError):
    """The model or the version does not exist."""

    default_code = grpc.StatusCode.NOT_FOUND


class OperationNotFound(ExplainError):
    """The operation does not exist, has expired, or is another caller's."""

    default_code = grpc.StatusCode.NOT_FOUND


class AlreadyExists(ExplainError):
    """The imported version already exists."""

    default_code = grpc.StatusCode.ALREADY_EXISTS


class NotExplainable(ExplainError):
    """The method does not support the model, or the model failed to load.

    node, op: name and operator of the unsupported node, if that is the reason.
    """

    default_code = grpc.StatusCode.FAILED_PRECONDITION

    @property
    def node(self) -> str:
        return _info(self.details, "node")

    @property
    def op(self) -> str:
        return _info(self.details, "op")


class Overloaded(ExplainError):
    """The server is overloaded. `retry_after`: seconds to wait, as the server requests, or None."""

    default_code = grpc.StatusCode.RESOURCE_EXHAUSTED
    retry_after: float | None = None


class Unauthenticated(ExplainError):
    """The token or certificate is missing or not accepted."""

    default_code = grpc.StatusCode.UNAUTHENTICATED


class PermissionDenied(ExplainError):
    """The caller lacks the permission for this call."""

    default_code = grpc.StatusCode.PERMISSION_DENIED


class DeadlineExceeded(ExplainError):
    """The answer did not arrive within `timeout` seconds."""

    default_code = grpc.StatusCode.DEADLINE_EXCEEDED


class Cancelled(ExplainError):
    """The call was cancelled, here or by the server."""

    default_code = grpc.StatusCode.CANCELLED


class Unavailable(ExplainError):
    """The server could not be reached, even with retries."""

    default_code = grpc.StatusCode.UNAVAILABLE


class Unimplemented(ExplainError):
    """The server does not know the call, or the call is turned off."""

    default_code = grpc.StatusCode.UNIMPLEMENTED


class ServerFault(ExplainError):
    """An internal error of the server."""

    default_code = grpc.StatusCode.INTERNAL


class MalformedResponse(ExplainError):
    """The answer cannot be read, because client and server are incompatible."""

    default_code = grpc.StatusCode.DATA_LOSS


_BY_CODE: dict[grpc.StatusCode, type[ExplainError]] = {
    **{
        cls.default_code: cls
        for cls in (
            InvalidRequest,
            ModelNotFound,
            AlreadyExists,
            NotExplainable,
            Overloaded,
            Unauthenticated,
            PermissionDenied,
            DeadlineExceeded,
            Cancelled,
            Unavailable,
            Unimplemented,
            ServerFault,
        )
    },
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.UNKNOWN: ServerFault,
    grpc.StatusCode.DATA_LOSS: ServerFault,
    grpc.StatusCode.ABORTED: ServerFault,
}
_BY_NUMBER: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def from_call(call: Any) -> ExplainError:
    """Convert a failed call (a grpc.RpcError that is a grpc.Call, or a grpc.aio.AioRpcError) to a typed error."""
    metadata = dict(call.trailing_metadata() or ())
    error = _typed(call.code(), call.details() or "", _unpacked(metadata.get(_DETAILS_KEY)))
    if isinstance(error, Overloaded) and error.retry_after is None:
        error.retry_after = _pushback(metadata.get(_PUSHBACK_KEY))
    return error


def from_number(number: int, message: str, field: str = "") -> ExplainError:
    """Convert a google.rpc.Code, with which a stream answers a single request, to a typed error."""
    error = _typed(_BY_NUMBER.get(number, grpc.StatusCode.UNKNOWN), message, ())
    error.field = field
    return error


def _typed(code: grpc.StatusCode, message: str, details: Sequence[Message]) -> ExplainError:
    cls = _BY_CODE.get(code, ExplainError)
    if cls is Overloaded and _is_about_size(message):
        cls = TooLarge
    if cls is ModelNotFound and _is_about_operation(details):
        cls = OperationNotFound
    error = cls(message or code.name, code=code, field=_field(details), details=details)
    if isinstance(error, Overloaded):
        error.retry_after = _retry_delay(details)
    return error


def _is_about_size(message: str) -> bool:
    """gRPC uses the same code for an overload and for a message above the limit; only the message text differs."""
    return "larger than max" in message


def _is_about_operation(details: Iterable[Message]) -> bool:
    return any(
        isinstance(detail, error_details_pb2.ErrorInfo) and detail.reason == "OPERATION_NOT_FOUND" for detail in details
    )


def _unpacked(encoded: bytes | str | None) -> tuple[Message, ...]:
    if not isinstance(encoded, bytes):
        return ()
    try:
        return tuple(_known(status_pb2.Status.FromString(encoded).details))
    except DecodeError:
        return ()


def _known(details: Iterable[Any]) -> Iterable[Message]:
    for packed in details:
        cls = next((cls for cls in _KNOWN_DETAILS if packed.Is(cls.DESCRIPTOR)), None)
        yield cls.FromString(packed.value) if cls else packed


def _field(details: Iterable[Message]) -> str:
    for detail in details:
        if isinstance(detail, error_details_pb2.BadRequest) and detail.field_violations:
            return str(detail.field_violations[0].field)
    return ""


def _info(details: Iterable[Message], key: str) -> str:
    for detail in details:
        if isinstance(detail, error_details_pb2.ErrorInfo) and key in detail.metadata:
            return str(detail.metadata[key])
    return ""


def _retry_delay(details: Iterable[Message]) -> float | None:
    for detail in details:
        if isinstance(detail, error_details_pb2.RetryInfo):
            return float(detail.retry_delay.seconds + detail.retry_delay.nanos * 1e-9)
    return None


def _pushback(value: bytes | str | None) -> float | None:
    try:
        milliseconds = int(value or "")
    except ValueError:
        return None
    return milliseconds / 1000 if milliseconds >= 0 else None
