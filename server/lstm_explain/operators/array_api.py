"""The array namespace of a rule's operands, and functions that the Python array API lacks.

Rules call the functions of the Python array API standard (2024.12) on the namespace of their operands, so that a
namespace that records operations can trace a rule. Functions that the standard lacks are here: they run on NumPy arrays
only, and an operator whose rules call one of them names it in its entry (`numpy_only`).
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
    """A rule was called with arrays of another namespace than NumPy's. function: the key of `NUMPY_ONLY`."""

    def __init__(self, function: str) -> None:
        super().__init__(f"{function} runs on NumPy arrays only: {NUMPY_ONLY[function]}")
        self.function = function


def namespace(array: Array) -> Any:
    """Return the module with the functions for the array. NumPy's own look-up imports, which takes a microsecond."""
    return np if type(array) is np.ndarray else array.__array_namespace__()


def is_numpy(array: Array) -> bool:
    return isinstance(array, (np.ndarray, np.generic))


def cast(array: Array, dtype: Any) -> Array:
    """The array in another type, without a copy where the type is the same."""
    if array.dtype == dtype:
        return array
    xp = namespace(array)
    return xp.astype(xp.asarray(array), dtype, copy=False)


def pad_zeros(array: Array, axis: int, before: int, after: int) -> Array:
    """Add zeros before and after the elements of one axis."""
    xp = namespace(array)

    def zeros(count: int) -> Array:
        return xp.zeros((*array.shape[:axis], count, *array.shape[axis + 1 :]), dtype=array.dtype)

    return xp.concat([zeros(before), array, zeros(after)], axis=axis)


# --- NumPy only --------------------------------------------------------------------------------------------------


def _require_numpy(array: Array, function: str) -> None:
    if not is_numpy(array):
        raise NumPyOnlyError(function)


def scatter_add(array: Array, indices: Any, values: Array) -> None:
    """Add `values` in place at `indices`, as often as each of them occurs."""
    _require_numpy(values, "scatter_add")
    np.add.at(array, indices, values)


def gather_at(array: Array, indices: tuple[Array, ...]) -> Array:
    _require_numpy(array, "scatter")
    return array[indices]


def scatter(array: Array, indices: tuple[Array, ...], values: Array | float) -> None:
    """Write `values` in place at `indices`; of several at one place, the last stays."""
    _require_numpy(array, "scatter")
    array[indices] = values


def einsum(equation: str, *operands: Array, optimize: bool = False) -> Array:
    _require_numpy(operands[0], "einsum")
    return np.asarray(np.einsum(equation, *operands, optimize=optimize))


def erf(x: Array) -> Array:
    _require_numpy(x, "erf")
    return np.vectorize(math.erf, otypes=[np.float64])(x)
