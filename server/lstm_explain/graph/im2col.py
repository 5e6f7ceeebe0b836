# SPDX-License-Identifier: Apache-2.0
"""Rewrites a convolution as a matrix product over its windows (im2col), for types in which ONNX Runtime has no Conv."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lstm_explain.graph.ir import Array, Graph, Node
from lstm_explain.graph.node_editing import make

LAST = np.iinfo(np.int64).max


def convolution_as_im2col(graph: Graph, node: Node) -> list[Node] | None:
    """Returns the Pad, Slice, MatMul and Add nodes that compute a Conv, or None where the padding is automatic or the
    weights vary.

    The product keeps the name of the Conv; the other names begin with it.
    """
    weights = graph.constants.get(node.input(1))
    if node.op != "Conv" or weights is None or node.attribute("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    return _Im2col(graph, node, weights).nodes()


class _Im2col:
    def __init__(self, graph: Graph, node: Node, weights: Array) -> None:
        self.graph, self.node, self.weights = graph, node, weights
        self.kernel = weights.shape[2:]
        self.rank = len(self.kernel)
        self.new_nodes: list[Node] = []

    def nodes(self) -> list[Node]:
        columns = self._columns(self._padded())
        groups, (outputs, inputs) = self.node.attribute("group", 1), self.weights.shape[:2]
        units = inputs * int(np.prod(self.kernel))
        matrix = self.weights.reshape(groups, outputs // groups, units).transpose(0, 2, 1)
        same = [0] * (1 + self.rank)  # Reshape keeps these extents.
        rows = self._reshape("rows", columns, [*same, groups, 1, units])
        product = self._value("product")
        self._add("MatMul", [rows, self._constant("matrix", matrix)], product, self.node.name)
        flat = self._reshape("flat", product, [*same, outputs])
        order = [0, 1 + self.rank, *range(1, 1 + self.rank)]
        biased = self.node.input(2)
        moved = self._value("moved") if biased else self.node.outputs[0]
        self._add("Transpose", [flat], moved, perm=order)
        if biased:
            bias = self.graph.constants[biased].reshape(-1, *(1,) * self.rank)
            self._add("Add", [moved, self._constant("bias", bias)], self.node.outputs[0])
        return self.new_nodes

    def _padded(self) -> str:
        pads = list(self.node.attribute("pads") or [0] * (2 * self.rank))
        if not any(pads) or self.node.attribute("auto_pad") == "VALID":
            return self.node.inputs[0]
        pads = [0, 0, *pads[: self.rank], 0, 0, *pads[self.rank :]]
        padded = self._value("padded")
        self._add("Pad", [self.node.inputs[0], self._constant("pads", pads)], padded)
        return padded

    def _columns(self, source: str) -> str:
        """[N, C, *size] -> [N, *out, C, kernel elements]."""
        strides = self._per_axis("strides")
        dilations = self._per_axis("dilations")
        axes = self._constant("axes", range(2, 2 + self.rank))
        steps = self._constant("steps", strides)
        two = self._constant("two", [2])
        columns_of_taps = []
        for i, at in enumerate(np.ndindex(*self.kernel)):
            starts = [a * d for a, d in zip(at, dilations, strict=True)]
            ends = [(a + 1 - k) * d or LAST for a, k, d in zip(at, self.kernel, dilations, strict=True)]
            tap, column = self._value(f"tap{i}"), self._value(f"column{i}")
            where = [self._constant(f"starts{i}", starts), self._constant(f"ends{i}", ends), axes, steps]
            self._add("Slice", [source, *where], tap)
            if self.node.opset >= 13:
                self._add("Unsqueeze", [tap, two], column)
            else:
                self._add("Unsqueeze", [tap], column, axes=[2])
            columns_of_taps.append(column)
        together, columns = self._value("together"), self._value("columns")
        self._add("Concat", columns_of_taps, together, axis=2)
        self._add("Transpose", [together], columns, perm=[0, *range(3, 3 + self.rank), 1, 2])
        return columns

    def _per_axis(self, attribute: str) -> list[int]:
        return list(self.node.attribute(attribute) or [1] * self.rank)

    def _value(self, suffix: str) -> str:
        return f"{self.node.name}/{suffix}"

    def _constant(self, suffix: str, value: Array | Sequence[int]) -> str:
        name = self._value(suffix)
        self.graph.constants[name] = value if isinstance(value, np.ndarray) else np.array(list(value), np.int64)
        return name

    def _reshape(self, suffix: str, source: str, shape: list[int]) -> str:
        target = self._value(suffix)
        self._add("Reshape", [source, self._constant(f"{suffix}_shape", shape)], target)
        return target

    def _add(self, op: str, inputs: list[str], output: str, name: str = "", **attributes: object) -> None:
        self.new_nodes.append(make(op, inputs, [output], self.node.opset, name or f"{output}/{op}", **attributes))
