"""How NumPy evaluates an operator whose arrays are too small for ONNX Runtime (program/numpy_segments.py)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lstm_explain.graph.ir import Array, Graph, Node

MAX_ELEMENTS = 1 << 15  # of each array: beyond, ONNX Runtime's threads and its own products are worth the call
Function = Callable[[Array], Array]
Maker = Callable[[Node, Graph], "Function | None"]  # None: this node of the operator is left to ONNX Runtime


@dataclass(frozen=True)
class Evaluation:
    """maker: the node as a function of its one input that is not constant. source: that input's slot.

    floats, integers: what that input may hold. A sum of floats depends on the order of its terms, and ONNX Runtime's is
    its own; a sum of integers does not.
    """

    maker: Maker
    source: int = 0
    floats: bool = True
    integers: bool = False

    @property
    def dtypes(self) -> tuple[type, ...]:
        return (np.float32, np.float64) * self.floats + (np.int32, np.int64) * self.integers


def of_any(maker: Maker) -> Evaluation:
    """Of floats and integers."""
    return Evaluation(maker, integers=True)


def of_integers(maker: Maker, source: int = 0) -> Evaluation:
    return Evaluation(maker, source, floats=False, integers=True)


def with_constant(function: Callable[[Array, Array], Array]) -> Evaluation:
    """Of a first operand and a constant."""

    def maker(node: Node, graph: Graph) -> Function | None:
        other = graph.constants.get(node.input(1))
        return None if other is None else lambda x: function(x, other)

    return Evaluation(maker)


def constant_integers(node: Node, graph: Graph, slot: int, attribute: str) -> list[int] | None:
    """A list that older opsets keep as an attribute and newer ones as an input; None where it is not constant."""
    given = graph.constants.get(node.input(slot)) if node.input(slot) else node.attribute(attribute)
    return None if given is None else np.asarray(given).reshape(-1).tolist()
