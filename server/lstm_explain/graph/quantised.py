"""Products of integers, as quantised models have them: the same sums in floating point, then what they are rounded to.

A value is (level - zero point) * scale. Relevance and gradients pass straight through the rounding; scales that were
measured on the input (DynamicQuantizeLinear) are constants of the forward pass.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lstm_explain.graph.ir import UNKNOWN, ValueType
from lstm_explain.graph.node_editing import make
from lstm_explain.graph.node_writer import Spelling

FLOAT = np.dtype(np.float32)


def _values(s: Spelling, levels: str, scale: str, zero: str, axis: int = -1) -> str:
    """What the levels stand for: computed here where they are constants, by channel on `axis` if need be."""
    constants = s.graph.constants
    known = all(name in constants for name in (levels, scale, zero) if name)
    if not known:
        inputs = [name for name in (levels, scale, zero) if name]
        kind = ValueType(FLOAT, s.graph.type_of(levels).shape)
        return s.op("DequantizeLinear", *inputs, kind=kind)
    array = constants[levels]
    shape = [-1 if i == axis % array.ndim else 1 for i in range(array.ndim)]
    shift = constants[zero].astype(FLOAT) if zero else np.zeros((), FLOAT)
    step = constants[scale]
    shift, step = (v.reshape(shape) if v.size > 1 else v.reshape(()) for v in (shift, step))
    return s.constant((array.astype(FLOAT) - shift) * step)


def _one(s: Spelling) -> str:
    return s.constant(np.ones((), FLOAT))


def _rounded(s: Spelling, x: str, scale: str, zero: str) -> None:
    kind = ValueType(s.graph.type_of(zero).dtype if zero else np.dtype(np.uint8), s.graph.type_of(x).shape)
    s.op("QuantizeLinear", x, scale, *([zero] if zero else []), output=s.node.outputs[0], kind=kind)


def _by_row(s: Spelling, zero: str) -> bool:
    """Whether the left operand has a zero point a row, or one that may be so."""
    return bool(zero) and s.graph.type_of(zero).static_shape not in ((), (1,))


def _matmul_integer(s: Spelling) -> bool:
    left, right, shift_left, shift_right = (s.node.input(i) for i in range(4))
    weights = all(name in s.graph.constants for name in (right, shift_right) if name)
    if _by_row(s, shift_left) or not weights:
        return False
    product = s.op("MatMul", _values(s, left, _one(s), shift_left), _values(s, right, _one(s), shift_right))
    s.cast(product, np.dtype(np.int32), s.node.outputs[0])
    return True


def _conv_integer(s: Spelling) -> bool:
    x, weights, shift, shift_weights = (s.node.input(i) for i in range(4))
    if any(name not in s.graph.constants for name in (weights, shift_weights) if name):
        return False
    inputs = [_values(s, x, _one(s), shift), _values(s, weights, _one(s), shift_weights, axis=0)]
    s.cast(s.op("Conv", *inputs, **s.node.attributes), np.dtype(np.int32), s.node.outputs[0])
    return True


def _qlinear_matmul(s: Spelling) -> bool:
    (a, a_scale, a_zero), (b, b_scale, b_zero), (scale, zero) = (
        s.node.inputs[:3],
        s.node.inputs[3:6],
        s.node.inputs[6:8],
    )
    if _by_row(s, a_zero):
        return False
    _rounded(s, s.op("MatMul", _values(s, a, a_scale, a_zero), _values(s, b, b_scale, b_zero)), scale, zero)
    return True


def _qlinear_conv(s: Spelling) -> bool:
    (x, x_scale, x_zero), (w, w_scale, w_zero), (scale, zero) = (
        s.node.inputs[:3],
        s.node.inputs[3:6],
        s.node.inputs[6:8],
    )
    bias, constants = s.node.input(8), s.graph.constants
    if any(name not in constants for name in (x_scale, w, w_scale, w_zero, bias) if name):
        return False
    inputs = [_values(s, x, x_scale, x_zero), _values(s, w, w_scale, w_zero, axis=0)]
    if bias:  # in units of both scales
        inputs.append(s.constant((constants[bias] * constants[x_scale] * constants[w_scale]).astype(FLOAT)))
    _rounded(s, s.op("Conv", *inputs, **s.node.attributes), scale, zero)
    return True


# --- ONNX Runtime's own: an operator between values that are read from levels and written as levels -------------------

DOMAIN = "com.microsoft"
OF_ONE = {
    "QLinearSigmoid": "Sigmoid",
    "QLinearLeakyRelu": "LeakyRelu",
    "QLinearSoftmax": "Softmax",
    "QLinearAveragePool": "AveragePool",
    "QLinearGlobalAveragePool": "GlobalAveragePool",
}
OF_TWO = {"QLinearAdd": "Add", "QLinearMul": "Mul"}
OF_THEIRS = ("opset", "channels_last")  # attributes that say how to read the others


def _plain(s: Spelling, op: str, values: list[str], scale: str, zero: str) -> bool:
    """The operator in floating point, then levels (none where no scale is given)."""
    node, kind = s.node, s.graph.type_of(s.node.outputs[0])
    attributes = {k: v for k, v in node.attributes.items() if k not in OF_THEIRS}
    old = op == "Softmax" and node.attribute("opset", 13) < 13 and node.attribute("axis", -1) != -1
    if old or node.attribute("channels_last", 0):
        return False
    made = s.op(op, *values, output="" if scale else node.outputs[0], kind=ValueType(FLOAT, kind.shape), **attributes)
    if scale:
        _rounded(s, made, scale, zero)
    return True


def _operand(s: Spelling, slot: int) -> str:
    """Levels, scale and zero point, one after the other."""
    return _values(s, s.node.input(slot), s.node.input(slot + 1), s.node.input(slot + 2))


def _of(op: str, count: int) -> Callable[[Spelling], bool]:
    """So many operands, then scale and zero point of what comes out."""

    def write(s: Spelling) -> bool:
        values = [_operand(s, 3 * i) for i in range(count)]
        return _plain(s, op, values, s.node.input(3 * count), s.node.input(3 * count + 1))

    return write


def _concat(s: Spelling) -> bool:
    values = [_operand(s, slot) for slot in range(2, len(s.node.inputs), 3)]
    return _plain(s, "Concat", values, s.node.input(0), s.node.input(1))


def _where(s: Spelling) -> bool:
    values = [s.node.input(0), _operand(s, 1), _operand(s, 4)]
    return _plain(s, "Where", values, s.node.input(7), s.node.input(8))


def _gemm(s: Spelling) -> bool:
    """The bias is counted in both scales; without a scale for what comes out, that is floating point."""
    (a, a_scale, a_zero, b, b_scale, b_zero), constants = s.node.inputs[:6], s.graph.constants
    bias, scale, zero = (s.node.input(i) for i in (6, 7, 8))
    if any(name not in constants for name in (a_scale, b, b_scale, b_zero, bias) if name):
        return False
    axis = 0 if s.node.attribute("transB", 0) else 1
    values = [_values(s, a, a_scale, a_zero), _values(s, b, b_scale, b_zero, axis)]
    if bias:
        values.append(s.constant((constants[bias] * constants[a_scale] * constants[b_scale]).astype(FLOAT)))
    return _plain(s, "Gemm", values, scale, zero)


def _matmul_to_float(s: Spelling) -> bool:
    a, b, a_scale, b_scale, a_zero, b_zero, bias = (s.node.input(i) for i in range(7))
    return _dequantised_product(s, _values(s, a, a_scale, a_zero), b, b_scale, b_zero, bias)


def _dynamic_matmul(s: Spelling) -> bool:
    """The left operand is brought to levels that span its own range."""
    a, b, b_scale, b_zero, bias = (s.node.input(i) for i in range(5))
    levels, scale, zero = (s.name(what) for what in ("levels", "scale", "zero"))
    shape = s.graph.type_of(a).shape
    byte = np.dtype(np.uint8)
    s.graph.types |= {levels: ValueType(byte, shape), scale: ValueType(FLOAT, ()), zero: ValueType(byte, ())}
    s.nodes.append(make("DynamicQuantizeLinear", [a], [levels, scale, zero], s.node.opset, s.name("Quantize")))
    return _dequantised_product(s, _values(s, levels, scale, zero), b, b_scale, b_zero, bias)


def _dequantised_product(s: Spelling, a: str, b: str, scale: str, zero: str, bias: str) -> bool:
    if any(name not in s.graph.constants for name in (b, scale, zero) if name):
        return False
    product = s.op("MatMul", a, _values(s, b, scale, zero), kind=ValueType(FLOAT, None))
    s.op(*(["Add", product, bias] if bias else ["Identity", product]), output=s.node.outputs[0])
    return True


def _dynamic_lstm(s: Spelling) -> bool:
    """Stays as it is; ONNX does not know of what shape its outputs are."""
    node, types = s.node, s.graph.types
    steps, batch = (types.get(node.inputs[0], UNKNOWN).shape or (None,) * 3)[:2]
    levels = s.graph.type_of(node.inputs[2]).shape or (None,) * 3
    shapes = [(steps, levels[0], batch, levels[1])] + [(levels[0], batch, levels[1])] * 2
    types |= {name: ValueType(FLOAT, shape) for name, shape in zip(node.outputs, shapes, strict=False) if name}
    s.nodes.append(node)
    return True


SPELLINGS = {
    "MatMulInteger": _matmul_integer,
    "ConvInteger": _conv_integer,
    "QLinearMatMul": _qlinear_matmul,
    "QLinearConv": _qlinear_conv,
    **{f"{DOMAIN}::{name}": _of(op, 1) for name, op in OF_ONE.items()},
    **{f"{DOMAIN}::{name}": _of(op, 2) for name, op in OF_TWO.items()},
    f"{DOMAIN}::QLinearConcat": _concat,
    f"{DOMAIN}::QLinearWhere": _where,
    f"{DOMAIN}::QGemm": _gemm,
    f"{DOMAIN}::MatMulIntegerToFloat": _matmul_to_float,
    f"{DOMAIN}::DynamicQuantizeMatMul": _dynamic_matmul,
    f"{DOMAIN}::DynamicQuantizeLSTM": _dynamic_lstm,
}
