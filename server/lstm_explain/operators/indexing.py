"""Operators that pick or place elements by indices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lstm_explain.graph.ir import Array, Node
from lstm_explain.operators import axis_rules
from lstm_explain.operators.operator import BatchLayout, Kind, NodeContext, Operator, SamplesMixed, add, no_layout

Shape = tuple[int, ...]


def _read_or_look_up(node: Node, live: tuple[int, ...]) -> Kind:
    """Indices that an input supplies pick from constants like an embedding; from live data they only steer."""
    return Kind.LOOKUP if live == (1,) else Kind.ROUTING


_READING = {"lookup_slots": (1,), "saved": ("shape", "operand1", "shapes"), "note": "from constants: a lookup"}

# --- one index an element ----------------------------------------------------------------------------------------


def _places(shape: Shape, indices: Array, axis: int) -> tuple[Array, ...]:
    """For every element of `indices`, its place in an array of `shape`: the index along `axis`, its own elsewhere."""
    places = list(np.ogrid[tuple(slice(n) for n in indices.shape)])
    places[axis] = indices % shape[axis]
    return tuple(places)


def _gather_elements(ctx: NodeContext, slot: int, g: Array) -> Array:
    if slot == 1:
        return g
    r = np.zeros(ctx.shape(0), g.dtype)
    np.add.at(r, _places(r.shape, ctx.x(1), ctx.attribute("axis", 0) % r.ndim), g)
    return r


def _other_axes_layout(
    ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int
) -> BatchLayout:
    """Elements move along one axis only."""
    if ctx.attribute("axis", 0) % len(out) == layout.axis or out[layout.axis] != shape[layout.axis]:
        raise SamplesMixed
    return layout


def _gather_elements_layout(
    ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int
) -> BatchLayout:
    return layout if slot == 1 else _other_axes_layout(ctx, slot, layout, out, shape, batch)


add(
    "GatherElements",
    Operator(
        _read_or_look_up,
        _gather_elements,
        layout=_gather_elements_layout,
        axes=axis_rules.gathered_elements,
        **_READING,  # type: ignore[arg-type]
    ),
)


# --- one index a row: GatherND -----------------------------------------------------------------------------------


def _batch_dims(ctx: NodeContext) -> int:
    return int(ctx.attribute("batch_dims", 0))


def _row_places(shape: Shape, indices: Array, batch_dims: int) -> tuple[Array, ...]:
    """The place of every row of `indices` in an array of `shape`; the last axis of `indices` is spent."""
    depth = indices.shape[-1]
    sizes = np.array(shape[batch_dims : batch_dims + depth])
    own = tuple(np.moveaxis(indices % sizes, -1, 0))
    grid = np.ogrid[tuple(slice(n) for n in indices.shape[:-1])]
    return (*grid[:batch_dims], *own)


def _gather_nd(ctx: NodeContext, slot: int, g: Array) -> Array:
    if slot == 1:  # the vector picked, summed, in equal parts to the numbers of its index
        *rows, depth = ctx.shape(1)
        total = g.sum(axis=tuple(range(len(rows), g.ndim)))
        return np.repeat(total[..., None] / depth, depth, axis=-1)
    r = np.zeros(ctx.shape(0), g.dtype)
    np.add.at(r, _row_places(r.shape, ctx.x(1), _batch_dims(ctx)), g)
    return r


def _gather_nd_layout(
    ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int
) -> BatchLayout:
    """Samples stay apart on axes that data and indices share; rows of indices keep theirs too."""
    if layout.axis < (_batch_dims(ctx) if slot == 0 else len(shape) - 1):
        return layout
    raise SamplesMixed


add(
    "GatherND",
    Operator(_read_or_look_up, _gather_nd, layout=_gather_nd_layout, axes=axis_rules.gathered_rows, **_READING),  # type: ignore[arg-type]
)

# --- elements placed: Scatter ------------------------------------------------------------------------------------


def _scatter_elements_places(ctx: NodeContext) -> tuple[Array, ...]:
    shape = ctx.shape(0)
    return _places(shape, ctx.x(1), ctx.attribute("axis", 0) % len(shape))


def _scatter_nd_places(ctx: NodeContext) -> tuple[Array, ...]:
    return _row_places(ctx.shape(0), ctx.x(1), 0)


Places = Callable[[NodeContext], tuple[Array, ...]]


def _adds(node: Node) -> bool:
    return bool(node.attribute("reduction", "none") == "add")


def _last_written(places: tuple[Array, ...], shape: Shape, updates: Shape) -> Array:
    """Which updates stay: of several at one place, the last."""
    order = np.arange(int(np.prod(updates))).reshape(updates)
    last = np.full(shape, -1)
    last[places] = order
    return np.asarray(last[places] == order)


def _scatter_vjp(places_of: Places) -> Callable[[NodeContext, int, Array], Array]:
    def vjp(ctx: NodeContext, slot: int, g: Array) -> Array:
        places = places_of(ctx)
        if slot == 2:
            taken = g[places]
            return taken if _adds(ctx.node) else np.where(_last_written(places, g.shape, taken.shape), taken, 0)
        if _adds(ctx.node):
            return g
        r = g.copy()
        r[places] = 0
        return r

    return vjp


def _scatter_bias(places_of: Places) -> Callable[[NodeContext], Array | None]:
    """Of a Scatter that adds: the operand that is a constant."""

    def bias(ctx: NodeContext) -> Array | None:
        if 0 not in ctx.live:
            return ctx.x(0)
        if 2 in ctx.live:
            return None
        added = np.zeros(ctx.shape(0), ctx.x(2).dtype)
        np.add.at(added, places_of(ctx), ctx.x(2))
        return added

    return bias


def _scatter_fan_in(ctx: NodeContext, slot: int) -> float:
    return 1.0


def _scatter_spread(places_of: Places) -> Callable[[NodeContext, int, Array], Array]:
    """Equal parts to the terms at each place; a place without any gives its part to all updates."""

    def spread(ctx: NodeContext, slot: int, amount: Array) -> Array:
        places, amount = places_of(ctx), amount * len(ctx.live)  # the walk has divided by slots; terms count here
        terms = np.full(amount.shape, float(0 in ctx.live))
        if 2 in ctx.live:
            np.add.at(terms, places, 1)
        share = (np.where(terms == 0, 0, amount) / np.maximum(terms, 1)).astype(amount.dtype)
        if slot == 0:
            return share
        orphans = np.where(terms == 0, amount, 0).sum()
        taken = share[places]
        return taken + orphans / taken.size

    return spread


def _scatter_kind(node: Node, live: tuple[int, ...]) -> Kind:
    return Kind.MAP if _adds(node) else Kind.ROUTING


def _scatter_check(node: Node) -> str:
    reduction = node.attribute("reduction", "none")
    return "" if reduction in ("none", "add") else f"reduction={reduction!r} has no rule"


def _no_lane_if_added(rule: Callable[..., BatchLayout]) -> Callable[..., BatchLayout]:
    def layout(ctx: NodeContext, slot: int, at: BatchLayout, out: Shape, shape: Shape, batch: int) -> BatchLayout:
        if _adds(ctx.node):
            raise SamplesMixed
        return rule(ctx, slot, at, out, shape, batch)

    return layout


def _scatter_nd_layout(
    ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int
) -> BatchLayout:
    """Data stays in place. Updates lie where their indices say; axes behind those that are indexed stay."""
    if slot == 0:
        return layout
    indexed = ctx.shape(1)[-1]
    if layout.axis < indexed:
        raise SamplesMixed
    return BatchLayout(layout.axis - len(out) + len(shape), layout.inner)


def _scatter(names: str, places_of: Places, layout: Callable[..., BatchLayout]) -> None:
    add(
        names,
        Operator(
            _scatter_kind,
            _scatter_vjp(places_of),
            differentiable=(0, 2),
            nondifferentiable=(1,),
            saved=("shape", "operand1", "shapes", "constants"),
            bias=_scatter_bias(places_of),
            spread=_scatter_spread(places_of),
            fan_in=_scatter_fan_in,
            layout=_no_lane_if_added(layout),
            axes=axis_rules.scattered,
            check=_scatter_check,
            note="what is overwritten loses; reduction=add: epsilon rule over the terms",
        ),
    )


def _scatter_elements_layout(
    ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int
) -> BatchLayout:
    return layout if slot == 0 else _other_axes_layout(ctx, slot, layout, out, shape, batch)


_scatter("Scatter ScatterElements", _scatter_elements_places, _scatter_elements_layout)
_scatter("ScatterND", _scatter_nd_places, _scatter_nd_layout)

# --- back to where a MaxPool found them ---------------------------------------------------------------------------


def _max_unpool(ctx: NodeContext, slot: int, g: Array) -> Array:
    return g.reshape(-1)[ctx.x(1)]


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


def _top_k(ctx: NodeContext, slot: int, g: Array) -> Array:
    """Pairs the chosen elements with the outputs by rank: unsorted outputs may come in any order."""
    x, y = (
        a.astype(np.int64) if a.dtype.kind in "ub" else a for a in (ctx.x(0), ctx.y())
    )  # those have no sign to change
    axis, sign = ctx.attribute("axis", -1) % x.ndim, -1 if ctx.attribute("largest", 1) else 1
    chosen = np.take(np.argsort(sign * x, axis=axis, kind="stable"), np.arange(y.shape[axis]), axis=axis)
    r = np.zeros(x.shape, g.dtype)
    ranked = np.take_along_axis(g, np.argsort(sign * y, axis=axis, kind="stable"), axis=axis)
    np.put_along_axis(r, chosen, ranked, axis=axis)
    return r


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
        note="values carry, indices do not",
    ),
)

# --- a flag an element: Compress ---------------------------------------------------------------------------------


def _compress(ctx: NodeContext, slot: int, g: Array) -> Array:
    flags = ctx.x(1)
    if "axis" not in ctx.node.attributes:
        flat = np.zeros(int(np.prod(ctx.shape(0))), g.dtype)
        flat[np.flatnonzero(flags)] = g
        return flat.reshape(ctx.shape(0))
    r = np.zeros(ctx.shape(0), g.dtype)
    np.moveaxis(r, ctx.attribute("axis"), 0)[np.flatnonzero(flags)] = np.moveaxis(g, ctx.attribute("axis"), 0)
    return r


def _compress_layout(
    ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int
) -> BatchLayout:
    if "axis" not in ctx.node.attributes or ctx.attribute("axis") % len(shape) == layout.axis:
        raise SamplesMixed
    return layout


_FLAGGED = {
    "differentiable": (0,),
    "nondifferentiable": (1,),
    "saved": ("shape", "operand1"),
    "axes": axis_rules.compressed,
}
add("Compress", Operator(Kind.ROUTING, _compress, layout=_compress_layout, **_FLAGGED))  # type: ignore[arg-type]

# --- one vector of flags an index: OneHot ------------------------------------------------------------------------


def _one_hot(ctx: NodeContext, slot: int, r: Array) -> Array:
    return r.sum(axis=ctx.attribute("axis", -1) % r.ndim)


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
        axes=axis_rules.one_axis_more,
    ),
)

# --- each sequence backwards -------------------------------------------------------------------------------------


def _reverse_sequence(ctx: NodeContext, slot: int, g: Array) -> Array:
    """Within its length; applied twice, nothing has changed."""
    time, batch = ctx.attribute("time_axis", 0) % g.ndim, ctx.attribute("batch_axis", 1) % g.ndim
    steps, lens = np.arange(g.shape[time]), ctx.x(1)
    order = np.where(steps[:, None] < lens, lens - 1 - steps[:, None], steps[:, None])  # [time, batch]
    order = (order if time < batch else order.T).reshape(
        [g.shape[i] if i in (time, batch) else 1 for i in range(g.ndim)]
    )
    return np.take_along_axis(g, order, axis=time)


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
