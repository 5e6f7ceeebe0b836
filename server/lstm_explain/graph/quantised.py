# SPDX-License-Identifier: Apache-2.0
"""Rewrites operators on integers, as quantised models use them: the same sums in floating point, followed by the
rounding.

A value is (level - zero point) * scale. Relevance and gradients pass through the rounding unchanged; scales that are
measured on the input (DynamicQuantizeLinear) are constants of the forward pass.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lstm_explain.graph.ir import UNKNOWN, ValueType
from lstm_explain.graph.node_editing import make
from lstm_explain.graph.node_writer import NodeWriter

FLOAT = np.dtype(np.float32)


def _values(w: NodeWriter, levels: str, scale: str, zero: str, axis: int = -1) -> str:
    """Returns the values that the levels represent; computed at once where they are constant. axis: the axis of scales
    per channel.
    """
    constants = w.graph.constants
    known = all(name in constants for name in (levels, scale, zero) if name)
    if not known:
        inputs = [name for name in (levels, scale, zero) if name]
        kind = ValueType(FLOAT, w.graph.type_of(levels).shape)
        return w.op("DequantizeLinear", *inputs, kind=kind)
    array = constants[levels]
    shape = [-1 if i == axis % array.ndim else 1 for i in range(array.ndim)]
    shift = constants[zero].astype(FLOAT) if zero else np.zeros((), FLOAT)
    step = constants[scale]
    shift, step = (v.reshape(shape) if v.size > 1 else v.reshape(()) for v in (shift, step))
    return w.constant((array.astype(FLOAT) - shift) * step)


def _one(w: NodeWriter) -> str:
    return w.constant(np.ones((), FLOAT))


def _rounded(w: NodeWriter, x: str, scale: str, zero: str) -> None:
    kind = ValueType(w.graph.type_of(zero).dtype if zero else np.dtype(np.uint8), w.graph.type_of(x).shape)
    w.op("QuantizeLinear", x, scale, *([zero] if zero else []), output=w.node.outputs[0], kind=kind)


def _by_row(w: NodeWriter, zero: str) -> bool:
    """Returns whether the left operand has, or may have, one zero point per row."""
    return bool(zero) and w.graph.type_of(zero).static_shape not in ((), (1,))


def _matmul_integer(w: NodeWriter) -> bool:
    left, right, shift_left, shift_right = (w.node.input(i) for i in range(4))
    weights = all(name in w.graph.constants for name in (right, shift_right) if name)
    if _by_row(w, shift_left) or not weights:
        return False
    product = w.op("MatMul", _values(w, left, _one(w), shift_left), _values(w, right, _one(w), shift_right))
    w.cast(product, np.dtype(np.int32), w.node.outputs[0])
    return True


def _conv_integer(w: NodeWriter) -> bool:
    x, weights, shift, shift_weights = (w.node.input(i) for i in range(4))
    if any(name not in w.graph.constants for name in (weights, shift_weights) if name):
        return False
    inputs = [_values(w, x, _one(w), shift), _values(w, weights, _one(w), shift_weights, axis=0)]
    w.cast(w.op("Conv", *inputs, **w.node.attributes), np.dtype(np.int32), w.node.outputs[0])
    return True


def _qlinear_matmul(w: NodeWriter) -> bool:
    (a, a_scale, a_zero), (b, b_scale, b_zero), (scale, zero) = (
        w.node.inputs[:3],
        w.node.inputs[3:6],
        w.node.inputs[6:8],
    )
    if _by_row(w, a_zero):
        return False
    _rounded(w, w.op("MatMul", _values(w, a, a_scale, a_zero), _values(w, b, b_scale, b_zero)), scale, zero)
    return True


def _qlinear_conv(w: NodeWriter) -> bool:
    (x, x_scale, x_zero), (weight, weight_scale, weight_zero), (scale, zero) = (
        w.node.inputs[:3],
        w.node.inputs[3:6],
        w.node.inputs[6:8],
    )
    bias, constants = w.node.input(8), w.graph.constants
    if any(name not in constants for name in (x_scale, weight, weight_scale, weight_zero, bias) if name):
        return False
    inputs = [_values(w, x, x_scale, x_zero), _values(w, weight, weight_scale, weight_zero, axis=0)]
    if bias:  # The unit of the bias is the product of both scales.
        inputs.append(w.constant((constants[bias] * constants[x_scale] * constants[weight_scale]).astype(FLOAT)))
    _rounded(w, w.op("Conv", *inputs, **w.node.attributes), scale, zero)
    return True


# --- ONNX Runtime's own operators, whose inputs and outputs are levels -----------------------------------------------

DOMAIN = "com.microsoft"
UNARY = {
    "QLinearSigmoid": "Sigmoid",
    "QLinearLeakyRelu": "LeakyRelu",
    "QLinearSoftmax": "Softmax",
    "QLinearAveragePool": "AveragePool",
    "QLinearGlobalAveragePool": "GlobalAveragePool",
}
BINARY = {"QLinearAdd": "Add", "QLinearMul": "Mul"}
META_ATTRIBUTES = ("opset", "channels_last")  # attributes that say how to read the other ones


def _in_floating_point(w: NodeWriter, op: str, values: list[str], scale: str, zero: str) -> bool:
    """Returns the operator in floating point, followed by rounding to levels where a scale is given."""
    node, kind = w.node, w.graph.type_of(w.node.outputs[0])
    attributes = {k: v for k, v in node.attributes.items() if k not in META_ATTRIBUTES}
    old = op == "Softmax" and node.attribute("opset", 13) < 13 and node.attribute("axis", -1) != -1
    if old or node.attribute("channels_last", 0):
        return False
    output = w.op(op, *values, output="" if scale else node.outputs[0], kind=ValueType(FLOAT, kind.shape), **attributes)
    if scale:
        _rounded(w, output, scale, zero)
    return True


def _operand(w: NodeWriter, slot: int) -> str:
    """Returns the value whose levels, scale and zero point are in three consecutive slots."""
    return _values(w, w.node.input(slot), w.node.input(slot + 1), w.node.input(slot + 2))


def _rewrite_to(op: str, count: int) -> Callable[[NodeWriter], bool]:
    """Rewrites an operator with `count` operands, followed by the scale and the zero point of the output."""

    def rewrite(w: NodeWriter) -> bool:
        values = [_operand(w, 3 * i) for i in range(count)]
        return _in_floating_point(w, op, values, w.node.input(3 * count), w.node.input(3 * count + 1))

    return rewrite


def _concat(w: NodeWriter) -> bool:
    values = [_operand(w, slot) for slot in range(2, len(w.node.inputs), 3)]
    return _in_floating_point(w, "Concat", values, w.node.input(0), w.node.input(1))


def _where(w: NodeWriter) -> bool:
    values = [w.node.input(0), _operand(w, 1), _operand(w, 4)]
    return _in_floating_point(w, "Where", values, w.node.input(7), w.node.input(8))


def _gemm(w: NodeWriter) -> bool:
    """The unit of the bias is the product of both scales. Without a scale for the output, the output is in floating
    point.
    """
    (a, a_scale, a_zero, b, b_scale, b_zero), constants = w.node.inputs[:6], w.graph.constants
    bias, scale, zero = (w.node.input(i) for i in (6, 7, 8))
    if any(name not in constants for name in (a_scale, b, b_scale, b_zero, bias) if name):
        return False
    axis = 0 if w.node.attribute("transB", 0) else 1
    values = [_values(w, a, a_scale, a_zero), _values(w, b, b_scale, b_zero, axis)]
    if bias:
        values.append(w.constant((constants[bias] * constants[a_scale] * constants[b_scale]).astype(FLOAT)))
    return _in_floating_point(w, "Gemm", values, scale, zero)


def _matmul_to_float(w: NodeWriter) -> bool:
    a, b, a_scale, b_scale, a_zero, b_zero, bias = (w.node.input(i) for i in range(7))
    return _dequantised_product(w, _values(w, a, a_scale, a_zero), b, b_scale, b_zero, bias)


def _dynamic_matmul(w: NodeWriter) -> bool:
    """Quantises the left operand to levels that span its own range."""
    a, b, b_scale, b_zero, bias = (w.node.input(i) for i in range(5))
    levels, scale, zero = (w.name(what) for what in ("levels", "scale", "zero"))
    shape = w.graph.type_of(a).shape
    byte = np.dtype(np.uint8)
    w.graph.types |= {levels: ValueType(byte, shape), scale: ValueType(FLOAT, ()), zero: ValueType(byte, ())}
    w.nodes.append(make("DynamicQuantizeLinear", [a], [levels, scale, zero], w.node.opset, w.name("Quantize")))
    return _dequantised_product(w, _values(w, levels, scale, zero), b, b_scale, b_zero, bias)


def _dequantised_product(w: NodeWriter, a: str, b: str, scale: str, zero: str, bias: str) -> bool:
    if any(name not in w.graph.constants for name in (b, scale, zero) if name):
        return False
    product = w.op("MatMul", a, _values(w, b, scale, zero), kind=ValueType(FLOAT, None))
    w.op(*(["Add", product, bias] if bias else ["Identity", product]), output=w.node.outputs[0])
    return True


def _dynamic_lstm(w: NodeWriter) -> bool:
    """Keeps the node, and adds the shapes of its outputs, which ONNX does not infer."""
    node, types = w.node, w.graph.types
    steps, batch = (types.get(node.inputs[0], UNKNOWN).shape or (None,) * 3)[:2]
    levels = w.graph.type_of(node.inputs[2]).shape or (None,) * 3
    shapes = [(steps, levels[0], batch, levels[1])] + [(levels[0], batch, levels[1])] * 2
    types |= {name: ValueType(FLOAT, shape) for name, shape in zip(node.outputs, shapes, strict=False) if name}
    w.nodes.append(node)
    return True


REWRITES = {
    "MatMulInteger": _matmul_integer,
    "ConvInteger": _conv_integer,
    "QLinearMatMul": _qlinear_matmul,
    "QLinearConv": _qlinear_conv,
    **{f"{DOMAIN}::{name}": _rewrite_to(op, 1) for name, op in UNARY.items()},
    **{f"{DOMAIN}::{name}": _rewrite_to(op, 2) for name, op in BINARY.items()},
    f"{DOMAIN}::QLinearConcat": _concat,
    f"{DOMAIN}::QLinearWhere": _where,
    f"{DOMAIN}::QGemm": _gemm,
    f"{DOMAIN}::MatMulIntegerToFloat": _matmul_to_float,
    f"{DOMAIN}::DynamicQuantizeMatMul": _dynamic_matmul,
    f"{DOMAIN}::DynamicQuantizeLSTM": _dynamic_lstm,
}
