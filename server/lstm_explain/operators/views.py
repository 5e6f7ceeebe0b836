# SPDX-License-Identifier: Apache-2.0
"""Operators whose output holds every element of the input once: another shape, type or order."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from lstm_explain.graph.ir import Array, Graph, Node
from lstm_explain.operators import axis_rules
from lstm_explain.operators.array_api import namespace, row_major
from lstm_explain.operators.numpy_evaluation import Function, constant_integers, of_any, of_integers
from lstm_explain.operators.operator import (
    SAME_PLACES,
    BatchLayout,
    Kind,
    NodeContext,
    Operator,
    SamplesMixed,
    Trait,
    add,
)

Shape = tuple[int, ...]

# --- the same elements in the same order -------------------------------------------------------------------------


def _reshape(ctx: NodeContext, slot: int, g: Array) -> Array:
    return namespace(g).reshape(g, ctx.shape(0))


def reshaped_layout(
    ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int
) -> BatchLayout:
    """Row-major order stays, and with it the number of elements between samples."""
    behind = layout.inner * math.prod(out[layout.axis + 1 :])
    for axis in range(len(shape)):
        rest = math.prod(shape[axis + 1 :])
        if behind % max(rest, 1) == 0 and 0 < rest <= behind and shape[axis] % (batch * (behind // rest)) == 0:
            return BatchLayout(axis, behind // rest)
    raise SamplesMixed


def _same(ctx: NodeContext, slot: int, g: Array) -> Array:
    return g


def _dropout_check(node: Node) -> str:
    return "in training mode it drops elements at random" if node.input(2) else ""  # a constant False was removed


def _squeezed(node: Node, graph: Graph) -> Function | None:
    axes = constant_integers(node, graph, 1, "axes")
    return None if axes is None else lambda x: x.squeeze(tuple(axes))


def _unsqueezed(node: Node, graph: Graph) -> Function | None:
    axes = constant_integers(node, graph, 1, "axes")
    return None if axes is None else lambda x: np.expand_dims(x, tuple(axes))


def _reshaped(node: Node, graph: Graph) -> Function | None:
    shape = constant_integers(node, graph, 1, "shape")
    if shape is None or node.attribute("allowzero", 0):
        return None
    if 0 not in shape:
        return lambda x: x.reshape(shape)
    return lambda x: x.reshape([x.shape[i] if n == 0 else n for i, n in enumerate(shape)])


def _flattened(node: Node, graph: Graph) -> Function:
    axis = node.attribute("axis", 1)

    def flatten(x: Array) -> Array:
        split = axis if axis >= 0 else axis + x.ndim
        return x.reshape(math.prod(x.shape[:split]), -1)

    return flatten


def _cast(node: Node, graph: Graph) -> Function | None:
    kind = graph.type_of(node.outputs[0]).dtype
    return (lambda x: x.astype(kind)) if kind in (np.int32, np.int64, np.float32) else None


_FLATTEN = Operator(
    Kind.ROUTING,
    _reshape,
    Trait.VIEW | Trait.ALIASES_INPUT,
    differentiable=(0,),
    saved=("shape",),
    layout=reshaped_layout,
    axes=axis_rules.reshaped,
    evaluation=of_any(_flattened),
)
_RESHAPE = replace(
    _FLATTEN,
    traits=_FLATTEN.traits | Trait.STEPWISE,
    nondifferentiable=(1,),
    evaluation=of_any(_reshaped),
)
add("Flatten", _FLATTEN)
add("Reshape", _RESHAPE)
add("Squeeze", replace(_RESHAPE, axes=axis_rules.squeezed, evaluation=of_any(_squeezed)))
add("Unsqueeze", replace(_RESHAPE, axes=axis_rules.unsqueezed, evaluation=of_any(_unsqueezed)))

# --- the same elements in the same places ------------------------------------------------------------------------

_SAME = Operator(
    Kind.ROUTING,
    _same,
    SAME_PLACES | Trait.CONSTANT_MULTIPLE,
    differentiable=(0,),
    axes=axis_rules.first,
)
_IDENTITY = of_any(lambda node, graph: lambda x: x.view())  # outputs that are views are copied (explanation.py)
add("Identity", replace(_SAME, traits=_SAME.traits | Trait.ALIASES_INPUT, evaluation=_IDENTITY))
add("Cast", replace(_SAME, evaluation=of_integers(_cast)))
add("CastLike", replace(_SAME, nondifferentiable=(1,)))
add("Dropout", replace(_SAME, nondifferentiable=(1, 2), differentiable_outputs=(0,), check=_dropout_check))

# --- transposition -----------------------------------------------------------------------------------------------


def _permutation(ctx: NodeContext, ndim: int) -> list[int]:
    return list(ctx.attribute("perm") or range(ndim)[::-1])


def _transpose(ctx: NodeContext, slot: int, g: Array) -> Array:
    places = _permutation(ctx, g.ndim)
    return row_major(namespace(g).permute_dims(g, tuple(places.index(axis) for axis in range(g.ndim))))


def _transposed_layout(
    ctx: NodeContext, slot: int, layout: BatchLayout, out: Shape, shape: Shape, batch: int
) -> BatchLayout:
    return BatchLayout(_permutation(ctx, len(out))[layout.axis], layout.inner)


def _transposed(node: Node, graph: Graph) -> Function:
    perm = node.attribute("perm")
    return lambda x: x.transpose(perm)


add(
    "Transpose",
    Operator(
        Kind.ROUTING,
        _transpose,
        Trait.VIEW | Trait.STEPWISE | Trait.NOT_IN_PLACE,
        differentiable=(0,),
        layout=_transposed_layout,
        axes=axis_rules.transposed,
        evaluation=of_any(_transposed),
    ),
)

# --- blocks of channels and positions -----------------------------------------------------------------------------


def _into_depth(g: Array, block: int, *, columns_first: bool) -> Array:
    """[N, C, H * block, W * block] -> [N, C * block^2, H, W]."""
    n, channels, height, width = g.shape
    xp = namespace(g)
    split = xp.reshape(g, (n, channels, height // block, block, width // block, block))
    order = (0, 1, 3, 5, 2, 4) if columns_first else (0, 3, 5, 1, 2, 4)
    depth = channels * block * block
    return xp.reshape(xp.permute_dims(split, order), (n, depth, height // block, width // block))


def _into_space(g: Array, block: int) -> Array:
    """[N, block^2 * C, H, W] -> [N, C, H * block, W * block], blocks outermost in the channels."""
    n, depth, height, width = g.shape
    xp = namespace(g)
    split = xp.reshape(g, (n, block, block, depth // block**2, height, width))
    space = xp.permute_dims(split, (0, 3, 4, 1, 5, 2))
    return xp.reshape(space, (n, depth // block**2, height * block, width * block))


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
