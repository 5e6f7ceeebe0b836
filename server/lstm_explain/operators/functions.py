# SPDX-License-Identifier: Apache-2.0
"""Functions of one operand: activations, other element-wise functions, and Softmax."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from lstm_explain.graph.ir import Array, Graph, Node
from lstm_explain.operators import axis_rules
from lstm_explain.operators.array_api import cast, erf, namespace, row_sums
from lstm_explain.operators.formulas import times
from lstm_explain.operators.numpy_evaluation import Evaluation, Function, of_any, of_floats, of_integers
from lstm_explain.operators.operator import Kind, NodeContext, Operator, Trait, add, aligned

# --- functions of one operand: name, derivative ------------------------------------------------------------------


Derivative = Callable[[Any, NodeContext], Array]


def _function(
    names: str,
    derivative: Derivative,
    saved: str,
    traits: Trait = Trait.ELEMENTWISE,
    **more: Any,
) -> None:
    """Add a function of the first operand. derivative: dy/dx element by element, from the namespace and the node."""

    def vjp(ctx: NodeContext, slot: int, g: Array) -> Array:
        return g * derivative(namespace(g), ctx)

    add(names, Operator(Kind.ACTIVATION, vjp, traits, differentiable=(0,), saved=(saved,), lrp_saved=(), **more))


def _indicator(xp: Any, condition: Array, x: Array) -> Array:
    """Returns 1 where the condition holds, in the type of x."""
    return xp.astype(xp.asarray(condition), x.dtype)


def _sigmoid(xp: Any, x: Array) -> Array:
    return 0.5 * (1 + xp.tanh(0.5 * x))


def _erf_derivative(xp: Any, x: Array) -> Array:
    return (2 / math.sqrt(math.pi)) * xp.exp(-x * x)


def _relu(xp: Any, ctx: NodeContext) -> Array:
    return _indicator(xp, ctx.x(0) > 0, ctx.x(0))


def _leaky_relu(xp: Any, ctx: NodeContext) -> Array:
    x = ctx.x(0)
    return xp.where(x >= 0, xp.ones_like(x), ctx.attribute("alpha", 0.01))


def _thresholded_relu(xp: Any, ctx: NodeContext) -> Array:
    return _indicator(xp, ctx.x(0) > ctx.attribute("alpha", 1.0), ctx.x(0))


def _elu(xp: Any, ctx: NodeContext) -> Array:
    x = ctx.x(0)
    return xp.where(x > 0, 1, ctx.attribute("alpha", 1.0) * xp.exp(xp.minimum(x, 0)))


def _celu(xp: Any, ctx: NodeContext) -> Array:
    return xp.exp(xp.minimum(ctx.x(0), 0) / ctx.attribute("alpha", 1.0))


def _selu(xp: Any, ctx: NodeContext) -> Array:
    alpha, gamma = ctx.attribute("alpha", 1.67326319217681884765625), ctx.attribute("gamma", 1.05070102214813232421875)
    x = ctx.x(0)
    return gamma * xp.where(x > 0, 1, alpha * xp.exp(xp.minimum(x, 0)))


def _gelu(xp: Any, ctx: NodeContext) -> Array:
    x = ctx.x(0)
    if ctx.attribute("approximate", "none") == "tanh" or ctx.node.op == "com.microsoft::FastGelu":
        k = math.sqrt(2 / math.pi)
        t = xp.tanh(k * (x + 0.044715 * x**3))
        return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * k * (1 + 3 * 0.044715 * x * x)
    normal_cdf = cast(0.5 * (1 + erf(x / math.sqrt(2))), x.dtype)
    return normal_cdf + x * xp.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def _hard_sigmoid(xp: Any, ctx: NodeContext) -> Array:
    slope, offset = ctx.attribute("alpha", 0.2), ctx.attribute("beta", 0.5)
    inner = slope * ctx.x(0) + offset
    return slope * _indicator(xp, (inner > 0) & (inner < 1), inner)


def _hard_swish(xp: Any, ctx: NodeContext) -> Array:
    x = ctx.x(0)
    return xp.where(x <= -3, 0, xp.where(x >= 3, 1, x / 3 + 0.5))


def _mish(xp: Any, ctx: NodeContext) -> Array:
    x = ctx.x(0)
    t = xp.tanh(xp.logaddexp(xp.zeros_like(x), x))
    return t + x * (1 - t * t) * _sigmoid(xp, x)


def _swish(xp: Any, ctx: NodeContext) -> Array:
    x, alpha = ctx.x(0), ctx.attribute("alpha", 1.702 if ctx.node.op == "com.microsoft::QuickGelu" else 1.0)
    g = _sigmoid(xp, alpha * x)
    return g + alpha * x * g * (1 - g)


def _clip(xp: Any, ctx: NodeContext) -> Array:
    low = ctx.x(1) if ctx.has(1) else ctx.attribute("min", -math.inf)
    high = ctx.x(2) if ctx.has(2) else ctx.attribute("max", math.inf)
    x = ctx.x(0)
    return _indicator(xp, (x >= low) & (x <= high), x)


def _shrink(xp: Any, ctx: NodeContext) -> Array:
    return _indicator(xp, xp.abs(ctx.x(0)) > ctx.attribute("lambd", 0.5), ctx.x(0))


def _zero(xp: Any, ctx: NodeContext) -> Array:
    return xp.zeros_like(ctx.x(0))


FIRST_ORDER = "within a graph: first-order share"
IN_LOG_SPACE = "in log space: first-order share"
_GATE = Trait.ELEMENTWISE | Trait.GATE
_EXPONENTIAL = Trait.ELEMENTWISE | Trait.EXPONENTIAL
_LOGARITHM = Trait.ELEMENTWISE | Trait.LOGARITHM
_function("Tanh", lambda xp, ctx: 1 - ctx.y() ** 2, "y", evaluation=of_floats(np.tanh))
_function(
    "Sigmoid",
    lambda xp, ctx: ctx.y() * (1 - ctx.y()),
    "y",
    _GATE,
    pre_activation="logit",
    evaluation=of_floats(lambda x: 1 / (1 + np.exp(-x))),
)
_function("Relu", _relu, "x", evaluation=of_floats(lambda x: np.maximum(x, 0)))
_function("LeakyRelu", _leaky_relu, "x")
_function("ThresholdedRelu", _thresholded_relu, "x")
_function("Elu", _elu, "x")
_function("Celu", _celu, "x")
_function("Selu", _selu, "x")
_function("HardSigmoid", _hard_sigmoid, "x", _GATE)
_function("HardSwish", _hard_swish, "x")
_function(
    "Softplus",
    lambda xp, ctx: _sigmoid(xp, ctx.x(0)),
    "x",
    _LOGARITHM | Trait.STEP_SIZE,
    pre_activation="score",
    note=IN_LOG_SPACE,
)
_function("Softsign", lambda xp, ctx: (1 + xp.abs(ctx.x(0))) ** -2, "x")
_function("Gelu com.microsoft::Gelu", _gelu, "x", numpy_only=("erf",))
_function("com.microsoft::FastGelu", _gelu, "x")
_function("Mish", _mish, "x")
_function("Swish com.microsoft::QuickGelu", _swish, "x")
_function("Erf", lambda xp, ctx: _erf_derivative(xp, ctx.x(0)), "x")
# At the end of an output, the exponent is explained: where it is negative, its shares of exp(z) have the wrong sign.
_function("Exp", lambda xp, ctx: ctx.y(), "y", _EXPONENTIAL, pre_activation="score", note=FIRST_ORDER)
_function("Log", lambda xp, ctx: 1 / ctx.x(0), "x", _LOGARITHM, note=IN_LOG_SPACE)
_function("Sqrt", lambda xp, ctx: 0.5 / ctx.y(), "y")
_function("Reciprocal", lambda xp, ctx: -(ctx.y() ** 2), "y")
_function("Abs", lambda xp, ctx: xp.sign(ctx.x(0)), "x", evaluation=of_any(lambda node, graph: np.abs))
_function("Sin", lambda xp, ctx: xp.cos(ctx.x(0)), "x")
_function("Cos", lambda xp, ctx: -xp.sin(ctx.x(0)), "x")
_function("Tan", lambda xp, ctx: 1 + ctx.y() ** 2, "y")
_function("Sinh", lambda xp, ctx: xp.cosh(ctx.x(0)), "x")
_function("Cosh", lambda xp, ctx: xp.sinh(ctx.x(0)), "x")
_function("Asinh", lambda xp, ctx: (1 + ctx.x(0) ** 2) ** -0.5, "x")
_function("Acosh", lambda xp, ctx: (ctx.x(0) ** 2 - 1) ** -0.5, "x")
_function("Atanh", lambda xp, ctx: 1 / (1 - ctx.x(0) ** 2), "x")
_function("Asin", lambda xp, ctx: (1 - ctx.x(0) ** 2) ** -0.5, "x")
_function("Acos", lambda xp, ctx: -((1 - ctx.x(0) ** 2) ** -0.5), "x")
_function("Atan", lambda xp, ctx: 1 / (1 + ctx.x(0) ** 2), "x")
_function("Clip", _clip, "x", Trait.ELEMENTWISE | Trait.ADJUSTS)
_function("Shrink", _shrink, "x")
_function("Floor Ceil Round", _zero, "x")
_function("Sign", _zero, "x", evaluation=of_integers(lambda node, graph: np.sign))


def _prelu(ctx: NodeContext, slot: int, g: Array) -> Array:
    return namespace(g).where(ctx.x(0) >= 0, g, ctx.x(1) * g)


add(
    "PRelu",
    Operator(Kind.ACTIVATION, _prelu, Trait.ELEMENTWISE, differentiable=(0,), saved=("x", "others"), lrp_saved=()),
)

# --- Softmax: not element-wise, but each score keeps the relevance of its weight ---------------------------------


def _softmax_axes(ctx: NodeContext, ndim: int) -> tuple[int, ...]:
    """Return the axes of a sum: before opset 13, all axes from `axis` on."""
    if ctx.node.opset >= 13:
        return (ctx.attribute("axis", -1) % ndim,)
    return tuple(range(ctx.attribute("axis", 1) % ndim if ndim else 0, ndim))


def _softmax(ctx: NodeContext, slot: int, g: Array) -> Array:
    y = ctx.y()
    return y * (g - namespace(g).sum(g * y, axis=_softmax_axes(ctx, y.ndim), keepdims=True))


def _softmax_relevance(ctx: NodeContext, slot: int, r: Array) -> Array:
    """Return x_i (R_i - y_i sum_j R_j): the first-order Taylor expansion at x, whose constant term keeps the rest
    (AttnLRP, Achtibat et al. 2024, arXiv 2402.05602, proposition 3.1).

    A weight of zero is masked and passes nothing: with a bias factor it has relevance, which a score of -1e9 would
    multiply.
    """
    x, y, xp = ctx.x(0), ctx.y(), namespace(r)
    r = xp.where(y == 0, 0, r)
    return times(r - y * row_sums(r, _softmax_axes(ctx, r.ndim)), x)


def _log_softmax(ctx: NodeContext, slot: int, g: Array) -> Array:
    y, xp = ctx.y(), namespace(g)
    return g - xp.exp(y) * xp.sum(g, axis=_softmax_axes(ctx, y.ndim), keepdims=True)


def _softmax_evaluation(finish: Callable[[Array, Array, Array], Array]) -> Evaluation:
    """finish: the result from the shifted scores, their exponentials and the sums of these."""

    def maker(node: Node, graph: Graph) -> Function | None:
        axis = node.attribute("axis", -1 if node.opset >= 13 else 1)
        if node.opset < 13 and graph.type_of(node.inputs[0]).rank != axis + 1:  # a sum over several axes
            return None

        def function(x: Array) -> Array:
            shifted = x - x.max(axis=axis, keepdims=True)
            weights = np.exp(shifted)
            return finish(shifted, weights, row_sums(weights, (axis % x.ndim,)))

        return function

    return Evaluation(maker)


_KEEPS = "each score keeps the relevance of its weight"
_SOFTMAX = Operator(
    Kind.ACTIVATION,
    _softmax,
    Trait.GATE,
    saved=("y",),
    lrp_saved=(),
    weights=_softmax_relevance,
    layout=aligned,
    axes=axis_rules.aligned,
    pre_activation="logit",
    evaluation=_softmax_evaluation(lambda shifted, weights, total: weights / total),
    note=f"{_KEEPS}, except in attention under the product rule `attn`",
)
add("Softmax", _SOFTMAX)
add(
    "LogSoftmax",
    replace(
        _SOFTMAX,
        vjp=_log_softmax,
        weights=None,
        traits=Trait.LOGARITHM,
        pre_activation="score",
        evaluation=_softmax_evaluation(lambda shifted, weights, total: shifted - np.log(total)),
        note=_KEEPS,
    ),
)
