# SPDX-License-Identifier: Apache-2.0
"""Reductions along axes, and running sums."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lstm_explain.graph.ir import Array, Graph, Node
from lstm_explain.operators import axis_rules
from lstm_explain.operators.array_api import cast, namespace
from lstm_explain.operators.numpy_evaluation import Function, constant_integers, of_integers
from lstm_explain.operators.operator import BatchLayout, Kind, NodeContext, Operator, SamplesMixed, Trait, add

Shape = tuple[int, ...]
Contribution = Callable[[Any, NodeContext], Array]

# --- sums and means ----------------------------------------------------------------------------------------------


def reduced_axes(ctx: NodeContext, ndim: int) -> tuple[int, ...]:
    axes = ctx.ints(1, "axes")
    if not axes:
        return () if ctx.attribute("noop_with_empty_axes", 0) else tuple(range(ndim))
    return tuple(sorted(a % ndim for a in axes))


def _reduced_shape(ctx: NodeContext) -> tuple[Shape, Shape, tuple[int, ...]]:
    """Return the shape of the input, that of the output with reduced axes kept, and the reduced axes."""
    shape = ctx.shape(0)
    axes = reduced_axes(ctx, len(shape))
    return shape, tuple(1 if i in axes else n for i, n in enumerate(shape)), axes


def _reduced_count(ctx: NodeContext, slot: int = 0) -> float:
    shape, _, axes = _reduced_shape(ctx)
    return math.prod(shape[axis] for axis in axes)


def _reduce_sum(ctx: NodeContext, slot: int, g: Array) -> Array:
    shape, kept, _ = _reduced_shape(ctx)
    xp = namespace(g)
    return xp.broadcast_to(xp.reshape(g, kept), shape)


def _reduce_mean(ctx: NodeContext, slot: int, g: Array) -> Array:
    return _reduce_sum(ctx, slot, g / _reduced_count(ctx))


def reduced_layout(
    ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int
) -> BatchLayout:
    axes = reduced_axes(ctx, len(shape))
    if len(out) == len(shape):
        return layout
    kept = [i for i in range(len(shape)) if i not in axes]
    return BatchLayout(kept[layout.axis], layout.inner)


def _summed(node: Node, graph: Graph) -> Function | None:
    axes, keeps = constant_integers(node, graph, 1, "axes"), bool(node.attribute("keepdims", 1))
    return None if not axes else lambda x: x.sum(tuple(axes), x.dtype, keepdims=keeps)


_REDUCE_MEAN = Operator(
    Kind.MAP,
    _reduce_mean,
    Trait.SUM_OR_MEAN,
    differentiable=(0,),
    nondifferentiable=(1,),
    saved=("shape", "operand1"),
    spread=_reduce_mean,
    fan_in=_reduced_count,
    layout=reduced_layout,
    axes=axis_rules.reduced,
)
add("ReduceMean", _REDUCE_MEAN)
add("ReduceSum", replace(_REDUCE_MEAN, vjp=_reduce_sum, evaluation=of_integers(_summed)))

# --- the largest or smallest -------------------------------------------------------------------------------------


def _rows(ctx: NodeContext, array: Array) -> tuple[Array, tuple[int, ...]]:
    """Return the array as [*kept axes, reduced elements], and the order of its axes in it."""
    axes = reduced_axes(ctx, array.ndim)
    order = (*(i for i in range(array.ndim) if i not in axes), *axes)
    kept = array.ndim - len(axes)
    xp = namespace(array)
    moved = xp.permute_dims(array, order)
    return xp.reshape(moved, (*moved.shape[:kept], math.prod(moved.shape[kept:]))), order


def _from_rows(rows: Array, order: tuple[int, ...], shape: Shape) -> Array:
    xp = namespace(rows)
    inverse = tuple(order.index(axis) for axis in range(len(order)))
    return xp.permute_dims(xp.reshape(rows, tuple(shape[i] for i in order)), inverse)


def _extreme(arg: str) -> Callable[[NodeContext, int, Array], Array]:
    """arg: the function of the namespace that finds the first of the extreme elements."""

    def vjp(ctx: NodeContext, slot: int, g: Array) -> Array:
        rows, order = _rows(ctx, ctx.x(0))
        xp = namespace(g)
        winners = getattr(xp, arg)(rows, axis=-1, keepdims=True)
        chosen = xp.arange(rows.shape[-1], dtype=winners.dtype) == winners
        return _from_rows(xp.where(chosen, xp.reshape(g, winners.shape), 0), order, ctx.shape(0))

    return vjp


_REDUCE_MAX = Operator(
    Kind.ROUTING,
    _extreme("argmax"),
    differentiable=(0,),
    nondifferentiable=(1,),
    saved=("x", "shape", "operand1"),
    layout=reduced_layout,
    axes=axis_rules.reduced,
    selects_by_value=True,
    note="to the first extreme element",
)
add("ReduceMax", _REDUCE_MAX)
add("ReduceMin", replace(_REDUCE_MAX, vjp=_extreme("argmin")))

# --- norms and other functions of a sum --------------------------------------------------------------------------


def _kept(ctx: NodeContext, array: Array) -> Array:
    """Return an array of the output's shape with the reduced axes kept."""
    return namespace(array).reshape(array, _reduced_shape(ctx)[1])


