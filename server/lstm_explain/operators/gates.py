"""Recognise gates: which operand of a product is the gate."""

from __future__ import annotations

from collections.abc import Mapping, Set

import numpy as np

from lstm_explain.graph.ir import Graph, Node
from lstm_explain.operators.operator import TABLE, Trait

# A gate remains the same gate through these.
MOVES = Trait.VIEW | Trait.REPEATS | Trait.SUBSET | Trait.CONCATENATES


def gate_slot(
    graph: Graph,
    producers: dict[str, Node],
    node: Node,
    live: tuple[int, ...],
    overrides: Mapping[str, int | None],
) -> int | None:
    """Return the slot of the gate of a PRODUCT, or None where neither operand or both come from a gate's activation.

    Where neither does, an exponential is the gate, as in xLSTM (Beck et al. 2024, arXiv 2405.04517), RWKV
    and Mamba: it is a positive weight, and its exponent is no signal.

    live: slots that depend on the model's inputs. overrides: the slot by node name, where the caller sets it.
    """
    if node.name in overrides:
        return overrides[node.name]
    op = TABLE.get(node.op)
    if op is not None and op.gate is not None:
        return op.gate
    gates = [slot for slot in live if is_gate(graph, producers, node.inputs[slot])]
    if not gates:
        gates = [slot for slot in live if is_gate(graph, producers, node.inputs[slot], Trait.EXPONENTIAL)]
    return gates[0] if len(gates) == 1 else None


def complement_slot(graph: Graph, producers: dict[str, Node], node: Node) -> int | None:
    """Return the slot of z in a node that computes 1 - z of a gate z: a function of the gate, not a sum with a bias."""
    is_complement = node.op == "Sub" and _is_one(graph, node.inputs[0]) and is_gate(graph, producers, node.inputs[1])
    return 1 if is_complement else None


def gates_constant(
    graph: Graph, producers: dict[str, Node], live: Set[str], node: Node, slots: tuple[int, ...]
) -> bool:
    """Return whether a gate multiplies a constant signal, as the first step of a cell does with a bias or a state.

    Only where the product is added to another live term. Elsewhere, for example in a head that scales its sigmoid, the
    gate is all that can be explained.
    """
    if node.op != "Mul" or len(slots) != 1 or not is_gate(graph, producers, node.inputs[slots[0]]):
        return False
    extents = graph.type_of(node.inputs[1 - slots[0]]).shape
    if extents is None or all(n == 1 for n in extents):
        return False
    sums = [n for n in producers.values() if n.op in ("Add", "Sum") and node.outputs[0] in n.inputs]
    return bool(sums) and all(any(i in live and i != node.outputs[0] for i in n.inputs) for n in sums)


def is_gate(graph: Graph, producers: dict[str, Node], value: str, trait: Trait = Trait.GATE) -> bool:
    """Return whether the value is the output of an activation with values in [0, 1], possibly moved or complemented.

    trait: that of the activation.
    """
    for _ in range(len(producers)):
        node = producers.get(value)
        if node is None:
            return False
        if trait in TABLE.traits(node.op) or (trait is Trait.GATE and _clips_to_unit(graph, node)):
            return True
        if node.op == "Sub" and _is_one(graph, node.inputs[0]):
            value = node.inputs[1]
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


def _is_fixed(graph: Graph, producers: dict[str, Node], name: str) -> bool:
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
