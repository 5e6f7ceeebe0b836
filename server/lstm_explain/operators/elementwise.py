"""Sums, products and choices, element by element; functions of one operand are in functions.py."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lstm_explain.graph.ir import Array, Graph, Node
from lstm_explain.operators import axis_rules
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
) -> None:
    def vjp(ctx: NodeContext, slot: int, g: Array) -> Array:
        factor = sign(ctx, slot)
        g = unbroadcast(g, ctx.shape(slot))
        return g if factor == 1 else g * factor

    def spread(ctx: NodeContext, slot: int, amount: Array) -> Array:
        return unbroadcast(amount, ctx.shape(slot))

    reads = ("shape", "constants")
    traits |= Trait.ELEMENTWISE
    add(
        names,
        Operator(Kind.SUM, vjp, traits, saved=reads, bias=_constant_terms(sign), spread=spread, evaluation=evaluation),
    )


_sum("Add", lambda ctx, slot: 1.0, Trait.ADJUSTS, with_constant(np.add))
_sum("Sub", lambda ctx, slot: -1.0 if slot == 1 else 1.0, Trait.ADJUSTS, with_constant(np.subtract))
_sum("Sum", lambda ctx, slot: 1.0, Trait.ADJUSTS)
_sum("Mean", lambda ctx, slot: 1.0 / len(ctx.node.inputs))
_sum("Neg", lambda ctx, slot: -1.0, Trait.CONSTANT_MULTIPLE)

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
    x, exponent = ctx.x(0), ctx.x(1)
    if slot == 0:
        return unbroadcast(g * exponent * x ** (exponent - 1), ctx.shape(0)).astype(g.dtype)
    return unbroadcast(g * x**exponent * np.log(np.maximum(x, np.finfo(g.dtype).tiny)), ctx.shape(1)).astype(g.dtype)


def _pow_kind(node: Node, live: tuple[int, ...]) -> Kind:
    return Kind.PRODUCT if len(live) > 1 else Kind.ACTIVATION


_FACTOR = Trait.ELEMENTWISE | Trait.CONSTANT_MULTIPLE | Trait.ADJUSTS
_PRODUCT = {"saved": ("shape", "others"), "spread": _keep, "evaluation": with_constant(np.multiply)}
add("Mul", Operator(_product_kind, _mul, _FACTOR, **_PRODUCT))  # type: ignore[arg-type]
_QUOTIENT = {
    "saved": ("shape", "x", "others"),
    "lrp_saved": ("shape", "others"),
    "spread": _keep,
    "distribute": _keep,
    "gate": 1,
}
add("Div", Operator(_division_kind, _div, _FACTOR, evaluation=with_constant(np.true_divide), **_QUOTIENT))  # type: ignore[arg-type]
_POWER = {"saved": ("x", "others"), "lrp_saved": ("shape",), "distribute": _keep}
add("Pow", Operator(_pow_kind, _pow, Trait.ELEMENTWISE, **_POWER))  # type: ignore[arg-type]


def _mod(ctx: NodeContext, slot: int, g: Array) -> Array:
    """a - b * whole part of a / b: rounded towards zero for fmod."""
    if slot == 0:
        return unbroadcast(g, ctx.shape(0))
    whole = (np.trunc if ctx.attribute("fmod", 0) else np.floor)(ctx.x(0) / ctx.x(1))
    return unbroadcast(-g * whole, ctx.shape(1))


add("Mod", Operator(_division_kind, _mod, Trait.ELEMENTWISE, **_QUOTIENT))  # type: ignore[arg-type]
_SHIFT = {"differentiable": (0,), "saved": ("shape",), "note": "integers: as arithmetic on addresses"}
add("BitShift", Operator(Kind.ROUTING, equal_parts, Trait.ELEMENTWISE, **_SHIFT))  # type: ignore[arg-type]

# --- rounding to few levels ----------------------------------------------------------------------------------------


def _levels(ctx: NodeContext, per_level: Array) -> Array:
    """Steps by channel, on the axis that the attribute names."""
    if per_level.size == 1:
        return per_level.reshape(())
    rank = len(ctx.shape(0))
    return per_level.reshape([-1 if i == ctx.attribute("axis", 1) % rank else 1 for i in range(rank)])


def _quantize(ctx: NodeContext, slot: int, g: Array) -> Array:
    """Straight through the rounding; nothing beyond the first and last level."""
    y = ctx.y()
    inside = (y > np.iinfo(y.dtype).min) & (y < np.iinfo(y.dtype).max)
    return np.where(inside, g / _levels(ctx, ctx.x(1)), 0).astype(g.dtype)


def _dequantize(ctx: NodeContext, slot: int, g: Array) -> Array:
    return (g * _levels(ctx, ctx.x(1))).astype(g.dtype)


def _check_levels(node: Node) -> str:
    return "steps by block have no rule" if node.attribute("block_size", 0) else ""


_LEVELS = {
    "traits": Trait.ELEMENTWISE,
    "differentiable": (0,),
    "nondifferentiable": (1, 2),
    "saved": ("shape", "others", "y"),
    "lrp_saved": (),
    "check": _check_levels,
}
_STRAIGHT = "gradients pass straight through the rounding; a scale that was measured is a constant of the forward pass"
add("QuantizeLinear", Operator(Kind.ACTIVATION, _quantize, note=_STRAIGHT, **_LEVELS))  # type: ignore[arg-type]
add("DequantizeLinear", Operator(Kind.ACTIVATION, _dequantize, **_LEVELS))  # type: ignore[arg-type]


def _dynamic_quantize(ctx: NodeContext, slot: int, g: Array) -> Array:
    """The levels span the input's own range, and 0: a constant of the forward pass."""
    x = ctx.x(0)
    span = max(x.max(), 0) - min(x.min(), 0)
    return (g * (255 / span if span else 0)).astype(g.dtype)


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
        note=_STRAIGHT,
    ),
)

# --- choices -----------------------------------------------------------------------------------------------------


def _winner(ctx: NodeContext, slot: int, g: Array) -> Array:
    """To the first operand that equals the result."""
    y = ctx.y()
    won = np.broadcast_to(ctx.x(slot), y.shape) == y
    for earlier in range(slot):
        won = won & (np.broadcast_to(ctx.x(earlier), y.shape) != y)
    return unbroadcast(np.where(won, g, np.zeros((), g.dtype)), ctx.shape(slot))


def _where(ctx: NodeContext, slot: int, g: Array) -> Array:
    chosen = ctx.x(0) if slot == 1 else ~ctx.x(0)
    return unbroadcast(np.where(chosen, g, np.zeros((), g.dtype)), ctx.shape(slot))


add(
    "Max Min",
    Operator(
        Kind.ROUTING,
        _winner,
        Trait.ELEMENTWISE | Trait.ADJUSTS,
        saved=("x", "others", "y", "shape"),
        selects_by_value=True,
        note="the first winner",
    ),
)
_CHOSEN = {
    "differentiable": (1, 2),
    "nondifferentiable": (0,),
    "saved": ("shape", "operand0"),
    "layout": aligned,
    "axes": axis_rules.aligned,
}
add("Where", Operator(Kind.ROUTING, _where, Trait.ADJUSTS, **_CHOSEN))  # type: ignore[arg-type]

# --- nothing passes ----------------------------------------------------------------------------------------------

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
