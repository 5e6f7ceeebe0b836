# SPDX-License-Identifier: Apache-2.0
"""Evaluation of operators in NumPy, for arrays too small for a call of ONNX Runtime (program/numpy_segments.py)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lstm_explain.graph.ir import Array, Graph, Node

MAX_ELEMENTS = 1 << 15  # per array; for larger arrays, ONNX Runtime's threads and kernels outweigh the cost of the call
Function = Callable[..., Array]  # of the operands that are not constant
Maker = Callable[[Node, Graph], "Function | None"]  # None: ONNX Runtime evaluates this node


class OfAnyShape(ABC):
    """A function that is quicker once the shape of its operand is known."""

    @abstractmethod
    def __call__(self, x: Array) -> Array: ...

    @abstractmethod
    def of_shape(self, example: Array) -> Function:
        """Return the function for arrays that have the shape, type and layout of the example."""


@dataclass(frozen=True)
class Evaluation:
    """How NumPy evaluates an operator.

    maker: returns the node as a function of its operand that is not constant. floats, integers: the types that this
    may have. A sum of floats depends on the order of its terms, in which NumPy and ONNX Runtime differ; a sum of
    integers does not. several: whether any number of operands may not be constant.
    """

    maker: Maker
    floats: bool = True
    integers: bool = False
    several: bool = False

    @property
    def dtypes(self) -> tuple[type, ...]:
        return (np.float32, np.float64) * self.floats + (np.int32, np.int64) * self.integers


def of_any(maker: Maker) -> Evaluation:
    """Evaluate floats and integers."""
    return Evaluation(maker, integers=True)


def of_integers(maker: Maker) -> Evaluation:
    return Evaluation(maker, floats=False, integers=True)


def with_constant(function: Callable[[Array, Array], Array]) -> Evaluation:
    """Evaluate a function of the first operand and a constant."""

    def maker(node: Node, graph: Graph) -> Function | None:
        other = graph.constants.get(node.input(1))
        return None if other is None else lambda x: function(x, other)

    return Evaluation(maker)


def of_floats(function: Callable[[Array], Array]) -> Evaluation:
    """Evaluate a function of one operand, element by element. The result does not depend on how the elements lie."""
    return Evaluation(lambda node, graph: lambda x: function(np.ascontiguousarray(x)))


def constant_integers(node: Node, graph: Graph, slot: int, attribute: str) -> list[int] | None:
    """Return a list that is an attribute in older opsets and an input in newer ones; None where it is not constant."""
    given = graph.constants.get(node.input(slot)) if node.input(slot) else node.attribute(attribute)
    return None if given is None else np.asarray(given).reshape(-1).tolist()
