# SPDX-License-Identifier: Apache-2.0
"""The activation at the end of an output, and the value before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lstm_explain.graph.ir import Array, Graph, Node
from lstm_explain.operators import TABLE, BatchLayout, NodeContext, Trait
from lstm_explain.operators.operator import shape_value

# Pairs of activations that together equal a third one.
PAIRS = {("Softmax", "Log"): "LogSoftmax", ("LogSoftmax", "Exp"): "Softmax"}


@dataclass(frozen=True)
class Head:
    """value: the value that is explained. views: nodes between the output's activation and the output, last first.
    quantity: how `value` relates to the output: "output", or the name in the table of operators.
    """

    value: str
    views: tuple[Node, ...]
    quantity: str = "output"

    def keep(self, graph: Graph) -> list[str]:
        """Returns what `through` looks at."""
        return [shape_value(n.inputs[0]) for n in self.views if graph.type_of(n.inputs[0]).static_shape is None]

    def through(
        self, graph: Graph, values: dict[str, Array], weights: Array, layout: BatchLayout | None, batch: int
    ) -> tuple[Array, BatchLayout | None]:
        """Converts weights on the output to weights on `value`, ignoring the activation itself."""
        for node in self.views:
            op = TABLE.ops[node.op]
            context = NodeContext(node, graph, (0,), values, weights.dtype)
            assert op.vjp is not None
            moved = op.vjp(context, 0, weights)
            if layout is not None:
                layout = op.layout(context, 0, layout, weights.shape, moved.shape, batch)
            weights = moved
        return weights, layout


def explainable(graph: Graph, output: str) -> bool:
    """Returns whether the output can be explained: it is in floating point, or its type is not known."""
    dtype = graph.type_of(output).dtype
    return dtype is None or dtype.kind == "f"


def default_output(graph: Graph) -> str:
    """Returns the first output that can be explained, or the first of all where none can."""
    return next((o for o in graph.outputs if explainable(graph, o)), graph.outputs[0])


def head_of(graph: Graph, output: str, producers: Mapping[str, Node] | None = None) -> Head:
    """Returns the value before the activation that `output` ends in; the output itself where it ends in none.

    producers: the producers of the graph's values, if the caller has them already.
    """
    producers = graph.producers() if producers is None else producers
    views: list[Node] = []
    value = output
    while True:
        node = producers.get(value)
        if node is None:
            return Head(output, ())
        op = TABLE.get(node.op)
        if op is None:
            return Head(output, ())
        before = producers.get(node.input(0))
        if before is not None and (together := PAIRS.get((before.op, node.op))):
            return Head(before.inputs[0], tuple(views), TABLE.ops[together].pre_activation)
        if op.pre_activation:
            return Head(node.inputs[0], tuple(views), op.pre_activation)
        if Trait.VIEW not in op.traits or op.check(node):
            return Head(output, ())
        views.append(node)
        value = node.inputs[0]
