"""Sees to it that no LSTM or GRU of ONNX Runtime's is given nothing.

Without a sample (a GRU: without a step) it throws in a thread of its own (1.32), which ends the process. A Reshape to
the same shape is put before each: it is an error that names the node, since an extent cannot be inferred from nothing.
Our own kernels take empty sequences, so this is for what ONNX Runtime runs only.
"""

from __future__ import annotations

from collections.abc import Set

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from lstm_explain.graph.protos import bodies_of, opset_of, put_nodes

# By operator, a shape for X: 0 stands for the extent as it is, -1 for what is left, for which no other may be 0.
SAME_SHAPE = {"LSTM": (-1, 0, 0), "com.microsoft::DynamicQuantizeLSTM": (-1, 0, 0), "GRU": (0, 0, -1)}
OLDEST = 5  # opset in which the shape became an operand of Reshape


def may_hold_nothing(model: ModelProto) -> bool:
    """Whether such an operator reads anything but an input of the model, which is never empty."""
    return bool(_guards(model.graph, {value.name for value in model.graph.input}))


def without_empty_sequences(model: ModelProto, known: Set[str] = frozenset()) -> None:
    """Changes the model. known: values that hold something."""
    opset = opset_of(model)
    if opset >= OLDEST:
        _put(model.graph, known)


def _operator(node: NodeProto) -> str:
    return f"{node.domain}::{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type


def _guards(graph: GraphProto, known: Set[str]) -> list[NodeProto]:
    """The operators to be guarded, in bodies too."""
    found = [n for n in graph.node if _operator(n) in SAME_SHAPE and n.input[0] not in known]
    return found + [n for node in graph.node for body in bodies_of(node) for n in _guards(body, frozenset())]


def _put(graph: GraphProto, known: Set[str]) -> None:
    nodes: list[NodeProto] = []
    for node in graph.node:
        for body in bodies_of(node):
            _put(body, frozenset())
        shape = SAME_SHAPE.get(_operator(node))
        if shape is not None and node.input[0] not in known:
            name = f"{next(filter(None, node.output))}/input"
            array = numpy_helper.from_array(np.array(shape, np.int64))
            nodes.append(helper.make_node("Constant", [], [f"{name}/shape"], value=array))
            nodes.append(
                helper.make_node("Reshape", [node.input[0], f"{name}/shape"], [name], name=f"{node.name}/{name}")
            )
            node.input[0] = name
        nodes.append(node)
    if len(nodes) > len(graph.node):
        put_nodes(graph, nodes)
