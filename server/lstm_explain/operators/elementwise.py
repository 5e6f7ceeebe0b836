# SPDX-License-Identifier: Apache-2.0
"""Element-wise sums, products and choices. Functions of one operand are in functions.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from lstm_explain.graph.ir import Array, Graph, Node
from lstm_explain.operators import axis_rules
from lstm_explain.operators.array_api import cast, namespace
from lstm_explain.operators.numpy_evaluation import Evaluation, of_any, with_constant
from lstm_explain.operators.operator import Kind, NodeContext, Operator, Trait, add, aligned, equal_parts, unbroadcast

# --- sums --------------------------------------------------------------------------------------------------------


def _constant_terms(signs: Callable[[NodeContext, int], float]) -> Callable[[NodeContext], Array | None]:
    def bias(ctx: NodeContext) -> Array | None:
        terms = [signs(ctx, i) * ctx.x(i) for i in range(len(ctx.node.inputs)) if i not in ctx.live]
        return sum(terms[1:], terms[0]) if terms else None

    return bias


def _sum(
    names: str,
    sign: Callable[[NodeContext, int], float],
    traits: Trait = Trait.NONE,
    evaluation: Evaluation | None = None,
    magnitude: str = "same",
) -> None:
    def vjp(ctx: NodeContext, slot: int, g: Array) -> Array:
        factor = sign(ctx, slot)
        g = unbroadcast(g, ctx.shape(slot))
        return g if factor == 1 else g * factor

    def spread(ctx: NodeContext, slot: int, amount: Array) -> Array:
        return unbroadcast(amount, ctx.shape(slot))

    add(
        names,
        Operator(
            Kind.SUM,
            vjp,
            traits | Trait.ELEMENTWISE,
            saved=("shape", "constants"),
            bias=_constant_terms(sign),
            spread=spread,
            magnitude=magnitude,
            evaluation=evaluation,
        ),
    )


_sum("Add", lambda ctx, slot: 1.0, Trait.ADJUSTS, with_constant(np.add))
_sum("Sub", lambda ctx, slot: -1.0 if slot == 1 else 1.0, Trait.ADJUSTS, with_constant(np.subtract), "Add")
_sum("Sum", lambda ctx, slot: 1.0, Trait.ADJUSTS)
_sum("Mean", lambda ctx, slot: 1.0 / len(ctx.node.inputs))
_sum("Neg", lambda ctx, slot: -1.0, Trait.CONSTANT_MULTIPLE, magnitude="Identity")

# --- products ----------------------------------------------------------------------------------------------------


def _product_kind(node: Node, live: tuple[int, ...]) -> Kind:
    return Kind.PRODUCT if len(live) > 1 else Kind.SCALE


def _division_kind(node: Node, live: tuple[int, ...]) -> Kind:
    if len(live) > 1:
        return Kind.PRODUCT
    return Kind.SCALE if live == (0,) else Kind.ACTIVATION


def _mul(ctx: NodeContext, slot: int, g: Array) -> Array:
    return unbroadcast(g * ctx.x(1 - slot), ctx.shape(slot))


def _div(ctx: NodeContext, slot: int, g: Array) -> Array:
    if slot == 0:
        return unbroadcast(g / ctx.x(1), ctx.shape(0))
    return unbroadcast(-g * ctx.x(0) / ctx.x(1) ** 2, ctx.shape(1))


def _keep(ctx: NodeContext, slot: int, amount: Array) -> Array:
    return unbroadcast(amount, ctx.shape(slot))


def _pow(ctx: NodeContext, slot: int, g: Array) -> Array:
    x, exponent, xp = ctx.x(0), ctx.x(1), namespace(g)
    exponent = exponent if xp.isdtype(exponent.dtype, "real floating") else cast(exponent, xp.float64)
    if slot == 0:
        return cast(unbroadcast(g * exponent * x ** (exponent - 1), ctx.shape(0)), g.dtype)
    logarithm = xp.log(xp.maximum(x, xp.finfo(g.dtype).smallest_normal))
    return cast(unbroadcast(g * x**exponent * logarithm, ctx.shape(1)), g.dtype)


def _pow_kind(node: Node, live: tuple[int, ...]) -> Kind:
    return Kind.PRODUCT if len(live) > 1 else Kind.ACTIVATION


_MULTIPLY = Operator(
    _product_kind,
    _mul,
    Trait.ELEMENTWISE | Trait.CONSTANT_MULTIPLE | Trait.ADJUSTS,
    saved=("shape", "others"),
    spread=_keep,
    evaluation=with_constant(np.multiply),
)
_DIVIDE = replace(
    _MULTIPLY,
    kind=_division_kind,
    vjp=_div,
    saved=("shape", "x", "others"),
    lrp_saved=("shape", "others"),
    distribute=_keep,
    gate=1,
    evaluation=with_constant(np.true_divide),
)
add("Mul", _MULTIPLY)
add("Div", _DIVIDE)
add(
    "Pow",
    Operator(_pow_kind, _pow, Trait.ELEMENTWISE, saved=("x", "others"), lrp_saved=("shape",), distribute=_keep),
)


def _mod(ctx: NodeContext, slot: int, g: Array) -> Array:
    """The result is a - b * q, where q is a / b rounded down, or towards zero for fmod."""
    if slot == 0:
        return unbroadcast(g, ctx.shape(0))
    xp = namespace(g)
    whole = (xp.trunc if ctx.attribute("fmod", 0) else xp.floor)(ctx.x(0) / ctx.x(1))
    return unbroadcast(-g * whole, ctx.shape(1))


add("Mod", replace(_DIVIDE, vjp=_mod, traits=Trait.ELEMENTWISE, evaluation=None))
add(
    "BitShift",
    Operator(
        Kind.ROUTING,
        equal_parts,
        Trait.ELEMENTWISE,
        differentiable=(0,),
        saved=("shape",),
        note="equal parts for all operands, as in arithmetic on indices",
    ),
)

# --- quantisation ------------------------------------------------------------------------------------------------


def _scale(xp: Any, ctx: NodeContext) -> Array:
    """Returns the scale, aligned with the axis that the attribute names where there is one per channel."""
    scale = ctx.x(1)
    if scale.size == 1:
        return xp.reshape(scale, ())
    rank = len(ctx.shape(0))
    return xp.reshape(scale, tuple(-1 if i == ctx.attribute("axis", 1) % rank else 1 for i in range(rank)))


def _quantize(ctx: NodeContext, slot: int, g: Array) -> Array:
    """Pass the gradient unchanged through the rounding, and nothing where the value saturates."""
    y, xp = ctx.y(), namespace(g)
    levels = xp.iinfo(y.dtype)
    inside = (y > levels.min) & (y < levels.max)
    return cast(xp.where(inside, g / _scale(xp, ctx), 0), g.dtype)


def _dequantize(ctx: NodeContext, slot: int, g: Array) -> Array:
    return cast(g * _scale(namespace(g), ctx), g.dtype)


def _check_levels(node: Node) -> str:
    return "quantisation by block has no rule" if node.attribute("block_size", 0) else ""


_STRAIGHT_THROUGH = "gradients pass unchanged through the rounding; a measured scale is a constant of the forward pass"
_DEQUANTIZE = Operator(
    Kind.ACTIVATION,
    _dequantize,
    Trait.ELEMENTWISE,
    differentiable=(0,),
    nondifferentiable=(1, 2),
    saved=("shape", "others", "y"),
    lrp_saved=(),
    check=_check_levels,
)
add("QuantizeLinear", replace(_DEQUANTIZE, vjp=_quantize, note=_STRAIGHT_THROUGH))
add("DequantizeLinear", _DEQUANTIZE)


def _dynamic_quantize(ctx: NodeContext, slot: int, g: Array) -> Array:
    """The levels span the input's own range and 0; the scale counts as a constant of the forward pass."""
    x, xp = ctx.x(0), namespace(g)
    span = xp.maximum(xp.max(x), 0) - xp.minimum(xp.min(x), 0)
    return cast(g * xp.where(span == 0, 0, 255 / xp.where(span == 0, 1, span)), g.dtype)


