# SPDX-License-Identifier: Apache-2.0
"""Reading and writing at indices, on traced arrays: functions of the array API, and those that it lacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.tracing.arrays import Traced
from lstm_explain.tracing.conversions import broadcast
from lstm_explain.tracing.extents import Shape
from lstm_explain.tracing.shape_functions import ShapeFunctions
from lstm_explain.tracing.slicing import read_at, write_at


class IndexFunctions(ShapeFunctions):
    """Indices are int64."""

    read_at, write_at = staticmethod(read_at), staticmethod(write_at)

    def take(self, x: Any, indices: Any, axis: int) -> Traced:
        x, indices = self.traced(x), self.astype(indices, np.int64)
        return self.trace.apply("Gather", [x, indices], lambda a, i: np.take(a, i, axis=axis), {"axis": axis})

    def take_along_axis(self, x: Any, indices: Any, axis: int) -> Traced:
        x, indices = self.traced(x), self.astype(indices, np.int64)
        return self.trace.apply(
            "GatherElements", [x, indices], lambda a, i: np.take_along_axis(a, i, axis=axis), {"axis": axis}
        )

    def scatter_add(self, x: Any, indices: Sequence[Any], values: Any) -> Traced:
        """x with `values` added at the positions whose leading axes have these indices, as often as each occurs."""
        return self._scattered(x, indices, values, "add")

    def scatter(self, x: Any, indices: Sequence[Any], values: Any) -> Traced:
        return self._scattered(x, indices, values, "none")

    def _scattered(self, x: Any, indices: Sequence[Any], values: Any, reduction: str) -> Traced:
        x = self.traced(x)
        rows, shape = self._rows(indices)
        count = len(indices)
        wanted = (*shape, *x.shape[count:])
        given = self.broadcast_to(self.astype(self.traced(values, x.dtype), x.dtype), wanted)

        def on_numpy(array: Array, at: Array, updates: Array) -> Array:
            out = array.copy()
            where = tuple(at[..., i] for i in range(count))
            if reduction == "add":
                np.add.at(out, where, updates)
            else:
                out[where] = updates
            return out

        return self.trace.apply("ScatterND", [x, rows, given], on_numpy, {"reduction": reduction})

    def gather_at(self, x: Any, indices: Sequence[Any]) -> Traced:
        rows, _ = self._rows(indices)
        count = len(indices)
        return self.trace.apply(
            "GatherND", [self.traced(x), rows], lambda a, at: a[tuple(at[..., i] for i in range(count))]
        )

    def _rows(self, indices: Sequence[Any]) -> tuple[Traced, Shape]:
        """Returns the indices along several axes as ONNX has them: [..., axes], and the shape of one of them."""
        arrays = [self.astype(i, np.int64) for i in indices]
        shape: Shape = ()
        for a in arrays:
            shape = broadcast(shape, a.shape)
        return self.stack([self.broadcast_to(a, shape) for a in arrays], axis=len(shape)), shape

    def _triangle(self, x: Any, k: int, upper: int) -> Traced:
        x, at = self.traced(x), self.trace.constant(np.array(k, np.int64))
        function = np.triu if upper else np.tril
        return self.trace.apply("Trilu", [x, at], lambda a, _: function(a, k=k), {"upper": upper})

    def triu(self, x: Any, k: int = 0) -> Traced:
        return self._triangle(x, k, 1)

    def tril(self, x: Any, k: int = 0) -> Traced:
        return self._triangle(x, k, 0)
