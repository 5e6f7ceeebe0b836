"""Operators that work element by element, and their sums and products."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from lstm_explain.graph.ir import Array, Node
from lstm_explain.rules import origins
from lstm_explain.rules.op import Kind, Op, Site, add, unbroadcast

# --- functions of one operand: name, derivative ------------------------------------------------------------------


def _function(names: str, derivative: Callable[[Site], Array], reads: str, **more: object) -> None:
    """A function of its first operand; `derivative` gives dy/dx element by element."""

    def vjp(site: Site, slot: int, g: Array) -> Array:
        return g * derivative(site)

    add(names, Op(Kind.ACTIVATION, vjp, carries=(0,), reads=(reads,), lrp_reads=(), **more))  # type: ignore[arg-type]


def _sigmoid(x: Array) -> Array:
    return 0.5 * (1 + np.tanh(0.5 * x))


def _erf_derivative(x: Array) -> Array:
    return (2 / math.sqrt(math.pi)) * np.exp(-x * x)


def _normal_cdf(x: Array) -> Array:
    return (0.5 * (1 + np.vectorize(math.erf, otypes=[np.float64])(x / math.sqrt(2)))).astype(x.dtype)


def _gelu(s: Site) -> Array:
    x = s.x(0)
    if s.attribute("approximate", "none") == "tanh" or s.node.op == "com.microsoft::FastGelu":
        k = math.sqrt(2 / math.pi)
        t = np.tanh(k * (x + 0.044715 * x**3))
        return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * k * (1 + 3 * 0.044715 * x * x)
    return _normal_cdf(x) + x * np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def _selu(s: Site) -> Array:
    alpha, gamma = s.attribute("alpha", 1.67326319217681884765625), s.attribute("gamma", 1.05070102214813232421875)
    x = s.x(0)
    return gamma * np.where(x > 0, 1, alpha * np.exp(np.minimum(x, 0)))


def _hard_sigmoid(s: Site) -> Array:
    slope, offset = s.attribute("alpha", 0.2), s.attribute("beta", 0.5)
    inner = slope * s.x(0) + offset
    return slope * ((inner > 0) & (inner < 1))


def _hard_swish(s: Site) -> Array:
    x = s.x(0)
    return np.where(x <= -3, 0, np.where(x >= 3, 1, x / 3 + 0.5)).astype(x.dtype)


def _mish(s: Site) -> Array:
    x = s.x(0)
    t = np.tanh(np.logaddexp(0, x))
    return t + x * (1 - t * t) * _sigmoid(x)


def _swish(s: Site) -> Array:
    x, alpha = s.x(0), s.attribute("alpha", 1.702 if s.node.op == "com.microsoft::QuickGelu" else 1.0)
    g = _sigmoid(alpha * x)
    return g + alpha * x * g * (1 - g)


def _clip(s: Site) -> Array:
    low = s.x(1) if s.has(1) else s.attribute("min", -np.inf)
    high = s.x(2) if s.has(2) else s.attribute("max", np.inf)
    x = s.x(0)
    return ((x >= low) & (x <= high)).astype(x.dtype)


def _shrink(s: Site) -> Array:
    return (np.abs(s.x(0)) > s.attribute("lambd", 0.5)).astype(s.x(0).dtype)


_function("Tanh", lambda s: 1 - s.y() ** 2, "y")
_function("Sigmoid", lambda s: s.y() * (1 - s.y()), "y")
_function("Relu", lambda s: (s.x(0) > 0).astype(s.x(0).dtype), "x")
_function("LeakyRelu", lambda s: np.where(s.x(0) >= 0, 1, s.attribute("alpha", 0.01)), "x")
_function("ThresholdedRelu", lambda s: (s.x(0) > s.attribute("alpha", 1.0)).astype(s.x(0).dtype), "x")
_function("Elu", lambda s: np.where(s.x(0) > 0, 1, s.attribute("alpha", 1.0) * np.exp(np.minimum(s.x(0), 0))), "x")
_function("Celu", lambda s: np.exp(np.minimum(s.x(0), 0) / s.attribute("alpha", 1.0)), "x")
_function("Selu", _selu, "x")
_function("HardSigmoid", _hard_sigmoid, "x")
_function("HardSwish", _hard_swish, "x")
_function("Softplus", lambda s: _sigmoid(s.x(0)), "x")
_function("Softsign", lambda s: (1 + np.abs(s.x(0))) ** -2, "x")
_function("Gelu com.microsoft::Gelu com.microsoft::FastGelu", _gelu, "x")
_function("Mish", _mish, "x")
_function("Swish com.microsoft::QuickGelu", _swish, "x")
_function("Erf", lambda s: _erf_derivative(s.x(0)), "x")
_function("Exp", lambda s: s.y(), "y")
_function("Log", lambda s: 1 / s.x(0), "x")
_function("Sqrt", lambda s: 0.5 / s.y(), "y")
_function("Reciprocal", lambda s: -(s.y() ** 2), "y")
_function("Abs", lambda s: np.sign(s.x(0)), "x")
_function("Sin", lambda s: np.cos(s.x(0)), "x")
_function("Cos", lambda s: -np.sin(s.x(0)), "x")
_function("Tan", lambda s: 1 + s.y() ** 2, "y")
_function("Sinh", lambda s: np.cosh(s.x(0)), "x")
_function("Cosh", lambda s: np.sinh(s.x(0)), "x")
_function("Asinh", lambda s: (1 + s.x(0) ** 2) ** -0.5, "x")
_function("Acosh", lambda s: (s.x(0) ** 2 - 1) ** -0.5, "x")
_function("Atanh", lambda s: 1 / (1 - s.x(0) ** 2), "x")
_function("Asin", lambda s: (1 - s.x(0) ** 2) ** -0.5, "x")
_function("Acos", lambda s: -((1 - s.x(0) ** 2) ** -0.5), "x")
_function("Atan", lambda s: 1 / (1 + s.x(0) ** 2), "x")
_function("Clip", _clip, "x")
_function("Shrink", _shrink, "x")
_function("Floor Ceil Round Sign", lambda s: np.zeros_like(s.x(0)), "x")


def _prelu(s: Site, slot: int, g: Array) -> Array:
    x = s.x(0)
    return np.where(x >= 0, g, s.x(1) * g)


add("PRelu", Op(Kind.ACTIVATION, _prelu, carries=(0,), reads=("x", "others"), lrp_reads=()))

# --- softmax: not element by element, yet each score keeps the relevance of its weight ---------------------------


def _softmax_axes(s: Site, ndim: int) -> tuple[int, ...]:
    """Before opset 13, all axes from `axis` on are normalised together."""
    if s.node.opset >= 13:
        return (s.attribute("axis", -1) % ndim,)
    return tuple(range(s.attribute("axis", 1) % ndim if ndim else 0, ndim))


def _softmax(s: Site, slot: int, g: Array) -> Array:
    y = s.y()
    return y * (g - (g * y).sum(axis=_softmax_axes(s, y.ndim), keepdims=True))


def _log_softmax(s: Site, slot: int, g: Array) -> Array:
    y = s.y()
    return g - np.exp(y) * g.sum(axis=_softmax_axes(s, y.ndim), keepdims=True)


_SCORES = "each score keeps the relevance of its weight"
add("Softmax", Op(Kind.ACTIVATION, _softmax, reads=("y",), lrp_reads=(), note=_SCORES))
add("LogSoftmax", Op(Kind.ACTIVATION, _log_softmax, reads=("y",), lrp_reads=(), note=_SCORES))

# --- sums --------------------------------------------------------------------------------------------------------


def _constant_terms(signs: Callable[[Site, int], float]) -> Callable[[Site], Array | None]:
    def bias(s: Site) -> Array | None:
        terms = [signs(s, i) * s.x(i) for i in range(len(s.node.inputs)) if i not in s.live]
        return sum(terms[1:], terms[0]) if terms else None

    return bias


def _sum(names: str, sign: Callable[[Site, int], float]) -> None:
    def vjp(s: Site, slot: int, g: Array) -> Array:
        factor = sign(s, slot)
        g = unbroadcast(g, s.shape(slot))
        return g if factor == 1 else g * factor

    def spread(s: Site, slot: int, amount: Array) -> Array:
        return unbroadcast(amount, s.shape(slot))

    reads = ("s", "constants")
    add(names, Op(Kind.SUM, vjp, reads=reads, bias=_constant_terms(sign), spread=spread))


_sum("Add Sum", lambda s, slot: 1.0)
_sum("Sub", lambda s, slot: -1.0 if slot == 1 else 1.0)
_sum("Mean", lambda s, slot: 1.0 / len(s.node.inputs))
_sum("Neg", lambda s, slot: -1.0)

# --- products ----------------------------------------------------------------------------------------------------


def _product_kind(node: Node, live: tuple[int, ...]) -> Kind:
    return Kind.PRODUCT if len(live) > 1 else Kind.SCALE


def _division_kind(node: Node, live: tuple[int, ...]) -> Kind:
    if len(live) > 1:
        return Kind.PRODUCT
    return Kind.SCALE if live == (0,) else Kind.ACTIVATION


def _mul(s: Site, slot: int, g: Array) -> Array:
    return unbroadcast(g * s.x(1 - slot), s.shape(slot))


def _div(s: Site, slot: int, g: Array) -> Array:
    if slot == 0:
        return unbroadcast(g / s.x(1), s.shape(0))
    return unbroadcast(-g * s.x(0) / s.x(1) ** 2, s.shape(1))


def _keep(s: Site, slot: int, amount: Array) -> Array:
    return unbroadcast(amount, s.shape(slot))


def _pow(s: Site, slot: int, g: Array) -> Array:
    x, exponent = s.x(0), s.x(1)
    if slot == 0:
        return unbroadcast(g * exponent * x ** (exponent - 1), s.shape(0)).astype(g.dtype)
    return unbroadcast(g * x**exponent * np.log(np.maximum(x, np.finfo(g.dtype).tiny)), s.shape(1)).astype(g.dtype)


def _pow_kind(node: Node, live: tuple[int, ...]) -> Kind:
    return Kind.PRODUCT if len(live) > 1 else Kind.ACTIVATION


add("Mul", Op(_product_kind, _mul, reads=("s", "others"), spread=_keep))
_QUOTIENT = {
    "reads": ("s", "x", "others"),
    "lrp_reads": ("s", "others"),
    "spread": _keep,
    "distribute": _keep,
    "gate": 1,
}
add("Div", Op(_division_kind, _div, **_QUOTIENT))  # type: ignore[arg-type]
add("Pow", Op(_pow_kind, _pow, reads=("x", "others"), lrp_reads=("s",), distribute=_keep))


def _mod(s: Site, slot: int, g: Array) -> Array:
    """a - b * whole part of a / b: rounded towards zero for fmod."""
    if slot == 0:
        return unbroadcast(g, s.shape(0))
    whole = (np.trunc if s.attribute("fmod", 0) else np.floor)(s.x(0) / s.x(1))
    return unbroadcast(-g * whole, s.shape(1))


add("Mod", Op(_division_kind, _mod, **_QUOTIENT))  # type: ignore[arg-type]
add("BitShift", Op(Kind.SCALE, carries=(0,), note="integers: as arithmetic on addresses"))

# --- rounding to few levels ----------------------------------------------------------------------------------------


def _levels(s: Site, per_level: Array) -> Array:
    """Steps by channel, on the axis that the attribute names."""
    if per_level.size == 1:
        return per_level.reshape(())
    rank = len(s.shape(0))
    return per_level.reshape([-1 if i == s.attribute("axis", 1) % rank else 1 for i in range(rank)])


def _quantize(s: Site, slot: int, g: Array) -> Array:
    """Straight through the rounding; nothing beyond the first and last level."""
    y = s.y()
    inside = (y > np.iinfo(y.dtype).min) & (y < np.iinfo(y.dtype).max)
    return np.where(inside, g / _levels(s, s.x(1)), 0).astype(g.dtype)


def _dequantize(s: Site, slot: int, g: Array) -> Array:
    return (g * _levels(s, s.x(1))).astype(g.dtype)


def _check_levels(node: Node) -> str:
    return "steps by block have no rule" if node.attribute("block_size", 0) else ""


_LEVELS = {"carries": (0,), "ignores": (1, 2), "reads": ("s", "others", "y"), "lrp_reads": (), "check": _check_levels}
_STRAIGHT = "gradients pass straight through the rounding; a scale that was measured is a constant of the forward pass"
add("QuantizeLinear", Op(Kind.ACTIVATION, _quantize, note=_STRAIGHT, **_LEVELS))  # type: ignore[arg-type]
add("DequantizeLinear", Op(Kind.ACTIVATION, _dequantize, **_LEVELS))  # type: ignore[arg-type]


def _dynamic_quantize(s: Site, slot: int, g: Array) -> Array:
    """The levels span the input's own range, and 0: a constant of the forward pass."""
    x = s.x(0)
    span = max(x.max(), 0) - min(x.min(), 0)
    return (g * (255 / span if span else 0)).astype(g.dtype)


