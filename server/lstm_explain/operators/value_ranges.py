# SPDX-License-Identifier: Apache-2.0
"""Bounds that hold for a value whatever the inputs are, by interval arithmetic over element-wise operators.

A value between 0 and 1 is a fraction, which makes it a gate: 1 - exp(-softplus(u)) of a selective scan or a decay, the
square root of such a gate, (tanh(u) + 1) / 2, or f / (f + i) of two gates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from lstm_explain.graph.body_wiring import across
from lstm_explain.graph.ir import Graph, Node
from lstm_explain.operators.operator import TABLE, Trait

Range = tuple[float, float]
ANY: Range = (-math.inf, math.inf)
NOT_NEGATIVE: Range = (0.0, math.inf)
MAX_VALUES = 40  # between a value and the activations that bound it
MOVES = Trait.VIEW | Trait.REPEATS | Trait.SUBSET

# Bounds of functions, whatever their operands are.
BOUNDED: dict[str, Range] = {
    "Tanh": (-1.0, 1.0),
    "Sin": (-1.0, 1.0),
    "Cos": (-1.0, 1.0),
    "Softsign": (-1.0, 1.0),
    "Erf": (-1.0, 1.0),
    "Exp": NOT_NEGATIVE,
    "Softplus": NOT_NEGATIVE,
    "Relu": NOT_NEGATIVE,
    "Abs": NOT_NEGATIVE,
    "Sqrt": NOT_NEGATIVE,
}
MONOTONE: dict[str, Callable[[float], float]] = {
    "Tanh": math.tanh,
    "Exp": lambda x: math.exp(min(x, 700.0)),
    "Softplus": lambda x: max(x, 0.0) + math.log1p(math.exp(-abs(x))),
    "Relu": lambda x: max(x, 0.0),
    "Sqrt": lambda x: math.sqrt(max(x, 0.0)),
}


def is_fraction(graph: Graph, producers: Mapping[str, Node], value: str) -> bool:
    """Return whether arithmetic with bounded values bounds every element of the value to [0, 1]."""
    node = producers.get(value)
    if node is None or node.op not in COMPUTED:
        return False
    low, high = _Bounds(graph, producers).of(value)
    return low >= 0 and high <= 1


class _Bounds:
    """The bounds of a value and of the values that it is computed from, each of which is looked at once."""

    def __init__(self, graph: Graph, producers: Mapping[str, Node]) -> None:
        self.graph, self.producers = graph, producers
        self.known: dict[str, Range] = {}

    def of(self, value: str) -> Range:
        if value not in self.known:
            if len(self.known) >= MAX_VALUES:
                return ANY
            self.known[value] = ANY  # what is not known yet
            self.known[value] = self._constant(value) if value in self.graph.constants else self._computed(value)
        return self.known[value]

    def _constant(self, value: str) -> Range:
        array = self.graph.constants[value]
        numeric = array.size > 0 and array.dtype.kind in "fiub" and not np.isnan(array).any()
        return (float(array.min()), float(array.max())) if numeric else ANY

    def _computed(self, value: str) -> Range:
        graph, producers, there = across(self.graph, self.producers, value)
        if graph is not self.graph:
            return _Bounds(graph, producers).of(there)
        node = producers.get(value)
        if node is None:
            return ANY
        traits = TABLE.traits(node.op)
        if Trait.GATE in traits:
            return 0.0, 1.0
        if node.op in BOUNDED:
            return _mapped(node.op, self.of(node.inputs[0]))
        if node.op in ARITHMETIC and len(node.inputs) == 2:
            left = self.of(node.inputs[0])
            if node.op == "Mul" and node.inputs[0] == node.inputs[1]:
                return 0.0, max(_product(left, left))
            return ARITHMETIC[node.op](left, self.of(node.inputs[1])) if left != ANY or node.op in BOUNDS else ANY
        if node.op == "Neg":
            low, high = self.of(node.inputs[0])
            return -high, -low
        if node.op == "Div":
            return self._quotient(node)
        return self.of(node.inputs[0]) if traits & MOVES else ANY

    def _quotient(self, node: Node) -> Range:
        """Divides by a positive constant, or one of several numbers that are not negative by their sum."""
        part, whole = (self.of(name) for name in node.inputs)
        if node.inputs[1] in self.graph.constants:
            return _product(part, (1 / whole[1], 1 / whole[0])) if whole[0] > 0 else ANY
        if part[0] < 0 or whole[0] < 0:
            return ANY
        total = self.producers.get(node.inputs[1])
        shares = total is not None and total.op in ("Add", "Sum") and node.inputs[0] in total.inputs
        if shares and total is not None and all(self.of(name)[0] >= 0 for name in total.inputs):
            return 0.0, 1.0
        return NOT_NEGATIVE


def _mapped(op: str, operand: Range) -> Range:
    bounds, function = BOUNDED[op], MONOTONE.get(op)
    if function is None:
        return bounds
    return (
        bounds[0] if operand[0] == -math.inf else function(operand[0]),
        bounds[1] if operand[1] == math.inf else function(operand[1]),
    )


def _sum(a: Range, b: Range) -> Range:
    return a[0] + b[0], a[1] + b[1]


def _difference(a: Range, b: Range) -> Range:
    return a[0] - b[1], a[1] - b[0]


def _product(a: Range, b: Range) -> Range:
    ends = [0.0 if 0.0 in (x, y) else x * y for x in a for y in b]
    return min(ends), max(ends)


def _largest(a: Range, b: Range) -> Range:
    return max(a[0], b[0]), max(a[1], b[1])


def _smallest(a: Range, b: Range) -> Range:
    return min(a[0], b[0]), min(a[1], b[1])


ARITHMETIC: dict[str, Callable[[Range, Range], Range]] = {
    "Add": _sum,
    "Sub": _difference,
    "Mul": _product,
    "Max": _largest,
    "Min": _smallest,
}
BOUNDS = ("Max", "Min")  # of which one operand may bound the result
COMPUTED = {
    *ARITHMETIC,
    *BOUNDED,
    "Div",
    "Neg",
}  # operators whose result may be a fraction without being a gate's activation
