# SPDX-License-Identifier: Apache-2.0
"""Computes the constant part of every sum: what its biases add up to."""

from __future__ import annotations

from lstm_explain.graph.ir import Graph, Node
from lstm_explain.graph.node_editing import make
from lstm_explain.graph.protos import copy_of
from lstm_explain.operators import Kind
from lstm_explain.program.reachability import BackwardNode


def constant_value(name: str) -> str:
    """Returns the name of the extra value that holds the constant part of `name`: its value where everything that feeds
    it linearly is zero, which is the sum of its biases.
    """
    return f"{name}::constant"


def constant_parts(graph: Graph, backward_nodes: list[BackwardNode], linear: frozenset[str]) -> list[Node]:
    """Returns the nodes that compute `constant_value` of every sum and linear value: the same operators over zeros."""
    nodes: list[Node] = []
    for backward_node in backward_nodes:
        if backward_node.kind not in (Kind.SUM, Kind.MAP) and not linear.intersection(backward_node.node.outputs):
            continue
        inputs = list(backward_node.node.inputs)
        for slot in backward_node.live:
            source = inputs[slot]
            inputs[slot] = constant_value(source)
            if backward_node.kind is Kind.MAP or source not in linear:
                inputs[slot] = f"{backward_node.node.name}::zero{slot}"
                nodes.append(make("Sub", [source, source], [inputs[slot]], backward_node.node.opset))
        proto = copy_of(backward_node.node.proto)
        proto.name = f"{backward_node.node.name}::constant"
        proto.input[:] = inputs
        proto.output[:] = [constant_value(o) if o else "" for o in backward_node.node.outputs]
        nodes.append(
            Node(
                proto.name,
                backward_node.node.op,
                tuple(inputs),
                tuple(proto.output),
                backward_node.node.attributes,
                backward_node.node.opset,
                proto,
            )
        )
    return nodes
