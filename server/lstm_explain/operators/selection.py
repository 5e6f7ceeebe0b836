# SPDX-License-Identifier: Apache-2.0
"""Operators that select, spread out or reorder elements: TopK, Compress, MaxUnpool, OneHot and ReverseSequence."""

from __future__ import annotations

import math
from typing import Any

from lstm_explain.graph.ir import Array, Node
from lstm_explain.operators import axis_rules
from lstm_explain.operators.array_api import cast, namespace, pad_zeros
from lstm_explain.operators.operator import BatchLayout, Kind, NodeContext, Operator, SamplesMixed, add, no_layout

Shape = tuple[int, ...]

# --- elements back to where MaxPool found them -------------------------------------------------------------------


def _max_unpool(ctx: NodeContext, slot: int, g: Array) -> Array:
    xp, indices = namespace(g), ctx.x(1)
    taken = xp.take(xp.reshape(g, (-1,)), xp.reshape(indices, (-1,)), axis=0)
    return xp.reshape(taken, indices.shape)


def _max_unpool_check(node: Node) -> str:
    return "output_shape has no rule" if node.input(2) else ""


add(
    "MaxUnpool",
    Operator(
        Kind.ROUTING,
        _max_unpool,
        differentiable=(0,),
        nondifferentiable=(1, 2),
        saved=("shape", "operand1"),
        layout=no_layout,
        axes=axis_rules.first,
        check=_max_unpool_check,
    ),
)

# --- the largest, in order ---------------------------------------------------------------------------------------


def _signed(xp: Any, array: Array) -> Array:
    """Booleans and unsigned integers as int64, which can be negated."""
    return cast(array, xp.int64) if xp.isdtype(array.dtype, ("bool", "unsigned integer")) else array


def _top_k(ctx: NodeContext, slot: int, g: Array) -> Array:
    """Pair the selected elements with the outputs by rank, since unsorted outputs may come in any order."""
    xp = namespace(g)
    x, y = _signed(xp, ctx.x(0)), _signed(xp, ctx.y())
    axis, descending = ctx.attribute("axis", -1) % x.ndim, bool(ctx.attribute("largest", 1))
    sign, k = -1 if descending else 1, y.shape[axis]
    ranks = xp.argsort(xp.argsort(sign * x, axis=axis, stable=True), axis=axis, stable=True)
    ranked = xp.take_along_axis(g, xp.argsort(sign * y, axis=axis, stable=True), axis=axis)
    ranked = pad_zeros(ranked, axis, 0, 1)  # the elements that are not selected
    return xp.take_along_axis(ranked, xp.minimum(ranks, k), axis=axis)


def _top_k_layout(
    ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int
) -> BatchLayout:
    if ctx.attribute("axis", -1) % len(out) == layout.axis:
        raise SamplesMixed
    return layout


add(
    "TopK",
    Operator(
        Kind.ROUTING,
        _top_k,
        differentiable=(0,),
        nondifferentiable=(1,),
        saved=("x", "y"),
        layout=_top_k_layout,
        axes=axis_rules.first,
        differentiable_outputs=(0,),
        selects_by_value=True,
        note="the values carry relevance, the indices do not",
    ),
)

# --- one flag per element: Compress ---------------------------------------------------------------------------------


def _compress(ctx: NodeContext, slot: int, g: Array) -> Array:
    xp, shape, flags = namespace(g), ctx.shape(0), ctx.x(1)
    if "axis" not in ctx.node.attributes:
        return xp.reshape(_decompressed(g, flags, 0, math.prod(shape)), shape)
    axis = ctx.attribute("axis") % len(shape)
    return _decompressed(g, flags, axis, shape[axis])


def _decompressed(g: Array, flags: Array, axis: int, extent: int) -> Array:
    """Move the elements back to the positions that the flags selected, with zeros elsewhere. There may be fewer flags
    than elements.
    """
    xp, count = namespace(g), g.shape[axis]
    flags = pad_zeros(flags, 0, 0, extent - flags.shape[0])
    source = xp.where(flags, xp.cumulative_sum(cast(flags, xp.int64)) - 1, count)
    return xp.take(pad_zeros(g, axis, 0, 1), source, axis=axis)


def _compress_layout(
    ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int
) -> BatchLayout:
    if "axis" not in ctx.node.attributes or ctx.attribute("axis") % len(shape) == layout.axis:
        raise SamplesMixed
    return layout


add(
    "Compress",
    Operator(
        Kind.ROUTING,
        _compress,
        differentiable=(0,),
        nondifferentiable=(1,),
        saved=("shape", "operand1"),
        layout=_compress_layout,
        axes=axis_rules.compressed,
    ),
)

# --- one vector of flags per index: OneHot -----------------------------------------------------------------------


def _one_hot(ctx: NodeContext, slot: int, r: Array) -> Array:
    return namespace(r).sum(r, axis=ctx.attribute("axis", -1) % r.ndim)


def _one_hot_layout(
    ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int
) -> BatchLayout:
    axis = ctx.attribute("axis", -1) % len(out)
    if layout.axis == axis:
        raise SamplesMixed
    return BatchLayout(layout.axis - (layout.axis > axis), layout.inner)


add(
    "OneHot",
    Operator(
        Kind.LOOKUP,
        _one_hot,
        differentiable=(0,),
        nondifferentiable=(1,),
        layout=_one_hot_layout,
        axes=axis_rules.one_hot,
    ),
)

# --- each sequence backwards -------------------------------------------------------------------------------------


def _reverse_sequence(ctx: NodeContext, slot: int, g: Array) -> Array:
    """Reverse each sequence within its length: the operator is its own inverse."""
    xp = namespace(g)
    time, batch = ctx.attribute("time_axis", 0) % g.ndim, ctx.attribute("batch_axis", 1) % g.ndim
    lens = ctx.x(1)
    steps = xp.arange(g.shape[time], dtype=lens.dtype)[:, None]
    order = xp.where(steps < lens, lens - 1 - steps, steps)  # [time, batch]
    order = order if time < batch else order.T
    extents = tuple(g.shape[i] if i in (time, batch) else 1 for i in range(g.ndim))
    return xp.take_along_axis(g, xp.broadcast_to(xp.reshape(order, extents), g.shape), axis=time)


def _reverse_layout(
    ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int
) -> BatchLayout:
    if layout.axis == ctx.attribute("time_axis", 0) % len(out):
        raise SamplesMixed
    return layout


add(
    "ReverseSequence",
    Operator(
        Kind.ROUTING,
        _reverse_sequence,
        differentiable=(0,),
        nondifferentiable=(1,),
        saved=("operand1",),
        layout=_reverse_layout,
        axes=axis_rules.first,
        roles=axis_rules.reversed_along,
    ),
)
