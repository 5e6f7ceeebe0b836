# SPDX-License-Identifier: Apache-2.0
"""Defines the errors of the service, and turns every error into a gRPC status with google.rpc details.

lstm_explain.Error
├── NotFound        there is no such model or version
├── NotReady        the model exists, but cannot be used
│   └── Quarantined     worker processes crashed while it ran
├── Overloaded      as many requests as allowed run or wait
│   ├── OverQuota       the caller has used a quota of its token
│   └── Recovering      a crashed worker process has not been replaced yet
├── TooLate         the deadline has passed
├── Dropped         the caller has gone
├── Idle            the stream waited too long for its caller
├── AlreadyExists   the version to import already exists
├── NoSpace         a folder cannot be written to
├── Unauthenticated there is no valid bearer token
│   └── Expired         the token was valid until some time ago
├── Forbidden       the token lacks a role
├── ModelForbidden  the token is not for this model
├── Unimplemented   the service does not offer this
├── OperationNotFound   the caller has no such operation
├── RequestIdUsed   the request id of an operation was used for another request
├── OperationRuns   the operation cannot be removed while it runs
├── OperationsFull  there is no room for another operation
├── NotOffered      the server does not offer this to the caller
├── NoReceiptKey    a receipt is asked for, and there is no key to sign it with
├── Untrusted       no trusted signer has signed the model's files
└── (the engine's own, see lstm_explain.errors)
"""

# ruff: noqa: N818 - named for what the caller sees, as the engine's errors are

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from lstm_explain.errors import CostError, Error, InputError, MethodError, ModelError, TargetError, UnsupportedOperator

DOMAIN = "lstm-explain"
# A status travels in HTTP/2 headers, and clients accept 8 KiB of these in all.
MAX_MESSAGE_LENGTH = 1500


class NotFound(Error):
    """There is no such model or version."""


class NotReady(Error):
    """The model exists, but cannot be used."""


class Quarantined(NotReady):
    """Worker processes crashed while the model ran."""


class Overloaded(Error):
    """The server is busy; the caller may try again after `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Recovering(Overloaded):
    """The model may have crashed a worker process, and no other process is ready to take over yet."""


class TooLate(Error):
    """The deadline has passed. The caller may still read this, if its own clock is behind."""


class Dropped(Error):
    """The caller no longer waits for the answer."""


class Idle(Error):
    """The stream waited too long for its caller, who may open another one."""


class AlreadyExists(Error):
    """The version to import already exists."""


class NoSpace(Error):
    """The folder of models or of operations cannot be written to."""


class OverQuota(Overloaded):
    """The caller has used a quota of its token: `requests`, `cost` or `streams`."""

    def __init__(self, message: str, quota: str, retry_after: float, caller: str) -> None:
        super().__init__(f"{message}; try again in {seconds_in_words(retry_after)}", retry_after)
        self.quota, self.caller = quota, caller


class Unauthenticated(Error):
    """The call carries no valid bearer token. caller: whose token it was, if that is known."""

    def __init__(self, message: str, caller: str = "") -> None:
        super().__init__(message)
        self.caller = caller


class Expired(Unauthenticated):
    """The token was valid until some time ago."""


class Forbidden(Error):
    """The caller is known by this name, but lacks `role`."""

    def __init__(self, message: str, role: str, caller: str) -> None:
        super().__init__(message)
        self.role, self.caller = role, caller


class ModelForbidden(Error):
    """The caller is known by this name, but its token is not for `model`."""

    def __init__(self, message: str, model: str, caller: str) -> None:
        super().__init__(message, field="model")
        self.model, self.caller = model, caller


class Unimplemented(Error):
    """This server does not offer the operation."""


class OperationNotFound(Error):
    """There is no such operation, or it is another caller's."""


class RequestIdUsed(Error):
    """The caller has used the request id of an operation for another request."""


class OperationRuns(Error):
    """The operation cannot be removed while it runs."""


