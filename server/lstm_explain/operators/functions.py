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

    def vjp(context: NodeContext, slot: int, g: Array) -> Array:
        return g * derivative(context)

    add(names, Operator(Kind.ACTIVATION, vjp, traits, carries=(0,), reads=(reads,), lrp_reads=(), **more))  # type: ignore[arg-type]


def _sigmoid(x: Array) -> Array:
    return 0.5 * (1 + np.tanh(0.5 * x))


def _erf_derivative(x: Array) -> Array:
    return (2 / math.sqrt(math.pi)) * np.exp(-x * x)


def _normal_cdf(x: Array) -> Array:
    return (0.5 * (1 + np.vectorize(math.erf, otypes=[np.float64])(x / math.sqrt(2)))).astype(x.dtype)


def _gelu(s: NodeContext) -> Array:
    x = s.x(0)
    if s.attribute("approximate", "none") == "tanh" or s.node.op == "com.microsoft::FastGelu":
        k = math.sqrt(2 / math.pi)
        t = np.tanh(k * (x + 0.044715 * x**3))
        return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * k * (1 + 3 * 0.044715 * x * x)
    return _normal_cdf(x) + x * np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def _selu(s: NodeContext) -> Array:
    alpha, gamma = s.attribute("alpha", 1.67326319217681884765625), s.attribute("gamma", 1.05070102214813232421875)
    x = s.x(0)
    return gamma * np.where(x > 0, 1, alpha * np.exp(np.minimum(x, 0)))


def _hard_sigmoid(s: NodeContext) -> Array:
    slope, offset = s.attribute("alpha", 0.2), s.attribute("beta", 0.5)
    inner = slope * s.x(0) + offset
    return slope * ((inner > 0) & (inner < 1))


def _hard_swish(s: NodeContext) -> Array:
    x = s.x(0)
    return np.where(x <= -3, 0, np.where(x >= 3, 1, x / 3 + 0.5)).astype(x.dtype)


def _mish(s: NodeContext) -> Array:
    x = s.x(0)
    t = np.tanh(np.logaddexp(0, x))
    return t + x * (1 - t * t) * _sigmoid(x)


def _swish(s: NodeContext) -> Array:
    x, alpha = s.x(0), s.attribute("alpha", 1.702 if s.node.op == "com.microsoft::QuickGelu" else 1.0)
    g = _sigmoid(alpha * x)
    return g + alpha * x * g * (1 - g)


def _clip(s: NodeContext) -> Array:
    low = s.x(1) if s.has(1) else s.attribute("min", -np.inf)
    high = s.x(2) if s.has(2) else s.attribute("max", np.inf)
    x = s.x(0)
    return ((x >= low) & (x <= high)).astype(x.dtype)


def _shrink(s: NodeContext) -> Array:
    return (np.abs(s.x(0)) > s.attribute("lambd", 0.5)).astype(s.x(0).dtype)


_GATE = Trait.ELEMENTWISE | Trait.GATE
_function("Tanh", lambda s: 1 - s.y() ** 2, "y")
_function("Sigmoid", lambda s: s.y() * (1 - s.y()), "y", _GATE, before="logit")
_function("Relu", lambda s: (s.x(0) > 0).astype(s.x(0).dtype), "x")
_function("LeakyRelu", lambda s: np.where(s.x(0) >= 0, 1, s.attribute("alpha", 0.01)), "x")
_function("ThresholdedRelu", lambda s: (s.x(0) > s.attribute("alpha", 1.0)).astype(s.x(0).dtype), "x")
_function("Elu", lambda s: np.where(s.x(0) > 0, 1, s.attribute("alpha", 1.0) * np.exp(np.minimum(s.x(0), 0))), "x")
_function("Celu", lambda s: np.exp(np.minimum(s.x(0), 0) / s.attribute("alpha", 1.0)), "x")
_function("Selu", _selu, "x")
_function("HardSigmoid", _hard_sigmoid, "x", _GATE)
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
_function("Clip", _clip, "x", Trait.ELEMENTWISE | Trait.ADJUSTS)
_function("Shrink", _shrink, "x")
_function("Floor Ceil Round", lambda s: np.zeros_like(s.x(0)), "x")
_SIGN = of_integers(lambda node, graph: np.sign)
_function("Sign", lambda s: np.zeros_like(s.x(0)), "x", evaluation=_SIGN)


def _prelu(s: NodeContext, slot: int, g: Array) -> Array:
    x = s.x(0)
    return np.where(x >= 0, g, s.x(1) * g)


add("PRelu", Operator(Kind.ACTIVATION, _prelu, Trait.ELEMENTWISE, carries=(0,), reads=("x", "others"), lrp_reads=()))

# --- softmax: not element by element, yet each score keeps the relevance of its weight ---------------------------


def _softmax_axes(s: NodeContext, ndim: int) -> tuple[int, ...]:
    """Before opset 13, all axes from `axis` on are normalised together."""
    if s.node.opset >= 13:
        return (s.attribute("axis", -1) % ndim,)
    return tuple(range(s.attribute("axis", 1) % ndim if ndim else 0, ndim))


def _softmax(s: NodeContext, slot: int, g: Array) -> Array:
    y = s.y()
    return y * (g - (g * y).sum(axis=_softmax_axes(s, y.ndim), keepdims=True))


def _log_softmax(s: NodeContext, slot: int, g: Array) -> Array:
    y = s.y()
    return g - np.exp(y) * g.sum(axis=_softmax_axes(s, y.ndim), keepdims=True)


_SCORES = {
    "reads": ("y",),
    "lrp_reads": (),
    "layout": aligned,
    "axes": axis_rules.aligned,
    "note": "each score keeps the relevance of its weight",
}
add("Softmax", Operator(Kind.ACTIVATION, _softmax, Trait.GATE, before="logit", **_SCORES))  # type: ignore[arg-type]
add("LogSoftmax", Operator(Kind.ACTIVATION, _log_softmax, before="score", **_SCORES))  # type: ignore[arg-type]
