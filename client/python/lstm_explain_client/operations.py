# SPDX-License-Identifier: Apache-2.0
"""Operations: explanations and batch jobs that the server keeps until they expire, whether or not anybody waits."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from lstm_explain_client import methods
from lstm_explain_client.errors import DeadlineExceeded, InvalidRequest, MalformedResponse, from_number
from lstm_explain_client.explained_batch import Array
from lstm_explain_client.result import Result, read_result
from lstm_explain_client.results import Results, read_results
from lstm_explain_client.wire_groups import to_wire_through
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2, operation_pb2

State = Literal["pending", "running", "succeeded", "failed", "cancelled"]
LONGEST_WAIT = 20.0  # seconds of one call that waits; a proxy may end a longer one
MARGIN = 10.0  # seconds for the answer to such a call


@dataclass(frozen=True)
class BatchSummary:
    """What a batch job has done; its rows are in the output that its start named.

    rows, failed, warned: rows that are explained, that are not, and that have a warning. worst: the largest residual,
    as a share of the explained value.
    """

    rows: int
    failed: int
    warned: int
    worst: float


OperationResult = Result | Results | BatchSummary


class OperationStatus:
    """What the server last said of an operation; an attribute never calls the server.

    call: calls a method of the service by its name. named: gives a result the names of classes and features.
    """

    def __init__(
        self,
        message: operation_pb2.Operation,
        call: Callable[..., Any],
        named: Callable[[Any], Any],
        inputs: Mapping[str, Array] | None = None,
    ) -> None:
        self._message, self._call, self._named = message, call, named
        self._inputs = dict(inputs or {})

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.state}, model {self.model} version {self.version}>"

    @property
    def name(self) -> str:
        """Identifies the operation, also to `client.operation` in another process."""
        return self._message.name

    @property
    def state(self) -> State:
        name = operation_pb2.OperationState.Name(self._message.state)
        return name.removeprefix("OPERATION_STATE_").lower()  # type: ignore[return-value]

    @property
    def kind(self) -> Literal["explain", "batch"]:
        name = operation_pb2.OperationKind.Name(self._message.kind)
        return name.removeprefix("OPERATION_KIND_").lower()  # type: ignore[return-value]

    @property
    def model(self) -> str:
        return self._message.model

    @property
    def version(self) -> str:
        """The version of the model, which was chosen when the operation was started."""
        return self._message.version

    @property
    def progress(self) -> tuple[int, int] | None:
        """How much is done and how much there is in all, as far as is known: runs of the model, or rows of a batch job.
        None where nothing is known.
        """
        progress = self._message.progress
        return (progress.done, progress.total) if self._message.HasField("progress") else None

    @property
    def done(self) -> bool:
        """Whether it has ended, with or without a result."""
        return self.state in ("succeeded", "failed", "cancelled")

    @property
    def attempts(self) -> int:
        """How often it has begun; more than once where a server or one of its processes ended meanwhile."""
        return self._message.attempts

    @property
    def problem(self) -> str:
        """Why there is no result, as a sentence; empty where it has one or has not ended."""
        return self._message.error.message

    @property
    def created(self) -> datetime:
        return _moment(self._message.created_ms)

    @property
    def ended(self) -> datetime | None:
        return _moment(self._message.ended_ms) if self._message.ended_ms else None

    @property
    def expires(self) -> datetime | None:
        """When the server will remove it; None until it has ended."""
        return _moment(self._message.expires_ms) if self._message.expires_ms else None

    def _read(self) -> OperationResult:
        """Return the result of an operation that has ended, or raise why there is none."""
        message, kind = self._message, self._message.WhichOneof("result")
        if kind == "error":
            raise from_number(message.error.code, message.error.message, message.error.field)
        if kind == "batch":
            batch = message.batch
            return BatchSummary(batch.rows, batch.failed, batch.warned, batch.worst)
        if kind != "response":
            raise MalformedResponse("the operation has ended without a result and without an error")
        if message.response.targets:
            return read_results(message.response, self._inputs)
        return read_result(message.response, self._inputs)

    def _wait(self, end: float | None) -> operation_pb2.WaitOperationRequest | None:
        """Return the request that waits until `end` (time.monotonic); None if the result or the error is there. Raise
        DeadlineExceeded.
        """
        if self.done and self._message.WhichOneof("result") is not None:  # lists leave results out
            return None
        left = LONGEST_WAIT if end is None else end - time.monotonic()
        if left <= 0:
            raise DeadlineExceeded(f"the operation {self.name} has not ended in time; it goes on")
        milliseconds = max(1, round(min(left, LONGEST_WAIT) * 1000))
        return operation_pb2.WaitOperationRequest(name=self.name, timeout_ms=milliseconds)


class Operation(OperationStatus):
    """An operation of `Client`."""

    def refresh(self) -> Operation:
        """Ask the server how it is, and return it."""
        self._message = self._call("GetOperation", operation_pb2.GetOperationRequest(name=self.name)).operation
        return self

    def result(self, timeout: float | None = None) -> OperationResult:
        """Wait for the end and return the result: a Result, the Results of several targets, or a BatchSummary.

        timeout: in seconds; None waits for as long as it takes. Raise DeadlineExceeded when it is over (the operation
        goes on), Cancelled if the operation was cancelled, and otherwise the error with which it failed.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while (request := self._wait(end)) is not None:
            self._message = self._call("WaitOperation", request, LONGEST_WAIT + MARGIN).operation
        found: OperationResult = self._named(self._read())
        return found

    def cancel(self) -> None:
        """Ask the server to end it; this does nothing if it has ended."""
        self._call("CancelOperation", operation_pb2.CancelOperationRequest(name=self.name))

    def delete(self) -> None:
        """Remove it from the server, with its result. It must have ended."""
        self._call("DeleteOperation", operation_pb2.DeleteOperationRequest(name=self.name))