class OperationsFull(Error):
    """The server keeps as many operations, or as many bytes of them, as it may."""


class NotOffered(Error):
    """The server is not set up to offer this to the caller."""


class NoReceiptKey(Error):
    """A receipt is asked for, and the server has no key to sign it with."""


class Untrusted(ModelError):
    """The model's files do not carry a valid signature of a trusted signer, and the server requires one."""


def _bad_request(error: Error, field: str) -> list[Message]:
    violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=short(str(error)))
    return [error_details_pb2.BadRequest(field_violations=[violation])]


def _too_costly(error: Error, field: str) -> list[Message]:
    return [*_bad_request(error, field), error_details_pb2.ErrorInfo(reason="TOO_COSTLY", domain=DOMAIN)]


def _reason(reason: str) -> Callable[[Error, str], list[Message]]:
    def details(error: Error, field: str) -> list[Message]:
        return [error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN)]

    return details


def _operator(error: Error, field: str) -> list[Message]:
    assert isinstance(error, UnsupportedOperator)
    metadata = {"node": short(error.node), "op": error.op}
    return [error_details_pb2.ErrorInfo(reason="UNSUPPORTED_OPERATOR", domain=DOMAIN, metadata=metadata)]


def _role(error: Error, field: str) -> list[Message]:
    assert isinstance(error, Forbidden)
    return [error_details_pb2.ErrorInfo(reason="ROLE_MISSING", domain=DOMAIN, metadata={"role": error.role})]


def _model(error: Error, field: str) -> list[Message]:
    assert isinstance(error, ModelForbidden)
    metadata = {"model": short(error.model)}
    return [error_details_pb2.ErrorInfo(reason="MODEL_FORBIDDEN", domain=DOMAIN, metadata=metadata)]


def _quota(error: Error, field: str) -> list[Message]:
    assert isinstance(error, OverQuota)
    violation = error_details_pb2.QuotaFailure.Violation(subject=f"token:{error.caller}", description=error.quota)
    return [*_retry(error, field), error_details_pb2.QuotaFailure(violations=[violation])]


def _retry(error: Error, field: str) -> list[Message]:
    assert isinstance(error, Overloaded)
    delay = Duration()
    delay.FromNanoseconds(int(error.retry_after * 1e9))
    return [error_details_pb2.RetryInfo(retry_delay=delay)]


@dataclass(frozen=True)
class _StatusMapping:
    """code: a google.rpc.Code. details: returns the details for an error and the invalid field."""

    code: int
    details: Callable[[Error, str], list[Message]]


