# SPDX-License-Identifier: Apache-2.0
"""Windows that slide over the spatial axes, the axes after batch and channel, in convolutions and pooling.

The rules are vectorised over samples, channels and positions; loops run over the few elements of a kernel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.operators.array_api import cast, namespace
from lstm_explain.operators.operator import BatchLayout, NodeContext, SamplesMixed

Shape = tuple[int, ...]
Index = tuple[Any, ...]


@dataclass(frozen=True)
class Windows:
    """Windows over the spatial axes.

    size: extents of the array under the windows. out: number of windows along each axis. before: padding in front; the
    padding at the end is as long as the windows need.
    """

    size: Shape
    out: Shape
    kernel: Shape
    strides: Shape
    dilations: Shape
    before: Shape

    @property
    def extent(self) -> Shape:
        """Extents of elements and padding together."""
        reach = ((o - 1) * s + (k - 1) * d + 1 for o, s, k, d in self._axes())
        return tuple(max(r, b + n) for r, b, n in zip(reach, self.before, self.size, strict=True))

    def _axes(self) -> Iterator[tuple[int, int, int, int]]:
        return zip(self.out, self.strides, self.kernel, self.dilations, strict=True)

    def offsets(self) -> Iterator[Index]:
        """Yield an index into the padded array per kernel element: the elements under it, in all windows."""
        for at in np.ndindex(*self.kernel):
            starts = [a * d for a, d in zip(at, self.dilations, strict=True)]
            ends = [i + (o - 1) * s + 1 for i, (o, s, _, _) in zip(starts, self._axes(), strict=True)]
            yield (..., *map(slice, starts, ends, self.strides))

    def inside(self) -> Index:
        return (..., *(slice(b, b + n) for b, n in zip(self.before, self.size, strict=True)))

    def pad(self, x: Array, fill: float = 0.0) -> Array:
        lead = x.shape[: x.ndim - len(self.size)]
        padded = namespace(x).full(lead + self.extent, fill, dtype=x.dtype)
        padded[self.inside()] = x
        return padded

    def unfold(self, x: Array) -> Array:
        """Collect the elements of each window: [..., *size] -> [..., kernel elements, *out]."""
        padded = self.pad(x)
        return namespace(x).stack([padded[at] for at in self.offsets()], axis=x.ndim - len(self.size))

    def fold(self, columns: Array) -> Array:
        """Sum each element's windows, as the transpose of unfold: [..., kernel elements, *out] -> [..., *size]."""
        axis = columns.ndim - len(self.size) - 1
        padded = namespace(columns).zeros(columns.shape[:axis] + self.extent, dtype=columns.dtype)
        for i, at in enumerate(self.offsets()):
            index: Index = (*(slice(None),) * axis, i, ...)
            padded[at] += columns[index]
        return padded[self.inside()]

    def fold_same(self, g: Array) -> Array:
        """Returns `fold` of columns that all equal `g` [..., *out]."""
        axis = g.ndim - len(self.out)
        shape = (*g.shape[:axis], math.prod(self.kernel), *g.shape[axis:])
        xp = namespace(g)
        return self.fold(xp.broadcast_to(xp.expand_dims(g, axis=axis), shape))

    def counts(self, margin: tuple[Shape, Shape] | None = None) -> Array:
        """Count the elements in each window, [*out]. margin: padding at both ends that counts too."""
        ones = np.zeros(self.extent)
        before, behind = margin if margin else ((0,) * len(self.size), (0,) * len(self.size))
        ones[tuple(
            slice(b - m, b + n + e) for b, m, n, e in zip(self.before, before, self.size, behind, strict=True)
        )] = 1  # fmt: skip
        return np.sum([ones[at] for at in self.offsets()], axis=0)


def spatial(ctx: NodeContext, name: str, rank: int, default: int) -> Shape:
    """Return an attribute with a number per spatial axis."""
    return tuple(ctx.attribute(name) or (default,) * rank)


def _before(ctx: NodeContext, size: Shape, out: Shape, kernel: Shape, strides: Shape, dilations: Shape) -> Shape:
    """Return the padding in front of each axis. `auto_pad` centres the windows and places the odd element."""
    mode = ctx.attribute("auto_pad", "NOTSET")
    if mode == "VALID":
        return (0,) * len(size)
    if mode in ("NOTSET", ""):
        return tuple(ctx.attribute("pads") or (0,) * len(size))[: len(size)]
    reach = [(o - 1) * t + (k - 1) * d + 1 for o, t, k, d in zip(out, strides, kernel, dilations, strict=True)]
    total = [max(r - n, 0) for r, n in zip(reach, size, strict=True)]
    return tuple(t // 2 if mode == "SAME_UPPER" else t - t // 2 for t in total)


def windows_of(ctx: NodeContext, size: Shape, out: Shape, kernel: Shape) -> Windows:
    strides, dilations = spatial(ctx, "strides", len(size), 1), spatial(ctx, "dilations", len(size), 1)
    before = _before(ctx, size, out, kernel, strides, dilations)
    return Windows(size, out, kernel, strides, dilations, before)


def batch_layout(ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int) -> BatchLayout:
    """Channels are mixed and positions move: only the first axis can hold samples."""
    if layout.axis != 0:
        raise SamplesMixed
    return layout


def equal_shares(amount: Array, units: Array) -> tuple[Array, Array]:
    """Return the share of one unit, and per sample [N, 1, ...] the amount at outputs that no unit feeds."""
    xp = namespace(amount)
    units = xp.asarray(units)
    orphaned = xp.sum(xp.where(units == 0, amount, 0), axis=tuple(range(1, amount.ndim)), keepdims=True)
    return cast(xp.where(units == 0, 0, amount) / xp.maximum(units, 1), amount.dtype), orphaned
