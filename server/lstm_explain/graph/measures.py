# SPDX-License-Identifier: Apache-2.0
"""Puts a small graph behind an output that measures it: an error, a norm, or a probability, one number per sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lstm_explain.errors import ModelError

OPSET = 13  # the least that the nodes here are written for
PREFIX = "measure"


class Place(NamedTuple):
    """The place of a measure: a value of the graph, whose samples lie along batch_axis (None: one sample).

    rank: of the value. reference: the input that the value is compared with. ahead: step t of the value, along
    time_axis, is compared with step t + ahead of the reference.
    """

    value: str
    rank: int
    batch_axis: int | None
    reference: str = ""
    ahead: int = 0
    time_axis: int | None = None


def measured(proto: onnx.ModelProto, kind: str, place: Place) -> tuple[onnx.ModelProto, str]:
    """Returns the model with one more output, and the name of it: [batch] for errors and norms ([] without a batch
    axis), and the shape of the value for probabilities. Raises ModelError for an opset that is too old.

    A reference that the model does not have becomes one more input, of the shape of the value.
    """
    opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset < OPSET:
        raise ModelError(f"the model has opset {opset}, measures of outputs need at least {OPSET}")
    more = onnx.ModelProto()
    more.CopyFrom(proto)
    graph = _Graph(more, opset)
    if place.reference and place.reference not in {value.name for value in more.graph.input}:
        _add_input(more, place.reference, place.value)
    name = BUILDERS[kind](graph, place)
    made = helper.make_empty_tensor_value_info(name)
    made.type.tensor_type.elem_type = graph.type_of(place.value)
    more.graph.output.append(made)
    return more, name


class _Graph:
    """Appends nodes with names of their own."""

    def __init__(self, proto: onnx.ModelProto, opset: int) -> None:
        self.graph, self.opset, self.count = proto.graph, opset, 0
        self.taken = {name for node in proto.graph.node for name in (node.name, *node.output)}

    def node(self, op: str, inputs: Sequence[str], **attributes: object) -> str:
        name = self._name(op)
        self.graph.node.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, numbers: Sequence[int] | int, kind: int = TensorProto.INT64) -> str:
        name = self._name("constant")
        array = np.array(numbers, helper.tensor_dtype_to_np_dtype(kind))
        self.graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def type_of(self, value: str) -> int:
        known = (*self.graph.output, *self.graph.value_info)
        return next((v.type.tensor_type.elem_type for v in known if v.name == value), TensorProto.FLOAT)

    def reduce(self, op: str, value: str, axes: Sequence[int], *, keepdims: bool = False) -> str:
        """Returns a reduction; ReduceSum takes its axes as an input from opset 13, the others from opset 18."""
        if op == "ReduceSum" or self.opset >= 18:
            return self.node(op, [value, self.constant(axes)], keepdims=int(keepdims))
        return self.node(op, [value], axes=list(axes), keepdims=int(keepdims))

    def _name(self, what: str) -> str:
        while True:
            name, self.count = f"{PREFIX}/{what}_{self.count}", self.count + 1
            if name not in self.taken:
                self.taken.add(name)
                return name


def _difference(graph: _Graph, place: Place) -> str:
    value, reference = place.value, place.reference
    if place.ahead:
        axis = graph.constant([place.time_axis or 0])
        value = graph.node("Slice", [value, graph.constant([0]), graph.constant([-place.ahead]), axis])
        reference = graph.node("Slice", [reference, graph.constant([place.ahead]), graph.constant([2**31 - 1]), axis])
    return graph.node("Sub", [value, reference])


def _each_sample(place: Place) -> list[int]:
    """Returns the axes over which a sample lies."""
    return [axis for axis in range(place.rank) if place.batch_axis is None or axis != place.batch_axis % place.rank]


def _squared_error(graph: _Graph, place: Place) -> str:
    square = graph.node("Pow", [_difference(graph, place), graph.constant([2])])
    return graph.reduce("ReduceMean", square, _each_sample(place))


def _absolute_error(graph: _Graph, place: Place) -> str:
    return graph.reduce("ReduceMean", graph.node("Abs", [_difference(graph, place)]), _each_sample(place))


def _norm(op: str) -> Callable[[_Graph, Place], str]:
    return lambda graph, place: graph.reduce(op, place.value, _each_sample(place))


def _log_probability(graph: _Graph, place: Place) -> str:
    """Returns the score minus the logarithm of the sum of the exponentials of all scores."""
    total = graph.reduce("ReduceLogSumExp", place.value, [place.rank - 1], keepdims=True)
    return graph.node("Sub", [place.value, total])


def _probability(graph: _Graph, place: Place) -> str:
    """The bounds change nothing. They keep the exponential from being taken for a final activation, before
    which the logarithm would be explained.
    """
    bounds = [graph.constant(bound, graph.type_of(place.value)) for bound in (0, 2)]
    return graph.node("Clip", [graph.node("Exp", [_log_probability(graph, place)]), *bounds])


BUILDERS = {
    "mean_squared_error": _squared_error,
    "mean_absolute_error": _absolute_error,
    "l1_norm": _norm("ReduceL1"),
    "l2_norm": _norm("ReduceL2"),
    "log_probability": _log_probability,
    "probability": _probability,
}


def _add_input(proto: onnx.ModelProto, name: str, like: str) -> None:
    for value in (*proto.graph.output, *proto.graph.value_info):
        if value.name == like:
            added = proto.graph.input.add()
            added.CopyFrom(value)
            added.name = name
            return
    raise ModelError(f"the type of {like!r} is not known")
