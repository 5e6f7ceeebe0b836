# SPDX-License-Identifier: Apache-2.0
"""Evaluates small parts of a graph in NumPy, because a call of ONNX Runtime takes as long as the arithmetic of a small
head.

These parts consist of views, dense layers and lookups with constant weights, and of the integer operators that find the
lengths of sequences.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from lstm_explain.graph.ir import Array, Graph, Node
from lstm_explain.operators import TABLE
from lstm_explain.operators.numpy_evaluation import MAX_ELEMENTS, Function
from lstm_explain.operators.operator import shape_value

MOST_NODES = 8
Step = tuple[Function, str, str]  # computes the value of the second name from that of the first


def small(graph: Graph, nodes: Sequence[Node]) -> list[Step] | None:
    """Returns one step per node, in order; None where NumPy cannot evaluate a node. Extra values that hold only shapes
    are left out, because every value itself is available here.
    """
    if len(nodes) > MOST_NODES:
        return None
    steps: list[Step] = []
    for node in nodes:
        if node.outputs[0] == shape_value(node.input(0)):
            continue
        op = TABLE.get(node.op)
        evaluation = None if op is None else op.evaluation
        if evaluation is None or len(node.outputs) != 1:
            return None
        source = node.input(evaluation.source)
        if source in graph.constants or graph.type_of(source).dtype not in evaluation.dtypes:
            return None
        function = evaluation.maker(node, graph)
        if function is None:
            return None
        steps.append((function, source, node.outputs[0]))
    return steps


def shaped(steps: Sequence[Step], values: Mapping[str, Array], wanted: Sequence[str]) -> list[Step]:
    """Returns the steps for inputs of these shapes. Consecutive views that keep the order of elements become one
    reshape, and views whose outputs nothing reads are left out.
    """
    made, short = dict(values), list[Step]()
    behind: dict[str, str] = {}  # maps each view that is left out so far to the value that it views

    def show(name: str) -> None:
        shape = made[name].shape
        short.append((lambda x: x.reshape(shape), behind.pop(name), name))

    for function, source, output in steps:
        before, value = made[source], function(made[source])
        made[output] = value
        if np.may_share_memory(before, value) and _in_order(function, before.shape):
            behind[output] = behind.get(source, source)
            if output in wanted:
                show(output)
        else:
            if source in behind:
                show(source)
            short.append((function, source, output))
    return short


def _in_order(view: Function, shape: tuple[int, ...]) -> bool:
    numbers = np.arange(math.prod(shape))
    return np.array_equal(view(numbers.reshape(shape)).ravel(), numbers)


def fits(values: Mapping[str, Array], names: Sequence[str]) -> bool:
    for name in names:  # noqa: SIM110 - twice as fast as `all`
        if values[name].size > MAX_ELEMENTS:
            return False
    return True
