"""Many elements to one: along some axes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lstm_explain.graph.ir import Array, Graph, Node
from lstm_explain.operators import axis_rules
from lstm_explain.operators.numpy_evaluation import Function, constant_integers, of_integers
from lstm_explain.operators.operator import BatchLayout, Kind, NodeContext, Operator, SamplesMixed, Trait, add

Shape = tuple[int, ...]

# --- sums and means ----------------------------------------------------------------------------------------------


def reduced_axes(ctx: NodeContext, ndim: int) -> tuple[int, ...]:
    axes = ctx.ints(1, "axes")
    if not axes:
        return () if ctx.attribute("noop_with_empty_axes", 0) else tuple(range(ndim))
    return tuple(sorted(a % ndim for a in axes))


def _reduced_shape(ctx: NodeContext) -> tuple[Shape, Shape, tuple[int, ...]]:
    """Shape of the input, shape of the output with its reduced axes kept, and those axes."""
    shape = ctx.shape(0)
    axes = reduced_axes(ctx, len(shape))
    return shape, tuple(1 if i in axes else n for i, n in enumerate(shape)), axes


def _reduced_count(ctx: NodeContext, slot: int = 0) -> float:
    shape, kept, _ = _reduced_shape(ctx)
    return float(np.prod(shape)) / max(float(np.prod(kept)), 1.0)


def _reduce_sum(ctx: NodeContext, slot: int, g: Array) -> Array:
    shape, kept, _ = _reduced_shape(ctx)
    return np.broadcast_to(g.reshape(kept), shape)


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


_REDUCES = {
    "differentiable": (0,),
    "nondifferentiable": (1,),
    "saved": ("shape", "operand1"),
    "layout": reduced_layout,
    "axes": axis_rules.reduced,
}
_AVERAGE = {**_REDUCES, "traits": Trait.SUM_OR_MEAN, "spread": _reduce_mean, "fan_in": _reduced_count}
add("ReduceSum", Operator(Kind.MAP, _reduce_sum, evaluation=of_integers(_summed), **_AVERAGE))  # type: ignore[arg-type]
add("ReduceMean", Operator(Kind.MAP, _reduce_mean, **_AVERAGE))  # type: ignore[arg-type]

# --- the largest or smallest -------------------------------------------------------------------------------------


def _rows(ctx: NodeContext, array: Array) -> tuple[Array, tuple[int, ...]]:
    """[kept axes, everything reduced], and the order of axes that made it so."""
    axes = reduced_axes(ctx, array.ndim)
    order = (*(i for i in range(array.ndim) if i not in axes), *axes)
    kept = array.ndim - len(axes)
    moved = array.transpose(order)
    return moved.reshape(*moved.shape[:kept], -1), order


def _from_rows(rows: Array, order: tuple[int, ...], shape: Shape) -> Array:
    return rows.reshape([shape[i] for i in order]).transpose(np.argsort(order))


def _extreme(arg: Callable[..., Array]) -> Callable[[NodeContext, int, Array], Array]:
    def vjp(ctx: NodeContext, slot: int, g: Array) -> Array:
        """To the first of the winners."""
        rows, order = _rows(ctx, ctx.x(0))
        result = np.zeros(rows.shape, g.dtype)
        winners = arg(rows, axis=-1)[..., None]
        np.put_along_axis(result, winners, g.reshape(winners.shape), axis=-1)
        return _from_rows(result, order, ctx.shape(0))

    return vjp


_CHOICE = {**_REDUCES, "saved": ("x", "shape", "operand1"), "selects_by_value": True}
add("ReduceMax", Operator(Kind.ROUTING, _extreme(np.argmax), note="the first winner", **_CHOICE))  # type: ignore[arg-type]
add("ReduceMin", Operator(Kind.ROUTING, _extreme(np.argmin), note="the first winner", **_CHOICE))  # type: ignore[arg-type]

# --- functions of many -------------------------------------------------------------------------------------------


def _kept(ctx: NodeContext, array: Array) -> Array:
    """The output's array with the reduced axes in place."""
    return array.reshape(_reduced_shape(ctx)[1])


def _by_contribution(contribution: Callable[[NodeContext], Array]) -> Callable[[NodeContext, int, Array], Array]:
    """Relevance in proportion to what each element adds to the sum inside; in equal parts, where that is zero."""

    def distribute(ctx: NodeContext, slot: int, r: Array) -> Array:
        parts = contribution(ctx)
        total = parts.sum(axis=reduced_axes(ctx, parts.ndim), keepdims=True)
        share = np.where(total == 0, 1 / _reduced_count(ctx), parts / np.where(total == 0, 1, total))
        return (share * _kept(ctx, r)).astype(r.dtype)

    return distribute


