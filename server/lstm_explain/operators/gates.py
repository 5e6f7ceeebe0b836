# SPDX-License-Identifier: Apache-2.0
"""Recognise gates: which operand of a product is the gate."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

import numpy as np

from lstm_explain.graph.body_wiring import across
from lstm_explain.graph.ir import GATE, Graph, Node
from lstm_explain.operators.operator import TABLE, Trait
from lstm_explain.operators.value_ranges import is_fraction

# A gate remains the same gate through these.
MOVES = Trait.VIEW | Trait.REPEATS | Trait.SUBSET | Trait.CONCATENATES


@dataclass(frozen=True)
class Gate:
    """The slot of a product's gate, None where it has none, and why."""

    slot: int | None
    why: str


WHY = {
    Trait.GATE: "the gate lies between 0 and 1",
    Trait.EXPONENTIAL: "the gate is an exponential",
    Trait.STEP_SIZE: "the gate is a softplus",
}


def gate_of(
    graph: Graph,
    producers: dict[str, Node],
    node: Node,
    live: tuple[int, ...],
    overrides: Mapping[str, int | None],
) -> Gate:
    """Return the gate of a PRODUCT: the operand that comes from a gate's activation, unless both do.

    Where neither does, an exponential is the gate, as in xLSTM (Beck et al. 2024, arXiv 2405.04517), RWKV
    and Mamba: it is a positive weight, and its exponent is no signal. Where neither is one, a softplus is the gate: it
    is the step size of a selective scan.

    live: slots that depend on the model's inputs. overrides: the slot by node name, where the caller sets it.
    """
    if node.name in overrides:
        return Gate(overrides[node.name], "set by the caller")
    op = TABLE.get(node.op)
    if op is not None and op.gate is not None:
        return Gate(op.gate, "the operator has the gate at a fixed place")
    known = node.metadata(GATE)
    if known:
        return Gate(int(known), "the layer that was rewritten has the gate here")
    for trait, why in WHY.items():
        gates = [slot for slot in live if is_gate(graph, producers, node.inputs[slot], trait)]
        if gates:
            return Gate(gates[0], why) if len(gates) == 1 else Gate(None, f"{why}, and so is the other operand")
    return Gate(None, "no gate found")


def complement_slot(graph: Graph, producers: dict[str, Node], node: Node) -> int | None:
    """Return the slot of z in a node that computes 1 - z of a gate z: a function of the gate, not a sum with a bias."""
    is_complement = node.op == "Sub" and _is_one(graph, node.inputs[0]) and is_gate(graph, producers, node.inputs[1])
    return 1 if is_complement else None


def gates_constant(
    graph: Graph, producers: dict[str, Node], live: Set[str], node: Node, slots: tuple[int, ...]
) -> bool:
    """Return whether a gate multiplies a constant signal, as the first step of a cell does with a bias or a state, and
    attention with the vectors of relative positions.

    Only where the product is added to another live term. Elsewhere, for example in a head that scales its sigmoid, the
    gate is all that can be explained.
    """
    if len(slots) != 1 or not _gates(graph, producers, node, node.inputs[slots[0]]):
        return False
    extents = graph.type_of(node.inputs[1 - slots[0]]).shape
    if extents is None or all(n == 1 for n in extents):
        return False
    sums = [n for n in producers.values() if n.op in ("Add", "Sum") and node.outputs[0] in n.inputs]
    return bool(sums) and all(any(i in live and i != node.outputs[0] for i in n.inputs) for n in sums)


def _gates(graph: Graph, producers: dict[str, Node], node: Node, value: str) -> bool:
    """Return whether the value is a gate in this product. In a sum of products, only weights of a mean are gates: a
    dense layer reads sigmoids as signals.
    """
    if node.op == "Mul":
        return is_gate(graph, producers, value)
    while (source := producers.get(value)) is not None and TABLE.traits(source.op) & MOVES:
        value = source.inputs[0]
    return node.op in ("MatMul", "Einsum") and source is not None and source.op == "Softmax"


def is_gate(graph: Graph, producers: Mapping[str, Node], value: str, trait: Trait = Trait.GATE) -> bool:
    """Return whether the value is the output of an activation with values in [0, 1], possibly moved or complemented,
    or is bounded to [0, 1] otherwise; or a positive multiple of such a value. A body may read it from the graph around,
    and a loop may write it step by step.

    trait: that of the activation.
    """
    for _ in range(len(producers)):
        where, made, name = across(graph, producers, value)
        if where is not graph:
            return is_gate(where, made, name, trait)
        node = producers.get(value)
        if node is None:
            return False
        if trait in TABLE.traits(node.op) or (trait is Trait.GATE and _clips_to_unit(graph, node)):
            return True
        if trait is Trait.GATE and is_fraction(graph, producers, value):
            return True
        if node.op == "Sub" and _is_one(graph, node.inputs[0]):
            value = node.inputs[1]
        elif (multiplied := _positive_multiple(graph, node)) is not None:
            value = multiplied
        elif (
            node.op == "Where"
            and len(branches := [n for n in node.inputs[1:] if not _is_fixed(graph, producers, n)]) == 1
        ):
            value = branches[0]  # a mask
        elif TABLE.traits(node.op) & MOVES:
            value = node.inputs[0]
        else:
            return False
    return False


def _positive_multiple(graph: Graph, node: Node) -> str | None:
    """Return the operand that the node multiplies or divides by positive constants; None for other nodes."""
    if node.op not in ("Mul", "Div"):
        return None
    for slot in (1, 0) if node.op == "Mul" else (1,):
        constant = graph.constants.get(node.inputs[slot])
        if constant is not None and constant.size and (constant > 0).all():
            return node.inputs[1 - slot]
    return None


def _is_fixed(graph: Graph, producers: Mapping[str, Node], name: str) -> bool:
    """Return whether the value is a constant, perhaps cast or expanded."""
    node = producers.get(name)
    if node is None or node.op not in ("Cast", "CastLike", "Expand"):
        return name in graph.constants
    return _is_fixed(graph, producers, node.inputs[0])


def _is_one(graph: Graph, name: str) -> bool:
    constant = graph.constants.get(name)
    return constant is not None and constant.size > 0 and bool(np.all(constant == 1))


def _clips_to_unit(graph: Graph, node: Node) -> bool:
    """Return whether the node clips to [0, 1], as exporters write a hard sigmoid."""
    if node.op != "Clip":
        return False
    bounds = []
    for slot, attribute in ((1, "min"), (2, "max")):
        constant = graph.constants.get(node.input(slot))
        bounds.append(node.attribute(attribute) if constant is None else float(constant.reshape(-1)[0]))
    return bounds == [0.0, 1.0]
