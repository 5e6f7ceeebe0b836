"""What goes wrong in the service, and how every error becomes a gRPC status with google.rpc details.

lstm_explain.Error
├── NotFound        no such model or version
├── NotReady        the model is there, but failed to load
│   └── Quarantined     it has brought down worker processes
├── Overloaded      as many requests as allowed are at work or waiting
│   └── Recovering      a crashed worker process is not replaced yet
├── TooLate         the caller's deadline passed before the work began
├── Dropped         the caller went away before the work began
├── Idle            the stream waited for its caller for too long
├── AlreadyExists   the version that was to be imported is there
├── NoSpace         the folder of models takes nothing in
├── Unauthenticated no bearer token, or none that is known
├── Forbidden       the token lacks the role
├── Unimplemented   the service does not offer this yet
└── (the engine's own, see lstm_explain.errors)
"""

# ruff: noqa: N818 - named for what the caller is told, as the engine's errors are

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from lstm_explain.errors import Error, InputError, MethodError, ModelError, TargetError, UnsupportedOperator

DOMAIN = "lstm-explain"
# Status and details travel as HTTP/2 headers, of which clients accept 8 KiB in all.
LONGEST_MESSAGE = 1500


class NotFound(Error):
    """There is no model or version of that name."""


class NotReady(Error):
    """The model is known and cannot be used."""


class Quarantined(NotReady):
    """Worker processes crashed while the model ran."""


class Overloaded(Error):
    """Try again after `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Recovering(Overloaded):
    """The model may have brought a worker process down, and no other one stands ready yet."""


class TooLate(Error):
    """The caller's deadline has passed. Its own clock may not have noticed yet, so it may read this."""


class Dropped(Error):
    """Nobody waits for the answer any more."""


class Idle(Error):
    """The stream waited for its caller for too long; another one can be opened."""


class AlreadyExists(Error):
    """The version that was to be imported is there already."""


class NoSpace(Error):
    """The folder of models cannot be written to."""


class Unauthenticated(Error):
    """Nobody knows who is calling."""


class Forbidden(Error):
    """Who is calling is known and may not do this; `role` would be needed."""

    def __init__(self, message: str, role: str) -> None:
        super().__init__(message)
        self.role = role


class Unimplemented(Error):
    """Not offered by this server."""


def _bad_request(error: Error, field: str) -> list[Message]:
    violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=short(str(error)))
    return [error_details_pb2.BadRequest(field_violations=[violation])]


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


def _retry(error: Error, field: str) -> list[Message]:
    assert isinstance(error, Overloaded)
    delay = Duration()
    delay.FromNanoseconds(int(error.retry_after * 1e9))
    return [error_details_pb2.RetryInfo(retry_delay=delay)]


@dataclass(frozen=True)
class _StatusMapping:
    code: int
    details: Callable[[Error, str], list[Message]]


# The first class that fits decides.
_ANSWERS: dict[type[Error], _StatusMapping] = {
    InputError: _StatusMapping(code_pb2.INVALID_ARGUMENT, _bad_request),
    TargetError: _StatusMapping(code_pb2.INVALID_ARGUMENT, _bad_request),
    MethodError: _StatusMapping(code_pb2.INVALID_ARGUMENT, _bad_request),
    UnsupportedOperator: _StatusMapping(code_pb2.FAILED_PRECONDITION, _operator),
    ModelError: _StatusMapping(code_pb2.FAILED_PRECONDITION, _reason("MODEL_INVALID")),
    NotFound: _StatusMapping(code_pb2.NOT_FOUND, _reason("MODEL_NOT_FOUND")),
    Quarantined: _StatusMapping(code_pb2.FAILED_PRECONDITION, _reason("MODEL_QUARANTINED")),
    NotReady: _StatusMapping(code_pb2.FAILED_PRECONDITION, _reason("MODEL_NOT_READY")),
    Recovering: _StatusMapping(code_pb2.UNAVAILABLE, _retry),
    Overloaded: _StatusMapping(code_pb2.RESOURCE_EXHAUSTED, _retry),
    TooLate: _StatusMapping(code_pb2.DEADLINE_EXCEEDED, _reason("DEADLINE_PASSED")),
    Dropped: _StatusMapping(code_pb2.CANCELLED, _reason("CALLER_GONE")),
    Idle: _StatusMapping(code_pb2.ABORTED, _reason("STREAM_IDLE")),
    AlreadyExists: _StatusMapping(code_pb2.ALREADY_EXISTS, _reason("VERSION_EXISTS")),
    NoSpace: _StatusMapping(code_pb2.RESOURCE_EXHAUSTED, _reason("NO_SPACE")),
    Unauthenticated: _StatusMapping(code_pb2.UNAUTHENTICATED, _reason("TOKEN_INVALID")),
    Forbidden: _StatusMapping(code_pb2.PERMISSION_DENIED, _role),
    Unimplemented: _StatusMapping(code_pb2.UNIMPLEMENTED, _reason("UNIMPLEMENTED")),
}


def status_of(error: Error, field: str = "") -> status_pb2.Status:
    """The status of an error that was raised on purpose; `field` is the field of the request that was wrong."""
    answer = next((a for kind, a in _ANSWERS.items() if isinstance(error, kind)), None)
    if answer is None:
        return internal("")
    status = status_pb2.Status(code=answer.code, message=short(str(error)))
    for detail in answer.details(error, field):
        status.details.add().Pack(detail)
    return status


def internal(request_id: str) -> status_pb2.Status:
    """The status of an error that nobody foresaw. It tells nothing but where in the log to look."""
    where = f"; the server's log has it under request id {request_id}" if request_id else ""
    return status_pb2.Status(code=code_pb2.INTERNAL, message=f"internal error{where}")


def short(text: str) -> str:
    """At most LONGEST_MESSAGE characters of it."""
    return text if len(text) <= LONGEST_MESSAGE else text[: LONGEST_MESSAGE - 2] + " …"
