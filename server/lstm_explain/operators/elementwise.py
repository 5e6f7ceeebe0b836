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
    def bias(s: NodeContext) -> Array | None:
        terms = [signs(s, i) * s.x(i) for i in range(len(s.node.inputs)) if i not in s.live]
        return sum(terms[1:], terms[0]) if terms else None

    return bias


def _sum(
    names: str,
    sign: Callable[[NodeContext, int], float],
    traits: Trait = Trait.NONE,
    evaluation: Evaluation | None = None,
) -> None:
    def vjp(s: NodeContext, slot: int, g: Array) -> Array:
        factor = sign(s, slot)
        g = unbroadcast(g, s.shape(slot))
        return g if factor == 1 else g * factor

    def spread(s: NodeContext, slot: int, amount: Array) -> Array:
        return unbroadcast(amount, s.shape(slot))

    reads = ("s", "constants")
    traits |= Trait.ELEMENTWISE
    add(
        names,
        Operator(Kind.SUM, vjp, traits, reads=reads, bias=_constant_terms(sign), spread=spread, evaluation=evaluation),
    )


_sum("Add", lambda s, slot: 1.0, Trait.ADJUSTS, with_constant(np.add))
_sum("Sub", lambda s, slot: -1.0 if slot == 1 else 1.0, Trait.ADJUSTS, with_constant(np.subtract))
_sum("Sum", lambda s, slot: 1.0, Trait.ADJUSTS)
_sum("Mean", lambda s, slot: 1.0 / len(s.node.inputs))
_sum("Neg", lambda s, slot: -1.0, Trait.MULTIPLE)

# --- products ----------------------------------------------------------------------------------------------------


def _product_kind(node: Node, live: tuple[int, ...]) -> Kind:
    return Kind.PRODUCT if len(live) > 1 else Kind.SCALE


def _division_kind(node: Node, live: tuple[int, ...]) -> Kind:
    if len(live) > 1:
        return Kind.PRODUCT
    return Kind.SCALE if live == (0,) else Kind.ACTIVATION


def _mul(s: NodeContext, slot: int, g: Array) -> Array:
    return unbroadcast(g * s.x(1 - slot), s.shape(slot))


def _div(s: NodeContext, slot: int, g: Array) -> Array:
    if slot == 0:
        return unbroadcast(g / s.x(1), s.shape(0))
    return unbroadcast(-g * s.x(0) / s.x(1) ** 2, s.shape(1))


def _keep(s: NodeContext, slot: int, amount: Array) -> Array:
    return unbroadcast(amount, s.shape(slot))


def _pow(s: NodeContext, slot: int, g: Array) -> Array:
    x, exponent = s.x(0), s.x(1)
    if slot == 0:
        return unbroadcast(g * exponent * x ** (exponent - 1), s.shape(0)).astype(g.dtype)
    return unbroadcast(g * x**exponent * np.log(np.maximum(x, np.finfo(g.dtype).tiny)), s.shape(1)).astype(g.dtype)


def _pow_kind(node: Node, live: tuple[int, ...]) -> Kind:
    return Kind.PRODUCT if len(live) > 1 else Kind.ACTIVATION


_FACTOR = Trait.ELEMENTWISE | Trait.MULTIPLE | Trait.ADJUSTS
_PRODUCT = {"reads": ("s", "others"), "spread": _keep, "evaluation": with_constant(np.multiply)}
add("Mul", Operator(_product_kind, _mul, _FACTOR, **_PRODUCT))  # type: ignore[arg-type]
_QUOTIENT = {
    "reads": ("s", "x", "others"),
    "lrp_reads": ("s", "others"),
    "spread": _keep,
    "distribute": _keep,
    "gate": 1,
}
add("Div", Operator(_division_kind, _div, _FACTOR, evaluation=with_constant(np.true_divide), **_QUOTIENT))  # type: ignore[arg-type]
_POWER = {"reads": ("x", "others"), "lrp_reads": ("s",), "distribute": _keep}
add("Pow", Operator(_pow_kind, _pow, Trait.ELEMENTWISE, **_POWER))  # type: ignore[arg-type]


def _mod(s: NodeContext, slot: int, g: Array) -> Array:
    """a - b * whole part of a / b: rounded towards zero for fmod."""
    if slot == 0:
        return unbroadcast(g, s.shape(0))
    whole = (np.trunc if s.attribute("fmod", 0) else np.floor)(s.x(0) / s.x(1))
    return unbroadcast(-g * whole, s.shape(1))


add("Mod", Operator(_division_kind, _mod, Trait.ELEMENTWISE, **_QUOTIENT))  # type: ignore[arg-type]
_SHIFT = {"carries": (0,), "reads": ("s",), "note": "integers: as arithmetic on addresses"}
add("BitShift", Operator(Kind.ROUTING, equal_parts, Trait.ELEMENTWISE, **_SHIFT))  # type: ignore[arg-type]

