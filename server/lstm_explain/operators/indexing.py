# SPDX-License-Identifier: Apache-2.0
"""Operators that read elements at indices: Gather, GatherElements and GatherND."""

from __future__ import annotations

from dataclasses import replace

from lstm_explain.graph.ir import Array, Graph, Node
from lstm_explain.operators import axis_rules
from lstm_explain.operators.array_api import namespace, position, scatter_add
from lstm_explain.operators.numpy_evaluation import Function, of_any
from lstm_explain.operators.operator import BatchLayout, Kind, NodeContext, Operator, SamplesMixed, Trait, add

Shape = tuple[int, ...]


def _kind(node: Node, live: tuple[int, ...]) -> Kind:
    """Live indices into constants are a lookup, as in an embedding; into live data, they only route."""
    return Kind.LOOKUP if live == (1,) else Kind.ROUTING


# --- slices at indices: Gather -----------------------------------------------------------------------------------


def _gather_axis(ctx: NodeContext, ndim: int) -> int:
    return int(ctx.attribute("axis", 0)) % ndim


def _gather(ctx: NodeContext, slot: int, g: Array) -> Array:
    shape, xp = ctx.shape(0), namespace(g)
    axis = _gather_axis(ctx, len(shape))
    indices = ctx.x(1) % shape[axis]
    r = xp.zeros(shape, dtype=g.dtype)
    if indices.ndim == 0:
        r[(*(slice(None),) * axis, position(indices), ...)] = g
        return r
    values = xp.reshape(g, (*shape[:axis], indices.size, *shape[axis + 1 :]))
    moved = scatter_add(xp.moveaxis(r, axis, 0), xp.reshape(indices, (-1,)), xp.moveaxis(values, axis, 0))
    return xp.moveaxis(moved, 0, axis)


def _gather_layout(
    ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int
) -> BatchLayout:
    axis = _gather_axis(ctx, len(shape))
    ranks = len(out) - len(shape) + 1
    if axis <= layout.axis < axis + ranks:
        raise SamplesMixed
    return layout if layout.axis < axis else BatchLayout(layout.axis - ranks + 1, layout.inner)


def _lookup_layout(
    ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int
) -> BatchLayout:
    axis = _gather_axis(ctx, len(ctx.shape(0)))
    if not axis <= layout.axis < axis + len(shape):
        raise SamplesMixed
    return BatchLayout(layout.axis - axis, layout.inner)


def _sum_of_vectors(ctx: NodeContext, slot: int, r: Array) -> Array:
    """Return the relevance of each index: the sum over the vector that it reads."""
    ranks = len(ctx.shape(1))
    axis = _gather_axis(ctx, len(ctx.shape(0)))
    axes = tuple(range(axis)) + tuple(range(axis + ranks, r.ndim))
    return namespace(r).sum(r, axis=axes)


def _any_gather_layout(
    ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int
) -> BatchLayout:
    return (_lookup_layout if slot == 1 else _gather_layout)(ctx, slot, layout, out, shape, batch)


def _any_gather(ctx: NodeContext, slot: int, g: Array) -> Array:
    return _sum_of_vectors(ctx, slot, g) if slot == 1 else _gather(ctx, slot, g)


def _gathered(node: Node, graph: Graph) -> Function | None:
    """A lookup in a constant table, or elements at constant positions."""
    axis, table, at = node.attribute("axis", 0), graph.constants.get(node.input(0)), graph.constants.get(node.input(1))
    if at is not None and at.ndim == 0 and axis >= 0:  # a view
        index = (*(slice(None),) * axis, int(at))
        return lambda x: x[index]
    if at is not None:
        return lambda x: x.take(at, axis)
    return None if table is None or axis != 0 else lambda indices: table.take(indices, 0)


