"""Sees to it that trip counts and conditions of control flow hold one element.

ONNX Runtime (1.32) reads the first element of each, whether or not there is one. Where the graph does not show that
there is, a Reshape to one element is put before it, which is an error that names the node where there is not.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from math import prod

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from lstm_explain.errors import ModelError
from lstm_explain.graph.ir import graph_proto_values
from lstm_explain.graph.protos import bodies_of, nodes_of, opset_of, put_nodes
from lstm_explain.graph.tensors import constant_of

READ = {"Loop": ((0, "trip count"), (1, "condition")), "If": ((0, "condition"),)}
OLDEST = 5  # opset in which the shape became an operand of Reshape
Sizes = Mapping[str, int | None]  # elements, by value; None where that is not known


def with_single_elements(model: ModelProto) -> bool:
    """Changes the model where one of these may hold another number of elements, in bodies too; tells whether it did.

    Raises ModelError for one that surely does.
    """
    opset = opset_of(model)
    if opset < OLDEST or not any(node.op_type in READ for node in nodes_of(model)):
        return False
    return _changed(model.graph, ChainMap())


def _changed(graph: GraphProto, around: ChainMap[str, int | None]) -> bool:
    sizes = around.new_child(_sizes(graph))
    nodes: list[NodeProto] = []
    changed = False
    for node in graph.node:
        for body in bodies_of(node):
            changed |= _changed(body, sizes)
        if node.op_type == "Loop":
            changed |= _going_on(node, sizes)
        for slot, what in READ.get(node.op_type, ()):
            if slot < len(node.input) and node.input[slot] and not _holds_one(node, node.input[slot], what, sizes):
                name = f"{next(iter(node.output), node.name)}/{what.replace(' ', '_')}"
                nodes += _reshaped(node.input[slot], name, _rank(node) if what == "condition" else 1)
                node.input[slot] = name
                changed = True
        nodes.append(node)
    if len(nodes) > len(graph.node):
        put_nodes(graph, nodes)
    return changed


def _going_on(loop: NodeProto, around: ChainMap[str, int | None]) -> bool:
    """The same for the condition that a loop's body hands out."""
    changed = False
    for body in bodies_of(loop):
        if body.output:
            name, sizes = body.output[0].name, around.new_child(_sizes(body))
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
        found |= {name: found.get(name) for name in node.output}  # of this graph, whatever is around it
        if constant is not None:
            found[node.output[0]] = constant.size
    return found | {tensor.name: prod(tensor.dims) for tensor in graph.initializer}


def _holds_one(node: NodeProto, name: str, what: str, sizes: Sizes) -> bool:
    size = sizes.get(name)
    if size not in (None, 1):
        named = node.name or next(iter(node.output), "")
        raise ModelError(f"node {named!r} ({node.op_type}): its {what} {name!r} holds {size} elements, expected 1")
    return size == 1


def _rank(node: NodeProto) -> int:
    """That a loop's body declares for the condition that it is given: another one would contradict it."""
    for body in bodies_of(node):
        if node.op_type == "Loop" and len(body.input) > 1:
            return min(1, len(body.input[1].type.tensor_type.shape.dim))
    return 0


def _reshaped(name: str, made: str, rank: int) -> list[NodeProto]:
    shape = numpy_helper.from_array(np.ones(rank, np.int64))
    return [
        helper.make_node("Constant", [], [f"{made}/shape"], name=f"{made}/shape", value=shape),
        helper.make_node("Reshape", [name, f"{made}/shape"], [made], name=made),
    ]
