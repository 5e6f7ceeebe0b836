# SPDX-License-Identifier: Apache-2.0
"""Resize and Upsample: along each axis, every output is a weighted mean of few inputs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lstm_explain.graph.ir import Array, Node
from lstm_explain.operators import axis_rules
from lstm_explain.operators.array_api import namespace, scatter_add
from lstm_explain.operators.operator import BatchLayout, Kind, NodeContext, Operator, SamplesMixed, add

Shape = tuple[int, ...]
MODES = {"nearest": 0, "linear": 1, "cubic": 2}  # mode to reach of its filter


@dataclass(frozen=True)
class Interpolation:
    """The inputs of each output along one axis, with their weights.

    indices, weights: [outputs, inputs of each]. inside [outputs]: False where the output is the extrapolation value.
    """

    indices: Array
    weights: Array
    inside: Array

    def back(self, g: Array, axis: int, size: int) -> Array:
        """Apply the transposed map along `axis`."""
        xp = namespace(g)
        g = xp.moveaxis(g, axis, 0)
        result = xp.zeros((size, *g.shape[1:]), dtype=g.dtype)
        column = (-1, *(1,) * (g.ndim - 1))
        for index, weight in zip(self.indices.T, self.weights.T, strict=True):
            result = scatter_add(result, index, g * xp.asarray(weight.reshape(column), dtype=g.dtype))
        return xp.moveaxis(result, 0, axis)

    def even(self) -> Interpolation:
        """Return the same inputs with equal weights, at the border for outputs that have none."""
        used = ((self.weights != 0) | ~self.inside[:, None]).astype(np.float64)
        return Interpolation(self.indices, used / used.sum(axis=1, keepdims=True), self.inside)


@dataclass(frozen=True)
class Axis:
    """One axis that changes: its extents, its scale, and its region of interest (for tf_crop_and_resize)."""

    axis: int
    size: int
    out: int
    scale: float
    roi: tuple[float, float]

    def interpolation(self, ctx: NodeContext) -> Interpolation:
        x = self._coordinates(ctx)
        cropped = _crops(ctx.node)
        inside = (x >= 0) & (x <= self.size - 1) if cropped else np.ones(self.out, bool)
        mode = _mode(ctx.node)
        if mode == "nearest":
            indices = self._nearest(ctx, x)[:, None]
            weights = np.ones(indices.shape)
        else:
            indices, weights = self._filtered(ctx, x, mode)
        return Interpolation(indices.clip(0, self.size - 1), weights * inside[:, None], inside)

    def _coordinates(self, ctx: NodeContext) -> Array:
        """Return each output's coordinate among the inputs. float32, as in ONNX Runtime, decides what is nearest."""
        at, scale = np.arange(self.out, dtype=np.float32), np.float32(self.scale)
        half = np.float32(0.5)
        match ctx.attribute("coordinate_transformation_mode", "half_pixel") if ctx.node.opset >= 11 else "asymmetric":
            case "asymmetric":
                x = at / scale
            case "align_corners":
                x = at * np.float32(self.size - 1) / np.float32(max(self.out - 1, 1))
            case "tf_half_pixel_for_nn":
                x = (at + half) / scale
            case "pytorch_half_pixel":
                x = (at + half) / scale - half if self.out > 1 else 0 * at
            case "half_pixel_symmetric":
                centre = np.float32(self.size) / 2
                x = centre * (1 - np.float32(self.out) / (scale * self.size)) + (at + half) / scale - half
            case "tf_crop_and_resize":
                start, end = self.roi
                last = self.size - 1
                x = at * np.float32((end - start) * last / max(self.out - 1, 1)) + np.float32(start * last)
                x = x if self.out > 1 else 0 * at + np.float32((start + end) * last / 2)
            case _:
                x = (at + half) / scale - half
        return np.asarray(x, np.float32)

    def _nearest(self, ctx: NodeContext, x: Array) -> Array:
        if ctx.node.opset < 11:
            x = np.ceil(x) if self.scale < 1 else np.trunc(x)
        else:
            match ctx.attribute("nearest_mode", "round_prefer_floor"):
                case "round_prefer_ceil":
                    x = np.floor(x + np.float32(0.5))
                case "floor":
                    x = np.floor(x)
                case "ceil":
                    x = np.ceil(x)
                case _:
                    x = np.ceil(x - np.float32(0.5))
        return x.astype(np.int64)

    def _filtered(self, ctx: NodeContext, x: Array, mode: str) -> tuple[Array, Array]:
        """Return the inputs under a filter around each coordinate. Antialiasing widens the filter so that it skips no
        input.
        """
        wide = max(1.0, 1 / self.scale) if ctx.attribute("antialias", 0) else 1.0
        reach = MODES[mode] * wide
        first = np.floor(x - np.float32(reach)).astype(np.int64) + 1
        indices = first[:, None] + np.arange(math.ceil(2 * reach))
        distance = np.abs(indices - x[:, None].astype(np.float64)) / wide
        weights = (
            np.maximum(1 - distance, 0) if mode == "linear" else _cubic(distance, ctx.attribute("cubic_coeff_a", -0.75))
        )
        if ctx.attribute("exclude_outside", 0):
            weights = np.where((indices >= 0) & (indices < self.size), weights, 0)
        return indices, weights / weights.sum(axis=1, keepdims=True)


