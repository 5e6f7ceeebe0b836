# SPDX-License-Identifier: Apache-2.0
"""Recognise attention: Softmax nodes that weigh live values, and the products of its weights and of its scores.

Under the product rule "attn", these have the rules of AttnLRP (Achtibat et al. 2024, arXiv 2402.05602): the products
split relevance in halves (propositions 3.2 and 3.3), and the Softmax has a rule of its own (3.1). Under the other
product rules, a Softmax is the gate of what it weighs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from lstm_explain.operators import Kind, Trait
from lstm_explain.program.reachability import BackwardNode

Gates = Mapping[str, int | None]


@dataclass(frozen=True)
class Attention:
    """Names of nodes. weights: each Softmax. products: those whose operands get half of the relevance each."""

    weights: frozenset[str] = frozenset()
    products: frozenset[str] = frozenset()


def with_attention(backward_nodes: Sequence[BackwardNode], gates: Gates) -> tuple[list[BackwardNode], Gates]:
    """Return the nodes with the rules of attention, and the gates without those of its products.

    gates: by node name, where the caller sets them; these products stay as they are.
    """
    found = attention_in(backward_nodes, gates)
    nodes = [replace(b, kind=Kind.WEIGHTS) if b.node.name in found.weights else b for b in backward_nodes]
    return nodes, {**dict.fromkeys(found.products), **gates}


def attention_in(backward_nodes: Sequence[BackwardNode], set_by_caller: Container[str] = ()) -> Attention:
    """Return what these nodes, in topological order, have of attention.

    A Softmax belongs to it if its weights, perhaps moved, masked or scaled, are multiplied by another live value. One
    at the end of an output does not, nor does one that only sums read.
    """
    sources: dict[str, frozenset[str]] = defaultdict(frozenset)  # by value that holds weights, their Softmax nodes
    weights, products = set[str](), set[str]()
    for b in backward_nodes:
        operands = [b.node.inputs[slot] for slot in b.live]
        if b.kind is Kind.ACTIVATION and b.op.weights is not None:
            found = frozenset({b.node.name})
        elif b.kind in (Kind.ROUTING, Kind.SCALE):
            found = frozenset[str]().union(*(sources[name] for name in operands))
        elif b.kind is Kind.PRODUCT and b.op.gate is not None:  # weights that are normalised again
            found = sources[b.node.inputs[1 - b.op.gate]]
        else:
            found = frozenset()
            weighing = frozenset[str]().union(*(sources[name] for name in operands))
            if b.kind is Kind.PRODUCT and len(operands) > 1 and weighing and b.node.name not in set_by_caller:
                weights |= weighing
                products.add(b.node.name)
        sources.update(dict.fromkeys(b.node.outputs, found))
    products |= {name for name in _products_of_scores(backward_nodes, weights) if name not in set_by_caller}
    return Attention(frozenset(weights), frozenset(products))


def _products_of_scores(backward_nodes: Sequence[BackwardNode], weights: Container[str]) -> Iterable[str]:
    """Yield the products that the scores of these Softmax nodes are sums of: MatMul, Einsum, or Mul before a sum.

    A Mul that nothing sums has a gate or not, as elsewhere.
    """
    whole, summed = set[str](), set[str]()  # values between a product and the Softmax, before and behind a sum
    for b in reversed(backward_nodes):
        operands = {b.node.inputs[slot] for slot in b.live}
        behind, before = not summed.isdisjoint(b.node.outputs), not whole.isdisjoint(b.node.outputs)
        if b.node.name in weights:
            whole |= operands
        elif not (behind or before):
            continue
        elif b.kind is Kind.MAP and Trait.SUM_OR_MEAN in b.op.traits:
            summed |= operands
        elif b.kind in (Kind.ROUTING, Kind.SCALE, Kind.SUM):
            (summed if behind else whole).update(operands)
        elif b.kind is Kind.PRODUCT and len(operands) > 1 and (behind or b.op.product_rule is not None):
            yield b.node.name
