# SPDX-License-Identifier: Apache-2.0
"""Numbers, extents and NumPy's arrays as traced arrays, in one type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lstm_explain.tracing.arrays import Trace, Traced
from lstm_explain.tracing.extents import Extent, Shape

WIDE = np.dtype(np.float64)


class Conversions:
    """What the functions of the namespace do to their operands first, and its constants."""

    float32, float64 = np.dtype(np.float32), np.dtype(np.float64)
    int32, int64 = np.dtype(np.int32), np.dtype(np.int64)
    finfo, iinfo = staticmethod(np.finfo), staticmethod(np.iinfo)
    pi, inf, nan, newaxis = np.pi, np.inf, np.nan, None

    reshape: Callable[..., Traced]
    zeros: Callable[..., Traced]

    def __init__(self, trace: Trace) -> None:
        self.trace = trace

    def traced(self, value: Any, dtype: Any = None) -> Traced:
        """Returns a number, an extent or an array of NumPy as a traced array. dtype: of a scalar."""
        if isinstance(value, Traced):
            return self.astype(value, dtype) if value.weak and dtype is not None else value
        if isinstance(value, Extent):
            number = self.reshape(value.traced, ())
            return number if dtype is None else self.astype(number, dtype)
        if isinstance(value, (bool, int, float, np.bool_)) and dtype is not None:
            return self.trace.constant(np.asarray(value, np.bool_ if isinstance(value, (bool, np.bool_)) else dtype))
        return self.trace.constant(value)

    def asarray(self, value: Any, dtype: Any = None, copy: Any = None) -> Traced:
        array = self.traced(value, dtype)
        array = array if dtype is None else self.astype(array, dtype)
        return array.copy() if copy else array

    def astype(self, x: Any, dtype: Any, copy: Any = None) -> Traced:
        x, dtype = self.traced(x), np.dtype(dtype)
        if x.dtype == dtype and not x.weak:
            return x
        if x.zeros is not None:
            return self.zeros(x.zeros, dtype=dtype)
        with np.errstate(all="ignore"):
            made = self.trace.apply("Cast", [x], lambda a: a.astype(dtype), {"to": _onnx_type(dtype)})
        made.widened = dtype == WIDE
        return made

    def isdtype(self, dtype: Any, kind: Any) -> Any:
        return np.isdtype(dtype, kind)

    def alike(self, *values: Any) -> list[Traced]:
        """Returns the operands in one type."""
        strong = [v.dtype for v in values if isinstance(v, (Traced, np.ndarray, np.generic)) and not _weak(v)]
        dtype = np.result_type(*strong) if strong else None
        if dtype is not None and dtype.kind in "iub" and any(isinstance(v, float) for v in values):
            dtype = WIDE
        arrays = [self.traced(v, dtype) for v in values]
        wanted = np.result_type(*[a.dtype for a in arrays])
        return [self.astype(a, wanted) for a in arrays]


def broadcast(left: Shape, right: Shape) -> Shape:
    """Returns the shape of two arrays together."""
    width = max(len(left), len(right))
    pairs = zip((1,) * (width - len(left)) + tuple(left), (1,) * (width - len(right)) + tuple(right), strict=True)
    return tuple(b if isinstance(a, int) and a == 1 else a for a, b in pairs)


def sizes_in_example(shape: Sequence[Any], example: int) -> tuple[int, ...]:
    return tuple(size.sizes[example] if isinstance(size, Extent) else int(size) for size in shape)


def _onnx_type(dtype: np.dtype[Any]) -> int:
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(dtype))


def _weak(value: Any) -> bool:
    return isinstance(value, Traced) and value.weak