def _by_contribution(contribution: Contribution) -> Callable[[NodeContext, int, Array], Array]:
    """Distribute relevance in proportion to what each element adds to the inner sum, equally where that is zero."""

    def distribute(ctx: NodeContext, slot: int, r: Array) -> Array:
        xp = namespace(r)
        parts = contribution(xp, ctx)
        total = xp.sum(parts, axis=reduced_axes(ctx, parts.ndim), keepdims=True)
        share = xp.where(total == 0, 1 / _reduced_count(ctx), parts / xp.where(total == 0, 1, total))
        return cast(share * _kept(ctx, r), r.dtype)

    return distribute


def _reduced(
    name: str,
    slope: Callable[[Any, NodeContext, Array], Array],
    contribution: Contribution | None,
    note: str,
    traits: Trait = Trait.NONE,
) -> None:
    """slope: dy/dx, from the namespace, the node and the output with its reduced axes kept. contribution: what each
    element adds to the inner sum; None where the first-order share always applies (first_order.py).
    """

    def vjp(ctx: NodeContext, slot: int, g: Array) -> Array:
        xp = namespace(g)
        slopes = slope(xp, ctx, _kept(ctx, ctx.y()))
        return cast(xp.broadcast_to(_kept(ctx, g) * slopes, ctx.shape(0)), g.dtype)

    add(
        name,
        Operator(
            Kind.ACTIVATION,
            vjp,
            traits,
            differentiable=(0,),
            nondifferentiable=(1,),
            saved=("x", "shape", "y", "operand1"),
            lrp_saved=("x", "shape", "operand1"),
            distribute=None if contribution is None else _by_contribution(contribution),
            layout=reduced_layout,
            axes=axis_rules.reduced,
            check=_check_axes,
            note=note,
        ),
    )


def _check_axes(node: Node) -> str:
    nothing = node.attribute("noop_with_empty_axes", 0) and not node.input(1) and not node.attribute("axes")
    return "noop_with_empty_axes without axes has no rule" if nothing else ""


def _unit_vector(xp: Any, ctx: NodeContext, y: Array) -> Array:
    return ctx.x(0) / xp.where(y == 0, 1, y)


def _product_of_others(xp: Any, ctx: NodeContext, y: Array) -> Array:
    rows, order = _rows(ctx, ctx.x(0))
    before = xp.cumulative_prod(rows, axis=-1, include_initial=True)[..., :-1]
    after = xp.flip(xp.cumulative_prod(xp.flip(rows, axis=-1), axis=-1, include_initial=True)[..., :-1], axis=-1)
    return _from_rows(before * after, order, ctx.shape(0))


