# SPDX-License-Identifier: Apache-2.0
"""Makes nodes, renames what they read and write, and collects the nodes that replace one node of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, helper, numpy_helper

from lstm_explain.graph.ir import Node, node_from_proto
from lstm_explain.graph.protos import copy_of


def make(op: str, inputs: Sequence[str], outputs: Sequence[str], opset: int, name: str = "", **attributes: Any) -> Node:
    name = name or f"{op}_{outputs[0]}"
    return node_from_proto(helper.make_node(op, inputs, outputs, name=name, **attributes), name, opset, {})


class ReplacementNodes:
    """Collects protos that replace a node. Their names begin with the node's first output, which is unique."""

    def __init__(self, node: NodeProto) -> None:
        self.nodes: list[NodeProto] = []
        self._prefix = node.output[0]

    def op(self, op: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Adds a node and returns the name of its output."""
        output = f"{self._prefix}/{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], name=name or output, **attributes))
        return output

    def constant(self, value: Any) -> str:
        """value: an array, a NumPy scalar, or a Python float for float64."""
        return self.op("Constant", value=numpy_helper.from_array(np.asarray(value)))


def renamed(proto: NodeProto, names: Mapping[str, str], prefix: str) -> NodeProto:
    """Returns a copy that reads and writes the new names, inside its bodies too."""
    copy = copy_of(proto)
    copy.name = f"{prefix}{proto.name}" if proto.name else ""
    copy.input[:] = [names.get(name, name) for name in proto.input]
    copy.output[:] = [names.get(name, name) for name in proto.output]
    for attribute in copy.attribute:
        for body in [attribute.g] if attribute.HasField("g") else list(attribute.graphs):
            _rename_body(body, names)
    return copy


def _rename_body(body: GraphProto, names: Mapping[str, str]) -> None:
    own = {v.name for v in body.input} | {t.name for t in body.initializer}
    own |= {name for node in body.node for name in node.output}
    names = {old: new for old, new in names.items() if old not in own}
    nodes = [renamed(node, names, "") for node in body.node]
    del body.node[:]
    body.node.extend(nodes)
    for output in body.output:
        output.name = names.get(output.name, output.name)
