# SPDX-License-Identifier: Apache-2.0
"""Guards ONNX Runtime's LSTM and GRU against empty inputs, which end the process.

ONNX Runtime (1.32) throws in a thread of its own where an LSTM has no sample, or a GRU no step or no sample. A Reshape
to the same shape is inserted before each: it fails with an error that names the node, since an extent cannot be
inferred from an empty array. Our own kernels accept empty sequences, so only what ONNX Runtime runs needs this.
"""

from __future__ import annotations

from collections.abc import Set

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from lstm_explain.graph.protos import bodies_of, is_standard, opset_of, put_nodes

# For each operator, a shape for X. 0 stands for the extent as it is, -1 for the remaining one, which requires that no
# other extent is 0.
SAME_SHAPE = {"LSTM": (-1, 0, 0), "com.microsoft::DynamicQuantizeLSTM": (-1, 0, 0), "GRU": (0, 0, -1)}
FIRST_OPSET = 5  # in which the shape is an operand of Reshape


def may_be_empty(model: ModelProto) -> bool:
    """Returns whether such an operator reads anything but an input of the model, which is never empty."""
    return bool(_guards(model.graph, {value.name for value in model.graph.input}))


def guard_empty_sequences(model: ModelProto, known: Set[str] = frozenset()) -> None:
    """Inserts the guards. known: values that are certainly not empty."""
    if opset_of(model) >= FIRST_OPSET:
        _insert_guards(model.graph, known)


def _operator(node: NodeProto) -> str:
    return node.op_type if is_standard(node) else f"{node.domain}::{node.op_type}"


def _guards(graph: GraphProto, known: Set[str]) -> list[NodeProto]:
    """Returns the operators that need a guard, in bodies too."""
    found = [n for n in graph.node if _operator(n) in SAME_SHAPE and n.input[0] not in known]
    return found + [n for node in graph.node for body in bodies_of(node) for n in _guards(body, frozenset())]


def _insert_guards(graph: GraphProto, known: Set[str]) -> None:
    nodes: list[NodeProto] = []
    for node in graph.node:
        for body in bodies_of(node):
            _insert_guards(body, frozenset())
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
