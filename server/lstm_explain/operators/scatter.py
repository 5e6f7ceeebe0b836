# SPDX-License-Identifier: Apache-2.0
"""Operators that write elements at indices: Scatter, ScatterElements and ScatterND."""

from __future__ import annotations

import math
from collections.abc import Callable

from lstm_explain.graph.ir import Array, Node
from lstm_explain.operators import axis_rules
from lstm_explain.operators.array_api import cast, gather_at, namespace, scatter, scatter_add
from lstm_explain.operators.indexing import element_indices, other_axes_layout, row_indices
from lstm_explain.operators.operator import BatchLayout, Kind, NodeContext, Operator, SamplesMixed, add

Shape = tuple[int, ...]
Indices = Callable[[NodeContext], tuple[Array, ...]]


def _element_indices(ctx: NodeContext) -> tuple[Array, ...]:
    shape = ctx.shape(0)
    return element_indices(shape, ctx.x(1), ctx.attribute("axis", 0) % len(shape))


def _row_indices(ctx: NodeContext) -> tuple[Array, ...]:
    return row_indices(ctx.shape(0), ctx.x(1), 0)


def _adds(node: Node) -> bool:
    return bool(node.attribute("reduction", "none") == "add")


def _last_written(indices: tuple[Array, ...], shape: Shape, updates: Shape) -> Array:
    """Returns which updates remain: the last of those that write to the same position."""
    xp = namespace(indices[0])
    order = xp.reshape(xp.arange(math.prod(updates)), updates)
    last = xp.full(shape, -1)
    last = scatter(last, indices, order)
    return gather_at(last, indices) == order


def _vjp(indices_of: Indices) -> Callable[[NodeContext, int, Array], Array]:
    def vjp(ctx: NodeContext, slot: int, g: Array) -> Array:
        indices, xp = indices_of(ctx), namespace(g)
        if slot == 2:
            taken = gather_at(g, indices)
            return taken if _adds(ctx.node) else xp.where(_last_written(indices, g.shape, taken.shape), taken, 0)
        if _adds(ctx.node):
            return g
        r = xp.asarray(g, copy=True)
        return scatter(r, indices, 0)

    return vjp


def _bias(indices_of: Indices) -> Callable[[NodeContext], Array | None]:
    """Returns the constant operand of a Scatter that adds."""

    def bias(ctx: NodeContext) -> Array | None:
        if 0 not in ctx.live:
            return ctx.x(0)
        if 2 in ctx.live:
            return None
        updates = ctx.x(2)
        added = namespace(updates).zeros(ctx.shape(0), dtype=updates.dtype)
        return scatter_add(added, indices_of(ctx), updates)

    return bias


def _spread(indices_of: Indices) -> Callable[[NodeContext, int, Array], Array]:
    """Distributes in equal parts to the terms at each position. The part of a position without terms goes to all
    updates.
    """

    def spread(ctx: NodeContext, slot: int, amount: Array) -> Array:
        # The caller divides by slots; here the terms count.
        indices, amount, xp = indices_of(ctx), amount * len(ctx.live), namespace(amount)
        terms = xp.full(amount.shape, float(0 in ctx.live), dtype=xp.float64)
        if 2 in ctx.live:
            terms = scatter_add(terms, indices, xp.asarray(1.0, dtype=xp.float64))
        share = cast(xp.where(terms == 0, 0, amount) / xp.maximum(terms, 1), amount.dtype)
        if slot == 0:
            return share
        orphans = xp.sum(xp.where(terms == 0, amount, 0))
        taken = gather_at(share, indices)
        return taken + orphans / taken.size

    return spread


def _kind(node: Node, live: tuple[int, ...]) -> Kind:
    return Kind.MAP if _adds(node) else Kind.ROUTING


def _check(node: Node) -> str:
    reduction = node.attribute("reduction", "none")
    return "" if reduction in ("none", "add") else f"reduction={reduction!r} has no rule"


def _no_layout_if_added(rule: Callable[..., BatchLayout]) -> Callable[..., BatchLayout]:
    def layout(ctx: NodeContext, slot: int, at: BatchLayout, out: Shape, shape: Shape, batch: int) -> BatchLayout:
        if _adds(ctx.node):
            raise SamplesMixed
        return rule(ctx, slot, at, out, shape, batch)

    return layout


def _elements_layout(
    ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int
) -> BatchLayout:
    return layout if slot == 0 else other_axes_layout(ctx, slot, layout, out, shape, batch)


def _rows_layout(ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int) -> BatchLayout:
    """Data stays in place. Updates go where their indices say; axes after the indexed ones stay."""
    if slot == 0:
        return layout
    indexed = ctx.shape(1)[-1]
    if layout.axis < indexed:
        raise SamplesMixed
    return BatchLayout(layout.axis - len(out) + len(shape), layout.inner)


def _scatter(names: str, indices_of: Indices, layout: Callable[..., BatchLayout]) -> None:
    add(
        names,
        Operator(
            _kind,
            _vjp(indices_of),
            differentiable=(0, 2),
            nondifferentiable=(1,),
            saved=("shape", "operand1", "shapes", "constants"),
            bias=_bias(indices_of),
            spread=_spread(indices_of),
            fan_in=lambda ctx, slot: 1.0,
            layout=_no_layout_if_added(layout),
            axes=axis_rules.scattered,
            check=_check,
            numpy_only=("scatter", "scatter_add"),
            note="overwritten elements receive no relevance; with reduction=add, epsilon rule over the terms",
        ),
    )


_scatter("Scatter ScatterElements", _element_indices, _elements_layout)
_scatter("ScatterND", _row_indices, _rows_layout)
