# SPDX-License-Identifier: Apache-2.0
"""BatchNormalization and LRN. `graph/canonical.py` rewrites other normalisations as primitive operators."""

from __future__ import annotations

from lstm_explain.graph.ir import Array, Node
from lstm_explain.operators import axis_rules
from lstm_explain.operators.array_api import cast, namespace, pad_zeros
from lstm_explain.operators.operator import Kind, NodeContext, Operator, Trait, add
from lstm_explain.operators.windows import batch_layout


def _channels(ctx: NodeContext, a: Array) -> Array:
    rank = len(ctx.shape(0))
    return namespace(a).reshape(a, (1, -1, *(1,) * (rank - 2))) if rank > 1 else a


def _factor(ctx: NodeContext) -> Array:
    variance = ctx.x(4)
    return ctx.x(1) / namespace(variance).sqrt(variance + ctx.attribute("epsilon", 1e-5))


def _batch_norm(ctx: NodeContext, slot: int, g: Array) -> Array:
    return g * _channels(ctx, _factor(ctx))


def _batch_norm_shift(ctx: NodeContext) -> Array:
    return _channels(ctx, ctx.x(2) - ctx.x(3) * _factor(ctx))


def _batch_norm_check(node: Node) -> str:
    if node.attribute("training_mode", 0) or len([o for o in node.outputs if o]) > 1:
        return "in training mode it normalises by the batch, so a sample has no prediction of its own"
    return "" if node.attribute("spatial", 1) else "spatial=0 has no rule"


# A scale and a shift, with one unit per output: the sum that decomposed graphs write as Mul and Add.
add(
    "BatchNormalization",
    Operator(
        Kind.SUM,
        _batch_norm,
        Trait.ELEMENTWISE,
        differentiable=(0,),
        saved=("shape", "others"),
        bias=_batch_norm_shift,
        negated=(3,),
        spread=lambda ctx, slot, amount: amount,
        check=_batch_norm_check,
        note="a scale and a shift, as Mul and Add",
    ),
)

# --- by neighbouring channels ------------------------------------------------------------------------------------


def _around(ctx: NodeContext, squares: Array, *, transposed: bool) -> Array:
    """Sum over the neighbouring channels of each channel; transposed: over those that it is a neighbour of."""
    size = ctx.attribute("size")
    before, behind = (size - 1) // 2, size // 2
    before, behind = (behind, before) if transposed else (before, behind)
    sums = namespace(squares).cumulative_sum(pad_zeros(squares, 1, before + 1, behind), axis=1)
    return sums[:, size:, ...] - sums[:, :-size, ...]


def _local_response(ctx: NodeContext, slot: int, g: Array) -> Array:
    x, beta = ctx.x(0), ctx.attribute("beta", 0.75)
    rate = ctx.attribute("alpha", 1e-4) / ctx.attribute("size")
    base = ctx.attribute("bias", 1.0) + rate * _around(ctx, x * x, transposed=False)
    inner = _around(ctx, g * x * base ** (-beta - 1), transposed=True)
    return cast(g * base**-beta - 2 * rate * beta * x * inner, g.dtype)


add(
    "LRN",
    Operator(
        Kind.ACTIVATION,
        _local_response,
        differentiable=(0,),
        saved=("x",),
        lrp_saved=(),
        layout=batch_layout,
        axes=axis_rules.first,
        note="the scale is a constant of the forward pass",
    ),
)