# --- rounding to few levels ----------------------------------------------------------------------------------------


def _levels(s: NodeContext, per_level: Array) -> Array:
    """Steps by channel, on the axis that the attribute names."""
    if per_level.size == 1:
        return per_level.reshape(())
    rank = len(s.shape(0))
    return per_level.reshape([-1 if i == s.attribute("axis", 1) % rank else 1 for i in range(rank)])


def _quantize(s: NodeContext, slot: int, g: Array) -> Array:
    """Straight through the rounding; nothing beyond the first and last level."""
    y = s.y()
    inside = (y > np.iinfo(y.dtype).min) & (y < np.iinfo(y.dtype).max)
    return np.where(inside, g / _levels(s, s.x(1)), 0).astype(g.dtype)


def _dequantize(s: NodeContext, slot: int, g: Array) -> Array:
    return (g * _levels(s, s.x(1))).astype(g.dtype)


def _check_levels(node: Node) -> str:
    return "steps by block have no rule" if node.attribute("block_size", 0) else ""


_LEVELS = {
    "traits": Trait.ELEMENTWISE,
    "carries": (0,),
    "ignores": (1, 2),
    "reads": ("s", "others", "y"),
    "lrp_reads": (),
    "check": _check_levels,
}
_STRAIGHT = "gradients pass straight through the rounding; a scale that was measured is a constant of the forward pass"
add("QuantizeLinear", Operator(Kind.ACTIVATION, _quantize, note=_STRAIGHT, **_LEVELS))  # type: ignore[arg-type]
add("DequantizeLinear", Operator(Kind.ACTIVATION, _dequantize, **_LEVELS))  # type: ignore[arg-type]


def _dynamic_quantize(s: NodeContext, slot: int, g: Array) -> Array:
    """The levels span the input's own range, and 0: a constant of the forward pass."""
    x = s.x(0)
    span = max(x.max(), 0) - min(x.min(), 0)
    return (g * (255 / span if span else 0)).astype(g.dtype)


add(
    "DynamicQuantizeLinear",
    Operator(
        Kind.ACTIVATION,
        _dynamic_quantize,
        reads=("x",),
        lrp_reads=(),
        layout=aligned,
        axes=axis_rules.aligned,
        outputs=(0,),
        note=_STRAIGHT,
    ),
)

# --- choices -----------------------------------------------------------------------------------------------------


def _winner(s: NodeContext, slot: int, g: Array) -> Array:
    """To the first operand that equals the result."""
    y = s.y()
    won = np.broadcast_to(s.x(slot), y.shape) == y
    for earlier in range(slot):
        won = won & (np.broadcast_to(s.x(earlier), y.shape) != y)
    return unbroadcast(np.where(won, g, np.zeros((), g.dtype)), s.shape(slot))


def _where(s: NodeContext, slot: int, g: Array) -> Array:
    chosen = s.x(0) if slot == 1 else ~s.x(0)
    return unbroadcast(np.where(chosen, g, np.zeros((), g.dtype)), s.shape(slot))


add(
    "Max Min",
    Operator(
        Kind.ROUTING,
        _winner,
        Trait.ELEMENTWISE | Trait.ADJUSTS,
        reads=("x", "others", "y", "s"),
        picks=True,
        note="the first winner",
    ),
)
_CHOSEN = {"carries": (1, 2), "ignores": (0,), "reads": ("s", "steer0"), "layout": aligned, "axes": axis_rules.aligned}
add("Where", Operator(Kind.ROUTING, _where, Trait.ADJUSTS, **_CHOSEN))  # type: ignore[arg-type]

# --- nothing passes ----------------------------------------------------------------------------------------------

add(
    "Equal Greater GreaterOrEqual Less LessOrEqual And Or Xor Not IsNaN IsInf BitwiseAnd BitwiseOr BitwiseXor "
    "BitwiseNot RandomNormalLike RandomUniformLike Hardmax Bernoulli",
    Operator(Kind.NONE, carries=(), axes=axis_rules.aligned),
)
add("ArgMax ArgMin", Operator(Kind.NONE, carries=(), axes=axis_rules.chosen_along))
add("Multinomial", Operator(Kind.NONE, carries=(), axes=axis_rules.batch_only))


def _shape(node: Node, graph: Graph) -> Callable[[Array], Array] | None:
    return None if node.attributes else lambda x: np.array(x.shape, np.int64)


add("Shape", Operator(Kind.NONE, carries=(), axes=axis_rules.unknown, evaluation=of_any(_shape)))
add(
    "Size NonZero ConstantOfShape EyeLike RandomNormal RandomUniform Unique Range",
    Operator(Kind.NONE, carries=(), axes=axis_rules.unknown),
)
