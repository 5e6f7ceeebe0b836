# SPDX-License-Identifier: Apache-2.0
"""Converts operations to messages."""

from __future__ import annotations

from google.rpc import code_pb2

from lstm_explain.serving.operations.entry import Operation
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2
from lstm_explain_proto.lstm_explain.v1 import operation_pb2 as pb

PREFIX = "operations/"
_KINDS = {"explain": pb.OPERATION_KIND_EXPLAIN, "batch": pb.OPERATION_KIND_BATCH}


def to_id(name: str) -> str:
    return name.removeprefix(PREFIX)


def from_operation(operation: Operation, result: bytes | None = None) -> pb.Operation:
    """result: of an operation that has one; None in lists."""
    facts, end = operation.facts, operation.end
    message = pb.Operation(
        name=PREFIX + operation.id,
        kind=_KINDS[facts.kind],
        state=_state(operation),
        model=facts.model,
        version=facts.version,
        attempts=operation.attempts.count,
        created_ms=_milliseconds(facts.created),
    )
    if operation.total:
        message.progress.done, message.progress.total = operation.done, operation.total
    if end is None:
        return message
    message.ended_ms, message.expires_ms = _milliseconds(end.ended), _milliseconds(end.expires)
    if end.code != code_pb2.OK:
        message.error.code, message.error.message, message.error.field = end.code, end.message, end.field
    elif result is not None and facts.kind == "explain":
        message.response.ParseFromString(result)
    elif result is not None:
        message.batch.ParseFromString(result)
    return message


def from_damage(operation: Operation, problem: str) -> pb.Operation:
    """Returns an operation whose result cannot be read."""
    message = from_operation(operation)
    message.state = pb.OPERATION_STATE_FAILED
    said = f"what the server kept of this operation is damaged: {problem}"
    message.error.CopyFrom(explanation_pb2.ItemError(code=code_pb2.DATA_LOSS, message=said))
    return message


def _state(operation: Operation) -> pb.OperationState:
    if operation.end is None:
        return pb.OPERATION_STATE_RUNNING if operation.running else pb.OPERATION_STATE_PENDING
    if operation.end.code == code_pb2.CANCELLED:
        return pb.OPERATION_STATE_CANCELLED
    return pb.OPERATION_STATE_FAILED if operation.end.code else pb.OPERATION_STATE_SUCCEEDED


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
