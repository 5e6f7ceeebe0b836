# SPDX-License-Identifier: Apache-2.0
"""Ensures that the trip counts and conditions of Loop and If hold exactly one element.

ONNX Runtime (1.32) reads their first element even where there is none. Where the graph does not show that there is one,
a Reshape to one element is inserted before the operator: it fails with an error that names the node.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from math import prod

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from lstm_explain.errors import ModelError
from lstm_explain.graph.ir import graph_proto_values
from lstm_explain.graph.protos import bodies_of, label_of, nodes_of, opset_of, put_nodes
from lstm_explain.graph.tensors import constant_of

CONTROL_OPERANDS = {"Loop": ((0, "trip count"), (1, "condition")), "If": ((0, "condition"),)}
FIRST_OPSET = 5  # the first version in which the shape is an operand of Reshape
Sizes = Mapping[str, int | None]  # number of elements by value; None where it is not known


def require_single_elements(model: ModelProto) -> bool:
    """Guards every such operand, in bodies too, that may hold another number of elements. Returns whether the model
    changed.

    Raises ModelError for an operand that certainly does.
    """
    opset = opset_of(model)
    if opset < FIRST_OPSET or not any(node.op_type in CONTROL_OPERANDS for node in nodes_of(model)):
        return False
    return _guard(model.graph, ChainMap())


def _guard(graph: GraphProto, outer_sizes: ChainMap[str, int | None]) -> bool:
    sizes = outer_sizes.new_child(_sizes(graph))
    nodes: list[NodeProto] = []
    changed = False
    for node in graph.node:
        for body in bodies_of(node):
            changed |= _guard(body, sizes)
        if node.op_type == "Loop":
            changed |= _guard_loop_condition(node, sizes)
        for slot, what in CONTROL_OPERANDS.get(node.op_type, ()):
            if slot < len(node.input) and node.input[slot] and not _holds_one(node, node.input[slot], what, sizes):
                name = f"{next(iter(node.output), node.name)}/{what.replace(' ', '_')}"
                nodes += _reshaped(node.input[slot], name, _rank(node) if what == "condition" else 1)
                node.input[slot] = name
                changed = True
        nodes.append(node)
    if len(nodes) > len(graph.node):
        put_nodes(graph, nodes)
    return changed


def _guard_loop_condition(loop: NodeProto, outer_sizes: ChainMap[str, int | None]) -> bool:
    """Guards the condition that the body of a loop returns."""
    changed = False
    for body in bodies_of(loop):
        if body.output:
            name, sizes = body.output[0].name, outer_sizes.new_child(_sizes(body))
            if not _holds_one(loop, name, "condition", sizes):
                body.output[0].name = f"{name}/condition"
                body.node.extend(_reshaped(name, body.output[0].name, _rank(loop)))
                changed = True
    return changed


def _sizes(graph: GraphProto) -> dict[str, int | None]:
    found: dict[str, int | None] = {}
    for value in graph_proto_values(graph):
        tensor = value.type.tensor_type
        known = tensor.HasField("shape") and all(d.HasField("dim_value") for d in tensor.shape.dim)
        found[value.name] = prod(d.dim_value for d in tensor.shape.dim) if known else None
    for node in graph.node:
        constant = constant_of(node) if node.output else None
        # These hide values of the same name in enclosing graphs.
        found |= {name: found.get(name) for name in node.output}
        if constant is not None:
            found[node.output[0]] = constant.size
    return found | {tensor.name: prod(tensor.dims) for tensor in graph.initializer}


def _holds_one(node: NodeProto, name: str, what: str, sizes: Sizes) -> bool:
    size = sizes.get(name)
    if size not in (None, 1):
        raise ModelError(
            f"node {label_of(node)!r} ({node.op_type}): its {what} {name!r} has {size} elements, expected 1"
        )
    return size == 1


def _rank(node: NodeProto) -> int:
    """Returns the rank that the body of a loop declares for the condition that it receives; another rank would
    contradict it.
    """
    for body in bodies_of(node):
        if node.op_type == "Loop" and len(body.input) > 1:
            return min(1, len(body.input[1].type.tensor_type.shape.dim))
    return 0


def _reshaped(name: str, output: str, rank: int) -> list[NodeProto]:
    shape = numpy_helper.from_array(np.ones(rank, np.int64))
    return [
        helper.make_node("Constant", [], [f"{output}/shape"], name=f"{output}/shape", value=shape),
        helper.make_node("Reshape", [name, f"{output}/shape"], [output], name=output),
    ]
