# SPDX-License-Identifier: Apache-2.0
"""Writes the nodes that replace one node of a graph, with helpers for frequent combinations of operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import helper

from lstm_explain.graph.ir import Array, Graph, Node, ValueType
from lstm_explain.graph.node_editing import make

# the opset in which the axes became an input
AXES_AS_INPUT = {"ReduceSum": 13, "ReduceMean": 18, "ReduceL1": 18, "ReduceL2": 18}


class NodeWriter:
    """Collects the nodes that replace `node`; their names, and those of new values, begin with its name."""

    def __init__(self, graph: Graph, node: Node) -> None:
        self.graph, self.node = graph, node
        self.nodes: list[Node] = []
        self._count = 0

    def name(self, what: str) -> str:
        self._count += 1
        return f"{self.node.name}/{what}_{self._count}"

    def constant(self, array: Array) -> str:
        name = self.name("constant")
        self.graph.constants[name] = array
        return name

    def number(self, value: float, like: str) -> str:
        return self.constant(np.asarray(value, self.graph.type_of(like).dtype or np.float32))

    def op(self, op: str, *inputs: str, output: str = "", kind: ValueType | None = None, **attributes: Any) -> str:
        """Adds a node and returns the name of its output. kind: the type of the output; default: that of the first
        input.
        """
        output = output or self.name(op)
        self.graph.types.setdefault(output, kind or self.graph.type_of(inputs[0]))
        self.nodes.append(make(op, inputs, [output], self.node.opset, self.name(op), **attributes))
        return output

    def cast(self, x: str, dtype: np.dtype[Any] | None, output: str = "") -> str:
        """Returns `x` in another type."""
        kind = self.graph.type_of(x)
        if dtype is None or kind.dtype == dtype:
            return self.op("Identity", x, output=output) if output else x
        element = helper.np_dtype_to_tensor_dtype(dtype)
        return self.op("Cast", x, output=output, kind=ValueType(dtype, kind.shape), to=element)

    def reduced(self, op: str, x: str, axes: Sequence[int], output: str = "") -> str:
        """Returns a reduction that keeps the reduced axes with extent 1."""
        kind = self.graph.type_of(x)
        if self.node.opset >= AXES_AS_INPUT[op]:
            inputs, attributes = [x, self.constant(np.array(axes, np.int64))], {}
        else:
            inputs, attributes = [x], {"axes": list(axes)}
        shape = kind.shape and tuple(1 if i in axes or i - len(kind.shape) in axes else d for i, d in _numbered(kind))
        return self.op(op, *inputs, output=output, kind=ValueType(kind.dtype, shape), **attributes)

    def reshaped(self, x: str, shape: Sequence[int]) -> str:
        """Returns `x` in another shape, in which 0 stands for the extent as it is and -1 for the remaining one."""
        constant, kind = self.graph.constants.get(x), self.graph.type_of(x)
        if constant is not None:
            return self.constant(constant.reshape([n or constant.shape[i] for i, n in enumerate(shape)]))
        before = kind.shape or (None,) * len(shape)
        extents = tuple((before[i] if n == 0 else None if n < 0 else n) for i, n in enumerate(shape))
        kind = ValueType(kind.dtype, extents)
        return self.op("Reshape", x, self.constant(np.array(shape, np.int64)), kind=kind)

    def centred(self, x: str, axes: Sequence[int], mean: str = "") -> str:
        return self.op("Sub", x, self.reduced("ReduceMean", x, axes, output=mean))

    def root_mean_square(self, x: str, axes: Sequence[int], epsilon: float) -> str:
        power = self.reduced("ReduceMean", self.op("Mul", x, x), axes)
        return self.op("Sqrt", self.op("Add", power, self.number(epsilon, x)))

    def standardised(self, x: str, axes: Sequence[int], epsilon: float) -> str:
        centred = self.centred(x, axes)
        return self.op("Div", centred, self.root_mean_square(centred, axes, epsilon))

    def scaled(self, x: str, scale: str, shift: str, output: str) -> None:
        if shift:
            self.op("Add", self.op("Mul", x, scale), shift, output=output)
        else:
            self.op("Mul", x, scale, output=output)


def _numbered(kind: ValueType) -> list[tuple[int, int | str | None]]:
    return list(enumerate(kind.shape or ()))
