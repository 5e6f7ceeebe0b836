# SPDX-License-Identifier: Apache-2.0
"""The functions of the Python array API that rules call, on arrays that are written down as ONNX nodes.

Every function is one or a few nodes, and the same function of NumPy, which computes what stands for the result in the
examples. Where all operands are constants, only the latter happens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lstm_explain.tracing.arrays import Trace, Traced
from lstm_explain.tracing.conversions import broadcast
from lstm_explain.tracing.extents import UntraceableError
from lstm_explain.tracing.index_functions import IndexFunctions
from lstm_explain.tracing.reductions import Reductions

UNARY = {
    "abs": "Abs", "sign": "Sign", "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "tanh": "Tanh", "floor": "Floor",
    "ceil": "Ceil", "sin": "Sin", "cos": "Cos", "tan": "Tan", "sinh": "Sinh", "cosh": "Cosh", "asin": "Asin",
    "acos": "Acos", "atan": "Atan", "isinf": "IsInf", "isnan": "IsNaN", "negative": "Neg", "bitwise_invert": "Not",
    "logical_not": "Not", "reciprocal": "Reciprocal",
}  # fmt: skip
KEEPS_ZERO = {"abs", "sign", "sqrt", "tanh", "floor", "ceil", "sin", "tan", "sinh", "asin", "atan", "negative"}
BINARY = {
    "add": "Add", "subtract": "Sub", "multiply": "Mul", "divide": "Div", "pow": "Pow", "maximum": "Max",
    "minimum": "Min", "remainder": "Mod", "equal": "Equal", "less": "Less", "less_equal": "LessOrEqual",
    "greater": "Greater", "greater_equal": "GreaterOrEqual", "bitwise_and": "And", "bitwise_or": "Or",
    "logical_and": "And", "logical_or": "Or",
}  # fmt: skip


class Namespace(Reductions, IndexFunctions):
    """Python scalars take the type of the array beside them, as in the standard.

    settle: replaces the formula of the epsilon rule; None where it is written down like any other.
    """

    settle: Callable[..., Any] | None = None

    def __init__(self, trace: Trace) -> None:
        super().__init__(trace)
        trace.namespace = self
        self.bool = np.dtype(np.bool_)
        for name, op in UNARY.items():
            setattr(self, name, self._unary(name, op))
        for name, op in BINARY.items():
            setattr(self, name, self._binary(name, op))

    def __getattr__(self, name: str) -> Any:
        raise UntraceableError(f"its rule calls {name}, which has no counterpart in ONNX here")

    # --- element by element ----------------------------------------------------------------------------------------

    def _unary(self, name: str, op: str) -> Callable[[Any], Traced]:
        function = getattr(np, name, None)

        def apply(x: Any) -> Traced:
            x = self.traced(x)
            if x.zeros is not None and name in KEEPS_ZERO:
                return x
            assert function is not None
            return self.trace.apply(op, [x], function)

        return apply

    def _binary(self, name: str, op: str) -> Callable[[Any, Any], Traced]:
        function = getattr(np, name)

        def apply(x: Any, y: Any) -> Traced:
            x, y = self.alike(x, y)
            shortcut = self._with_zeros(name, x, y)
            if shortcut is not None:
                return shortcut
            attributes = {"fmod": 0} if op == "Mod" else None
            return self.trace.apply(op, [x, y], function, attributes)

        return apply

    def _with_zeros(self, name: str, x: Traced, y: Traced) -> Traced | None:
        """Arithmetic with an array that is known to be zero; None where that does not make it simpler."""
        if x.zeros is None and y.zeros is None:
            return None
        shape = broadcast(x.shape, y.shape)
        if name == "multiply" or (name == "divide" and x.zeros is not None):
            return self.zeros(shape, dtype=x.dtype)
        if name in ("add", "subtract") and y.zeros is not None:
            return self.broadcast_to(x, shape)
        if name == "add" and x.zeros is not None:
            return self.broadcast_to(y, shape)
        return None

    def not_equal(self, x: Any, y: Any) -> Traced:
        return self.logical_not(self.equal(x, y))

    def floor_divide(self, x: Any, y: Any) -> Traced:
        """Of integers of equal sign, as extents are."""
        x, y = self.alike(x, y)
        return self.trace.apply("Div", [x, y], np.floor_divide)

    def trunc(self, x: Any) -> Traced:
        x = self.traced(x)
        return self.sign(x) * self.floor(self.abs(x))

    def logaddexp(self, x: Any, y: Any) -> Traced:
        return self.maximum(x, y) + self.log(1 + self.exp(-self.abs(x - y)))

    def square(self, x: Any) -> Traced:
        return x * x

    def isfinite(self, x: Any) -> Traced:
        return self.logical_not(self.logical_or(self.isinf(x), self.isnan(x)))

    def erf(self, x: Any) -> Traced:
        import math

        x = self.traced(x)
        return self.trace.apply("Erf", [x], lambda a: np.vectorize(math.erf, otypes=[a.dtype])(a))

    def where(self, condition: Any, x: Any, y: Any) -> Traced:
        condition = self.traced(condition)
        x, y = self.alike(x, y)
        if all(_is_zero(v) for v in (x, y)):
            return self.zeros(broadcast(broadcast(condition.shape, x.shape), y.shape), dtype=x.dtype)
        return self.trace.apply("Where", [condition, x, y], np.where)

    def clip(self, x: Any, low: Any = None, high: Any = None) -> Traced:
        x = x if low is None else self.maximum(x, low)
        return x if high is None else self.minimum(x, high)


def _is_zero(x: Traced) -> bool:
    return x.zeros is not None or (x.is_constant and x.ndim == 0 and x.dtype.kind == "f" and not x.values[0].any())