add(
    "DynamicQuantizeLinear",
    Operator(
        Kind.ACTIVATION,
        _dynamic_quantize,
        saved=("x",),
        lrp_saved=(),
        layout=aligned,
        axes=axis_rules.aligned,
        differentiable_outputs=(0,),
        note=_STRAIGHT_THROUGH,
    ),
)

# --- choices -----------------------------------------------------------------------------------------------------


def _winner(ctx: NodeContext, slot: int, g: Array) -> Array:
    """Route to the first operand that equals the result."""
    y = ctx.y()
    won = ctx.x(slot) == y
    for earlier in range(slot):
        won = won & (ctx.x(earlier) != y)
    return unbroadcast(namespace(g).where(won, g, 0), ctx.shape(slot))


def _where(ctx: NodeContext, slot: int, g: Array) -> Array:
    condition, xp = ctx.x(0), namespace(g)
    return unbroadcast(xp.where(condition, g, 0) if slot == 1 else xp.where(condition, 0, g), ctx.shape(slot))


add(
    "Max Min",
    Operator(
        Kind.ROUTING,
        _winner,
        Trait.ELEMENTWISE | Trait.ADJUSTS,
        saved=("x", "others", "y", "shape"),
        selects_by_value=True,
        note="to the first operand that equals the result",
    ),
)
add(
    "Where",
    Operator(
        Kind.ROUTING,
        _where,
        Trait.ADJUSTS,
        differentiable=(1, 2),
        nondifferentiable=(0,),
        saved=("shape", "operand0"),
        layout=aligned,
        axes=axis_rules.aligned,
    ),
)

# --- operators that pass no relevance ----------------------------------------------------------------------------

add(
    "Equal Greater GreaterOrEqual Less LessOrEqual And Or Xor Not IsNaN IsInf BitwiseAnd BitwiseOr BitwiseXor "
    "BitwiseNot RandomNormalLike RandomUniformLike Hardmax Bernoulli",
    Operator(Kind.NONE, differentiable=(), axes=axis_rules.aligned),
)
add("ArgMax ArgMin", Operator(Kind.NONE, differentiable=(), axes=axis_rules.chosen_along))
add("Multinomial", Operator(Kind.NONE, differentiable=(), axes=axis_rules.batch_only))


def _shape(node: Node, graph: Graph) -> Callable[[Array], Array] | None:
    return None if node.attributes else lambda x: np.array(x.shape, np.int64)


add("Shape", Operator(Kind.NONE, differentiable=(), axes=axis_rules.unknown, evaluation=of_any(_shape)))
add(
    "Size NonZero ConstantOfShape EyeLike RandomNormal RandomUniform Unique Range",
    Operator(Kind.NONE, differentiable=(), axes=axis_rules.unknown),
)
