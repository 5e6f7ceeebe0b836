"""Convolutions and pooling: a kernel that slides over the axes behind batch and channel.

Everything is vectorised over samples, channels and positions; the loops run over the few elements of a kernel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.operators import axis_rules
from lstm_explain.operators.operator import BatchLayout, Kind, NodeContext, Operator, SamplesMixed, Trait, add

Shape = tuple[int, ...]
Index = tuple[Any, ...]


@dataclass(frozen=True)
class Windows:
    """How windows lie over the spatial axes.

    size: of what is looked at. out: windows along each axis. before: padding in front; behind, as much as is needed.
    """

    size: Shape
    out: Shape
    kernel: Shape
    strides: Shape
    dilations: Shape
    before: Shape

    @property
    def extent(self) -> Shape:
        """Extent of padding and elements together, as far as windows reach or elements lie."""
        reach = ((o - 1) * s + (k - 1) * d + 1 for o, s, k, d in self._axes())
        return tuple(max(r, b + n) for r, b, n in zip(reach, self.before, self.size, strict=True))

    def _axes(self) -> Iterator[tuple[int, int, int, int]]:
        return zip(self.out, self.strides, self.kernel, self.dilations, strict=True)

    def taps(self) -> Iterator[Index]:
        """For each element of the kernel, where in the padded array the windows meet it."""
        for at in np.ndindex(*self.kernel):
            starts = [a * d for a, d in zip(at, self.dilations, strict=True)]
            ends = [i + (o - 1) * s + 1 for i, (o, s, _, _) in zip(starts, self._axes(), strict=True)]
            yield (..., *map(slice, starts, ends, self.strides))

    def inside(self) -> Index:
        return (..., *(slice(b, b + n) for b, n in zip(self.before, self.size, strict=True)))

    def pad(self, x: Array, fill: float = 0.0) -> Array:
        lead = x.shape[: x.ndim - len(self.size)]
        padded = np.full(lead + self.extent, fill, x.dtype)
        padded[self.inside()] = x
        return padded

    def unfold(self, x: Array) -> Array:
        """[..., *size] -> [..., kernel elements, *out]."""
        padded = self.pad(x)
        return np.stack([padded[tap] for tap in self.taps()], axis=x.ndim - len(self.size))

    def fold(self, columns: Array) -> Array:
        """[..., kernel elements, *out] -> [..., *size]: each element adds up what its windows say. Undoes no unfold."""
        axis = columns.ndim - len(self.size) - 1
        padded = np.zeros(columns.shape[:axis] + self.extent, columns.dtype)
        for i, tap in enumerate(self.taps()):
            padded[tap] += columns[(slice(None),) * axis + (i,)]
        return padded[self.inside()]

    def fold_same(self, g: Array) -> Array:
        """`fold` of columns that are all `g` [..., *out]."""
        axis = g.ndim - len(self.out)
        shape = (*g.shape[:axis], math.prod(self.kernel), *g.shape[axis:])
        return self.fold(np.broadcast_to(np.expand_dims(g, axis), shape))

    def counts(self, margin: tuple[Shape, Shape] | None = None) -> Array:
        """Elements in each window, [*out]; `margin`: padding before and behind that counts too."""
        ones = np.zeros(self.extent)
        before, behind = margin if margin else ((0,) * len(self.size), (0,) * len(self.size))
        ones[tuple(
            slice(b - m, b + n + e) for b, m, n, e in zip(self.before, before, self.size, behind, strict=True)
        )] = 1  # fmt: skip
        return np.sum([ones[tap] for tap in self.taps()], axis=0)


def _ints(ctx: NodeContext, name: str, rank: int, default: int) -> Shape:
    return tuple(ctx.attribute(name) or (default,) * rank)


def _before(ctx: NodeContext, size: Shape, out: Shape, kernel: Shape, strides: Shape, dilations: Shape) -> Shape:
    """Padding in front of each axis. `auto_pad` centres the windows and says where the odd element goes."""
    mode = ctx.attribute("auto_pad", "NOTSET")
    if mode == "VALID":
        return (0,) * len(size)
    if mode in ("NOTSET", ""):
        return tuple(ctx.attribute("pads") or (0,) * len(size))[: len(size)]
    reach = [(o - 1) * t + (k - 1) * d + 1 for o, t, k, d in zip(out, strides, kernel, dilations, strict=True)]
    total = [max(r - n, 0) for r, n in zip(reach, size, strict=True)]
    return tuple(t // 2 if mode == "SAME_UPPER" else t - t // 2 for t in total)


def _windows(ctx: NodeContext, size: Shape, out: Shape, kernel: Shape) -> Windows:
    strides, dilations = _ints(ctx, "strides", len(size), 1), _ints(ctx, "dilations", len(size), 1)
    before = _before(ctx, size, out, kernel, strides, dilations)
    return Windows(size, out, kernel, strides, dilations, before)


def batch_layout(ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int) -> BatchLayout:
    """Channels are mixed and positions move: samples stay apart on the first axis alone."""
    if layout.axis != 0:
        raise SamplesMixed
    return layout


def _channel_layout(
    ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int
) -> BatchLayout:
    if layout.axis > 1:
        raise SamplesMixed
    return layout


# --- convolution -------------------------------------------------------------------------------------------------


def _conv_windows(ctx: NodeContext, out: Shape) -> Windows:
    return _windows(ctx, ctx.shape(0)[2:], out, ctx.x(1).shape[2:])


def _by_group(ctx: NodeContext, a: Array) -> Array:
    """[N, channels, ...] -> [N, groups, channels of one, positions]."""
    groups = ctx.attribute("group", 1)
    return a.reshape(a.shape[0], groups, a.shape[1] // groups, -1)


def _conv_with(ctx: NodeContext, weights: Array, g: Array) -> Array:
    """Transposed convolution of `g` [N, M, *out] with the weights [M, C / groups, *kernel]."""
    windows, groups = _conv_windows(ctx, g.shape[2:]), ctx.attribute("group", 1)
    W = weights.reshape(groups, weights.shape[0] // groups, -1)
    columns = np.swapaxes(W, 1, 2) @ _by_group(ctx, g)
    return windows.fold(columns.reshape(g.shape[0], ctx.shape(0)[1], math.prod(windows.kernel), *windows.out))


def _conv(ctx: NodeContext, slot: int, g: Array) -> Array:
    return _conv_with(ctx, ctx.x(1), g)


def _conv_spread(ctx: NodeContext, slot: int, amount: Array) -> Array:
    """Padding is no unit: at the border, fewer share."""
    W = ctx.x(1)
    windows = _conv_windows(ctx, amount.shape[2:])
    share, orphans = _shares(amount, windows.counts() * W.shape[1])
    by_group = _by_group(ctx, share).sum(axis=2).reshape(len(amount), -1, 1, *windows.out)
    spread = np.repeat(windows.fold_same(by_group), W.shape[1], axis=2).reshape(ctx.shape(0))
    return spread + orphans / math.prod(ctx.shape(0)[1:])


def _shares(amount: Array, units: Array) -> tuple[Array, Array]:
    """The part of one unit, and what a sample has at outputs that no unit feeds: [N, 1, ...], for all of them."""
    orphaned = np.where(units == 0, amount, 0).sum(axis=tuple(range(1, amount.ndim)), keepdims=True)
    return (np.where(units == 0, 0, amount) / np.maximum(units, 1)).astype(amount.dtype), orphaned


def _bias(ctx: NodeContext) -> Array | None:
    return ctx.x(2).reshape(1, -1, *(1,) * (len(ctx.shape(0)) - 2)) if ctx.has(2) else None


def _conv_fan_in(ctx: NodeContext, slot: int) -> float:
    return float(math.prod(ctx.x(1).shape[1:]))


_WEIGHTED = {
    "traits": Trait.NOT_IN_PLACE,
    "differentiable": (0,),
    "saved": ("shape", "others"),
    "bias": _bias,
    "layout": batch_layout,
    "axes": axis_rules.channels_mixed,
    "layer": "convolution",
}
_CONV = {"spread": _conv_spread, "fan_in": _conv_fan_in, "roles": axis_rules.moved_along, **_WEIGHTED}
add("Conv", Operator(Kind.MAP, _conv, **_CONV))  # type: ignore[arg-type]

# --- transposed convolution --------------------------------------------------------------------------------------


def _transposed_windows(ctx: NodeContext, out: Shape) -> Windows:
    """The windows lie over the output, one for each position of the input."""
    size, kernel = ctx.shape(0)[2:], ctx.x(1).shape[2:]
    rank = len(size)
    strides, dilations = _ints(ctx, "strides", rank, 1), _ints(ctx, "dilations", rank, 1)
    mode = ctx.attribute("auto_pad", "NOTSET")
    if mode in ("NOTSET", "") and "output_shape" not in ctx.node.attributes:
        before = tuple(ctx.attribute("pads") or (0,) * rank)[:rank]
    else:
        more = _ints(ctx, "output_padding", rank, 0)
        reach = [
            (n - 1) * t + (k - 1) * d + 1 + e
            for n, t, k, d, e in zip(size, strides, kernel, dilations, more, strict=True)
        ]
        total = [max(r - o, 0) for r, o in zip(reach, out, strict=True)]
        before = tuple(t // 2 if mode == "SAME_UPPER" else t - t // 2 for t in total)
    return Windows(out, size, kernel, strides, dilations, before)


def _conv_transpose(ctx: NodeContext, slot: int, g: Array) -> Array:
    W, groups = ctx.x(1), ctx.attribute("group", 1)
    windows = _transposed_windows(ctx, g.shape[2:])
    columns = windows.unfold(g)  # [N, M, kernel elements, *positions of the input]
    columns = columns.reshape(g.shape[0], groups, W.shape[1] * math.prod(windows.kernel), -1)
    return (W.reshape(groups, W.shape[0] // groups, -1) @ columns).reshape(ctx.shape(0))


def _conv_transpose_spread(ctx: NodeContext, slot: int, amount: Array) -> Array:
    W, groups = ctx.x(1), ctx.attribute("group", 1)
    windows = _transposed_windows(ctx, amount.shape[2:])
    each = W.shape[0] // groups
    units = windows.fold(np.ones((math.prod(windows.kernel), *windows.out))) * each
    share, orphans = _shares(amount, units)
    by_group = windows.unfold(_by_group(ctx, share).sum(axis=2).reshape(len(amount), groups, *windows.size)).sum(axis=2)
    return np.repeat(by_group, each, axis=1).reshape(ctx.shape(0)) + orphans / math.prod(ctx.shape(0)[1:])


def _conv_transpose_fan_in(ctx: NodeContext, slot: int) -> float:
    return float(ctx.x(1).shape[0] // ctx.attribute("group", 1))


_TRANSPOSED = {"spread": _conv_transpose_spread, "fan_in": _conv_transpose_fan_in, **_WEIGHTED}
add("ConvTranspose", Operator(Kind.MAP, _conv_transpose, **_TRANSPOSED))  # type: ignore[arg-type]

# --- pooling: a mean over each window ----------------------------------------------------------------------------


def _pool_windows(ctx: NodeContext, out: Shape) -> Windows:
    return _windows(ctx, ctx.shape(0)[2:], out, tuple(ctx.attribute("kernel_shape")))


def _counted(ctx: NodeContext, windows: Windows) -> Array:
    """What the mean divides by: the window's elements, with padding where the attribute says so."""
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
    return windows.fold_same((g / np.maximum(_counted(ctx, windows), 1)).astype(g.dtype))


