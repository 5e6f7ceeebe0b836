"""Functions of one operand: activations and the like, and Softmax."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.operators import axis_rules
from lstm_explain.operators.numpy_evaluation import of_integers
from lstm_explain.operators.operator import Kind, NodeContext, Operator, Trait, add, aligned

# --- functions of one operand: name, derivative ------------------------------------------------------------------


def _function(
    names: str,
    derivative: Callable[[NodeContext], Array],
    reads: str,
    traits: Trait = Trait.ELEMENTWISE,
    **more: object,
) -> None:
    """A function of its first operand; `derivative` gives dy/dx element by element."""

    def vjp(ctx: NodeContext, slot: int, g: Array) -> Array:
        return g * derivative(ctx)

    add(names, Operator(Kind.ACTIVATION, vjp, traits, differentiable=(0,), saved=(reads,), lrp_saved=(), **more))  # type: ignore[arg-type]


def _sigmoid(x: Array) -> Array:
    return 0.5 * (1 + np.tanh(0.5 * x))


def _erf_derivative(x: Array) -> Array:
    return (2 / math.sqrt(math.pi)) * np.exp(-x * x)


def _normal_cdf(x: Array) -> Array:
    return (0.5 * (1 + np.vectorize(math.erf, otypes=[np.float64])(x / math.sqrt(2)))).astype(x.dtype)


def _gelu(ctx: NodeContext) -> Array:
    x = ctx.x(0)
    if ctx.attribute("approximate", "none") == "tanh" or ctx.node.op == "com.microsoft::FastGelu":
        k = math.sqrt(2 / math.pi)
        t = np.tanh(k * (x + 0.044715 * x**3))
        return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * k * (1 + 3 * 0.044715 * x * x)
    return _normal_cdf(x) + x * np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def _selu(ctx: NodeContext) -> Array:
    alpha, gamma = ctx.attribute("alpha", 1.67326319217681884765625), ctx.attribute("gamma", 1.05070102214813232421875)
    x = ctx.x(0)
    return gamma * np.where(x > 0, 1, alpha * np.exp(np.minimum(x, 0)))


def _hard_sigmoid(ctx: NodeContext) -> Array:
    slope, offset = ctx.attribute("alpha", 0.2), ctx.attribute("beta", 0.5)
    inner = slope * ctx.x(0) + offset
    return slope * ((inner > 0) & (inner < 1))


def _hard_swish(ctx: NodeContext) -> Array:
    x = ctx.x(0)
    return np.where(x <= -3, 0, np.where(x >= 3, 1, x / 3 + 0.5)).astype(x.dtype)


def _mish(ctx: NodeContext) -> Array:
    x = ctx.x(0)
    t = np.tanh(np.logaddexp(0, x))
    return t + x * (1 - t * t) * _sigmoid(x)


def _swish(ctx: NodeContext) -> Array:
    x, alpha = ctx.x(0), ctx.attribute("alpha", 1.702 if ctx.node.op == "com.microsoft::QuickGelu" else 1.0)
    g = _sigmoid(alpha * x)
    return g + alpha * x * g * (1 - g)


def _clip(ctx: NodeContext) -> Array:
    low = ctx.x(1) if ctx.has(1) else ctx.attribute("min", -np.inf)
    high = ctx.x(2) if ctx.has(2) else ctx.attribute("max", np.inf)
    x = ctx.x(0)
    return ((x >= low) & (x <= high)).astype(x.dtype)


def _shrink(ctx: NodeContext) -> Array:
    return (np.abs(ctx.x(0)) > ctx.attribute("lambd", 0.5)).astype(ctx.x(0).dtype)


_GATE = Trait.ELEMENTWISE | Trait.GATE
_function("Tanh", lambda ctx: 1 - ctx.y() ** 2, "y")
_function("Sigmoid", lambda ctx: ctx.y() * (1 - ctx.y()), "y", _GATE, pre_activation="logit")
_function("Relu", lambda ctx: (ctx.x(0) > 0).astype(ctx.x(0).dtype), "x")
_function("LeakyRelu", lambda ctx: np.where(ctx.x(0) >= 0, 1, ctx.attribute("alpha", 0.01)), "x")
_function("ThresholdedRelu", lambda ctx: (ctx.x(0) > ctx.attribute("alpha", 1.0)).astype(ctx.x(0).dtype), "x")
_function(
    "Elu", lambda ctx: np.where(ctx.x(0) > 0, 1, ctx.attribute("alpha", 1.0) * np.exp(np.minimum(ctx.x(0), 0))), "x"
)
_function("Celu", lambda ctx: np.exp(np.minimum(ctx.x(0), 0) / ctx.attribute("alpha", 1.0)), "x")
_function("Selu", _selu, "x")
_function("HardSigmoid", _hard_sigmoid, "x", _GATE)
_function("HardSwish", _hard_swish, "x")
_function("Softplus", lambda ctx: _sigmoid(ctx.x(0)), "x")
_function("Softsign", lambda ctx: (1 + np.abs(ctx.x(0))) ** -2, "x")
_function("Gelu com.microsoft::Gelu com.microsoft::FastGelu", _gelu, "x")
_function("Mish", _mish, "x")
_function("Swish com.microsoft::QuickGelu", _swish, "x")
_function("Erf", lambda ctx: _erf_derivative(ctx.x(0)), "x")
_function("Exp", lambda ctx: ctx.y(), "y")
_function("Log", lambda ctx: 1 / ctx.x(0), "x")
_function("Sqrt", lambda ctx: 0.5 / ctx.y(), "y")
_function("Reciprocal", lambda ctx: -(ctx.y() ** 2), "y")
_function("Abs", lambda ctx: np.sign(ctx.x(0)), "x")
_function("Sin", lambda ctx: np.cos(ctx.x(0)), "x")
_function("Cos", lambda ctx: -np.sin(ctx.x(0)), "x")
_function("Tan", lambda ctx: 1 + ctx.y() ** 2, "y")
_function("Sinh", lambda ctx: np.cosh(ctx.x(0)), "x")
_function("Cosh", lambda ctx: np.sinh(ctx.x(0)), "x")
_function("Asinh", lambda ctx: (1 + ctx.x(0) ** 2) ** -0.5, "x")
_function("Acosh", lambda ctx: (ctx.x(0) ** 2 - 1) ** -0.5, "x")
_function("Atanh", lambda ctx: 1 / (1 - ctx.x(0) ** 2), "x")
_function("Asin", lambda ctx: (1 - ctx.x(0) ** 2) ** -0.5, "x")
_function("Acos", lambda ctx: -((1 - ctx.x(0) ** 2) ** -0.5), "x")
_function("Atan", lambda ctx: 1 / (1 + ctx.x(0) ** 2), "x")
_function("Clip", _clip, "x", Trait.ELEMENTWISE | Trait.ADJUSTS)
_function("Shrink", _shrink, "x")
_function("Floor Ceil Round", lambda ctx: np.zeros_like(ctx.x(0)), "x")
_SIGN = of_integers(lambda node, graph: np.sign)
_function("Sign", lambda ctx: np.zeros_like(ctx.x(0)), "x", evaluation=_SIGN)


def _prelu(ctx: NodeContext, slot: int, g: Array) -> Array:
    x = ctx.x(0)
    return np.where(x >= 0, g, ctx.x(1) * g)


add(
    "PRelu",
    Operator(Kind.ACTIVATION, _prelu, Trait.ELEMENTWISE, differentiable=(0,), saved=("x", "others"), lrp_saved=()),
)

# --- softmax: not element by element, yet each score keeps the relevance of its weight ---------------------------


def _softmax_axes(ctx: NodeContext, ndim: int) -> tuple[int, ...]:
    """Before opset 13, all axes from `axis` on are normalised together."""
    if ctx.node.opset >= 13:
        return (ctx.attribute("axis", -1) % ndim,)
    return tuple(range(ctx.attribute("axis", 1) % ndim if ndim else 0, ndim))


def _softmax(ctx: NodeContext, slot: int, g: Array) -> Array:
    y = ctx.y()
    return y * (g - (g * y).sum(axis=_softmax_axes(ctx, y.ndim), keepdims=True))


def _log_softmax(ctx: NodeContext, slot: int, g: Array) -> Array:
    y = ctx.y()
    return g - np.exp(y) * g.sum(axis=_softmax_axes(ctx, y.ndim), keepdims=True)


_SCORES = {
    "saved": ("y",),
    "lrp_saved": (),
    "layout": aligned,
    "axes": axis_rules.aligned,
    "note": "each score keeps the relevance of its weight",
}
add("Softmax", Operator(Kind.ACTIVATION, _softmax, Trait.GATE, pre_activation="logit", **_SCORES))  # type: ignore[arg-type]
add("LogSoftmax", Operator(Kind.ACTIVATION, _log_softmax, pre_activation="score", **_SCORES))  # type: ignore[arg-type]
