# SPDX-License-Identifier: Apache-2.0
"""Operators that join, select or repeat elements without changing them. Views are in views.py."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from lstm_explain.graph.ir import Array, Graph, Node
from lstm_explain.operators import axis_rules
from lstm_explain.operators.array_api import cast, namespace, row_major, scatter_add
from lstm_explain.operators.numpy_evaluation import Evaluation, Function, constant_integers, of_any
from lstm_explain.operators.operator import (
    BatchLayout,
    Kind,
    NodeContext,
    Operator,
    SamplesMixed,
    Trait,
    add,
    aligned,
    unbroadcast,
)

Shape = tuple[int, ...]

# --- concatenation and its inverse -------------------------------------------------------------------------------


def _concat(ctx: NodeContext, slot: int, g: Array) -> Array:
    axis = ctx.attribute("axis", 1) % g.ndim
    start = sum(ctx.shape(i)[axis] for i in range(slot))
    index = [slice(None)] * g.ndim
    index[axis] = slice(start, start + ctx.shape(slot)[axis])
    return row_major(g[tuple(index)])


def _joined(node: Node, graph: Graph) -> Function:
    axis, fixed = node.attribute("axis", 1), [graph.constants.get(name) for name in node.inputs]

    def join(*parts: Array) -> Array:
        rest = iter(parts)
        return np.concatenate([next(rest) if part is None else part for part in fixed], axis)

    return join


def _moved_layout(
    ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int
) -> BatchLayout:
    """Axes stay in place; samples do too where the extent of their axis stays."""
    if len(out) != len(shape) or out[layout.axis] != shape[layout.axis]:
        raise SamplesMixed
    return layout


add(
    "Concat",
    Operator(
        Kind.ROUTING,
        _concat,
        Trait.CONCATENATES | Trait.NOT_IN_PLACE,
        saved=("shape", "shapes"),
        layout=_moved_layout,
        axes=axis_rules.aligned,
        evaluation=Evaluation(_joined, integers=True, several=True),
    ),
)


def _split(ctx: NodeContext, slot: int, g: tuple[Array | None, ...]) -> Array:
    shape = ctx.shape(0)
    axis = ctx.attribute("axis", 0) % len(shape)
    known = next(part for part in g if part is not None)
    xp = namespace(known)
    sizes = ctx.ints(1, "split")
    if sizes is None:
        count = len(ctx.node.outputs)
        size = -(-shape[axis] // count)
        sizes = [min(size, shape[axis] - i * size) for i in range(count)]
    parts = []
    for part, size in zip(g, sizes, strict=True):
        extents = (*shape[:axis], size, *shape[axis + 1 :])
        parts.append(xp.zeros(extents, dtype=known.dtype) if part is None else part)
    return xp.concat(parts, axis=axis)


add(
    "Split",
    Operator(
        Kind.ROUTING,
        _split,
        Trait.SUBSET,
        differentiable=(0,),
        nondifferentiable=(1,),
        saved=("shape", "operand1"),
        layout=_moved_layout,
        axes=axis_rules.first,
    ),
)

# --- Slice -------------------------------------------------------------------------------------------------------


def _slices(ctx: NodeContext) -> tuple[slice, ...]:
    shape = ctx.shape(0)
    starts, ends = ctx.ints(1, "starts"), ctx.ints(2, "ends")
    assert starts is not None
    assert ends is not None
    axes = ctx.ints(3, "axes") or list(range(len(starts)))
    steps = ctx.ints(4, "steps") or [1] * len(starts)
    index = [slice(None)] * len(shape)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        index[axis] = _onnx_slice(start, end, step, shape[axis])
    return tuple(index)


def _onnx_slice(start: int, end: int, step: int, size: int) -> slice:
    """Convert to a Python slice: ONNX clamps, and with a negative step, an end may lie before the first element."""
    start = start + size if start < 0 else start
    end = end + size if end < 0 else end
    if step > 0:
        return slice(min(max(start, 0), size), min(max(end, 0), size), step)
    start, end = min(max(start, 0), size - 1), min(max(end, -1), size - 1)
    return slice(start, None if end < 0 else end, step)


def _slice(ctx: NodeContext, slot: int, g: Array) -> Array:
    r = namespace(g).zeros(ctx.shape(0), dtype=g.dtype)
    r[_slices(ctx)] = g
    return r


def _sliced(node: Node, graph: Graph) -> Function | None:
    names = ("starts", "ends", "axes", "steps")
    starts, ends, axes, steps = (constant_integers(node, graph, 1 + slot, name) for slot, name in enumerate(names))
    if starts is None or ends is None or any(node.input(1 + i) and v is None for i, v in ((2, axes), (3, steps))):
        return None
    parts = list(zip(axes or range(len(starts)), starts, ends, steps or [1] * len(starts), strict=True))

    def cut(x: Array) -> Array:
        index = [slice(None)] * x.ndim
        for axis, start, end, step in parts:
            index[axis] = _onnx_slice(start, end, step, x.shape[axis])
        return x[tuple(index)]

    return cut


def _sliced_layout(
    ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int
) -> BatchLayout:
    """An equal extent is not enough: reversed samples lie at other positions."""
    part = _slices(ctx)[layout.axis]
    if part != slice(None) and (part.start, part.stop, part.step) != (0, shape[layout.axis], 1):
        raise SamplesMixed
    return layout


add(
    "Slice",
    Operator(
        Kind.ROUTING,
        _slice,
        Trait.SUBSET,
        differentiable=(0,),
        nondifferentiable=(1, 2, 3, 4),
        saved=("shape", "operand1", "operand2", "operand3", "operand4"),
        layout=_sliced_layout,
        axes=axis_rules.first,
        evaluation=of_any(_sliced),
    ),
)


# --- repetition and padding --------------------------------------------------------------------------------------


def _expand(ctx: NodeContext, slot: int, g: Array) -> Array:
    return unbroadcast(g, ctx.shape(0))


def _tile(ctx: NodeContext, slot: int, g: Array) -> Array:
    shape = ctx.shape(0)
    split: list[int] = []
    for total, size in zip(g.shape, shape, strict=True):
        split += [total // size if size else 1, size]
    xp = namespace(g)
    return xp.sum(xp.reshape(g, tuple(split)), axis=tuple(range(0, 2 * len(shape), 2)))


def _pad_widths(ctx: NodeContext) -> list[tuple[int, int]]:
    ndim = len(ctx.shape(0))
    pads = ctx.ints(1, "pads") or ctx.ints(1, "paddings")
    assert pads is not None
    axes = [int(a) % ndim for a in ctx.concrete(3).reshape(-1)] if ctx.has(3) else list(range(ndim))
    widths = [(0, 0)] * ndim
    for i, axis in enumerate(axes):
        widths[axis] = (pads[i], pads[i + len(axes)])
    return widths


def _pad(ctx: NodeContext, slot: int, g: Array) -> Array:
    shape, widths, xp = ctx.shape(0), _pad_widths(ctx), namespace(g)
    if ctx.attribute("mode", "constant") == "constant":
        r = xp.zeros(shape, dtype=g.dtype)
        kept: list[Any] = []
        source: list[Any] = []
        for size, (before, after) in zip(shape, widths, strict=True):
            kept.append(slice(max(-before, 0), size - max(-after, 0)))
            source.append(slice(max(before, 0), max(before, 0) + size - max(-before, 0) - max(-after, 0)))
        r[tuple(kept)] = g[tuple(source)]
        return r
    # The other modes copy elements. Padding the positions in the same way shows where each element comes from.
    positions = np.arange(math.prod(shape)).reshape(shape)
    origin = np.pad(positions, widths, mode=ctx.attribute("mode"))
    flat = xp.zeros((positions.size,), dtype=xp.float64)
    flat = scatter_add(flat, origin.reshape(-1), xp.reshape(cast(g, xp.float64), (-1,)))
    return cast(xp.reshape(flat, shape), g.dtype)


def _padded_layout(
    ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int
) -> BatchLayout:
    """An equal extent is not enough: with one sample removed and one added, samples lie at other positions."""
    if _pad_widths(ctx)[layout.axis] != (0, 0):
        raise SamplesMixed
    return layout


def _pad_check(node: Node) -> str:
    modes = ("constant", "reflect", "edge", "wrap")
    return "" if node.attribute("mode", "constant") in modes else f"mode {node.attribute('mode')!r} has no rule"


_EXPAND = Operator(
    Kind.ROUTING,
    _expand,
    Trait.REPEATS,
    differentiable=(0,),
    nondifferentiable=(1,),
    saved=("shape",),
    layout=aligned,
    axes=axis_rules.expanded,
)
add("Expand", _EXPAND)
add("Tile", replace(_EXPAND, vjp=_tile, layout=_moved_layout, axes=axis_rules.first))
add(
    "Pad",
    Operator(
        Kind.ROUTING,
        _pad,
        Trait.CONCATENATES,
        differentiable=(0,),
        nondifferentiable=(1, 2, 3),
        saved=("shape", "operand1", "operand3"),
        layout=_padded_layout,
        axes=axis_rules.first,
        inserts_constants=True,
        check=_pad_check,
        numpy_only=("scatter_add",),
    ),
)

# --- triangles ---------------------------------------------------------------------------------------------------


def _trilu(ctx: NodeContext, slot: int, g: Array) -> Array:
    xp = namespace(g)
    return (xp.triu if ctx.attribute("upper", 1) else xp.tril)(g, k=ctx.integer(1))


add(
    "Trilu",
    Operator(
        Kind.ROUTING,
        _trilu,
        differentiable=(0,),
        nondifferentiable=(1,),
        saved=("operand1",),
        layout=aligned,
        axes=axis_rules.first,
        inserts_constants=True,
    ),
)
