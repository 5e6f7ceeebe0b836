"""Bounds operators of which one value of an input says how much they make, in one step that nothing can stop.

A window of 2²⁷ values takes eleven seconds, whatever the caller's deadline is. Where such a size is no constant, it
goes through a lookup that fails beyond MOST_VALUES: an error of ONNX Runtime's that names the node and the limit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from lstm_explain.graph.protos import bodies_of, nodes_of, put_nodes

MOST_VALUES = 1 << 22  # of one window; they take less than half a second
# By operator, the operands whose product is the size, and those that have to stay of one type with them.
SIZES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "BlackmanWindow": ((0,), ()),
    "HammingWindow": ((0,), ()),
    "HannWindow": ((0,), ()),
    "MelWeightMatrix": ((0, 1), (2,)),
}


def with_bounded_windows(model: ModelProto) -> bool:
    """Changes the model where a window's size may depend on inputs, in bodies too; tells whether there was one."""
    return any(_is_window(node) for node in nodes_of(model)) and _bounded(model.graph, frozenset())


def _is_window(node: NodeProto) -> bool:
    return node.op_type in SIZES and node.domain in ("", "ai.onnx")


def _bounded(graph: GraphProto, around: frozenset[str]) -> bool:
    """around: names of constants of the graphs around."""
    constants = around | {t.name for t in graph.initializer}
    constants |= {o for node in graph.node if node.op_type == "Constant" for o in node.output}
    nodes: list[NodeProto] = []
    changed = False
    for node in graph.node:
        for body in bodies_of(node):
            changed |= _bounded(body, constants)
        free = _is_window(node) and not constants.issuperset(node.input[slot] for slot in SIZES[node.op_type][0])
        nodes += _Spelled(node).nodes if free else [node]
    if len(nodes) == len(graph.node):
        return changed
    put_nodes(graph, nodes)
    return True


class _Spelled:
    """The nodes that stand for one window. The node that makes it keeps its name."""

    def __init__(self, node: NodeProto) -> None:
        self.nodes: list[NodeProto] = []
        self.name = node.output[0]  # unlike a node's own name, no other has it
        sizes, others = SIZES[node.op_type]
        amount = ""
        for slot in sizes:
            size = self._op("Cast", node.input[slot], to=TensorProto.DOUBLE)
            amount = self._op("Mul", amount, size) if amount else size
        over = self._op("Cast", self._op("Greater", amount, self._constant(float(MOST_VALUES))), to=TensorProto.INT64)
        told = f"{node.name or self.name}: {node.op_type} of more than {MOST_VALUES} values"
        zero = self._op("Gather", self._constant(np.zeros(1, np.int64)), over, told=told)
        own = NodeProto()
        own.CopyFrom(node)
        for slot in (*sizes, *others):
            whole = self._op("Cast", node.input[slot], to=TensorProto.INT64)
            own.input[slot] = self._op("Add", whole, zero)
        self.nodes.append(own)

    def _op(self, op: str, *inputs: str, told: str = "", **attributes: Any) -> str:
        output = f"{self.name}/{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], name=told or output, **attributes))
        return output

    def _constant(self, value: Any) -> str:
        return self._op("Constant", value=numpy_helper.from_array(np.asarray(value)))