def _square(xp: Any, ctx: NodeContext) -> Array:
    return ctx.x(0) ** 2


_reduced("ReduceL1", lambda xp, ctx, y: xp.sign(ctx.x(0)), lambda xp, ctx: xp.abs(ctx.x(0)), "in proportion to abs x")
_reduced("ReduceL2", _unit_vector, _square, "in proportion to x^2")
_reduced("ReduceSumSquare", lambda xp, ctx, y: 2 * ctx.x(0), _square, "in proportion to x^2")
_reduced("ReduceLogSum", lambda xp, ctx, y: xp.exp(-y), lambda xp, ctx: ctx.x(0), "in proportion to x", Trait.LOGARITHM)
_reduced(
    "ReduceLogSumExp",
    lambda xp, ctx, y: xp.exp(ctx.x(0) - y),
    None,
    "first-order share",
    Trait.EXPONENTIAL | Trait.LOGARITHM,
)
_reduced("ReduceProd", _product_of_others, lambda xp, ctx: xp.ones_like(ctx.x(0)), "in equal parts")

# --- running sums ------------------------------------------------------------------------------------------------


def _running_axis(ctx: NodeContext) -> int:
    return ctx.integer(1) % len(ctx.shape(0))


def _cumulate(ctx: NodeContext, g: Array, *, transposed: bool) -> Array:
    """Apply the operator, or its transpose, which sums from the other end."""
    axis = _running_axis(ctx)
    backwards = bool(ctx.attribute("reverse", 0)) != transposed
    xp = namespace(g)
    g = xp.flip(g, axis=axis) if backwards else g
    total = xp.cumulative_sum(g, axis=axis, dtype=g.dtype)
    total = total - g if ctx.attribute("exclusive", 0) else total
    return xp.flip(total, axis=axis) if backwards else total


def _cumsum(ctx: NodeContext, slot: int, g: Array) -> Array:
    return _cumulate(ctx, g, transposed=True)


def _cumsum_spread(ctx: NodeContext, slot: int, amount: Array) -> Array:
    """Distribute equally over the terms of each sum. The part of an empty sum of an exclusive CumSum goes to all
    elements.
    """
    xp, axis = namespace(amount), _running_axis(ctx)
    units = _cumulate(ctx, xp.ones_like(amount), transposed=False)
    orphans = xp.sum(xp.where(units == 0, amount, 0), axis=axis, keepdims=True) / ctx.shape(0)[axis]
    return _cumulate(ctx, xp.where(units == 0, 0, amount) / xp.maximum(units, 1), transposed=True) + orphans


def _cumsum_layout(
    ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int
) -> BatchLayout:
    if layout.axis == _running_axis(ctx):
        raise SamplesMixed
    return layout


def _running_sum(node: Node, graph: Graph) -> Function | None:
    axes = constant_integers(node, graph, 1, "axis")
    if axes is None or node.attribute("exclusive", 0):
        return None
    (axis,) = axes
    if not node.attribute("reverse", 0):
        return lambda x: x.cumsum(axis, x.dtype)
    turned = slice(None, None, -1)  # np.flip's result at a fifth of its time
    at: Any = (*[slice(None)] * axis, turned) if axis >= 0 else (..., turned, *[slice(None)] * (-1 - axis))
    return lambda x: x[at].cumsum(axis, x.dtype)[at]


add(
    "CumSum",
    Operator(
        Kind.MAP,
        _cumsum,
        differentiable=(0,),
        nondifferentiable=(1,),
        saved=("shape", "operand1"),
        spread=_cumsum_spread,
        fan_in=lambda ctx, slot: float(ctx.shape(0)[_running_axis(ctx)]),
        layout=_cumsum_layout,
        axes=axis_rules.first,
        roles=axis_rules.summed_along,
        evaluation=of_integers(_running_sum),
    ),
)