def _cubic(distance: Array, a: float) -> Array:
    """Keys' kernel (1981), equation 4."""
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0))


def _mode(node: Node) -> str:
    mode = str(node.attribute("mode", "nearest"))
    return "linear" if mode == "bilinear" else mode  # its name in Upsample 1


def _crops(node: Node) -> bool:
    return bool(node.attribute("coordinate_transformation_mode") == "tf_crop_and_resize")


def _axes(ctx: NodeContext, out: Shape) -> Iterator[Axis]:
    """Yield the axes that change or that have a region of interest."""
    shape = ctx.shape(0)
    axes = [int(a) % len(shape) for a in ctx.attribute("axes") or range(len(shape))]
    scales = _scales(ctx, [shape[a] for a in axes], [out[a] for a in axes])
    region = ctx.concrete(1).reshape(2, -1).T.tolist() if _crops(ctx.node) else [(0.0, 1.0)] * len(axes)
    for axis, scale, (start, end) in zip(axes, scales, region, strict=True):
        if scale != 1 or out[axis] != shape[axis] or (start, end) != (0.0, 1.0):
            yield Axis(axis, shape[axis], out[axis], scale, (start, end))


def _scales(ctx: NodeContext, sizes: list[int], out: list[int]) -> list[float]:
    given = ctx.attribute("scales")
    slot = 2 if ctx.node.op == "Resize" and ctx.node.opset >= 11 else 1
    if given is None and ctx.has(slot) and ctx.concrete(slot).size:
        given = ctx.concrete(slot).reshape(-1).tolist()
    if given is not None:
        return list(given)
    policy = ctx.attribute("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return [o / n for o, n in zip(out, sizes, strict=True)]
    ratios = [w / n for w, n in zip(ctx.concrete(3).reshape(-1).tolist(), sizes, strict=True)]
    return [min(ratios) if policy == "not_larger" else max(ratios)] * len(sizes)


def _resize(ctx: NodeContext, slot: int, g: Array) -> Array:
    for axis in _axes(ctx, g.shape):
        g = axis.interpolation(ctx).back(g, axis.axis, axis.size)
    return g


def _spread(ctx: NodeContext, slot: int, amount: Array) -> Array:
    for axis in _axes(ctx, amount.shape):
        amount = axis.interpolation(ctx).even().back(amount, axis.axis, axis.size)
    return amount


def _fan_in(ctx: NodeContext, slot: int) -> float:
    return float(math.prod(axis.interpolation(ctx).indices.shape[1] for axis in _axes(ctx, ctx.y().shape)))


def _extrapolated(ctx: NodeContext) -> Array | None:
    """Return the extrapolation value at outputs outside the region of interest."""
    value = ctx.attribute("extrapolation_value", 0.0)
    if not _crops(ctx.node) or not value:
        return None
    out = ctx.y().shape
    inside = np.ones(out, bool)
    for axis in _axes(ctx, out):
        inside &= axis.interpolation(ctx).inside.reshape([-1 if i == axis.axis else 1 for i in range(len(out))])
    y = ctx.y()
    return namespace(y).asarray(np.where(inside, 0, value), dtype=y.dtype)


def _layout(ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int) -> BatchLayout:
    if any(axis.axis == layout.axis for axis in _axes(ctx, out)):
        raise SamplesMixed
    return layout


def _kind(node: Node, live: tuple[int, ...]) -> Kind:
    return Kind.ROUTING if _mode(node) == "nearest" and not _crops(node) else Kind.MAP


def _check(node: Node) -> str:
    return "" if _mode(node) in MODES else f"mode {node.attribute('mode')!r} has no rule"


add(
    "Resize Upsample",
    Operator(
        _kind,
        _resize,
        differentiable=(0,),
        nondifferentiable=(1, 2, 3),
        saved=("shape", "operand1", "operand2", "operand3"),
        bias=_extrapolated,
        spread=_spread,
        fan_in=_fan_in,
        layout=_layout,
        axes=axis_rules.first,
        check=_check,
        numpy_only=("scatter_add",),
        note="nearest: routing; linear and cubic: epsilon rule",
    ),
)
