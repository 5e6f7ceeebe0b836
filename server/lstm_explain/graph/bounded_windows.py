# SPDX-License-Identifier: Apache-2.0
"""Bounds the size of windows (HannWindow and the like) that depends on the value of an input.

Such an operator computes its output in one step that nothing can interrupt: a window of 2²⁷ values takes eleven
seconds, whatever the deadline of the caller is. A size that is not a constant is therefore looked up in a table first,
and the lookup fails beyond MAX_VALUES: ONNX Runtime reports an error that names the node and the limit.
"""

from __future__ import annotations

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from lstm_explain.graph.node_editing import ReplacementNodes
from lstm_explain.graph.protos import bodies_of, copy_of, is_standard, nodes_of, put_nodes

MAX_VALUES = 1 << 22  # values of one window, which takes less than half a second
# For each operator, the operands whose product is the size, and the operands that must keep the same type as those.
SIZES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "BlackmanWindow": ((0,), ()),
    "HammingWindow": ((0,), ()),
    "HannWindow": ((0,), ()),
    "MelWeightMatrix": ((0, 1), (2,)),
}


def bound_windows(model: ModelProto) -> bool:
    """Bounds every window, in bodies too, whose size may depend on inputs. Returns whether the model changed."""
    return any(_is_window(node) for node in nodes_of(model)) and _bound(model.graph, frozenset())


def _is_window(node: NodeProto) -> bool:
    return node.op_type in SIZES and is_standard(node)


def _bound(graph: GraphProto, outer_constants: frozenset[str]) -> bool:
    """outer_constants: names of the constants of the enclosing graphs."""
    constants = outer_constants | {t.name for t in graph.initializer}
    constants |= {o for node in graph.node if node.op_type == "Constant" for o in node.output}
    nodes: list[NodeProto] = []
    changed = False
    for node in graph.node:
        for body in bodies_of(node):
            changed |= _bound(body, constants)
        is_bounded = not _is_window(node) or constants.issuperset(node.input[i] for i in SIZES[node.op_type][0])
        nodes += [node] if is_bounded else _bounded(node)
    if len(nodes) == len(graph.node):
        return changed
    put_nodes(graph, nodes)
    return True


def _bounded(node: NodeProto) -> list[NodeProto]:
    """Returns the nodes that replace one window. The last of them makes the window and keeps the node's name."""
    replacement = ReplacementNodes(node)
    sizes, others = SIZES[node.op_type]
    product = ""
    for slot in sizes:
        size = replacement.op("Cast", node.input[slot], to=TensorProto.DOUBLE)
        product = replacement.op("Mul", product, size) if product else size
    exceeds = replacement.op("Greater", product, replacement.constant(float(MAX_VALUES)))
    index = replacement.op("Cast", exceeds, to=TensorProto.INT64)
    message = f"{node.name or node.output[0]}: {node.op_type} of more than {MAX_VALUES} values"
    zero = replacement.op("Gather", replacement.constant(np.zeros(1, np.int64)), index, name=message)
    window = copy_of(node)
    for slot in (*sizes, *others):
        whole = replacement.op("Cast", node.input[slot], to=TensorProto.INT64)
        window.input[slot] = replacement.op("Add", whole, zero)
    return [*replacement.nodes, window]
