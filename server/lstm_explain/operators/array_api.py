# SPDX-License-Identifier: Apache-2.0
"""The array namespace of a rule's operands, and functions that the Python array API lacks.

Rules call the functions of the Python array API standard (2024.12) on the namespace of their operands, so that a
namespace that records operations (`tracing/namespace.py`) can trace a rule. Functions that the standard lacks are
here: they run on NumPy arrays, and on those of a namespace that has a function of the same name. An operator whose
rules call one of them names it in its entry (`numpy_only`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lstm_explain.graph.ir import Array

NUMPY_ONLY = {
    "scatter_add": "adds at indices that may repeat; the standard has no such function",
    "scatter": "reads and writes at integer indices along several axes; the standard has no such assignment",
    "einsum": "sums products over any axes; the standard has only matmul and tensordot",
    "erf": "the error function; the standard has none",
}


class NumPyOnlyError(TypeError):
    """A rule was called with arrays of a namespace that lacks what it needs. function: the key of `NUMPY_ONLY`."""

    def __init__(self, function: str) -> None:
        super().__init__(f"{function} is a function of NumPy: {NUMPY_ONLY[function]}")
        self.function = function


def namespace(array: Array) -> Any:
    """Return the module with the functions for the array. NumPy's own look-up imports, which takes a microsecond."""
    return np if type(array) is np.ndarray else array.__array_namespace__()


def is_numpy(array: Array) -> bool:
    return isinstance(array, (np.ndarray, np.generic))


def cast(array: Array, dtype: Any) -> Array:
    """Return the array in another type, without a copy where the type is the same."""
    if array.dtype == dtype:
        return array
    xp = namespace(array)
    return xp.astype(xp.asarray(array), dtype, copy=False)


def position(index: Any) -> Any:
    """Return the number in an index of rank 0, for use in a slice; a recording namespace may keep it symbolic."""
    return int(index) if is_numpy(index) or not hasattr(index, "as_extent") else index.as_extent()


def pad_zeros(array: Array, axis: int, before: int, after: int) -> Array:
    """Add zeros before and after the elements of one axis."""
    xp = namespace(array)

    def zeros(count: int) -> Array:
        return xp.zeros((*array.shape[:axis], count, *array.shape[axis + 1 :]), dtype=array.dtype)

    return xp.concat([zeros(before), array, zeros(after)], axis=axis)


def row_major(array: Array) -> Array:
    """Return the array in C order, for NumPy: the rounding of sums and products must not depend on whether an operator
    before them moved elements or returned a view.
    """
    return np.asarray(array, order="C") if is_numpy(array) else array


def row_sums(array: Array, axes: tuple[int, ...]) -> Array:
    """Sum over these axes, which are kept, so that the rounding of a sum does not depend on the other sums: NumPy adds
    in another order where the summed axis is the only one, as in a batch of one.
    """
    xp = namespace(array)
    if not is_numpy(array):
        return xp.sum(array, axis=axes, keepdims=True)
    kept = tuple(axis for axis in range(array.ndim) if axis not in axes)
    rows = np.ascontiguousarray(array.transpose(*kept, *axes)).reshape(-1, math.prod(array.shape[a] for a in axes))
    return rows.sum(axis=1).reshape(tuple(1 if axis in axes else n for axis, n in enumerate(array.shape)))


# --- functions that the standard lacks ------------------------------------------------------------------------------


def _of(array: Array, function: str, family: str = "") -> Any:
    """Return the function of a namespace that has it beside those of the standard. family: its key in `NUMPY_ONLY`, if
    that is another name. Raises NumPyOnlyError.
    """
    found = getattr(array.__array_namespace__(), function, None)
    if found is None:
        raise NumPyOnlyError(family or function)
    return found


def scatter_add(array: Array, indices: Any, values: Array) -> Array:
    """Return the array with `values` added at `indices`, as often as each of them occurs; NumPy's is changed in place.

    indices: one for each of the leading axes, as a tuple, or that of the first axis.
    """
    if is_numpy(values):
        np.add.at(array, indices, values)
        return array
    return _of(values, "scatter_add")(array, indices if isinstance(indices, tuple) else (indices,), values)


def gather_at(array: Array, indices: tuple[Array, ...]) -> Array:
    return array[indices] if is_numpy(array) else _of(array, "gather_at", "scatter")(array, indices)


def scatter(array: Array, indices: tuple[Array, ...], values: Array | float) -> Array:
    """Return the array with `values` at `indices`; of several at one place, the last stays. NumPy's is changed in
    place.
    """
    if is_numpy(array):
        array[indices] = values
        return array
    return _of(array, "scatter")(array, indices, values)


def einsum(equation: str, *operands: Array, optimize: bool = False) -> Array:
    if is_numpy(operands[0]):
        return np.asarray(np.einsum(equation, *operands, optimize=optimize))
    return _of(operands[0], "einsum")(equation, *operands)


def erf(x: Array) -> Array:
    return np.vectorize(math.erf, otypes=[np.float64])(x) if is_numpy(x) else _of(x, "erf")(x)
