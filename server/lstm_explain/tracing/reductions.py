# SPDX-License-Identifier: Apache-2.0
"""The functions of the array API that sum, multiply and sort, on traced arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstm_explain.tracing.arrays import Traced
from lstm_explain.tracing.conversions import broadcast
from lstm_explain.tracing.extents import Extent, UntraceableError
from lstm_explain.tracing.shape_functions import ShapeFunctions

MOST_FACTORS = 64


class Reductions(ShapeFunctions):
    """Each is one node, or a few."""

    def matmul(self, x: Any, y: Any) -> Traced:
        x, y = self.alike(x, y)
        if x.zeros is not None or y.zeros is not None:
            if x.ndim < 2 or y.ndim < 2:
                return self.trace.apply("MatMul", [x, y], np.matmul)
            batch = broadcast(x.shape[:-2], y.shape[:-2])
            return self.zeros((*batch, x.shape[-2], y.shape[-1]), dtype=x.dtype)
        if x.widened or y.widened:
            return self._matmul_of_casts(x, y)
        return self.trace.apply("MatMul", [x, y], np.matmul)

    def _matmul_of_casts(self, x: Traced, y: Traced) -> Traced:
        """ONNX Runtime (1.32) ends the process where it fuses Transpose, Cast to float64 and MatMul; a node in between
        prevents that.
        """
        if x.ndim > 1 and y.ndim == 2 and not y.widened:
            rows = self.reshape(self.expand_dims(x, axis=0), (-1, x.shape[-1]))
            return self.reshape(self.trace.apply("MatMul", [rows, y], np.matmul), (*x.shape[:-1], y.shape[-1]))
        left, right = "ik" if x.ndim > 1 else "k", "kj" if y.ndim > 1 else "k"
        out = left.replace("k", "") + right.replace("k", "")
        dots = "..." if x.ndim > 2 or y.ndim > 2 else ""
        return self.einsum(f"{dots}{left},{dots}{right}->{dots}{out}", x, y)

    def einsum(self, equation: str, *operands: Any) -> Traced:
        arrays = self.alike(*operands)
        return self.trace.apply("Einsum", arrays, lambda *a: np.einsum(equation, *a), {"equation": equation})

    def _reduce(self, op: str, function: Any, x: Any, axis: Any, keepdims: bool) -> Traced:
        x = self.traced(x)
        axes = tuple(range(x.ndim)) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
        axes = tuple(sorted(a % x.ndim for a in axes))
        if not axes:
            return x
        if x.zeros is not None and op == "ReduceSum":
            shape = tuple(1 if i in axes else n for i, n in enumerate(x.zeros) if keepdims or i not in axes)
            return self.zeros(shape, dtype=x.dtype)
        at = self.trace.constant(np.array(axes, np.int64))
        return self.trace.apply(
            op, [x, at], lambda a, _: function(a, axis=axes, keepdims=keepdims), {"keepdims": int(keepdims)},
            dtype=x.dtype,
        )  # fmt: skip

    def sum(self, x: Any, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Traced:
        return self._reduce("ReduceSum", np.sum, x if dtype is None else self.astype(x, dtype), axis, keepdims)

    def mean(self, x: Any, axis: Any = None, keepdims: bool = False) -> Traced:
        return self._reduce("ReduceMean", np.mean, x, axis, keepdims)

    def max(self, x: Any, axis: Any = None, keepdims: bool = False) -> Traced:
        return self._reduce("ReduceMax", np.max, x, axis, keepdims)

    def min(self, x: Any, axis: Any = None, keepdims: bool = False) -> Traced:
        return self._reduce("ReduceMin", np.min, x, axis, keepdims)

    def prod(self, x: Any, axis: Any = None, keepdims: bool = False) -> Traced:
        return self._reduce("ReduceProd", np.prod, x, axis, keepdims)

    def _arg(self, op: str, function: Any, x: Any, axis: int, keepdims: bool) -> Traced:
        x = self.traced(x)
        return self.trace.apply(
            op, [x], lambda a: function(a, axis=axis, keepdims=keepdims), {"axis": axis, "keepdims": int(keepdims)}
        )

    def argmax(self, x: Any, axis: int, keepdims: bool = False) -> Traced:
        return self._arg("ArgMax", np.argmax, x, axis, keepdims)

    def argmin(self, x: Any, axis: int, keepdims: bool = False) -> Traced:
        return self._arg("ArgMin", np.argmin, x, axis, keepdims)

    def argsort(self, x: Any, axis: int = -1, descending: bool = False, stable: bool = True) -> Traced:
        """TopK puts the earlier of two equal elements first, so the order is stable."""
        x = self.traced(x)
        count = x.shape[axis % x.ndim]
        k = count.traced if isinstance(count, Extent) else self.trace.constant(np.array([count], np.int64))
        values = tuple(np.argsort(-v if descending else v, axis=axis, kind="stable").astype(np.int64) for v in x.values)
        _, indices = self.trace.writer.node(
            "TopK", [x.name, k.name], {"axis": axis, "largest": int(descending), "sorted": 1}, 2
        )
        return Traced(self.trace, values, indices)

    def cumulative_sum(
        self, x: Any, axis: int | None = None, dtype: Any = None, include_initial: bool = False
    ) -> Traced:
        x = self.traced(x) if dtype is None else self.astype(x, dtype)
        along = 0 if axis is None else axis
        at = self.trace.constant(np.array(along, np.int64))
        if x.dtype.kind not in "f" and x.dtype not in (self.int32, self.int64):
            x = self.astype(x, self.int64)
        return self.trace.apply("CumSum", [x, at], lambda a, _: np.cumsum(a, axis=along), dtype=x.dtype)

    def cumulative_prod(self, x: Any, axis: int, include_initial: bool = False) -> Traced:
        """ONNX has no such operator: one product per element, for axes of a known and small extent."""
        x = self.traced(x)
        axis, count = axis % x.ndim, x.shape[axis]
        if isinstance(count, Extent) or count > MOST_FACTORS:
            raise UntraceableError(f"its rule multiplies along an axis that has no fixed extent up to {MOST_FACTORS}")
        before = (slice(None),) * axis
        parts = [self.ones_like(x[(*before, slice(0, 1))])]
        for i in range(count):
            parts.append(parts[-1] * x[(*before, slice(i, i + 1))])
        return self.concat(parts if include_initial else parts[1:], axis=axis)