add(
    "Gather",
    Operator(
        _kind,
        _any_gather,
        Trait.SUBSET | Trait.STEPWISE | Trait.NOT_IN_PLACE,
        lookup_slots=(1,),
        saved=("shape", "operand1", "shapes"),
        layout=_any_gather_layout,
        axes=axis_rules.gathered,
        evaluation=of_any(_gathered),
        numpy_only=("scatter_add",),
        note="reading constant data is a lookup",
    ),
)

# --- one index per element ---------------------------------------------------------------------------------------


def element_indices(shape: Shape, indices: Array, axis: int) -> tuple[Array, ...]:
    """Returns the position in `shape` that each element of `indices` refers to: the index along `axis`, and the
    element's own position along the other axes.
    """
    positions = list(_grid(indices, indices.shape))
    positions[axis] = indices % shape[axis]
    return tuple(positions)


def _grid(like: Array, shape: Shape) -> tuple[Array, ...]:
    """Returns the position along each axis, of shapes that broadcast to `shape`."""
    xp, rank = namespace(like), len(shape)
    return tuple(xp.reshape(xp.arange(n), (1,) * i + (n,) + (1,) * (rank - i - 1)) for i, n in enumerate(shape))


def _gather_elements(ctx: NodeContext, slot: int, g: Array) -> Array:
    if slot == 1:
        return g
    r = namespace(g).zeros(ctx.shape(0), dtype=g.dtype)
    return scatter_add(r, element_indices(r.shape, ctx.x(1), ctx.attribute("axis", 0) % r.ndim), g)


def other_axes_layout(
    ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int
) -> BatchLayout:
    """Elements move along one axis only."""
    if ctx.attribute("axis", 0) % len(out) == layout.axis or out[layout.axis] != shape[layout.axis]:
        raise SamplesMixed
    return layout


def _gather_elements_layout(
    ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int
) -> BatchLayout:
    return layout if slot == 1 else other_axes_layout(ctx, slot, layout, out, shape, batch)


_GATHER_ELEMENTS = Operator(
    _kind,
    _gather_elements,
    lookup_slots=(1,),
    saved=("shape", "operand1", "shapes"),
    layout=_gather_elements_layout,
    axes=axis_rules.gathered_elements,
    numpy_only=("scatter_add",),
    note="reading constant data is a lookup",
)
add("GatherElements", _GATHER_ELEMENTS)


# --- one index per row: GatherND ---------------------------------------------------------------------------------


def _batch_dims(ctx: NodeContext) -> int:
    return int(ctx.attribute("batch_dims", 0))


def row_indices(shape: Shape, indices: Array, batch_dims: int) -> tuple[Array, ...]:
    """Returns the position of every row of `indices` in an array of `shape`; the last axis of `indices` holds its
    parts.
    """
    depth = indices.shape[-1]
    own = tuple(indices[..., i] % shape[batch_dims + i] for i in range(depth))
    return (*_grid(indices, indices.shape[:-1])[:batch_dims], *own)


def _gather_nd(ctx: NodeContext, slot: int, g: Array) -> Array:
    xp = namespace(g)
    if slot == 1:  # the sum over the vector looked up, in equal parts to the numbers of its index
        *rows, depth = ctx.shape(1)
        total = xp.sum(g, axis=tuple(range(len(rows), g.ndim)))
        return xp.repeat(total[..., None] / depth, depth, axis=-1)
    r = xp.zeros(ctx.shape(0), dtype=g.dtype)
    return scatter_add(r, row_indices(r.shape, ctx.x(1), _batch_dims(ctx)), g)


def _gather_nd_layout(
    ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int
) -> BatchLayout:
    """Samples stay apart on axes that data and indices share, and on the axes of the rows of indices."""
    if layout.axis < (_batch_dims(ctx) if slot == 0 else len(shape) - 1):
        return layout
    raise SamplesMixed


add(
    "GatherND",
    replace(_GATHER_ELEMENTS, vjp=_gather_nd, layout=_gather_nd_layout, axes=axis_rules.gathered_rows),
)
