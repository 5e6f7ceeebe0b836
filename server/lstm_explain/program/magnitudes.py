# SPDX-License-Identifier: Apache-2.0
"""The sums of absolute terms by which the relative stabiliser measures a neuron, computed along with its sum.

For every sum and linear map, an additional node computes its magnitude: the same operator over absolute weights, inputs
and constants. The table entry of an operator says how its magnitude differs from this. Inside recurrent nodes, the
kernels compute magnitudes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from lstm_explain.graph.ir import Array, Graph, Node, node_from_proto
from lstm_explain.graph.node_editing import make
from lstm_explain.operators import Kind, Operator
from lstm_explain.program.reachability import BackwardNode

LINEAR = (Kind.SUM, Kind.MAP, Kind.SCALE, Kind.ROUTING)


def magnitude_value(name: str) -> str:
    """Returns the name of the extra value: the sum of the absolute terms of the value called `name`."""
    return f"{name}::magnitude"


def magnitude_parts(
    graph: Graph, backward_nodes: Sequence[BackwardNode], linear: frozenset[str]
) -> tuple[list[Node], dict[str, Array]]:
    """Returns the nodes that compute `magnitude_value` of every sum and linear value, and the constants that these
    read.
    """
    nodes: dict[str, Node] = {}
    constants: dict[str, Array] = {}

    def absolute(name: str, opset: int) -> str:
        made = f"{name}::absolute"
        if name in graph.constants:
            constants[made] = np.abs(graph.constants[name])
        elif made not in nodes:
            nodes[made] = make("Abs", [name], [made], opset)
        return made

    for backward_node in backward_nodes:
        node, op = backward_node.node, backward_node.op
        if backward_node.kind not in (Kind.SUM, Kind.MAP) and not linear.intersection(node.outputs):
            continue
        outputs = [magnitude_value(o) if o else "" for o in node.outputs]
        if op.magnitude == "output":
            nodes[outputs[0]] = make("Abs", [node.outputs[0]], [outputs[0]], node.opset)
            continue
        inputs = list(node.inputs)
        for slot, name in enumerate(inputs):
            if slot in backward_node.live:
                summed = backward_node.kind is not Kind.MAP and name in linear
                inputs[slot] = magnitude_value(name) if summed else absolute(name, node.opset)
            elif name and slot not in op.nondifferentiable and _is_float(graph, name):
                inputs[slot] = absolute(name, node.opset)
            if slot in op.negated:
                nodes[f"{name}::negated"] = make("Neg", [inputs[slot]], [f"{name}::negated"], node.opset)
                inputs[slot] = f"{name}::negated"
        nodes[outputs[0]] = _same_operator(node, op, inputs, outputs)
    return list(nodes.values()), constants


def _same_operator(node: Node, op: Operator, inputs: list[str], outputs: list[str]) -> Node:
    if op.magnitude != "same":
        return make(op.magnitude, inputs, outputs, node.opset, f"{node.name}::magnitude")
    proto = type(node.proto)()
    proto.CopyFrom(node.proto)
    proto.name = f"{node.name}::magnitude"
    proto.input[:], proto.output[:] = inputs, outputs
    for attribute in proto.attribute:
        if attribute.name in op.factors:
            attribute.f = abs(attribute.f)
    return node_from_proto(proto, proto.name, node.opset, {})


def _is_float(graph: Graph, name: str) -> bool:
    dtype = graph.constants[name].dtype if name in graph.constants else graph.type_of(name).dtype
    return dtype is not None and dtype.kind == "f"


def with_constants(graph: Graph, nodes: Sequence[Node], constants: dict[str, Array]) -> Graph:
    """Returns the graph extended by the constants and by the types of the nodes' outputs, which equal the types of the
    values themselves.
    """
    values = [(name, name.rpartition("::")[0]) for node in nodes for name in node.outputs]
    types = {name: graph.types[own] for name, own in values if own in graph.types}
    return replace(graph, constants={**graph.constants, **constants}, types={**graph.types, **types})


# --- which of the stabiliser's numbers a sum takes ------------------------------------------------------------------


def kinds_of_sums(
    graph: Graph,
    backward_nodes: Sequence[BackwardNode],
    linear: frozenset[str],
    carried: Mapping[str, str],
) -> dict[str, str]:
    """Returns which field of `Stabiliser` holds the beta of each sum and linear map, by node name.

    carried: for the body of a Loop or Scan, the states that it returns, with those that it receives. In a cell that an
    exporter unrolled, every step multiplies by the same weights. A cell's state is a sum of products, a sum without
    weights on which a state depends, or a state of a linear recurrence; not what only activations read. What is only
    read from the states of a loop is a layer.
    """
    linear_states = _linear_states(backward_nodes, carried)
    recurrent = _leading_to(backward_nodes, set(carried))
    bent_only = _only_bent(backward_nodes, set(carried))
    weights = Counter(
        _weights_of(graph, s) for s in backward_nodes if s.kind is Kind.MAP and _weights_of(graph, s) is not None
    )
    weighted, repeated, products = set[str](), set[str](), set[str]()
    kinds: dict[str, str] = {}
    for s in backward_nodes:
        sources = [s.node.inputs[slot] for slot in s.live]
        if s.kind is Kind.MAP:
            weighted.update(s.node.outputs)
            again = weights[_weights_of(graph, s)] > 1 or not recurrent.isdisjoint(s.node.outputs)
            if again:
                repeated.update(s.node.outputs)
            kinds[s.node.name] = "pre_activations" if again else "layers"
            continue
        if s.kind is Kind.PRODUCT or (s.kind is Kind.ROUTING and products.issuperset(sources)):
            products.update(s.node.outputs)
        if s.kind not in (Kind.SUM, Kind.SCALE, Kind.ROUTING):
            continue
        if weighted.intersection(sources) & linear:
            weighted.update(s.node.outputs)
        if repeated.intersection(sources) & linear:
            repeated.update(s.node.outputs)
        if s.kind is Kind.SUM:
            has_weights = bool(weighted.intersection(s.node.outputs))
            in_cell = not recurrent.isdisjoint(s.node.outputs)
            if in_cell and not bent_only.isdisjoint(s.node.outputs):
                kinds[s.node.name] = "pre_activations"
            elif (
                products.issuperset(sources)
                or (in_cell and not has_weights)
                or not linear_states.isdisjoint(s.node.outputs)
            ):
                kinds[s.node.name] = "cells"
            elif in_cell or repeated.intersection(s.node.outputs):
                kinds[s.node.name] = "pre_activations"
            else:
                kinds[s.node.name] = "layers"
    return kinds


def _leading_to(backward_nodes: Sequence[BackwardNode], values: set[str]) -> set[str]:
    """Returns the values on which any of these depend, themselves included."""
    found = set(values)
    for s in reversed(backward_nodes):
        if not found.isdisjoint(s.node.outputs):
            found.update(s.node.inputs[slot] for slot in s.live)
    return found


def _only_bent(backward_nodes: Sequence[BackwardNode], states: set[str]) -> set[str]:
    """Returns the values that nothing but activations reads, directly or in a sum with others."""
    read, otherwise = set[str](), set(states)
    for s in reversed(backward_nodes):
        sources = {s.node.inputs[slot] for slot in s.live}
        read |= sources
        passed_on = s.kind in (Kind.SUM, Kind.ROUTING) and otherwise.isdisjoint(s.node.outputs)
        if s.kind is not Kind.ACTIVATION and not passed_on:
            otherwise |= sources
    return read - otherwise


def _linear_states(backward_nodes: Sequence[BackwardNode], carried: Mapping[str, str]) -> set[str]:
    """Returns the sums that add a constant multiple of an earlier sum, as the states of a linear recurrence do, and
    that are used linearly.

    Their density is the sum of the densities of what reads them, so that a division by them cancels.
    """
    bent = set[str]()  # values that anything but a linear operator reads, directly or moved
    for s in reversed(backward_nodes):
        linear = s.kind in LINEAR and (s.kind is not Kind.ROUTING or bent.isdisjoint(s.node.outputs))
        if not linear:
            bent.update(s.node.inputs[slot] for slot in s.live)
            bent.update(s.captured)
    bent |= {exit_ for exit_, entry in carried.items() if entry in bent}
    sums, decayed, found = set(carried.values()), set[str](), set[str]()
    for s in backward_nodes:
        sources = {s.node.inputs[slot] for slot in s.live}
        if s.kind is Kind.SUM:
            sums.update(s.node.outputs)
            if sources & decayed:
                decayed.update(s.node.outputs)
                found |= {o for o in s.node.outputs if o not in bent}
        elif s.kind is Kind.ROUTING:
            sums.update(s.node.outputs if sources & sums else ())
            decayed.update(s.node.outputs if sources & decayed else ())
        elif s.kind is Kind.SCALE and sources & sums:
            decayed.update(s.node.outputs)
    return found


def _weights_of(graph: Graph, backward_node: BackwardNode) -> tuple[object, ...] | None:
    """Returns a key that is equal for maps with equal weights, which exporters and constant folding may have copied;
    None for a map without weights.
    """
    names = [n for i, n in enumerate(backward_node.node.inputs) if i not in backward_node.live and n in graph.constants]
    arrays = [a for a in (graph.constants[n] for n in names) if a.dtype.kind == "f" and a.ndim > 1]
    if not arrays:
        return None
    return tuple((a.shape, float(np.sum(a, dtype=np.float64)), float(a.flat[0])) for a in arrays if a.size)
