# SPDX-License-Identifier: Apache-2.0
"""Checks that operands which an operator requires are present, since a file may leave their name empty, and names
outputs that it leaves out.

For operands that may repeat (those of Max, Concat, Sum) ONNX's checker only counts the names, empty ones included, and
ONNX Runtime (1.32) then reads a value that does not exist.
"""

from __future__ import annotations

from functools import lru_cache

import onnx
from onnx import ModelProto

from lstm_explain.errors import ModelError
from lstm_explain.graph.protos import is_standard, label_of, nodes_of, opset_of


def check_required(model: ModelProto) -> None:
    """Raises ModelError for the first of ONNX's own nodes, in bodies too, that lacks a required operand."""
    opset = opset_of(model)
    for node in nodes_of(model):
        if not is_standard(node) or all(node.input):
            continue
        required, variadic = _required(node.op_type, opset, "inputs")
        for slot, name in enumerate(node.input):
            if not name and (slot in required or (variadic is not None and slot >= variadic)):
                raise ModelError(f"node {label_of(node)!r} ({node.op_type}): its required input {slot} is missing")


def name_outputs(model: ModelProto) -> None:
    """Gives a name to every output of ONNX's own nodes that the file leaves out although the operator always has it, in
    place. ONNX Runtime (1.32) crashes where Split, If or Loop lack one before another.
    """
    opset = opset_of(model)
    for node in nodes_of(model):
        if not is_standard(node) or all(node.output):
            continue
        required, variadic = _required(node.op_type, opset, "outputs")
        label = next(filter(None, node.output), node.name)
        for slot, name in enumerate(node.output):
            if not name and (slot in required or (variadic is not None and slot >= variadic)):
                node.output[slot] = f"{label}/output {slot}"


@lru_cache(maxsize=1024)
def _required(op: str, opset: int, side: str) -> tuple[frozenset[int], int | None]:
    """Returns the slots that are required, and the first slot of those that may repeat. side: inputs or outputs."""
    try:
        formal = getattr(onnx.defs.get_schema(op, opset, ""), side)
    except onnx.defs.SchemaError:  # The operator is no longer in ONNX; ONNX Runtime decides.
        return frozenset(), None
    options = [entry.option for entry in formal]
    single, variadic = (onnx.defs.OpSchema.FormalParameterOption.__members__[name] for name in ("Single", "Variadic"))
    required = frozenset(slot for slot, option in enumerate(options) if option == single)
    return required, next((slot for slot, option in enumerate(options) if option == variadic), None)