# The first class that matches decides.
_STATUSES: dict[type[Error], _StatusMapping] = {
    InputError: _StatusMapping(code_pb2.INVALID_ARGUMENT, _bad_request),
    TargetError: _StatusMapping(code_pb2.INVALID_ARGUMENT, _bad_request),
    CostError: _StatusMapping(code_pb2.INVALID_ARGUMENT, _too_costly),
    MethodError: _StatusMapping(code_pb2.INVALID_ARGUMENT, _bad_request),
    UnsupportedOperator: _StatusMapping(code_pb2.FAILED_PRECONDITION, _operator),
    Untrusted: _StatusMapping(code_pb2.FAILED_PRECONDITION, _reason("MODEL_UNTRUSTED")),
    ModelError: _StatusMapping(code_pb2.FAILED_PRECONDITION, _reason("MODEL_INVALID")),
    NotFound: _StatusMapping(code_pb2.NOT_FOUND, _reason("MODEL_NOT_FOUND")),
    Quarantined: _StatusMapping(code_pb2.FAILED_PRECONDITION, _reason("MODEL_QUARANTINED")),
    NotReady: _StatusMapping(code_pb2.FAILED_PRECONDITION, _reason("MODEL_NOT_READY")),
    Recovering: _StatusMapping(code_pb2.UNAVAILABLE, _retry),
    OverQuota: _StatusMapping(code_pb2.RESOURCE_EXHAUSTED, _quota),
    Overloaded: _StatusMapping(code_pb2.RESOURCE_EXHAUSTED, _retry),
    TooLate: _StatusMapping(code_pb2.DEADLINE_EXCEEDED, _reason("DEADLINE_PASSED")),
    Dropped: _StatusMapping(code_pb2.CANCELLED, _reason("CALLER_GONE")),
    Idle: _StatusMapping(code_pb2.ABORTED, _reason("STREAM_IDLE")),
    AlreadyExists: _StatusMapping(code_pb2.ALREADY_EXISTS, _reason("VERSION_EXISTS")),
    NoSpace: _StatusMapping(code_pb2.RESOURCE_EXHAUSTED, _reason("NO_SPACE")),
    Expired: _StatusMapping(code_pb2.UNAUTHENTICATED, _reason("TOKEN_EXPIRED")),
    Unauthenticated: _StatusMapping(code_pb2.UNAUTHENTICATED, _reason("TOKEN_INVALID")),
    Forbidden: _StatusMapping(code_pb2.PERMISSION_DENIED, _role),
    ModelForbidden: _StatusMapping(code_pb2.PERMISSION_DENIED, _model),
    OperationNotFound: _StatusMapping(code_pb2.NOT_FOUND, _reason("OPERATION_NOT_FOUND")),
    RequestIdUsed: _StatusMapping(code_pb2.ALREADY_EXISTS, _reason("REQUEST_ID_USED")),
    OperationRuns: _StatusMapping(code_pb2.FAILED_PRECONDITION, _reason("OPERATION_RUNS")),
    OperationsFull: _StatusMapping(code_pb2.RESOURCE_EXHAUSTED, _reason("OPERATIONS_FULL")),
    NotOffered: _StatusMapping(code_pb2.FAILED_PRECONDITION, _reason("NOT_OFFERED")),
    NoReceiptKey: _StatusMapping(code_pb2.FAILED_PRECONDITION, _reason("RECEIPT_KEY_MISSING")),
    Unimplemented: _StatusMapping(code_pb2.UNIMPLEMENTED, _reason("UNIMPLEMENTED")),
}


# Why a caller is refused, as the metrics name it.
_REFUSALS: dict[type[Error], str] = {
    Expired: "expired",
    Unauthenticated: "token",
    Forbidden: "role",
    ModelForbidden: "model",
}


def refusal_of(error: Exception) -> str:
    """Returns why the caller is refused, for the metrics; empty for an error that does not depend on who calls."""
    if isinstance(error, OverQuota):
        return error.quota
    return next((why for kind, why in _REFUSALS.items() if isinstance(error, kind)), "")


def seconds_in_words(seconds: float) -> str:
    """Returns a time to wait, rounded up to two digits."""
    digits = 1 - math.floor(math.log10(max(seconds, 1e-3)))
    rounded = math.ceil(seconds * 10**digits) / 10**digits
    return f"{rounded:g} seconds"


def status_of(error: Error, field: str = "") -> status_pb2.Status:
    """Returns the status of an expected error; `field` is the path of the invalid field in the request."""
    mapping = next((m for kind, m in _STATUSES.items() if isinstance(error, kind)), None)
    if mapping is None:
        return internal("")
    status = status_pb2.Status(code=mapping.code, message=short(str(error)))
    for detail in mapping.details(error, field):
        status.details.add().Pack(detail)
    return status


def internal(request_id: str) -> status_pb2.Status:
    """Returns the status of an unexpected error. It says only where in the log to look."""
    where = f"; the server's log has it under request id {request_id}" if request_id else ""
    return status_pb2.Status(code=code_pb2.INTERNAL, message=f"internal error{where}")


def short(text: str) -> str:
    """Returns the text, cut to MAX_MESSAGE_LENGTH characters."""
    return text if len(text) <= MAX_MESSAGE_LENGTH else text[: MAX_MESSAGE_LENGTH - 2] + " …"
