"""Products of integers, as quantised models have them: the same sums in floating point, then what they are rounded to.

A value is (level - zero point) * scale. Relevance and gradients pass straight through the rounding; scales that were
measured on the input (DynamicQuantizeLinear) are constants of the forward pass.
"""

from __future__ import annotations

import numpy as np

from lstm_explain.graph.ir import ValueType
from lstm_explain.graph.spelling import Spelling

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
    s.op("QuantizeLinear", x, scale, *([zero] if zero else []), output=s.node.outputs[0], kind=s.graph.type_of(zero))


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


SPELLINGS = {
    "MatMulInteger": _matmul_integer,
    "ConvInteger": _conv_integer,
    "QLinearMatMul": _qlinear_matmul,
    "QLinearConv": _qlinear_conv,
}
