# SPDX-License-Identifier: Apache-2.0
"""Linear maps: matrix products with constant weights, and the Fourier transform."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lstm_explain.graph.ir import Array, Graph, Node
from lstm_explain.kernels import reductions
from lstm_explain.kernels.recurrent_matmul import dense, pack
from lstm_explain.operators import axis_rules
from lstm_explain.operators.array_api import cast, is_numpy, namespace, pad_zeros
from lstm_explain.operators.contraction import share_matmul
from lstm_explain.operators.numpy_evaluation import MAX_ELEMENTS, Evaluation, Function, OfAnyShape
from lstm_explain.operators.operator import (
    BatchLayout,
    Kind,
    NodeContext,
    Operator,
    SamplesMixed,
    Trait,
    add,
    unbroadcast,
)

Shape = tuple[int, ...]
SMALL = 1 << 14  # weights up to which a kernel replaces BLAS, whose sums depend on the number of rows

# --- matrix products ---------------------------------------------------------------------------------------------


def _matrix_kind(node: Node, live: tuple[int, ...]) -> Kind:
    return Kind.PRODUCT if {0, 1} <= set(live) else Kind.MAP


def matmul_vjp(a: Array, b: Array, slot: int, g: Array) -> Array:
    """Return the gradient of one operand of matmul(a, b), which extends vectors to matrices."""
    xp = namespace(g)
    if b.ndim == 1:
        g = xp.expand_dims(g, axis=-1)
    if a.ndim == 1:
        g = xp.expand_dims(g, axis=-2)
    a2 = a[None, :] if a.ndim == 1 else a
    b2 = b[:, None] if b.ndim == 1 else b
    if slot == 0:
        return xp.reshape(unbroadcast(g @ b2.mT, a2.shape), a.shape)
    return xp.reshape(unbroadcast(a2.mT @ g, b2.shape), b.shape)


def _placeholder(like: Array, shape: Shape) -> Array:
    """Stands for an operand of which only the shape is needed."""
    xp = namespace(like)
    return xp.broadcast_to(xp.zeros((), dtype=like.dtype), shape)


def _dense(g: Array, weights: Array) -> Array:
    """g [B, N] @ weights [N, M]. On NumPy arrays, a Numba kernel replaces BLAS where the weights are few."""
    small = g.ndim == weights.ndim == 2 and g.dtype == weights.dtype and weights.size <= SMALL
    if not (small and is_numpy(g) and g.dtype.char in "fd"):
        return g @ weights
    out = np.empty((len(g), weights.shape[1]), g.dtype)
    reductions.rows_times(np.ascontiguousarray(g), np.ascontiguousarray(weights), out)
    return out


def _matmul(ctx: NodeContext, slot: int, g: Array) -> Array:
    other = ctx.x(1 - slot)
    if slot == 0 and other.ndim == 2:  # the common case: a dense layer
        return namespace(g).reshape(_dense(g, other.T), ctx.shape(0))
    own = _placeholder(g, ctx.shape(slot))
    return matmul_vjp(own, other, 0, g) if slot == 0 else matmul_vjp(other, own, 1, g)


def _matmul_spread(ctx: NodeContext, slot: int, amount: Array) -> Array:
    other = ctx.x(1 - slot)
    ones = namespace(amount).ones_like(other)
    own = _placeholder(amount, ctx.shape(slot))
    amount = amount / ctx.shape(slot)[-1 if slot == 0 or own.ndim == 1 else -2]
    return matmul_vjp(own, ones, 0, amount) if slot == 0 else matmul_vjp(ones, own, 1, amount)


def _matmul_fan_in(ctx: NodeContext, slot: int) -> float:
    shape = ctx.shape(slot)
    return shape[-1 if slot == 0 or len(shape) == 1 else -2]


def _matmul_layout(
    ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int
) -> BatchLayout:
    """Batch axes and rows (columns, for the right operand) keep their position, counted from the last axis."""
    axis = layout.axis - len(out) + len(shape)
    contracted = len(shape) - 1 if slot == 0 else len(shape) - 2
    if len(shape) < 2 or axis < 0 or axis == contracted or shape[axis] != out[layout.axis]:
        raise SamplesMixed
    return BatchLayout(axis, layout.inner)


class DenseLayer(OfAnyShape):
    """x @ matrix + bias [columns].

    A kernel replaces BLAS, whose sums depend on the number of rows: a sample's answer must not depend on its batch.
    """

    def __init__(self, matrix: Array, bias: Array) -> None:
        self.units, self.columns = matrix.shape
        self.packed, self.bias = pack(matrix), bias

    def __call__(self, x: Array) -> Array:
        rows = np.ascontiguousarray(x).reshape(-1, self.units)
        out = np.empty((len(rows), self.columns), x.dtype)
        dense(rows, self.packed, self.bias, out)
        return out.reshape(*x.shape[:-1], self.columns)

    def of_shape(self, example: Array) -> Function:
        if example.ndim != 2 or not example.flags.c_contiguous:
            return self
        shape, dtype, packed, bias = (len(example), self.columns), example.dtype, self.packed, self.bias

        def times(x: Array) -> Array:
            out = np.empty(shape, dtype)
            dense(x, packed, bias, out)
            return out

        return times


def _times(matrix: Array, bias: Array | None) -> Function | None:
    """Return x @ matrix + bias as a function, or None for a bias that does not have the shape of a row."""
    columns = matrix.shape[1]
    if bias is not None and bias.size != 1 and bias.shape not in ((columns,), (1, columns)):
        return None
    row = np.broadcast_to(np.zeros(1, matrix.dtype) if bias is None else bias.ravel(), columns)
    return DenseLayer(matrix, np.ascontiguousarray(row))


def _is_small(weights: Array | None) -> bool:
    return weights is not None and weights.ndim == 2 and weights.size <= MAX_ELEMENTS


def _matmul_function(node: Node, graph: Graph) -> Function | None:
    weights = graph.constants.get(node.input(1))
    return None if weights is None or not _is_small(weights) else _times(weights, None)


_DENSE = Trait.STEPWISE | Trait.NOT_IN_PLACE
add(
    "MatMul",
    Operator(
        _matrix_kind,
        _matmul,
        _DENSE,
        saved=("shape", "others"),
        spread=_matmul_spread,
        fan_in=_matmul_fan_in,
        layout=_matmul_layout,
        axes=axis_rules.multiplied,
        roles=axis_rules.paired,
        product_rule=share_matmul,
        layer="dense",
        evaluation=Evaluation(_matmul_function),
        note="two live operands: epsilon rule over the terms, then product rule for each term",
    ),
)


def _gemm(ctx: NodeContext, slot: int, g: Array) -> Array:
    if slot == 2:
        return _scaled(unbroadcast(g, ctx.shape(2)), ctx.attribute("beta", 1.0))
    return _scaled(_gemm_product(ctx, slot, g, ctx.x(1 - slot)), ctx.attribute("alpha", 1.0))


def _scaled(array: Array, factor: float) -> Array:
    return array if factor == 1 else array * factor


def _gemm_product(ctx: NodeContext, slot: int, g: Array, other: Array) -> Array:
    """Return the gradient of A' @ B' for A (slot 0) or B (slot 1); a prime transposes where the attribute says so."""
    own_transposed = ctx.attribute("transA" if slot == 0 else "transB", 0)
    other = other.T if ctx.attribute("transB" if slot == 0 else "transA", 0) else other
    result = _dense(g, other.T) if slot == 0 else other.T @ g
    return result.T if own_transposed else result


def _gemm_bias(ctx: NodeContext) -> Array | None:
    if not ctx.has(2) or 2 in ctx.live:
        return None
    return _scaled(ctx.x(2), ctx.attribute("beta", 1.0))


def _gemm_units(ctx: NodeContext, slot: int) -> int:
    shape = ctx.shape(slot)
    return shape[0 if bool(ctx.attribute("transA" if slot == 0 else "transB", 0)) == (slot == 0) else 1]


def _gemm_fan_in(ctx: NodeContext, slot: int) -> float:
    return 1.0 if slot == 2 else _gemm_units(ctx, slot)


def _gemm_spread(ctx: NodeContext, slot: int, amount: Array) -> Array:
    if slot == 2:
        return unbroadcast(amount, ctx.shape(2))
    return _gemm_product(ctx, slot, amount / _gemm_units(ctx, slot), namespace(amount).ones_like(ctx.x(1 - slot)))


def _gemm_layout(ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int) -> BatchLayout:
    if slot == 2:
        axis = layout.axis - 2 + len(shape)
        if axis < 0 or shape[axis] != out[layout.axis]:
            raise SamplesMixed
        return BatchLayout(axis, layout.inner)
    if layout.axis != slot:
        raise SamplesMixed
    flipped = bool(ctx.attribute("transA" if slot == 0 else "transB", 0))
    return BatchLayout(1 - slot if flipped else slot, layout.inner)


def _gemm_function(node: Node, graph: Graph) -> Function | None:
    weights, bias = graph.constants.get(node.input(1)), graph.constants.get(node.input(2))
    plain = all(
        node.attribute(name, default) == default for name, default in (("alpha", 1), ("beta", 1), ("transA", 0))
    )
    if not plain or not _is_small(weights) or (node.input(2) and bias is None):
        return None
    assert weights is not None
    return _times(weights.T if node.attribute("transB", 0) else weights, bias)


add(
    "Gemm",
    Operator(
        Kind.MAP,
        _gemm,
        _DENSE,
        saved=("shape", "others"),
        bias=_gemm_bias,
        spread=_gemm_spread,
        fan_in=_gemm_fan_in,
        layout=_gemm_layout,
        axes=axis_rules.gemm,
        factors=("alpha", "beta"),
        layer="dense",
        evaluation=Evaluation(_gemm_function),
    ),
)

# --- the Fourier transform -----------------------------------------------------------------------------------------


def _dft_axis(ctx: NodeContext) -> int:
    """Return the axis, which is an attribute before opset 20."""
    if ctx.node.opset < 20:
        return int(ctx.attribute("axis", 1)) % len(ctx.shape(0))
    return ctx.integer(2, -2) % len(ctx.shape(0))


def _dft_length(ctx: NodeContext) -> int:
    return ctx.integer(1) if ctx.has(1) else ctx.shape(0)[_dft_axis(ctx)]


def _of_extent(array: Array, axis: int, extent: int) -> Array:
    """Truncate or zero-pad one axis, as the transform itself does to a signal."""
    index: tuple[Any, ...] = (*(slice(None),) * axis, slice(min(extent, array.shape[axis])), ...)
    kept = array[index]
    return pad_zeros(kept, axis, 0, extent - kept.shape[axis])


def _dft(ctx: NodeContext, slot: int, g: Array) -> Array:
    """Apply the transform with conjugate weights. Frequencies that a one-sided transform omits have no gradient."""
    shape, axis, length, xp = ctx.shape(0), _dft_axis(ctx), _dft_length(ctx), namespace(g)
    kind = xp.complex64 if g.dtype == xp.float32 else xp.complex128
    whole = _of_extent(xp.astype(g[..., 0], kind) + 1j * xp.astype(g[..., 1], kind), axis, length)
    inverse = bool(ctx.attribute("inverse", 0))
    back = xp.fft.fft(whole, axis=axis) / length if inverse else xp.fft.ifft(whole, axis=axis) * length
    back = _of_extent(back, axis, shape[axis])
    return cast(xp.stack([xp.real(back), xp.imag(back)], axis=-1)[..., : shape[-1]], g.dtype)


def _dft_fan_in(ctx: NodeContext, slot: int) -> float:
    return float(min(ctx.shape(0)[_dft_axis(ctx)], _dft_length(ctx)) * ctx.shape(0)[-1])


def _dft_spread(ctx: NodeContext, slot: int, amount: Array) -> Array:
    """Distribute equally over the numbers of the signal that are not truncated."""
    shape, axis, xp = ctx.shape(0), _dft_axis(ctx), namespace(amount)
    part = xp.sum(amount, axis=(axis, amount.ndim - 1), keepdims=True) / _dft_fan_in(ctx, slot)
    used = xp.broadcast_to(part, tuple(min(n, _dft_length(ctx)) if i == axis else n for i, n in enumerate(shape)))
    return cast(_of_extent(used, axis, shape[axis]), amount.dtype)


def _dft_layout(ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int) -> BatchLayout:
    if layout.axis in (_dft_axis(ctx), len(shape) - 1):
        raise SamplesMixed
    return layout


def _dft_axes(graph: Graph, node: Node, inputs: Sequence[axis_rules.Labels]) -> axis_rules.Labels:
    """Frequencies do not run along time. Before opset 20, the axis is an attribute."""
    axis = graph.constants.get(node.input(2)) if node.input(2) else node.attribute("axis", 1 if node.opset < 20 else -2)
    if axis is None:
        return ()
    gone = (int(np.reshape(axis, -1)[0]) % max(len(inputs[0]), 1), len(inputs[0]) - 1)
    return tuple(axis_rules.NOWHERE if i in gone else x for i, x in enumerate(inputs[0]))


def _dft_check(node: Node) -> str:
    both = node.attribute("inverse", 0) and node.attribute("onesided", 0)
    return "a one-sided inverse has no rule" if both else ""


add(
    "DFT",
    Operator(
        Kind.MAP,
        _dft,
        Trait.NOT_IN_PLACE,
        differentiable=(0,),
        nondifferentiable=(1, 2),
        saved=("shape", "operand1", "operand2"),
        spread=_dft_spread,
        fan_in=_dft_fan_in,
        layout=_dft_layout,
        axes=_dft_axes,
        magnitude="output",
        check=_dft_check,
    ),
)
