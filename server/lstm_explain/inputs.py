# SPDX-License-Identifier: Apache-2.0
"""Checks the arrays that a caller supplies against the inputs that the model declares."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain.errors import InputError, PrecisionWarning
from lstm_explain.kernels import reductions

Array = npt.NDArray[Any]
Inputs = Mapping[str, Array | str | list[str]]
# Texts [batch] to ids and tokens, both [batch, steps]. A method `word_numbers` may return the word of each token.
Tokenizer = Callable[[Array], tuple[Array, Array]]
ALIGNMENT = 16  # bytes; the alignment of malloc


@dataclass(frozen=True)
class TensorSpec:
    """An input or output: its NumPy dtype, and its shape with a str for each symbolic extent."""

    dtype: np.dtype[Any]
    shape: tuple[int | str, ...]


def described(specs: Mapping[str, TensorSpec]) -> str:
    """Returns names, types and shapes as text."""
    return ", ".join(f"{name} {spec.dtype} [{', '.join(map(str, spec.shape))}]" for name, spec in specs.items())


def with_ids(inputs: Inputs | Any, tokenizers: Mapping[str, Tokenizer]) -> tuple[Mapping[str, Array], dict[str, Array]]:
    """Returns the inputs with the ids of texts in their place, and the tokens of these texts by input. Raises
    InputError.
    """
    if type(inputs) is not dict and not isinstance(inputs, Mapping):
        problem = f"inputs is of type {type(inputs).__name__}, expected a dict from the name of an input to its array"
        raise InputError(problem, field="inputs")
    arrays: dict[str, Any] = dict(inputs)
    tokens: dict[str, Array] = {}
    for name, tokenizer in tokenizers.items():
        texts = _texts(arrays.get(name))
        if texts is not None:
            arrays[name], tokens[name] = tokenizer(texts)
    return arrays, tokens


def _texts(given: Any) -> Array | None:
    """Returns the texts as an array [batch]; None where these are no texts."""
    if isinstance(given, np.ndarray):
        given = given.tolist() if given.dtype.kind in "OU" else None
    given = [given] if isinstance(given, str) else given
    fits = isinstance(given, list) and given and all(isinstance(text, str) for text in given)
    return np.array(given, object) if fits else None


def word_numbers(inputs: Inputs, tokenizers: Mapping[str, Tokenizer]) -> dict[str, Array]:
    """Returns the number of the word of each token, -1 for padding, [batch, steps], by input that is given as text and
    whose tokenizer knows words.
    """
    found = {}
    for name, tokenizer in tokenizers.items():
        texts, number = _texts(inputs.get(name)), getattr(tokenizer, "word_numbers", None)
        if texts is not None and number is not None:
            found[name] = number(texts)
    return found


def check_inputs(
    specs: Mapping[str, TensorSpec], inputs: Mapping[str, npt.NDArray[Any]]
) -> dict[str, npt.NDArray[Any]]:
    """Returns the inputs as arrays of the declared name, dtype, rank and extents, finite and not empty.

    Floating-point numbers of another width are rounded to the declared type, and integers of another width are
    converted. Raises InputError, also where a conversion would overflow. Warns with PrecisionWarning of numbers that
    rounding changes by 0.5 or more.
    """
    if len(inputs) == len(specs):  # the usual case
        sound: dict[str, npt.NDArray[Any]] = {}
        for name, spec in specs.items():
            array = inputs.get(name)
            if (  # `_check` would return this array unchanged; this takes a fifth of the time
                type(array) is not np.ndarray
                or (dtype := array.dtype) != spec.dtype
                or dtype.char not in reductions.SOUND
                or not array.flags.c_contiguous
                or not array.size
                or not _fits(array.shape, spec.shape)
                or not reductions.sound(array.ravel(), ALIGNMENT)
            ):
                break
            sound[name] = array
        else:
            return sound
    for name in inputs:
        if name not in specs:
            raise InputError(f"no input {name!r}, the model has {', '.join(specs)}", field=f"inputs.{name}")
    for name in specs:
        if name not in inputs:
            raise InputError(f"input {name!r} is missing", field=f"inputs.{name}")
    return {name: _check(name, spec, inputs[name]) for name, spec in specs.items()}


def _check(name: str, spec: TensorSpec, value: npt.NDArray[Any]) -> npt.NDArray[Any]:
    field = f"inputs.{name}"
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputError(f"input {name!r} is not a rectangular array", field=field) from error
    if spec.dtype == object and array.dtype.kind == "U":  # ONNX's strings
        array = array.astype(object)
    if not _convertible(array.dtype, spec.dtype):
        raise InputError(f"input {name!r} has type {array.dtype}, expected {spec.dtype}", field=f"{field}.dtype")
    if not _fits(array.shape, spec.shape):
        expected = f"({', '.join(map(str, spec.shape))})"
        raise InputError(f"input {name!r} has shape {array.shape}, expected {expected}", field=f"{field}.shape")
    if array.size == 0:
        raise InputError(f"input {name!r} has shape {array.shape}: no axis may have length 0", field=f"{field}.shape")
    if array.dtype.kind == "f" and not _all_finite(array):
        position = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise InputError(f"input {name!r} is {array[position]} at {position}, expected finite numbers", field=field)
    return _normalised_layout(_converted(name, array, spec.dtype, field))


def _convertible(dtype: np.dtype[Any], expected: np.dtype[Any]) -> bool:
    """Returns whether the types are equal, or both floating point or both integers."""
    return dtype == expected or any(dtype.kind in kinds and expected.kind in kinds for kinds in ("f", "iu"))


def _converted(name: str, array: npt.NDArray[Any], dtype: np.dtype[Any], field: str) -> npt.NDArray[Any]:
    """Returns the array, which is finite, in a type that it is convertible to. Raises InputError where a number
    overflows.
    """
    if array.dtype == dtype:
        return array
    with np.errstate(over="ignore"):
        converted = array.astype(dtype)
    lost = ~np.isfinite(converted) if dtype.kind == "f" else converted != array
    if lost.any():
        position = tuple(int(i) for i in np.argwhere(lost)[0])
        problem = f"input {name!r} is {array[position]} at {position}, which {dtype} cannot represent"
        raise InputError(problem, field=f"{field}.data")
    if not np.can_cast(array.dtype, dtype) and dtype.kind == "f" and _loses_units(array, converted):
        warnings.warn(
            f"input {name!r} has {array.dtype} numbers that {dtype} rounds by 0.5 or more, such as dates in one"
            " number; if their last digits matter, subtract an offset first",
            PrecisionWarning,
            stacklevel=2,
        )
    return converted


def _loses_units(array: npt.NDArray[Any], converted: npt.NDArray[Any]) -> bool:
    """Returns whether rounding changes a number by 0.5 or more; smaller numbers have digits for their fractions."""
    first = 2.0 ** np.finfo(converted.dtype).nmant  # from here on neighbouring numbers are 1 or more apart
    large = np.abs(array) >= first
    return bool(large.any()) and bool((np.abs(array[large] - converted[large]) >= 0.5).any())


@lru_cache(maxsize=1024)
def _fits(shape: tuple[int, ...], expected: tuple[int | str, ...]) -> bool:
    if len(shape) != len(expected):
        return False
    for actual, extent in zip(shape, expected, strict=True):
        if actual != extent and isinstance(extent, int):
            return False
    return True


def _normalised_layout(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Returns the array in C order, with the alignment that an allocation would have.

    BLAS, ONNX Runtime and NumPy add in another order where the layout or the alignment differs, so an answer would
    depend on where the caller's array happens to lie.
    """
    array = np.ascontiguousarray(array) if array.ndim else array
    address = reductions.address(array.ravel()) if array.dtype.char in "fd" else array.__array_interface__["data"][0]
    return array if address % ALIGNMENT == 0 else array.copy()


def _all_finite(array: npt.NDArray[Any]) -> bool:
    if array.dtype.char not in "fd" or not array.dtype.isnative:
        return bool(np.isfinite(array).all())
    return bool(reductions.all_finite(array.ravel()))


def probe_inputs(specs: Mapping[str, TensorSpec], size: int = 3) -> dict[str, npt.NDArray[Any]]:
    """Returns arbitrary inputs that fit: `size` for every symbolic extent, small random numbers, and 1 for every
    integer.
    """
    rng = np.random.default_rng(0)
    probe: dict[str, npt.NDArray[Any]] = {}
    for name, spec in specs.items():
        shape = tuple(d if isinstance(d, int) else size for d in spec.shape)
        if spec.dtype.kind == "f":
            probe[name] = rng.standard_normal(shape).astype(spec.dtype)
        else:
            probe[name] = np.ones(shape).astype(spec.dtype)
    return probe
