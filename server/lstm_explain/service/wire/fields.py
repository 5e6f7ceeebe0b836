"""Names of the engine's arguments as fields of the request that they came in."""

from __future__ import annotations

import re

from google.protobuf.message import Message

from lstm_explain_proto.lstm_explain.v1 import explanation_pb2

_TARGET = {"index": "indices", "contrast": "contrast_indices"}


def locate(field: str, request: Message) -> str:
    """The path of the request's field, for example `inputs[0]` for the engine's `inputs.x`."""
    if not isinstance(request, explanation_pb2.ExplainRequest):
        return field
    top, _, rest = field.partition(".")
    if top == "inputs":
        return _input(rest, request)
    if top == "target":
        part, dot, more = rest.partition(".")
        return field if not rest else f"target.{_TARGET.get(part, part)}{dot}{more}"
    if top == "method" and rest:
        name = request.method.WhichOneof("method") or ""
        return field if not name or rest.startswith(name + ".") else f"method.{name}.{rest}"
    return field


def _input(rest: str, request: explanation_pb2.ExplainRequest) -> str:
    """`rest` is an input's name, perhaps with `.shape` or the like behind it; a name may contain dots itself."""
    for i, tensor in enumerate(request.inputs):
        if rest == tensor.name:
            return f"inputs[{i}]"
        part = re.fullmatch(r"\.(dtype|shape|data|name)", rest.removeprefix(tensor.name))
        if tensor.name and rest.startswith(tensor.name) and part:
            return f"inputs[{i}]{part.group()}"
    return "inputs"
