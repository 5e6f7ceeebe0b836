# SPDX-License-Identifier: Apache-2.0
"""The functions of the array API that make arrays and change shapes, on traced arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lstm_explain.tracing.arrays import Traced
from lstm_explain.tracing.conversions import Conversions, sizes_in_example
from lstm_explain.tracing.extents import Extent, Shape


class ShapeFunctions(Conversions):
    """An array that is known to be zero stays known as such."""

    # --- new arrays --------------------------------------------------------------------------------------------------

    def zeros(self, shape: Any, dtype: Any = None) -> Traced:
        shape = shape if isinstance(shape, tuple) else tuple(shape) if isinstance(shape, list) else (shape,)
        dtype = np.dtype(np.float64 if dtype is None else dtype)
        values = tuple(np.zeros(sizes_in_example(shape, k), dtype) for k in range(self.trace.examples))
        return Traced(self.trace, values, None, shape)

    def full(self, shape: Any, value: Any, dtype: Any = None) -> Traced:
        shape = shape if isinstance(shape, tuple) else (shape,)
        one = self.traced(value, dtype) if isinstance(value, Traced) else self.trace.constant(np.asarray(value, dtype))
        return self.broadcast_to(one, shape)

    def ones(self, shape: Any, dtype: Any = None) -> Traced:
        return self.full(shape, 1, np.float64 if dtype is None else dtype)

    def zeros_like(self, x: Any, dtype: Any = None) -> Traced:
        return self.zeros(self.traced(x).shape, dtype=self.traced(x).dtype if dtype is None else dtype)

    def full_like(self, x: Any, value: Any, dtype: Any = None) -> Traced:
        x = self.traced(x)
        return self.full(x.shape, value, x.dtype if dtype is None else dtype)

    def ones_like(self, x: Any, dtype: Any = None) -> Traced:
        return self.full_like(x, 1, dtype)

    def arange(self, start: Any, stop: Any = None, step: int = 1, dtype: Any = None) -> Traced:
        start, stop = (0, start) if stop is None else (start, stop)
        dtype = np.dtype(np.int64 if dtype is None else dtype)
        ends = [self.traced(v, np.int64) for v in (start, stop, step)]
        numbers = self.trace.apply("Range", ends, lambda a, b, c: np.arange(int(a), int(b), int(c)))
        return self.astype(numbers, dtype)

    # --- shapes ------------------------------------------------------------------------------------------------------

    def reshape(self, x: Any, shape: Any) -> Traced:
        x = self.traced(x)
        shape = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
        if x.shape == shape:
            return x
        if x.zeros is not None:
            return self.zeros(self._without_minus(x, shape), dtype=x.dtype)
        concrete = [sizes_in_example(shape, k) for k in range(self.trace.examples)]
        if x.is_constant and len(set(concrete)) == 1:
            return self.trace.constant(x.values[0].reshape(concrete[0]))
        symbolic = [i for i, size in enumerate(shape) if isinstance(size, Extent)]
        target = shape
        if -1 not in shape and len(symbolic) == 1:  # the one extent that varies follows from the others
            target = tuple(-1 if i == symbolic[0] else size for i, size in enumerate(shape))
        values = tuple(v.reshape(s) for v, s in zip(x.values, concrete, strict=True))
        (name,) = self.trace.writer.node("Reshape", [x.name, self.trace.sizes(target).name])
        return Traced(self.trace, values, name)

    def _without_minus(self, x: Traced, shape: Shape) -> Shape:
        if -1 not in shape:
            return shape
        rest: Any = 1
        for size in shape:
            rest = rest if isinstance(size, int) and size == -1 else rest * size
        total = x.size
        return tuple(total // rest if isinstance(size, int) and size == -1 else size for size in shape)

    def permute_dims(self, x: Any, axes: Any) -> Traced:
        x, axes = self.traced(x), [a % self.traced(x).ndim for a in axes]
        if axes == sorted(axes):
            return x
        if x.zeros is not None:
            return self.zeros(tuple(x.zeros[a] for a in axes), dtype=x.dtype)
        return self.trace.apply("Transpose", [x], lambda a: np.transpose(a, axes), {"perm": axes})

    def moveaxis(self, x: Any, source: int, destination: int) -> Traced:
        x = self.traced(x)
        order = [a for a in range(x.ndim) if a != source % x.ndim]
        order.insert(destination % x.ndim, source % x.ndim)
        return self.permute_dims(x, order)

    def expand_dims(self, x: Any, axis: Any = 0) -> Traced:
        x = self.traced(x)
        axes = [axis] if isinstance(axis, int) else list(axis)
        axes = sorted(a % (x.ndim + len(axes)) for a in axes)
        if x.zeros is not None:
            shape = list(x.zeros)
            for a in axes:
                shape.insert(a, 1)
            return self.zeros(tuple(shape), dtype=x.dtype)
        at = self.trace.constant(np.array(axes, np.int64))
        return self.trace.apply("Unsqueeze", [x, at], lambda a, _: np.expand_dims(a, tuple(axes)))

    def squeeze(self, x: Any, axis: Any) -> Traced:
        x = self.traced(x)
        axes = sorted(a % x.ndim for a in ([axis] if isinstance(axis, int) else axis))
        if x.zeros is not None:
            return self.zeros(tuple(n for i, n in enumerate(x.zeros) if i not in axes), dtype=x.dtype)
        at = self.trace.constant(np.array(axes, np.int64))
        return self.trace.apply("Squeeze", [x, at], lambda a, _: np.squeeze(a, tuple(axes)))

    def broadcast_to(self, x: Any, shape: Any) -> Traced:
        x, shape = self.traced(x), tuple(shape)
        if x.shape == shape:
            return x
        if x.zeros is not None:
            return self.zeros(shape, dtype=x.dtype)
        target = self.trace.sizes(shape)
        values = tuple(np.broadcast_to(v, sizes_in_example(shape, k)) for k, v in enumerate(x.values))
        if x.is_constant and target.is_constant:
            return self.trace.constant(values[0])
        if x.is_constant and not x.values[0].any() and x.dtype.kind == "f":
            return self.zeros(shape, dtype=x.dtype)
        (name,) = self.trace.writer.node("Expand", [x.name, target.name])
        return Traced(self.trace, values, name)

    def concat(self, arrays: Sequence[Any], axis: int = 0) -> Traced:
        parts = self.alike(*arrays)
        axis = axis % parts[0].ndim
        parts = [p for p in parts if any(v.shape[axis] for v in p.values)] or parts[:1]
        if all(p.zeros is not None for p in parts):
            total: Any = 0
            for p in parts:
                total = total + p.shape[axis]
            first = parts[0].shape
            return self.zeros((*first[:axis], total, *first[axis + 1 :]), dtype=parts[0].dtype)
        if len(parts) == 1:
            return parts[0]
        return self.trace.apply("Concat", parts, lambda *a: np.concatenate(a, axis), {"axis": axis})

    def stack(self, arrays: Sequence[Any], axis: int = 0) -> Traced:
        return self.concat([self.expand_dims(a, axis=axis) for a in arrays], axis=axis)

    def flip(self, x: Any, axis: Any = None) -> Traced:
        x = self.traced(x)
        axes = range(x.ndim) if axis is None else [axis] if isinstance(axis, int) else axis
        index = [slice(None)] * x.ndim
        for a in axes:
            index[a] = slice(None, None, -1)
        return x[tuple(index)]

    def repeat(self, x: Any, count: int, axis: int) -> Traced:
        x = self.traced(x)
        axis = axis % x.ndim
        shape = x.shape
        wide = self.broadcast_to(self.expand_dims(x, axis=axis + 1), (*shape[: axis + 1], count, *shape[axis + 1 :]))
        return self.reshape(wide, (*shape[:axis], shape[axis] * count, *shape[axis + 1 :]))