def _reduced(
    name: str, slope: Callable[[NodeContext, Array], Array], contribution: Callable[[NodeContext], Array], note: str
) -> None:
    """slope: dy/dx, given the output with its reduced axes in place."""

    def vjp(ctx: NodeContext, slot: int, g: Array) -> Array:
        return np.broadcast_to(_kept(ctx, g) * slope(ctx, _kept(ctx, ctx.y())), ctx.shape(0)).astype(g.dtype)

    add(
        name,
        Operator(
            Kind.ACTIVATION,
            vjp,
            differentiable=(0,),
            nondifferentiable=(1,),
            saved=("x", "shape", "y", "operand1"),
            lrp_saved=("x", "shape", "y", "operand1") if name == "ReduceLogSumExp" else ("x", "shape", "operand1"),
            distribute=_by_contribution(contribution),
            layout=reduced_layout,
            axes=axis_rules.reduced,
            check=_check_axes,
            note=note,
        ),
    )


def _check_axes(node: Node) -> str:
    nothing = node.attribute("noop_with_empty_axes", 0) and not node.input(1) and not node.attribute("axes")
    return "noop_with_empty_axes without axes has no rule" if nothing else ""


def _safe(y: Array) -> Array:
    return np.where(y == 0, 1, y)


def _softmax_inside(ctx: NodeContext) -> Array:
    return np.exp(ctx.x(0) - _kept(ctx, ctx.y()))


def _product_of_others(ctx: NodeContext, y: Array) -> Array:
    rows, order = _rows(ctx, ctx.x(0))
    ones = np.ones((*rows.shape[:-1], 1), rows.dtype)
    before = np.cumprod(np.concatenate([ones, rows[..., :-1]], axis=-1), axis=-1)
    after = np.cumprod(np.concatenate([ones, rows[..., :0:-1]], axis=-1), axis=-1)[..., ::-1]
    return _from_rows(before * after, order, ctx.shape(0))


_reduced("ReduceL1", lambda ctx, y: np.sign(ctx.x(0)), lambda ctx: np.abs(ctx.x(0)), "in proportion to abs x")
_reduced("ReduceL2", lambda ctx, y: ctx.x(0) / _safe(y), lambda ctx: ctx.x(0) ** 2, "in proportion to x^2")
_reduced("ReduceSumSquare", lambda ctx, y: 2 * ctx.x(0), lambda ctx: ctx.x(0) ** 2, "in proportion to x^2")
_reduced("ReduceLogSum", lambda ctx, y: np.exp(-y), lambda ctx: ctx.x(0), "in proportion to x")
_reduced("ReduceLogSumExp", lambda ctx, y: _softmax_inside(ctx), _softmax_inside, "in proportion to exp x")
_reduced("ReduceProd", _product_of_others, lambda ctx: np.ones_like(ctx.x(0)), "in equal parts")

# --- running sums ------------------------------------------------------------------------------------------------


def _running_axis(ctx: NodeContext) -> int:
    return int(ctx.x(1).reshape(-1)[0]) % len(ctx.shape(0))


def _cumulate(ctx: NodeContext, g: Array, *, transposed: bool) -> Array:
    """The operator itself, or its transpose, which sums from the other end."""
    axis = _running_axis(ctx)
    backwards = bool(ctx.attribute("reverse", 0)) != transposed
    g = np.flip(g, axis) if backwards else g
    total = np.cumsum(g, axis=axis, dtype=g.dtype)
    total = total - g if ctx.attribute("exclusive", 0) else total
    return np.flip(total, axis) if backwards else total


def _cumsum(ctx: NodeContext, slot: int, g: Array) -> Array:
    return _cumulate(ctx, g, transposed=True)


def _cumsum_spread(ctx: NodeContext, slot: int, amount: Array) -> Array:
    """The one sum of an exclusive CumSum that is empty has no units: its part goes to all."""
    units = _cumulate(ctx, np.ones_like(amount), transposed=False)
    orphans = (
        np.where(units == 0, amount, 0).sum(axis=_running_axis(ctx), keepdims=True) / ctx.shape(0)[_running_axis(ctx)]
    )
    return _cumulate(ctx, np.where(units == 0, 0, amount) / np.maximum(units, 1), transposed=True) + orphans


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
    return lambda x: np.flip(np.flip(x, axis).cumsum(axis, x.dtype), axis)


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