add(
    "DynamicQuantizeLinear",
    Op(
        Kind.ACTIVATION,
        _dynamic_quantize,
        reads=("x",),
        lrp_reads=(),
        outputs=(0,),
        note=_STRAIGHT,
    ),
)

# --- choices -----------------------------------------------------------------------------------------------------


def _winner(s: Site, slot: int, g: Array) -> Array:
    """To the first operand that equals the result."""
    y = s.y()
    won = np.broadcast_to(s.x(slot), y.shape) == y
    for earlier in range(slot):
        won = won & (np.broadcast_to(s.x(earlier), y.shape) != y)
    return unbroadcast(np.where(won, g, np.zeros((), g.dtype)), s.shape(slot))


def _where(s: Site, slot: int, g: Array) -> Array:
    chosen = s.x(0) if slot == 1 else ~s.x(0)
    return unbroadcast(np.where(chosen, g, np.zeros((), g.dtype)), s.shape(slot))


add(
    "Max Min",
    Op(
        Kind.ROUTING,
        _winner,
        reads=("x", "others", "y", "s"),
        picks=True,
        axes=origins.aligned,
        note="the first winner",
    ),
)
add(
    "Where",
    Op(Kind.ROUTING, _where, carries=(1, 2), ignores=(0,), reads=("s", "steer0"), axes=origins.aligned),
)

# --- nothing passes ----------------------------------------------------------------------------------------------

add(
    "Equal Greater GreaterOrEqual Less LessOrEqual And Or Xor Not IsNaN IsInf BitwiseAnd BitwiseOr BitwiseXor "
    "BitwiseNot RandomNormalLike RandomUniformLike Hardmax Bernoulli",
    Op(Kind.NONE, carries=(), axes=origins.aligned),
)
add("ArgMax ArgMin", Op(Kind.NONE, carries=(), axes=origins.chosen_along))
add("Multinomial", Op(Kind.NONE, carries=(), axes=origins.batch_only))
add(
    "Shape Size NonZero ConstantOfShape EyeLike RandomNormal RandomUniform Unique Range",
    Op(Kind.NONE, carries=(), axes=origins.unknown),
)
