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
is a share of it (it is 1/2 where its argument is zero), so it passes its density as well. The same holds where a
sigmoid is what a gate weighs, as in a minGRU that keeps its state positive: its candidate is u + 1/2 or, where u is
negative, the sigmoid of u.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

from lstm_explain.graph.body_wiring import entered, sources
from lstm_explain.graph.ir import Graph, Node
from lstm_explain.operators.gates import MOVES, is_gate
from lstm_explain.operators.operator import TABLE, Kind, Operator, Trait

SUMS = (Kind.SUM, Kind.SCALE, Kind.ROUTING)
WEIGHT = Trait.ELEMENTWISE | Trait.GATE
LOGARITHMIC = Trait.EXPONENTIAL | Trait.LOGARITHM
TAKES_DENSITIES = (*SUMS, Kind.MAP, Kind.FIRST_ORDER)


class FirstOrderNodes:
    """Visits the nodes that relevance passes, from the outputs to the inputs.

    found: the values known to take densities: those given, the operands of first-order nodes (but a logarithm's only
    where it is a sum of exponentials, and a softplus's where it is one of logarithms), and the terms of all of these.
    exponentials, logarithms: these, and sums with one among their terms. weights: sigmoids that are terms of a divisor,
    or of what a gate weighs.
    """

    def __init__(self, graph: Graph, producers: dict[str, Node], given: Iterable[str] = ()) -> None:
        self.found = set(given)
        self.exponentials = _sums_with(Trait.EXPONENTIAL, producers)
        self.logarithms = _sums_with(Trait.LOGARITHM, producers, ("Sub", "Neg"))
        divisors = [node.inputs[1] for node in producers.values() if node.op == "Div"]
        weighing = _with_terms([*divisors, *_weighed(graph, producers)], producers)
        self.weights = {v for v in weighing if v in producers and WEIGHT in TABLE.traits(producers[v].op)}

    def visit(self, node: Node, op: Operator, kind: Kind, live: tuple[int, ...]) -> Kind:
        """Return the kind of the node: FIRST_ORDER where the rule applies to an activation, else `kind`."""
        inside = not self.found.isdisjoint(node.outputs)
        logarithm = Trait.LOGARITHM in op.traits
        enters = Trait.EXPONENTIAL in op.traits or not self.weights.isdisjoint(node.outputs)
        enters |= logarithm and node.inputs[0] in self.exponentials
        if kind is Kind.ACTIVATION and (enters or (inside and logarithm)):
            kind = Kind.FIRST_ORDER
        sums = kind in SUMS or (kind is Kind.MAP and _adds_elements(node, op, live))
        stays = Trait.STEP_SIZE in op.traits and node.inputs[0] in self.logarithms
        if (inside and sums) or (kind is Kind.FIRST_ORDER and (enters or stays)):
            self.found.update(node.inputs[slot] for slot in live)
        return kind


def _sums_with(trait: Trait, producers: Mapping[str, Node], also: Container[str] = ()) -> set[str]:
    """Return the results of operators with this one of the logarithmic traits, and of sums with one among their terms.

    also: further operators that count as sums.
    """
    found = set[str]()
    for node in producers.values():
        adds = _has_terms(node, producers) or node.op in also
        if TABLE.traits(node.op) & LOGARITHMIC is trait or (adds and not found.isdisjoint(node.inputs)):
            found.update(filter(None, node.outputs))
    return found


def _weighed(graph: Graph, producers: dict[str, Node]) -> set[str]:
    """Return the values that a gate multiplies in this graph or in a body of one of its nodes."""
    found = set[str]()
    for node in graph.nodes:
        if node.op == "Mul" and not any(name in graph.constants for name in node.inputs):
            gates = [is_gate(graph, producers, name) for name in node.inputs]
            if gates.count(True) == 1:
                found.add(node.inputs[1 - gates.index(True)])
        for name in node.bodies:
            body = entered(node, name, graph)
            made = body.producers()
            inside = _with_terms(_weighed(body, made), made)
            found.update(outer for inner, outer in sources(node, body).items() if inner in inside)
    return found


def _with_terms(values: Iterable[str], producers: Mapping[str, Node]) -> set[str]:
    """Return the values, and what they are sums of, moved or chosen."""
    waiting, found = list(values), set[str]()
    while waiting:
        value = waiting.pop()
        if value in found:
            continue
        found.add(value)
        node = producers.get(value)
        if node is None:
            continue
        if node.op in ("Where", "Sub") or TABLE.traits(node.op) & MOVES or _has_terms(node, producers):
            waiting += node.inputs
    return found


def _has_terms(node: Node, producers: Mapping[str, Node]) -> bool:
    """Return whether the node is a sum, a mean or a view, or a multiple of one computed value."""
    multiple = node.op == "Mul" and sum(name in producers for name in node.inputs) < 2
    return multiple or node.op in ("Add", "Sum") or bool(TABLE.traits(node.op) & (Trait.SUM_OR_MEAN | Trait.VIEW))


def _adds_elements(node: Node, op: Operator, live: tuple[int, ...]) -> bool:
    """Return whether a linear map has no weights, as ReduceSum and CumSum have none."""
    return all(slot in live or slot in op.nondifferentiable for slot, name in enumerate(node.inputs) if name)
