# SPDX-License-Identifier: Apache-2.0
"""Translates the names of the engine's arguments to the paths of fields in a request, for errors."""

from __future__ import annotations

import re
from collections.abc import Sequence

from google.protobuf.message import Message

from lstm_explain_proto.inference import grpc_service_pb2
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2, operation_pb2

_TARGET = {"index": "indices", "contrast": "contrast_indices"}


def locate(field: str, request: Message) -> str:
    """Returns the path of the field in the request, for example `inputs[0]` for the engine's `inputs.x`."""
    if isinstance(request, grpc_service_pb2.ModelInferRequest):
        return _parameter(field, request)
    if isinstance(request, operation_pb2.StartExplainRequest):
        return f"request.{locate(field, request.request)}" if field not in ("", "request_id") else field
    if not isinstance(request, explanation_pb2.ExplainRequest):
        return field
    top, _, rest = field.partition(".")
    if top == "inputs":
        return _input(rest, [tensor.name for tensor in request.inputs])
    if top == "target" and request.targets:
        return "targets"
    if top == "target":
        part, dot, more = rest.partition(".")
        return field if not rest else f"target.{_TARGET.get(part, part)}{dot}{more}"
    if top == "method" and rest:
        if rest in request.parameters:
            return f"parameters[{rest}]"
        name = request.method.WhichOneof("method") or ""
        return field if not name or rest.startswith(name + ".") else f"method.{name}.{rest}"
    return field


def _parameter(field: str, request: grpc_service_pb2.ModelInferRequest) -> str:
    """Returns the same for the Open Inference Protocol, where method and target are parameters."""
    top, _, rest = field.partition(".")
    if top == "inputs":
        return _input(rest, [tensor.name for tensor in request.inputs])
    if top in ("method", "target"):
        name = rest.partition(".")[0]
        if top == "target" and "explain_targets" in request.parameters and name not in ("batch_axis", "pre_activation"):
            return "parameters[explain_targets]"
        alone = "explain" if top == "method" else "explain_target"
        return f"parameters[{alone if name in ('', 'index', 'output') else f'explain_{name}'}]"
    if top in ("groups", "through", "condition", "receipt") and f"explain_{top}" in request.parameters:
        return f"parameters[explain_{top}]"
    return {"model": "model_name", "version": "model_version"}.get(field, field)


def _input(rest: str, names: Sequence[str]) -> str:
    """`rest` is the name of an input, perhaps followed by a part such as `.shape`; a name may contain dots itself."""
    for i, name in enumerate(names):
        if rest == name:
            return f"inputs[{i}]"
        part = re.fullmatch(r"\.(dtype|shape|data|name)", rest.removeprefix(name))
        if name and rest.startswith(name) and part:
            return f"inputs[{i}]{part.group()}"
    return "inputs"
