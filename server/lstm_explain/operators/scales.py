# SPDX-License-Identifier: Apache-2.0
"""Recognise products in which one operand is a normalisation's scale or a function of the other operand.

The scale of a normalisation counts as a constant of the forward pass (Ali et al. 2022, arXiv 2202.07304): the scaled
operand receives all relevance, under every product rule. So does x in x * f(x), which is an activation written in
primitives (Gelu, Swish, Mish). Gradients flow through both operands.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass

import numpy as np

from lstm_explain.graph.ir import Graph, Node
from lstm_explain.operators.operator import TABLE, Trait

MAX_NODES = 30  # of a function f
# A scale remains the same scale through these.
MOVES = Trait.VIEW | Trait.REPEATS


@dataclass(frozen=True)
class Scales:
    """Recognise scales in one graph by the nodes that compute them.

    live: values that depend on the inputs. overridden: names of nodes whose gate the caller sets; these are products.
    """

    graph: Graph
    producers: dict[str, Node]
    live: set[str]
    overridden: Container[str] = ()

    def scaled_slot(self, node: Node) -> int | None:
        """Return the slot of the scaled operand, or None where the other operand is not a scale."""
        if node.name in self.overridden:
            return None
        if node.op == "Div" and self._matches(node.inputs[1], self._is_size):
            return 0
        if node.op == "Mul":
            scales = [slot for slot in (0, 1) if self._matches(node.inputs[slot], self._is_inverse)]
            return 1 - scales[0] if len(scales) == 1 else None
        return None

    def activated_slot(self, node: Node) -> int | None:
        """Return the slot of x in x * f(x), or None."""
        if node.op != "Mul" or node.name in self.overridden or len(self._live_inputs(node)) < 2:
            return None
        for slot in (0, 1):
            if self._is_function(node.inputs[1 - slot], self._multiple_of(node.inputs[slot])):
                return slot
        return None

    def _live_inputs(self, node: Node) -> list[str]:
        return [name for name in node.inputs if name in self.live]

    def _multiple_of(self, value: str) -> set[str]:
        """Return the value and the values that it is a constant multiple of."""
        found = {value}
        while (
            (node := self.producers.get(value)) is not None
            and Trait.CONSTANT_MULTIPLE in _traits(node)
            and not self._inverts(node)
        ):
            sources = self._live_inputs(node)
            if len(sources) != 1:
                break
            value = sources[0]
            found.add(value)
        return found

    def _is_function(self, value: str, of: set[str]) -> bool:
        """Return whether the value is an element-wise function of the values in `of` alone."""
        seen, waiting = set[str](), [value]
        while waiting:
            name = waiting.pop()
            if name in of or name in seen:
                continue
            seen.add(name)
            node = self.producers.get(name)
            if node is None or Trait.ELEMENTWISE not in _traits(node) or len(seen) > MAX_NODES:
                return False
            waiting += self._live_inputs(node)
        return True

    def _matches(self, value: str, pattern: Callable[[Node], bool]) -> bool:
        """Return whether a node of the pattern computes the value, apart from views and adjustments by constants."""
        while (node := self.producers.get(value)) is not None:
            if pattern(node):
                return True
            sources = self._live_inputs(node)
            kept = bool(_traits(node) & MOVES) or (Trait.ADJUSTS in _traits(node) and not self._inverts(node))
            if len(sources) != 1 or not kept:
                return False
            value = sources[0]
        return False

    def _inverts(self, node: Node) -> bool:
        return node.op == "Div" and node.inputs[0] not in self.live

    def _is_inverse(self, node: Node) -> bool:
        """Return whether the node divides one by a size."""
        exponent = self._exponent(node)
        if exponent == -0.5:
            return self._matches(node.inputs[0], self._is_power)
        if node.op == "Reciprocal" or exponent == -1:
            return self._matches(node.inputs[0], self._is_size)
        return self._inverts(node) and self._matches(node.inputs[1], self._is_size)

    def _is_size(self, node: Node) -> bool:
        """Return whether the node computes a standard deviation, a root mean square, a norm, or a product of two."""
        if node.op == "Sqrt" or self._exponent(node) == 0.5:
            return self._matches(node.inputs[0], self._is_power)
        if node.op == "Mul":
            return all(self._matches(name, self._is_size) for name in node.inputs)
        magnitudes = Trait.SUM_OR_MEAN in _traits(node) and self._matches(node.inputs[0], lambda n: n.op == "Abs")
        return magnitudes or node.op in ("ReduceL1", "ReduceL2")

    def _is_power(self, node: Node) -> bool:
        """Return whether the node computes a mean or sum of squares, or the mean of squares minus the squared mean."""
        if node.op == "Sub":
            left, right = node.inputs
            return self._matches(left, self._is_power) and self._matches(right, self._is_square)
        averaged = Trait.SUM_OR_MEAN in _traits(node) and self._matches(node.inputs[0], self._is_square)
        return averaged or node.op == "ReduceSumSquare"

    def _is_square(self, node: Node) -> bool:
        return self._exponent(node) == 2 or (node.op == "Mul" and node.inputs[0] == node.inputs[1])

    def _exponent(self, node: Node) -> float | None:
        constant = self.graph.constants.get(node.input(1)) if node.op == "Pow" else None
        if constant is None or constant.size == 0 or not np.all(constant == constant.reshape(-1)[0]):
            return None
        return float(constant.reshape(-1)[0])


def _traits(node: Node) -> Trait:
    return TABLE.traits(node.op)
