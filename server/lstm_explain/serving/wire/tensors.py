# SPDX-License-Identifier: Apache-2.0
"""Converts tensors of lstm_explain.v1 to NumPy arrays and back, and holds what both protocols share for that."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain.errors import InputError, ModelError
from lstm_explain.model import TensorSpec
from lstm_explain_proto.lstm_explain.v1 import model_pb2, tensor_pb2

Array = npt.NDArray[Any]

DTYPES: dict[tensor_pb2.DataType, np.dtype[Any]] = {
    tensor_pb2.DATA_TYPE_FLOAT32: np.dtype("<f4"),
    tensor_pb2.DATA_TYPE_FLOAT64: np.dtype("<f8"),
    tensor_pb2.DATA_TYPE_FLOAT16: np.dtype("<f2"),
    tensor_pb2.DATA_TYPE_INT32: np.dtype("<i4"),
    tensor_pb2.DATA_TYPE_INT64: np.dtype("<i8"),
    tensor_pb2.DATA_TYPE_BOOL: np.dtype("?"),
}
_TYPES: dict[np.dtype[Any], tensor_pb2.DataType] = {dtype: number for number, dtype in DTYPES.items()}
WIDER = tuple(
    np.dtype(kind) for kind in ("<i4", "<i8", "<f4", "<f8")
)  # candidates to replace types that the messages lack
_MAX_AXES = 32
# More elements than any message can hold. NumPy refuses larger extents even where another one is 0.
_MAX_ELEMENTS = 2**40
_PREFIX = 4  # bytes of a length
_length = struct.Struct("<I").pack  # takes half as long as int.to_bytes
# Strings in one tensor: more than any limit on samples allows, and few enough to read in half a second.
_MAX_STRINGS = 2**20


def to_array(tensor: tensor_pb2.Tensor, field: str) -> Array:
    """Returns the tensor as a read-only array without a copy; a STRING tensor as an object array of str.

    Raises InputError with the path of the invalid field: `field` and `.dtype`, `.shape` or `.data`.
    """
    shape = checked_shape(tensor.name, tensor.shape, field)
    if tensor.dtype == tensor_pb2.DATA_TYPE_STRING:
        return decode_strings(tensor.data, shape, f"{field}.data")
    dtype = DTYPES.get(tensor.dtype)
    if dtype is None:
        raise InputError(f"tensor {tensor.name!r} has no known dtype (it is {tensor.dtype})", field=f"{field}.dtype")
    return decode_numbers(tensor.name, tensor.data, dtype, shape, f"{field}.data")


def decode_numbers(name: str, data: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], field: str) -> Array:
    """Returns row-major, little-endian bytes as a read-only array without a copy. Raises InputError with `field`."""
    expected = math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        raise InputError(
            f"tensor {name!r} of {dtype.name} and shape {list(shape)} takes {expected} bytes, got {len(data)}",
            field=field,
        )
    if dtype == np.bool_ and data.strip(b"\x00\x01"):
        raise InputError(f"tensor {name!r}: every byte of a BOOL tensor must be 0 or 1", field=field)
    return np.frombuffer(data, dtype).reshape(shape)


def to_arrays(tensors: Iterable[tensor_pb2.Tensor], field: str) -> dict[str, Array]:
    """Returns named tensors as arrays by name. field: the path of the repeated field. Raises InputError."""
    arrays: dict[str, Array] = {}
    for i, tensor in enumerate(tensors):
        if not tensor.name or tensor.name in arrays:
            problem = f"{tensor.name!r} is given twice" if tensor.name else "a tensor has no name"
            raise InputError(problem, field=f"{field}[{i}].name")
        arrays[tensor.name] = to_array(tensor, f"{field}[{i}]")
    return arrays


def carried(dtype: np.dtype[Any], types: Iterable[np.dtype[Any]]) -> np.dtype[Any] | None:
    """Returns the first of `types` that holds every value of a type that messages lack (int8, bfloat16); None if there
    is none.

    It is int64 for uint64: larger values are rare, and no type holds them.
    """
    if dtype == np.uint64:
        return np.dtype("<i8")
    return next((wider for wider in types if np.can_cast(dtype, wider, "safe")), None)


def widened(array: Array, types: Iterable[np.dtype[Any]], name: str) -> Array:
    """Returns the same values in the type that `carried` chooses. Raises ModelError if no message can hold them."""
    dtype = carried(array.dtype, types)
    if dtype is None or (array.dtype == np.uint64 and array.max(initial=0) > np.iinfo(np.int64).max):
        raise ModelError(f"{name!r} holds {array.dtype}, which no message can hold")
    return array.astype(dtype)


def to_tensor(array: Array, name: str = "") -> tensor_pb2.Tensor:
    """Returns the array as a tensor, in a wider type if messages lack its own. Raises ModelError if there is none."""
    return tensor_pb2.Tensor(**to_fields(array, name))


def to_fields(array: Array, name: str = "") -> dict[str, Any]:
    """Returns the fields of `to_tensor`. Building a nested message from fields takes half the time of copying one."""
    number = _TYPES.get(array.dtype)  # little-endian, the usual case
    if number is not None:
        data = array.tobytes()
    elif array.dtype == object:
        data, number = encode_strings(array), tensor_pb2.DATA_TYPE_STRING
    else:
        known = _little(array.dtype) in _TYPES
        array = array.astype(_little(array.dtype), copy=False) if known else widened(array, WIDER, name)
        data, number = array.tobytes(), _TYPES[array.dtype]
    return {"name": name, "dtype": number, "shape": array.shape, "data": data}


def _little(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype.newbyteorder("<")


def to_spec(name: str, spec: TensorSpec, *, sent: bool = False) -> model_pb2.TensorSpec:
    """Returns the description of an input or output. sent: for outputs, where a wider type replaces one that messages
    lack.
    """
    dimensions = [
        model_pb2.Dimension(symbol=extent) if isinstance(extent, str) else model_pb2.Dimension(size=extent)
        for extent in spec.shape
    ]
    own = _little(spec.dtype)
    dtype = carried(own, WIDER) if sent and own not in _TYPES else own
    number = tensor_pb2.DATA_TYPE_UNSPECIFIED if dtype is None else _TYPES.get(dtype, tensor_pb2.DATA_TYPE_UNSPECIFIED)
    return model_pb2.TensorSpec(name=name, dtype=number, shape=dimensions)


def checked_shape(name: str, extents: Iterable[int], field: str) -> tuple[int, ...]:
    """Returns the shape, if an array can have it. field: the path of the tensor. Raises InputError."""
    shape = tuple(extents)
    if len(shape) > _MAX_AXES:
        raise InputError(f"tensor {name!r} has {len(shape)} axes, more than {_MAX_AXES}", field=f"{field}.shape")
    if min(shape, default=0) < 0 or math.prod(max(extent, 1) for extent in shape) > _MAX_ELEMENTS:
        raise InputError(f"tensor {name!r} cannot have the shape {list(shape)}", field=f"{field}.shape")
    return shape


def checked_count(shape: tuple[int, ...], field: str) -> int:
    """Returns how many strings a tensor of this shape has. Raises InputError for too many."""
    count = math.prod(shape)
    if count > _MAX_STRINGS:
        raise InputError(f"{count} strings in one tensor, at most {_MAX_STRINGS} are allowed", field=field)
    return count


def encode_strings(array: Array) -> bytes:
    """Returns UTF-8, with the length of every string in front of it as 4 little-endian bytes."""
    parts: list[bytes] = []
    for text in array.ravel().tolist():
        encoded = str(text).encode()
        parts += (_length(len(encoded)), encoded)
    return b"".join(parts)


def decode_strings(data: bytes, shape: tuple[int, ...], field: str) -> Array:
    """Returns the inverse of `encode_strings`, as an object array of str. Raises InputError."""
    count, position = checked_count(shape, field), 0
    if count * _PREFIX > len(data):
        raise InputError(f"{count} strings take at least {count * _PREFIX} bytes, got {len(data)}", field=field)
    texts = np.empty(count, dtype=object)
    for i in range(count):
        end = position + _PREFIX + int.from_bytes(data[position : position + _PREFIX], "little")
        if position + _PREFIX > len(data) or end > len(data):
            raise InputError(f"string {i} extends past the end of the data", field=field)
        try:
            texts[i] = data[position + _PREFIX : end].decode()
        except UnicodeDecodeError as error:
            raise InputError(f"string {i} is not UTF-8: {error.reason}", field=field) from None
        position = end
    if position != len(data):
        raise InputError(f"{len(data) - position} bytes follow after {count} strings", field=field)
    return texts.reshape(shape)