def _average_pool_spread(ctx: NodeContext, slot: int, amount: Array) -> Array:
    windows = _pool_windows(ctx, amount.shape[2:])
    share, orphans = _shares(amount, windows.counts())
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
    return np.broadcast_to(g / math.prod(shape[2:]), shape)


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

# --- pooling: the largest of each window -------------------------------------------------------------------------


def _max_pool(ctx: NodeContext, slot: int, g: Array) -> Array:
    """To the first of the window's largest elements."""
    windows = _pool_windows(ctx, g.shape[2:])
    x = windows.pad(ctx.x(0), -np.inf)
    best, winner = np.full(g.shape, -np.inf, x.dtype), np.zeros(g.shape, np.int32)
    for i, tap in enumerate(windows.taps()):
        better = x[tap] > best
        best, winner = np.where(better, x[tap], best), np.where(better, np.int32(i), winner)
    result = np.zeros(x.shape, g.dtype)
    for i, tap in enumerate(windows.taps()):
        result[tap] += np.where(winner == i, g, 0)
    return result[windows.inside()]


def _global_max(ctx: NodeContext, slot: int, g: Array) -> Array:
    shape = ctx.shape(0)
    x = ctx.x(0).reshape(*shape[:2], -1)
    result = np.zeros(x.shape, g.dtype)
    np.put_along_axis(result, x.argmax(axis=2)[..., None], g.reshape(*shape[:2], 1), axis=2)
    return result.reshape(shape)


_MAXIMUM = {
    "differentiable": (0,),
    "saved": ("x", "shape"),
    "layout": _channel_layout,
    "selects_by_value": True,
    "note": "the first winner",
}
_WINDOWS = {**_MAXIMUM, "axes": axis_rules.first, "roles": axis_rules.moved_along}
add("MaxPool", Operator(Kind.ROUTING, _max_pool, differentiable_outputs=(0,), **_WINDOWS))  # type: ignore[arg-type]
add("GlobalMaxPool", Operator(Kind.ROUTING, _global_max, axes=axis_rules.pooled_whole, **_MAXIMUM))  # type: ignore[arg-type]
