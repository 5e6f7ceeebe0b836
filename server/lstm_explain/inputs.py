"""Checks what a caller supplies against what the model declares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain.errors import InputError
from lstm_explain.kernels import reductions

ALIGNMENT = 16  # bytes, of what malloc gives


@dataclass(frozen=True)
class TensorSpec:
    """An input or output: NumPy dtype, and a shape with str for symbolic extents."""

    dtype: np.dtype[Any]
    shape: tuple[int | str, ...]


def check_inputs(
    specs: Mapping[str, TensorSpec], inputs: Mapping[str, npt.NDArray[Any]]
) -> dict[str, npt.NDArray[Any]]:
    """The inputs as arrays, each of the declared name, dtype, rank and extents, finite and not empty."""
    if len(inputs) == len(specs):  # the usual case
        sound: dict[str, npt.NDArray[Any]] = {}
        for name, spec in specs.items():
            array = inputs.get(name)
            if (  # `_check` would hand on this array as it is; this takes a fifth of the time
                type(array) is not np.ndarray
                or (dtype := array.dtype) != spec.dtype
                or dtype.char not in reductions.SOUND
                or not array.flags.c_contiguous
                or not array.size
                or not _fits(array.shape, spec.shape)
                or not reductions.sound(array.reshape(-1), ALIGNMENT)
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
    if array.dtype != spec.dtype:
        raise InputError(f"input {name!r} has type {array.dtype}, wanted {spec.dtype}", field=f"{field}.dtype")
    if not _fits(array.shape, spec.shape):
        wanted = f"({', '.join(map(str, spec.shape))})"
        raise InputError(f"input {name!r} has shape {array.shape}, wanted {wanted}", field=f"{field}.shape")
    if array.size == 0:
        raise InputError(f"input {name!r} has shape {array.shape}: an axis of length 0", field=f"{field}.shape")
    if array.dtype.kind == "f" and not _all_finite(array):
        position = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise InputError(f"input {name!r} is {array[position]} at {position}, wanted finite numbers", field=field)
    return _as_laid_out(array)


@lru_cache(maxsize=1024)
def _fits(shape: tuple[int, ...], wanted: tuple[int | str, ...]) -> bool:
    if len(shape) != len(wanted):
        return False
    for came, extent in zip(shape, wanted, strict=True):  # noqa: SIM110 - twice as fast as `all`
        if came != extent and isinstance(extent, int):
            return False
    return True


def _as_laid_out(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array row by row, beginning where an allocation could.

    BLAS, ONNX Runtime and NumPy add up in another order in other layouts, and where vectors of theirs begin elsewhere:
    an answer would depend on what its question happened to lie in.
    """
    array = np.ascontiguousarray(array) if array.ndim else array
    place = reductions.address(array.ravel()) if array.dtype.char in "fd" else array.__array_interface__["data"][0]
    return array if place % ALIGNMENT == 0 else array.copy()


def _all_finite(array: npt.NDArray[Any]) -> bool:
    if array.dtype.char not in "fd":
        return bool(np.isfinite(array).all())
    return bool(reductions.all_finite(array.ravel()))


def probe_inputs(specs: Mapping[str, TensorSpec], size: int = 3) -> dict[str, npt.NDArray[Any]]:
    """Inputs that fit, made up: `size` for every symbolic extent; small random numbers; integers all 1."""
    rng = np.random.default_rng(0)
    probe: dict[str, npt.NDArray[Any]] = {}
    for name, spec in specs.items():
        shape = tuple(d if isinstance(d, int) else size for d in spec.shape)
        if spec.dtype.kind == "f":
            probe[name] = rng.standard_normal(shape).astype(spec.dtype)
        else:
            probe[name] = np.ones(shape).astype(spec.dtype)
    return probe
