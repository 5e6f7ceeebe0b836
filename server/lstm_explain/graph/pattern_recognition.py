# SPDX-License-Identifier: Apache-2.0
"""Recognises patterns of primitives that stand for one operator: Softmax, Sigmoid, Softplus, 1 - x, Relu.

The last node of a pattern is replaced by the operator; the nodes before it stay in case something else reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from lstm_explain.graph.ir import Graph, Node
from lstm_explain.graph.node_editing import make

Producers = Mapping[str, Node]
LINEAR_ABOVE = 20  # where softplus(x) is x in float32
Pattern = Callable[[Graph, Producers, Node], "Node | None"]


def recognise_pattern(graph: Graph, producers: Producers, node: Node) -> Node:
    """Returns the operator whose pattern ends at this node, or the node itself where it ends none."""
    for pattern in PATTERNS.get(node.op, ()):
        found = pattern(graph, producers, node)
        if found is not None:
            return found
    return node


def _softmax(graph: Graph, producers: Producers, node: Node) -> Node | None:
    """Exponentials divided by their sum. As a Softmax, its scores receive relevance and it can be a gate."""
    exponentials, total = (producers.get(name) for name in node.inputs)
    if exponentials is None or total is None or (exponentials.op, total.op) != ("Exp", "ReduceSum"):
        return None
    axes = _reduced_axes(graph, total)
    if total.inputs[0] != node.inputs[0] or len(axes) != 1 or not total.attribute("keepdims", 1):
        return None
    scores, rank = exponentials.inputs[0], graph.type_of(node.inputs[0]).rank
    if node.opset < 13 and axes[0] not in (-1, None if rank is None else rank - 1):
        return None  # Until opset 13, Softmax normalises over all axes from this one on.
    shifted = producers.get(scores)
    if shifted is not None and shifted.op == "Sub":
        largest = producers.get(shifted.inputs[1])
        shifts_by_max = largest is not None and largest.op == "ReduceMax" and largest.inputs[0] == shifted.inputs[0]
        if (
            shifts_by_max
            and largest is not None
            and _reduced_axes(graph, largest) == axes
            and largest.attribute("keepdims", 1)
        ):
            scores = shifted.inputs[0]
    return make("Softmax", [scores], [node.outputs[0]], node.opset, node.name, axis=axes[0])


def _reduced_axes(graph: Graph, node: Node) -> list[int]:
    constant = graph.constants.get(node.input(1))
    return list(node.attribute("axes", [])) if constant is None else [int(a) for a in constant.reshape(-1)]


def _sigmoid(graph: Graph, producers: Producers, node: Node) -> Node | None:
    """Recognises 1 / (1 + exp(-x)), which can be a gate."""
    if node.op == "Div" and not _is(graph, node.inputs[0], 1, like=node.inputs[1]):
        return None
    exponential = _one_plus_exp(graph, producers, node.inputs[-1])
    x = None if exponential is None else _negated(graph, producers, exponential.inputs[0])
    return None if x is None else make("Sigmoid", [x], [node.outputs[0]], node.opset, node.name)


def _softplus(graph: Graph, producers: Producers, node: Node) -> Node | None:
    """Recognises log(1 + exp(x)), in the type in which ONNX Runtime has the operator."""
    exponential = _one_plus_exp(graph, producers, node.inputs[0])
    if exponential is None or graph.type_of(node.outputs[0]).dtype != np.float32:
        return None
    return make("Softplus", exponential.inputs[:1], [node.outputs[0]], node.opset, node.name)


def _bounded_softplus(graph: Graph, producers: Producers, node: Node) -> Node | None:
    """Recognises x where x > 20, else softplus(x), as torch defines it: the same number in float32."""
    above, x, otherwise = node.inputs
    compared, softplus = producers.get(above), producers.get(otherwise)
    if compared is None or compared.op != "Greater" or compared.inputs[0] != x:
        return None
    threshold = graph.constants.get(compared.inputs[1])
    if threshold is None or threshold.size != 1 or threshold.reshape(-1)[0] < LINEAR_ABOVE:
        return None
    if softplus is None or softplus.op != "Softplus" or softplus.inputs[0] != x:
        return None
    return make("Softplus", [x], [node.outputs[0]], node.opset, node.name)


def _complement(graph: Graph, producers: Producers, node: Node) -> Node | None:
    """Recognises 1 + (-x), which is 1 - x: applied to a gate it is the opposite gate, not a sum with a bias."""
    for one, other in (node.inputs, node.inputs[::-1]):
        constant, x = graph.constants.get(one), _negated(graph, producers, other)
        if constant is not None and constant.size and (constant == 1).all() and x is not None:
            return make("Sub", [one, x], [node.outputs[0]], node.opset, node.name)
    return None


def _relu(graph: Graph, producers: Producers, node: Node) -> Node | None:
    """Recognises max(x, 0)."""
    if len(node.inputs) != 2 or node.opset < 14:  # Relu of integers exists since opset 14.
        return None
    for zero, x in (node.inputs, node.inputs[::-1]):
        if x not in graph.constants and _is(graph, zero, 0, like=x):
            return make("Relu", [x], [node.outputs[0]], node.opset, node.name)
    return None


def _one_plus_exp(graph: Graph, producers: Producers, name: str) -> Node | None:
    """Returns the Exp node in 1 + exp(x); None for other values."""
    total = producers.get(name)
    if total is None or total.op != "Add":
        return None
    for one, other in (total.inputs, total.inputs[::-1]):
        exponential = producers.get(other)
        if exponential is not None and exponential.op == "Exp" and _is(graph, one, 1, like=other):
            return exponential
    return None


def _negated(graph: Graph, producers: Producers, name: str) -> str | None:
    """Returns x where the value is -x or x times -1."""
    node = producers.get(name)
    if node is None or node.op not in ("Neg", "Mul"):
        return None
    if node.op == "Neg":
        return node.inputs[0]
    for factor, x in (node.inputs, node.inputs[::-1]):
        if _is(graph, factor, -1, like=x):
            return x
    return None


def _is(graph: Graph, name: str, number: float, *, like: str) -> bool:
    """Returns whether the value is this constant, and does not enlarge `like` by broadcasting."""
    constant, rank = graph.constants.get(name), graph.type_of(like).rank
    if constant is None or constant.size != 1 or constant.reshape(-1)[0] != number:
        return False
    return constant.ndim == 0 or (rank is not None and constant.ndim <= rank)


PATTERNS: dict[str, tuple[Pattern, ...]] = {
    "Div": (_softmax, _sigmoid),
    "Reciprocal": (_sigmoid,),
    "Log": (_softplus,),
    "Add": (_complement,),
    "Max": (_relu,),
    "Where": (_bounded_softplus,),
}
