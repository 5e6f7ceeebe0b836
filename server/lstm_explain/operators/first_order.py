# SPDX-License-Identifier: Apache-2.0
"""Finds the parts of a graph where relevance is the first-order share: log space, and weights of constants.

A sum of logarithms is a product, and the exponential of it is a weight. The epsilon rule has no meaning there: log a +
log b may be zero or negative while a * b is neither, and another unit of a adds a constant. What keeps its meaning is
the density (the gradient of the explained value): an exponential turns the relevance R of y = exp u into the density R
at u, which is R / y times dy/du; sums and LogSumExp pass it on by the chain rule; and a logarithm turns the density G
of log z into the relevance G of z, which is z times G / z. Any other value u receives u times its density. A constant
term is a factor, not one of the units of a sum: its share is absorbed, whatever the bias factor is.

Parallel scans in log space (Heinsen 2023, arXiv 2311.06281; minGRU: Feng et al. 2024, arXiv 2410.01201) and the forward
algorithm of a conditional random field compute in this way.

A liquid time-constant cell (Hasani et al. 2021, arXiv 2006.04439) moves its state towards a mean of constants, whose
weights are sigmoids of the input: the weights are in the divisor too, and no signal passes them. Nothing at a sigmoid
is a share of it (it is 1/2 where its argument is zero), so it passes its density as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lstm_explain.graph.ir import Node
from lstm_explain.operators.operator import TABLE, Kind, Operator, Trait

SUMS = (Kind.SUM, Kind.SCALE, Kind.ROUTING)
WEIGHT = Trait.ELEMENTWISE | Trait.GATE
LOGARITHMIC = Trait.EXPONENTIAL | Trait.LOGARITHM
TAKES_DENSITIES = (*SUMS, Kind.MAP, Kind.FIRST_ORDER)


class FirstOrderNodes:
    """Visits the nodes that relevance passes, from the outputs to the inputs.

    producers: by value, in topological order. found: the values known to take densities: those given, the operands of
    first-order nodes (but a logarithm's only where it is a sum of exponentials), and the terms of all of these.
    exponentials: exponentials and sums with one among their terms. weights: gates that are terms of a divisor.
    """

    def __init__(self, producers: Mapping[str, Node], given: Iterable[str] = ()) -> None:
        self.producers = producers
        self.found = set(given)
        self.exponentials: set[str] = set()
        for node in producers.values():
            exponential = TABLE.traits(node.op) & LOGARITHMIC is Trait.EXPONENTIAL
            if exponential or (self._has_terms(node) and not self.exponentials.isdisjoint(node.inputs)):
                self.exponentials.update(filter(None, node.outputs))
        self.weights = self._weights()

    def visit(self, node: Node, op: Operator, kind: Kind, live: tuple[int, ...]) -> Kind:
        """Return the kind of the node: FIRST_ORDER where the rule applies to an activation, else `kind`."""
        inside = not self.found.isdisjoint(node.outputs)
        logarithm = Trait.LOGARITHM in op.traits
        enters = Trait.EXPONENTIAL in op.traits or not self.weights.isdisjoint(node.outputs)
        enters |= logarithm and node.inputs[0] in self.exponentials
        if kind is Kind.ACTIVATION and (enters or (inside and logarithm)):
            kind = Kind.FIRST_ORDER
        sums = kind in SUMS or (kind is Kind.MAP and _adds_elements(node, op, live))
        if (inside and sums) or (enters and kind is Kind.FIRST_ORDER):
            self.found.update(node.inputs[slot] for slot in live)
        return kind

    def _weights(self) -> set[str]:
        """Return the gates among the terms of divisors."""
        waiting = [node.inputs[1] for node in self.producers.values() if node.op == "Div"]
        seen, found = set[str](), set[str]()
        while waiting:
            value = waiting.pop()
            node = self.producers.get(value)
            if node is None or value in seen:
                continue
            seen.add(value)
            if WEIGHT in TABLE.traits(node.op):
                found.add(value)
            if self._has_terms(node):
                waiting += node.inputs
        return found

    def _has_terms(self, node: Node) -> bool:
        """Return whether the node is a sum, a mean or a view, or a multiple of one computed value."""
        multiple = node.op == "Mul" and sum(name in self.producers for name in node.inputs) < 2
        return multiple or node.op in ("Add", "Sum") or bool(TABLE.traits(node.op) & (Trait.SUM_OR_MEAN | Trait.VIEW))


def _adds_elements(node: Node, op: Operator, live: tuple[int, ...]) -> bool:
    """Return whether a linear map has no weights, as ReduceSum and CumSum have none."""
    return all(slot in live or slot in op.nondifferentiable for slot, name in enumerate(node.inputs) if name)