class AsyncOperation(OperationStatus):
    """An operation of `AsyncClient`: the methods of Operation, as coroutines."""

    async def refresh(self) -> AsyncOperation:
        """Ask the server how it is, and return it."""
        response = await self._call("GetOperation", operation_pb2.GetOperationRequest(name=self.name))
        self._message = response.operation
        return self

    async def result(self, timeout: float | None = None) -> OperationResult:
        """Wait for the end and return the result; see Operation.result."""
        end = None if timeout is None else time.monotonic() + timeout
        while (request := self._wait(end)) is not None:
            self._message = (await self._call("WaitOperation", request, LONGEST_WAIT + MARGIN)).operation
        found: OperationResult = await self._named(self._read())
        return found

    async def cancel(self) -> None:
        """Ask the server to end it; this does nothing if it has ended."""
        await self._call("CancelOperation", operation_pb2.CancelOperationRequest(name=self.name))

    async def delete(self) -> None:
        """Remove it from the server, with its result. It must have ended."""
        await self._call("DeleteOperation", operation_pb2.DeleteOperationRequest(name=self.name))


def start_request(message: explanation_pb2.ExplainRequest, request_id: str | None) -> operation_pb2.StartExplainRequest:
    """Return the request that starts an explanation; without an id of the caller's, with a new one."""
    return operation_pb2.StartExplainRequest(request=message, request_id=_id(request_id))


def batch_request(
    model: str,
    input: str,
    output: str,
    method: str | None = None,
    target: str | None = None,
    targets: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    columns: Mapping[str, str] | None = None,
    key: str | None = None,
    version: str = "",
    request_id: str | None = None,
    condition: str = "",
    groups: str = "",
    through: Mapping[str, Any] | None = None,
) -> operation_pb2.StartBatchRequest:
    """Return the request that starts a batch job; `Client.start_batch` describes the arguments.

    Raises InvalidRequest.
    """
    if not isinstance(groups, str):
        raise InvalidRequest(
            f"groups is {groups!r}, expected text such as 'window=24; features.wet=rain'", field="groups"
        )
    return operation_pb2.StartBatchRequest(
        model=model,
        version=version,
        input=input,
        output=output,
        method=method or "",
        parameters=methods.as_text(parameters or {}),
        target=target or "",
        targets=targets or "",
        columns=columns or {},
        key=key or "",
        request_id=_id(request_id),
        condition=condition,
        groups=groups,
        through=to_wire_through(through),
    )


def _id(request_id: str | None) -> str:
    return uuid.uuid4().hex if request_id is None else request_id


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
