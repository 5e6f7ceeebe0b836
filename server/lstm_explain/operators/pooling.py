# SPDX-License-Identifier: Apache-2.0
"""Mean pooling and max pooling."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.operators import axis_rules
from lstm_explain.operators.array_api import cast, namespace
from lstm_explain.operators.operator import BatchLayout, Kind, NodeContext, Operator, SamplesMixed, Trait, add
from lstm_explain.operators.windows import Windows, equal_shares, windows_of

Shape = tuple[int, ...]


def _channel_layout(
    ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int
) -> BatchLayout:
    if layout.axis > 1:
        raise SamplesMixed
    return layout


# --- the mean of each window -------------------------------------------------------------------------------------


def _pool_windows(ctx: NodeContext, out: Shape) -> Windows:
    return windows_of(ctx, ctx.shape(0)[2:], out, tuple(ctx.attribute("kernel_shape")))


def _counted(ctx: NodeContext, windows: Windows) -> Array:
    """Return the divisors of the means: elements per window, with padding where the attribute includes it."""
    if not ctx.attribute("count_include_pad", 0):
        return windows.counts()
    rank = len(windows.size)
    behind = tuple(ctx.attribute("pads") or (0,) * 2 * rank)[rank:]
    room = tuple(e - b - n for e, b, n in zip(windows.extent, windows.before, windows.size, strict=True))
    if ctx.attribute("auto_pad", "NOTSET") in ("NOTSET", ""):
        room = tuple(min(r, b) for r, b in zip(room, behind, strict=True))
    return windows.counts((windows.before, room))


def _average_pool(ctx: NodeContext, slot: int, g: Array) -> Array:
    windows = _pool_windows(ctx, g.shape[2:])
    counted = namespace(g).asarray(np.maximum(_counted(ctx, windows), 1))
    return windows.fold_same(cast(g / counted, g.dtype))


def _average_pool_spread(ctx: NodeContext, slot: int, amount: Array) -> Array:
    windows = _pool_windows(ctx, amount.shape[2:])
    share, orphans = equal_shares(amount, windows.counts())
    return windows.fold_same(share) + orphans / math.prod(ctx.shape(0)[1:])


def _pool_fan_in(ctx: NodeContext, slot: int) -> float:
    return float(math.prod(ctx.attribute("kernel_shape")))


add(
    "AveragePool",
    Operator(
        Kind.MAP,
        _average_pool,
        differentiable=(0,),
        saved=("shape",),
        spread=_average_pool_spread,
        fan_in=_pool_fan_in,
        layout=_channel_layout,
        axes=axis_rules.first,
        roles=axis_rules.moved_along,
    ),
)


def _global_mean(ctx: NodeContext, slot: int, g: Array) -> Array:
    shape = ctx.shape(0)
    return namespace(g).broadcast_to(g / math.prod(shape[2:]), shape)


add(
    "GlobalAveragePool",
    Operator(
        Kind.MAP,
        _global_mean,
        Trait.SUM_OR_MEAN,
        differentiable=(0,),
        saved=("shape",),
        spread=_global_mean,
        fan_in=lambda ctx, slot: float(math.prod(ctx.shape(0)[2:])),
        layout=_channel_layout,
        axes=axis_rules.pooled_whole,
    ),
)

# --- the largest element of each window --------------------------------------------------------------------------


def _max_pool(ctx: NodeContext, slot: int, g: Array) -> Array:
    """Route to the first of the largest elements of each window."""
    windows, xp = _pool_windows(ctx, g.shape[2:]), namespace(g)
    x = windows.pad(ctx.x(0), -math.inf)
    best, winner = xp.full(g.shape, -math.inf, dtype=x.dtype), xp.zeros(g.shape, dtype=xp.int32)
    for i, at in enumerate(windows.offsets()):
        better = x[at] > best
        best, winner = xp.where(better, x[at], best), xp.where(better, i, winner)
    result = xp.zeros(x.shape, dtype=g.dtype)
    for i, at in enumerate(windows.offsets()):
        result[at] += xp.where(winner == i, g, 0)
    return result[windows.inside()]


def _global_max(ctx: NodeContext, slot: int, g: Array) -> Array:
    shape, xp = ctx.shape(0), namespace(g)
    x = xp.reshape(ctx.x(0), (*shape[:2], -1))
    winner = xp.argmax(x, axis=2, keepdims=True)
    chosen = xp.arange(x.shape[2], dtype=winner.dtype) == winner
    return xp.reshape(xp.where(chosen, xp.reshape(g, winner.shape), 0), shape)


_MAX_POOL = Operator(
    Kind.ROUTING,
    _max_pool,
    differentiable=(0,),
    saved=("x", "shape"),
    layout=_channel_layout,
    axes=axis_rules.first,
    roles=axis_rules.moved_along,
    selects_by_value=True,
    differentiable_outputs=(0,),
    note="to the first maximum of each window",
)
add("MaxPool", _MAX_POOL)
add(
    "GlobalMaxPool",
    replace(
        _MAX_POOL,
        vjp=_global_max,
        axes=axis_rules.pooled_whole,
        roles=axis_rules.no_roles,
        differentiable_outputs=None,
    ),
)
