# SPDX-License-Identifier: Apache-2.0
"""Convolutions and transposed convolutions."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.operators import axis_rules
from lstm_explain.operators.array_api import namespace
from lstm_explain.operators.operator import Kind, NodeContext, Operator, Trait, add
from lstm_explain.operators.windows import Windows, batch_layout, equal_shares, spatial, windows_of

Shape = tuple[int, ...]

# --- convolution -------------------------------------------------------------------------------------------------


def _conv_windows(ctx: NodeContext, out: Shape) -> Windows:
    return windows_of(ctx, ctx.shape(0)[2:], out, ctx.x(1).shape[2:])


def _by_group(ctx: NodeContext, a: Array) -> Array:
    """[N, channels, ...] -> [N, groups, channels of one, positions]."""
    groups = ctx.attribute("group", 1)
    return namespace(a).reshape(a, (a.shape[0], groups, a.shape[1] // groups, -1))


def _conv_with(ctx: NodeContext, weights: Array, g: Array) -> Array:
    """Return the transposed convolution of `g` [N, M, *out] with the weights [M, C / groups, *kernel]."""
    windows, groups = _conv_windows(ctx, g.shape[2:]), ctx.attribute("group", 1)
    xp = namespace(g)
    W = xp.reshape(weights, (groups, weights.shape[0] // groups, -1))
    columns = W.mT @ _by_group(ctx, g)
    extents = (g.shape[0], ctx.shape(0)[1], math.prod(windows.kernel), *windows.out)
    return windows.fold(xp.reshape(columns, extents))


def _conv(ctx: NodeContext, slot: int, g: Array) -> Array:
    return _conv_with(ctx, ctx.x(1), g)


def _conv_spread(ctx: NodeContext, slot: int, amount: Array) -> Array:
    """Distribute equally over the units under each window, without the padding at the border."""
    W, xp = ctx.x(1), namespace(amount)
    windows = _conv_windows(ctx, amount.shape[2:])
    share, orphans = equal_shares(amount, windows.counts() * W.shape[1])
    by_group = xp.reshape(xp.sum(_by_group(ctx, share), axis=2), (amount.shape[0], -1, 1, *windows.out))
    spread = xp.reshape(xp.repeat(windows.fold_same(by_group), W.shape[1], axis=2), ctx.shape(0))
    return spread + orphans / math.prod(ctx.shape(0)[1:])


def _bias(ctx: NodeContext) -> Array | None:
    if not ctx.has(2):
        return None
    bias = ctx.x(2)
    return namespace(bias).reshape(bias, (1, -1, *(1,) * (len(ctx.shape(0)) - 2)))


def _conv_fan_in(ctx: NodeContext, slot: int) -> float:
    return float(math.prod(ctx.x(1).shape[1:]))


_CONV = Operator(
    Kind.MAP,
    _conv,
    Trait.NOT_IN_PLACE,
    differentiable=(0,),
    saved=("shape", "others"),
    bias=_bias,
    spread=_conv_spread,
    fan_in=_conv_fan_in,
    layout=batch_layout,
    axes=axis_rules.channels_mixed,
    roles=axis_rules.moved_along,
    layer="convolution",
)
add("Conv", _CONV)

# --- transposed convolution --------------------------------------------------------------------------------------


def _transposed_windows(ctx: NodeContext, out: Shape) -> Windows:
    """The windows lie over the output, one for each position of the input."""
    size, kernel = ctx.shape(0)[2:], ctx.x(1).shape[2:]
    rank = len(size)
    strides, dilations = spatial(ctx, "strides", rank, 1), spatial(ctx, "dilations", rank, 1)
    mode = ctx.attribute("auto_pad", "NOTSET")
    if mode in ("NOTSET", "") and "output_shape" not in ctx.node.attributes:
        before = tuple(ctx.attribute("pads") or (0,) * rank)[:rank]
    else:
        more = spatial(ctx, "output_padding", rank, 0)
        reach = [
            (n - 1) * t + (k - 1) * d + 1 + e
            for n, t, k, d, e in zip(size, strides, kernel, dilations, more, strict=True)
        ]
        total = [max(r - o, 0) for r, o in zip(reach, out, strict=True)]
        before = tuple(t // 2 if mode == "SAME_UPPER" else t - t // 2 for t in total)
    return Windows(out, size, kernel, strides, dilations, before)


def _conv_transpose(ctx: NodeContext, slot: int, g: Array) -> Array:
    W, groups = ctx.x(1), ctx.attribute("group", 1)
    windows, xp = _transposed_windows(ctx, g.shape[2:]), namespace(g)
    columns = windows.unfold(g)  # [N, M, kernel elements, *positions of the input]
    columns = xp.reshape(columns, (g.shape[0], groups, W.shape[1] * math.prod(windows.kernel), -1))
    return xp.reshape(xp.reshape(W, (groups, W.shape[0] // groups, -1)) @ columns, ctx.shape(0))


def _conv_transpose_spread(ctx: NodeContext, slot: int, amount: Array) -> Array:
    W, groups = ctx.x(1), ctx.attribute("group", 1)
    windows, xp = _transposed_windows(ctx, amount.shape[2:]), namespace(amount)
    each = W.shape[0] // groups
    units = windows.fold(np.ones((math.prod(windows.kernel), *windows.out))) * each
    share, orphans = equal_shares(amount, units)
    summed = xp.reshape(xp.sum(_by_group(ctx, share), axis=2), (amount.shape[0], groups, *windows.size))
    spread = xp.repeat(xp.sum(windows.unfold(summed), axis=2), each, axis=1)
    return xp.reshape(spread, ctx.shape(0)) + orphans / math.prod(ctx.shape(0)[1:])


def _conv_transpose_fan_in(ctx: NodeContext, slot: int) -> float:
    return float(ctx.x(1).shape[0] // ctx.attribute("group", 1))


add(
    "ConvTranspose",
    replace(
        _CONV,
        vjp=_conv_transpose,
        spread=_conv_transpose_spread,
        fan_in=_conv_transpose_fan_in,
        roles=axis_rules.no_roles,
    ),
)
