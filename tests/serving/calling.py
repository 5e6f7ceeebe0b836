# SPDX-License-Identifier: Apache-2.0
"""Helpers for calls with the generated stubs, and for reading their errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from google.rpc import error_details_pb2, status_pb2

from lstm_explain_proto.inference import grpc_service_pb2
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2, explanation_pb2_grpc, tensor_pb2

F32, F64, I64 = tensor_pb2.DATA_TYPE_FLOAT32, tensor_pb2.DATA_TYPE_FLOAT64, tensor_pb2.DATA_TYPE_INT64
STRING = tensor_pb2.DATA_TYPE_STRING
TYPES = {np.dtype("f4"): F32, np.dtype("f8"): F64, np.dtype("i8"): I64, np.dtype("f2"): tensor_pb2.DATA_TYPE_FLOAT16}


def tensor(name: str, array: np.ndarray) -> tensor_pb2.Tensor:
    return tensor_pb2.Tensor(name=name, dtype=TYPES[array.dtype], shape=array.shape, data=array.tobytes())


def array_of(message: tensor_pb2.Tensor) -> np.ndarray:
    dtype = {number: dtype for dtype, number in TYPES.items()}[message.dtype]
    return np.frombuffer(message.data, dtype).reshape(message.shape)


def texts(name: str, *values: str) -> tensor_pb2.Tensor:
    data = b"".join(len(v.encode()).to_bytes(4, "little") + v.encode() for v in values)
    return tensor_pb2.Tensor(name=name, dtype=STRING, shape=[len(values)], data=data)


def strings_of(message: tensor_pb2.Tensor) -> list[list[str]]:
    """The rows of a STRING tensor of two axes."""
    values, at = [], 0
    while at < len(message.data):
        end = at + 4 + int.from_bytes(message.data[at : at + 4], "little")
        values.append(message.data[at + 4 : end].decode())
        at = end
    return np.array(values, dtype=object).reshape(message.shape).tolist()


def sequence(batch: int = 2, time: int = 7, seed: int = 0, features: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((batch, time, features)).astype(np.float32)


def request(model: str = "lstm", **fields: Any) -> explanation_pb2.ExplainRequest:
    """A valid request with the given fields replaced."""
    fields.setdefault("inputs", [tensor("x", sequence())])
    return explanation_pb2.ExplainRequest(model=model, **fields)


def infer(model: str = "lstm", x: np.ndarray | None = None) -> grpc_service_pb2.ModelInferRequest:
    """A request for an explanation in the Open Inference Protocol."""
    x = sequence() if x is None else x
    given = grpc_service_pb2.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=x.shape)
    message = grpc_service_pb2.ModelInferRequest(model_name=model, inputs=[given], raw_input_contents=[x.tobytes()])
    message.parameters["explain"].string_param = "lrp"
    return message


def stub(channel: grpc.Channel) -> Any:
    return explanation_pb2_grpc.ExplanationServiceStub(channel)


@dataclass(frozen=True)
class Refusal:
    """A failed call. field: of BadRequest, or empty."""

    code: grpc.StatusCode
    message: str
    field: str
    status: status_pb2.Status

    def detail(self, kind: type[Any]) -> Any:
        message = kind()
        assert any(packed.Unpack(message) for packed in self.status.details), f"no {kind.__name__} in {self.status}"
        return message


def refusal(error: grpc.RpcError) -> Refusal:
    trailers = dict(error.trailing_metadata())
    status = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
    bad = error_details_pb2.BadRequest()
    field = bad.field_violations[0].field if any(d.Unpack(bad) for d in status.details) else ""
    return Refusal(error.code(), error.details(), field, status)
