# SPDX-License-Identifier: Apache-2.0
"""Requests the same explanation on every face of the server, and reads how it was answered."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from lstm_explain_proto.inference import grpc_service_pb2_grpc
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2
from tests.serving.calling import infer, request, stub
from tests.serving.running import Running
from tests.serving.web import EXPLAIN, ask, explanation


@dataclass(frozen=True)
class Outcome:
    """code: the name of a gRPC status. retry: seconds to wait, from RetryInfo, or None. version: that answered.
    headers: of HTTP; or trailers.
    """

    code: str
    message: str = ""
    retry: float | None = None
    version: str = ""
    headers: dict[str, Any] | None = None


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def outcome_of(error: grpc.RpcError) -> Outcome:
    trailers = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
    return Outcome(error.code().name, error.details() or "", retry_of(status), headers=trailers)


def retry_of(status: status_pb2.Status) -> float | None:
    found = error_details_pb2.RetryInfo()
    return found.retry_delay.ToNanoseconds() / 1e9 if any(d.Unpack(found) for d in status.details) else None


def unary(server: Running, metadata: Any, model: str = "lstm", version: str = "") -> Outcome:
    with server.channel() as channel:
        return explain(channel, metadata, model, version)


def explain(channel: grpc.Channel, metadata: Any = (), model: str = "lstm", version: str = "") -> Outcome:
    try:
        answer = stub(channel).Explain(request(model, version=version), metadata=metadata, timeout=20)
    except grpc.RpcError as error:
        return outcome_of(error)
    return Outcome("OK", version=answer.version)


def stream(server: Running, metadata: Any, model: str = "lstm", version: str = "") -> Outcome:
    sent = explanation_pb2.ExplainStreamRequest(id="item-1", request=request(model, version=version))
    with server.channel() as channel:
        try:
            (answer,) = stub(channel).ExplainStream(iter([sent]), metadata=metadata, timeout=20)
        except grpc.RpcError as error:
            return outcome_of(error)
    return Outcome(code_pb2.Code.Name(answer.error.code), answer.error.message, version=answer.response.version)


def inference(server: Running, metadata: Any, model: str = "lstm", version: str = "") -> Outcome:
    message = infer(model)
    message.model_version = version
    with server.channel() as channel:
        try:
            answer = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(
                message, metadata=metadata, timeout=20
            )
        except grpc.RpcError as error:
            return outcome_of(error)
    return Outcome("OK", version=answer.model_version)


def inference_stream(server: Running, metadata: Any, model: str = "lstm", version: str = "") -> Outcome:
    message = infer(model)
    message.model_version, message.id = version, "item-2"
    with server.channel() as channel:
        call = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer
        try:
            (answer,) = call(iter([message]), metadata=metadata, timeout=20)
        except grpc.RpcError as error:
            return outcome_of(error)
    code = "ERROR" if answer.error_message else "OK"  # this protocol has no codes in a stream
    return Outcome(code, answer.error_message, version=answer.infer_response.model_version)


def page(server: Running, metadata: Any, model: str = "lstm", version: str = "") -> Outcome:
    answer = ask(server.page(), EXPLAIN, explanation(request(model, version=version)), dict(metadata))
    body = answer.json()
    if answer.status == 200:
        return Outcome("OK", version=body["version"], headers=answer.headers)
    details = status_pb2.Status()
    for detail in body.get("details", []):
        raw = base64.b64decode(detail["value"] + "==")
        details.details.add(type_url=f"type.googleapis.com/{detail['type']}", value=raw)
    return Outcome(body["code"].upper(), body["message"], retry_of(details), headers=answer.headers)


FACES: dict[str, Callable[..., Outcome]] = {
    "Explain": unary,
    "ExplainStream": stream,
    "ModelInfer": inference,
    "ModelStreamInfer": inference_stream,
    "page": page,
}


def attempt(call: Callable[..., Message], message: Any, metadata: Any = ()) -> Outcome:
    """Makes any unary call."""
    try:
        call(message, metadata=metadata, timeout=20)
    except grpc.RpcError as error:
        return outcome_of(error)
    return Outcome("OK")
