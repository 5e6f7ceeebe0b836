# SPDX-License-Identifier: Apache-2.0
"""Valid models that harm the process that runs them: they never end, or take unbounded memory."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def endless(*, guarded: bool = False, nested: bool = False, growing: int = 0) -> onnx.ModelProto:
    """x float32 [1, 2] to y: a loop without a trip count, whose condition stays true.

    guarded: only where x[0, 0] > 100. nested: a loop in each iteration, which does not end either. growing: the number
    of elements that each iteration adds to an output of the loop.
    """
    y = _info("y_out", FLOAT, [1, 2])
    nodes = [helper.make_node("Add", ["y_in", "one"], ["y_out"], "step")]
    if nested:
        nodes = [_loop("inner", "true", [*nodes, *_going("inner_going")], [y], "y_in", "inner_"), _identity()]
        y = _info("y_out", FLOAT, [1, 2])
    outputs, written = [y], []
    if growing:
        nodes.append(helper.make_node("ConstantOfShape", ["growth"], ["grown"], "grow"))
        outputs.append(_info("grown", FLOAT, [growing]))
        written = ["all"]
    nodes += _going("going")
    body = helper.make_graph(
        nodes,
        "body",
        [_info("i", INT64, []), _info("was_going", BOOL, []), _info("y_in", FLOAT, [1, 2])],
        [_info("going", BOOL, []), *outputs],
    )
    begin = []
    condition = "true"
    if guarded:
        begin = [
            helper.make_node("Slice", ["x", "zeros", "ones", "axes"], ["corner"], "corner"),
            helper.make_node("Reshape", ["corner", "scalar"], ["first"], "first"),
            helper.make_node("Greater", ["first", "hundred"], ["large"], "large"),
        ]
        condition = "large"
    loop = helper.make_node("Loop", ["", condition, "x"], ["y", *written], "forever", body=body)
    weights = [
        numpy_helper.from_array(np.ones((1, 2), np.float32), "one"),
        numpy_helper.from_array(np.array(True), "true"),
        numpy_helper.from_array(np.array([growing], np.int64), "growth"),
        numpy_helper.from_array(np.zeros(2, np.int64), "zeros"),
        numpy_helper.from_array(np.ones(2, np.int64), "ones"),
        numpy_helper.from_array(np.arange(2, dtype=np.int64), "axes"),
        numpy_helper.from_array(np.zeros(0, np.int64), "scalar"),
        numpy_helper.from_array(np.array(100, np.float32), "hundred"),
    ]
    shapes = [_info("y", FLOAT, [1, 2])]
    return _model([*begin, loop], weights, [_info("x", FLOAT, [1, 2])], shapes)


def endless_when_long(steps: int = 8) -> onnx.ModelProto:
    """x float32 [B, T] to y, of the same shape: a loop without end where T is larger than `steps`."""
    body = helper.make_graph(
        [helper.make_node("Add", ["y_in", "one"], ["y_out"], "step"), *_going("going")],
        "body",
        [_info("i", INT64, []), _info("was_going", BOOL, []), _info("y_in", FLOAT, ["B", "T"])],
        [_info("going", BOOL, []), _info("y_out", FLOAT, ["B", "T"])],
    )
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"], "shape"),
        helper.make_node("Gather", ["shape", "time"], ["length"], "length"),
        helper.make_node("Greater", ["length", "steps"], ["long"], "long"),
        helper.make_node("Loop", ["", "long", "x"], ["y"], "forever", body=body),
    ]
    weights = [
        numpy_helper.from_array(np.ones((1, 1), np.float32), "one"),
        numpy_helper.from_array(np.array(True), "true"),
        numpy_helper.from_array(np.array(1, np.int64), "time"),
        numpy_helper.from_array(np.array(steps, np.int64), "steps"),
    ]
    return _model(nodes, weights, [_info("x", FLOAT, ["B", "T"])], [_info("y", FLOAT, ["B", "T"])])


def counted() -> onnx.ModelProto:
    """x float32 [1, 2] and n int64: the sum of what x was in n iterations, each of which changes its sign."""
    nodes = [
        _identity_of("was", "going"),
        helper.make_node("Neg", ["s"], ["negative"]),
        helper.make_node("Identity", ["s"], ["kept"]),
    ]
    inputs = [_info("i", INT64, []), _info("was", BOOL, []), _info("s", FLOAT, [1, 2])]
    outputs = [_info("going", BOOL, []), _info("negative", FLOAT, [1, 2]), _info("kept", FLOAT, [1, 2])]
    loop = helper.make_node(
        "Loop", ["n", "", "x"], ["end", "all"], "counted", body=helper.make_graph(nodes, "body", inputs, outputs)
    )
    end = helper.make_node("ReduceSum", ["all", "first"], ["y"], "sum", keepdims=0)
    given = [_info("x", FLOAT, [1, 2]), _info("n", INT64, [])]
    weights = [numpy_helper.from_array(np.zeros(1, np.int64), "first")]
    return _model([loop, end], weights, given, [_info("y", FLOAT, [1, 2])])


def huge_constant(elements: int = 3 << 28) -> onnx.ModelProto:
    """x float32 [1] to x plus the sum of this many zeros."""
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["zeros"], "zeros"),
        helper.make_node("ReduceSum", ["zeros"], ["sum"], "sum", keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"], "add"),
    ]
    weights = [numpy_helper.from_array(np.array([elements], np.int64), "size")]
    return _model(nodes, weights, [_info("x", FLOAT, [1])], [_info("y", FLOAT, [1])])


def huge_input(elements: int = 1 << 29) -> onnx.ModelProto:
    """x float32 [1, elements] to its negative."""
    nodes = [helper.make_node("Neg", ["x"], ["y"], "negative")]
    shape = [1, elements]
    return _model(nodes, [], [_info("x", FLOAT, shape)], [_info("y", FLOAT, shape)])


def huge_padding(pad: int = 1 << 30) -> onnx.ModelProto:
    """x float32 [1, 1, 4] through a convolution with this much padding."""
    weights = [numpy_helper.from_array(np.ones((1, 1, 3), np.float32), "w")]
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], "padded", kernel_shape=[3], pads=[pad, pad])]
    return _model(nodes, weights, [_info("x", FLOAT, [1, 1, 4])], [_info("y", FLOAT, [1, 1, "n"])])


def sized_by_input(op: str, inputs: list[str], *, by_shape: bool = False) -> onnx.ModelProto:
    """x float32 [1], and n int64 [1] that sets the size of the output of `op`: by its value, or else by its shape."""
    begin = [helper.make_node("Shape", ["n"], ["size"], "shape")] if by_shape else []
    named = ["size" if name == "n" and by_shape else name for name in inputs]
    nodes = [
        *begin,
        helper.make_node(op, named, ["made"], "made"),
        helper.make_node("ReduceSum", ["made"], ["sum"], "sum", keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"], "add"),
    ]
    inputs_ = [_info("x", FLOAT, [1]), _info("n", INT64, [1])]
    return _model(nodes, [], inputs_, [_info("y", FLOAT, [1])])


def _loop(
    name: str, condition: str, nodes: list[onnx.NodeProto], outputs: list[onnx.ValueInfoProto], source: str, prefix: str
) -> onnx.NodeProto:
    inputs = [_info(f"{prefix}i", INT64, []), _info(f"{prefix}was", BOOL, []), _info(f"{prefix}y", FLOAT, [1, 2])]
    for node in nodes:
        if source in node.input:
            node.input[:] = [f"{prefix}y" if n == source else n for n in node.input]
    body = helper.make_graph(nodes, f"{prefix}body", inputs, [_info("inner_going", BOOL, []), *outputs])
    return helper.make_node("Loop", ["", condition, source], [f"{prefix}end"], name, body=body)


def _identity() -> onnx.NodeProto:
    return helper.make_node("Identity", ["inner_end"], ["y_out"], "outer")


def _identity_of(source: str, name: str) -> onnx.NodeProto:
    return helper.make_node("Identity", [source], [name], name)


def _going(name: str) -> list[onnx.NodeProto]:
    return [_identity_of("true", name)]


def _info(name: str, kind: int, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _model(
    nodes: list[onnx.NodeProto],
    weights: list[onnx.TensorProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "hostile", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
