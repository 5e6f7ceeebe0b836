"""Operators that move, copy or drop elements without changing them; those that move none are in views.py."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lstm_explain.graph.ir import Array, Graph, Node
from lstm_explain.operators import axis_rules
from lstm_explain.operators.numpy_evaluation import Function, of_integers
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

# --- beside one another ------------------------------------------------------------------------------------------


def _concat(ctx: NodeContext, slot: int, g: Array) -> Array:
    axis = ctx.attribute("axis", 1) % g.ndim
    start = sum(ctx.shape(i)[axis] for i in range(slot))
    index = [slice(None)] * g.ndim
    index[axis] = slice(start, start + ctx.shape(slot)[axis])
    return g[tuple(index)]


def _moved_layout(
    ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int
) -> BatchLayout:
    """The axis keeps its place; samples stay where their axis keeps its extent."""
    if len(out) != len(shape) or out[layout.axis] != shape[layout.axis]:
        raise SamplesMixed
    return layout


_JOINED = {"traits": Trait.CONCATENATES | Trait.NOT_IN_PLACE, "layout": _moved_layout, "axes": axis_rules.aligned}
add("Concat", Operator(Kind.ROUTING, _concat, saved=("shape", "shapes"), **_JOINED))  # type: ignore[arg-type]


def _split(ctx: NodeContext, slot: int, g: tuple[Array | None, ...]) -> Array:
    shape = ctx.shape(0)
    axis = ctx.attribute("axis", 0) % len(shape)
    known = next(part for part in g if part is not None)
    sizes = ctx.ints(1, "split")
    if sizes is None:
        count = len(ctx.node.outputs)
        size = -(-shape[axis] // count)
        sizes = [min(size, shape[axis] - i * size) for i in range(count)]
    parts = []
    for part, size in zip(g, sizes, strict=True):
        parts.append(np.zeros((*shape[:axis], size, *shape[axis + 1 :]), known.dtype) if part is None else part)
    return np.concatenate(parts, axis=axis)


_PARTS = {"traits": Trait.SUBSET, "differentiable": (0,), "layout": _moved_layout, "axes": axis_rules.first}
add("Split", Operator(Kind.ROUTING, _split, nondifferentiable=(1,), saved=("shape", "operand1"), **_PARTS))  # type: ignore[arg-type]

# --- some of the elements ----------------------------------------------------------------------------------------


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
    """ONNX clamps; a negative end counts from the back once, and with a negative step may mean before the first."""
    start = start + size if start < 0 else start
    end = end + size if end < 0 else end
    if step > 0:
        return slice(min(max(start, 0), size), min(max(end, 0), size), step)
    start, end = min(max(start, 0), size - 1), min(max(end, -1), size - 1)
    return slice(start, None if end < 0 else end, step)


def _slice(ctx: NodeContext, slot: int, g: Array) -> Array:
    r = np.zeros(ctx.shape(0), g.dtype)
    r[_slices(ctx)] = g
    return r


def _sliced_layout(
    ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int
) -> BatchLayout:
    """Samples that are turned round are as many as before, in other places."""
    if _slices(ctx)[layout.axis].indices(shape[layout.axis]) != (0, shape[layout.axis], 1):
        raise SamplesMixed
    return layout


_STEERS = ("shape", "operand1", "operand2", "operand3", "operand4")
add(
    "Slice",
    Operator(
        Kind.ROUTING,
        _slice,
        Trait.SUBSET,
        differentiable=(0,),
        nondifferentiable=(1, 2, 3, 4),
        saved=_STEERS,
        layout=_sliced_layout,
        axes=axis_rules.first,
    ),
)


def _gather_axis(ctx: NodeContext, ndim: int) -> int:
    return int(ctx.attribute("axis", 0)) % ndim


def _gather(ctx: NodeContext, slot: int, g: Array) -> Array:
    shape = ctx.shape(0)
    axis = _gather_axis(ctx, len(shape))
    indices = ctx.x(1) % shape[axis]
    r = np.zeros(shape, g.dtype)
    if indices.ndim == 0:
        r[(slice(None),) * axis + (int(indices),)] = g
        return r
    spread = g.reshape(*shape[:axis], indices.size, *shape[axis + 1 :])
    np.add.at(np.moveaxis(r, axis, 0), indices.reshape(-1), np.moveaxis(spread, axis, 0))
    return r


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


def _gather_kind(node: Node, live: tuple[int, ...]) -> Kind:
    return Kind.LOOKUP if live == (1,) else Kind.ROUTING


def _sum_of_vectors(ctx: NodeContext, slot: int, r: Array) -> Array:
    """Relevance of each index: the sum over the vector that it picked."""
    ranks = len(ctx.shape(1))
    axis = _gather_axis(ctx, len(ctx.shape(0)))
    axes = tuple(range(axis)) + tuple(range(axis + ranks, r.ndim))
    return r.sum(axis=axes)


def _any_gather_layout(
    ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int
) -> BatchLayout:
    return (_lookup_layout if slot == 1 else _gather_layout)(ctx, slot, layout, out, shape, batch)


def _any_gather(ctx: NodeContext, slot: int, g: Array) -> Array:
    return _sum_of_vectors(ctx, slot, g) if slot == 1 else _gather(ctx, slot, g)


def _looked_up(node: Node, graph: Graph) -> Function | None:
    table = graph.constants.get(node.input(0))
    if table is None or node.attribute("axis", 0) != 0:
        return None
    return lambda indices: table.take(indices, 0)


_LOOKUP = "from constants: a lookup"
add(
    "Gather",
    Operator(
        _gather_kind,
        _any_gather,
        Trait.SUBSET | Trait.STEPWISE | Trait.NOT_IN_PLACE,
        lookup_slots=(1,),
        saved=("shape", "operand1", "shapes"),
        layout=_any_gather_layout,
        axes=axis_rules.gathered,
        evaluation=of_integers(_looked_up, source=1),
        note=_LOOKUP,
    ),
)

# --- copies ------------------------------------------------------------------------------------------------------


def _expand(ctx: NodeContext, slot: int, g: Array) -> Array:
    return unbroadcast(g, ctx.shape(0))


def _tile(ctx: NodeContext, slot: int, g: Array) -> Array:
    shape = ctx.shape(0)
    split: list[int] = []
    for total, size in zip(g.shape, shape, strict=True):
        split += [total // size if size else 1, size]
    return g.reshape(split).sum(axis=tuple(range(0, 2 * len(shape), 2)))


def _pad_widths(ctx: NodeContext) -> list[tuple[int, int]]:
    ndim = len(ctx.shape(0))
    pads = ctx.ints(1, "pads") or ctx.ints(1, "paddings")
    assert pads is not None
    axes = [int(a) % ndim for a in ctx.x(3).reshape(-1)] if ctx.has(3) else list(range(ndim))
    widths = [(0, 0)] * ndim
    for i, axis in enumerate(axes):
        widths[axis] = (pads[i], pads[i + len(axes)])
    return widths


def _pad(ctx: NodeContext, slot: int, g: Array) -> Array:
    shape, widths = ctx.shape(0), _pad_widths(ctx)
    if ctx.attribute("mode", "constant") == "constant":
        r = np.zeros(shape, g.dtype)
        kept: list[Any] = []
        source: list[Any] = []
        for size, (before, after) in zip(shape, widths, strict=True):
            kept.append(slice(max(-before, 0), size - max(-after, 0)))
            source.append(slice(max(before, 0), max(before, 0) + size - max(-before, 0) - max(-after, 0)))
        r[tuple(kept)] = g[tuple(source)]
        return r
    # The other modes copy elements: the same copying, done to positions, tells where each came from.
    positions = np.arange(math.prod(shape)).reshape(shape)
    origin = np.pad(positions, widths, mode=ctx.attribute("mode"))
    flat = np.bincount(origin.reshape(-1), g.reshape(-1).astype(np.float64), minlength=positions.size)
    return flat.reshape(shape).astype(g.dtype)


def _padded_layout(
    ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int
) -> BatchLayout:
    """Samples of which one is cut off at an end and one added at the other are as many as before, in other places."""
    if _pad_widths(ctx)[layout.axis] != (0, 0):
        raise SamplesMixed
    return layout


def _pad_check(node: Node) -> str:
    modes = ("constant", "reflect", "edge", "wrap")
    return "" if node.attribute("mode", "constant") in modes else f"mode {node.attribute('mode')!r} has no rule"


_COPIES = {"traits": Trait.REPEATS, "differentiable": (0,), "nondifferentiable": (1,), "saved": ("shape",)}
add("Expand", Operator(Kind.ROUTING, _expand, layout=aligned, axes=axis_rules.expanded, **_COPIES))  # type: ignore[arg-type]
add("Tile", Operator(Kind.ROUTING, _tile, layout=_moved_layout, axes=axis_rules.first, **_COPIES))  # type: ignore[arg-type]
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
    ),
)

# --- a triangle kept ---------------------------------------------------------------------------------------------


def _trilu(ctx: NodeContext, slot: int, g: Array) -> Array:
    offset = int(ctx.x(1).reshape(-1)[0]) if ctx.has(1) else 0
    return (np.triu if ctx.attribute("upper", 1) else np.tril)(g, offset)


_TRIANGLE = {
    "differentiable": (0,),
    "nondifferentiable": (1,),
    "saved": ("operand1",),
    "inserts_constants": True,
    "layout": aligned,
    "axes": axis_rules.first,
}
add("Trilu", Operator(Kind.ROUTING, _trilu, **_TRIANGLE))  # type: ignore[arg-type]

# --- blocks ------------------------------------------------------------------------------------------------------


def _into_depth(g: Array, block: int, *, columns_first: bool) -> Array:
    """[N, C, H * block, W * block] -> [N, C * block^2, H, W]."""
    n, channels, height, width = g.shape
    split = g.reshape(n, channels, height // block, block, width // block, block)
    order = (0, 1, 3, 5, 2, 4) if columns_first else (0, 3, 5, 1, 2, 4)
    return split.transpose(order).reshape(n, channels * block * block, height // block, width // block)


def _into_space(g: Array, block: int) -> Array:
    """[N, block^2 * C, H, W] -> [N, C, H * block, W * block], blocks outermost in the channels."""
    n, depth, height, width = g.shape
    split = g.reshape(n, block, block, depth // block**2, height, width)
    return split.transpose(0, 3, 4, 1, 5, 2).reshape(n, depth // block**2, height * block, width * block)


def _depth_to_space(ctx: NodeContext, slot: int, g: Array) -> Array:
    return _into_depth(g, ctx.attribute("blocksize"), columns_first=ctx.attribute("mode", "DCR") == "CRD")


def _space_to_depth(ctx: NodeContext, slot: int, g: Array) -> Array:
    return _into_space(g, ctx.attribute("blocksize"))


def _first_layout(
    ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int
) -> BatchLayout:
    if layout.axis != 0:
        raise SamplesMixed
    return layout


add(
    "DepthToSpace",
    Operator(Kind.ROUTING, _depth_to_space, differentiable=(0,), layout=_first_layout, axes=axis_rules.batch_only),
)
add(
    "SpaceToDepth",
    Operator(Kind.ROUTING, _space_to_depth, differentiable=(0,), layout=_first_layout, axes=axis_rules.batch_only),
)
