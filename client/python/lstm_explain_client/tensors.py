# SPDX-License-Identifier: Apache-2.0
"""Converts arrays to tensors of the wire and back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain_client.errors import InvalidRequest, MalformedResponse
from lstm_explain_proto.lstm_explain.v1 import tensor_pb2

Array = npt.NDArray[Any]

# The wire's element types that have a fixed width, by the little-endian NumPy type of their bytes.
_FIXED: dict[int, np.dtype[Any]] = {
    tensor_pb2.DATA_TYPE_FLOAT32: np.dtype("<f4"),
    tensor_pb2.DATA_TYPE_FLOAT64: np.dtype("<f8"),
    tensor_pb2.DATA_TYPE_FLOAT16: np.dtype("<f2"),
    tensor_pb2.DATA_TYPE_INT32: np.dtype("<i4"),
    tensor_pb2.DATA_TYPE_INT64: np.dtype("<i8"),
    tensor_pb2.DATA_TYPE_BOOL: np.dtype("?"),
}
_CODES: dict[np.dtype[Any], int] = {dtype.newbyteorder("="): code for code, dtype in _FIXED.items()}

NAMES: dict[int, str] = {
    **{code: dtype.name for code, dtype in _FIXED.items()},
    tensor_pb2.DATA_TYPE_STRING: "string",
    tensor_pb2.DATA_TYPE_UNSPECIFIED: "unspecified",
}


def as_array(value: Any, field: str) -> Array:
    """Convert an ndarray, nested lists, a number, a str or a list of str to an array that can be sent.

    An ndarray keeps its type. Python numbers become float32 if any of them is a float, else int64 or bool. A str
    becomes a batch of one, shape [1]. Raises InvalidRequest, with `field`, for values that have no type on the wire.
    """
    if isinstance(value, str):
        return _text_array(np.array([value], dtype=object), field)
    plain = isinstance(value, (list, tuple, int, float))
    array = _plain_array(value, field) if plain else np.asarray(value)
    if array.dtype.kind in "OUT":
        return _text_array(array, field)
    if array.dtype.newbyteorder("=") not in _CODES:
        raise InvalidRequest(f"{field} is of type {array.dtype}; expected one of {', '.join(_wanted())}", field=field)
    return array


def _plain_array(value: Any, field: str) -> Array:
    """Converts nested lists to the usual types of models, float32 and int64. ndarrays inside keep their types."""
    try:
        array: Array = np.asarray(value)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(f"{field} is not a full array: {error}", field=field) from error
    if array.dtype.kind == "U":
        return np.asarray(value, dtype=object)  # shows a number among the words, and keeps trailing NULs
    if _holds_ndarray(value):
        return array
    usual = {"f": np.float32, "i": np.int64}.get(array.dtype.kind)
    return array.astype(usual) if usual else array


def _holds_ndarray(value: Any) -> bool:
    while isinstance(value, (list, tuple)) and value:
        value = value[0]
    return isinstance(value, (np.ndarray, np.generic))


def _text_array(array: Array, field: str) -> Array:
    text = array.astype(object)
    for item in text.flat:
        if not isinstance(item, str):
            raise InvalidRequest(f"{field} has an element of type {type(item).__name__}; expected str", field=field)
        if any("\ud800" <= character <= "\udfff" for character in item):
            raise InvalidRequest(f"{field} has text that UTF-8 cannot hold (a lone surrogate)", field=field)
    return text


def _wanted() -> list[str]:
    return [*(dtype.name for dtype in _CODES), "string"]


def to_wire(array: Array, name: str = "") -> tensor_pb2.Tensor:
    """Returns the tensor called `name`. `array` is of a type that `as_array` returns; its strides and byte order may be
    any.
    """
    shape = [int(extent) for extent in array.shape]
    if array.dtype == object:
        return tensor_pb2.Tensor(name=name, dtype=tensor_pb2.DATA_TYPE_STRING, shape=shape, data=_pack(array))
    native = array.dtype.newbyteorder("=")
    code = _CODES[native]
    data = np.ascontiguousarray(array, dtype=_FIXED[code]).tobytes()
    return tensor_pb2.Tensor(name=name, dtype=tensor_pb2.DataType.Name(code), shape=shape, data=data)


def from_wire(tensor: tensor_pb2.Tensor) -> Array:
    """Returns a copy of the tensor as an array; text becomes an array of Python str (dtype object).

    Raises MalformedResponse where type, shape and data do not agree.
    """
    shape = tuple(tensor.shape)
    if any(extent < 0 for extent in shape):
        raise MalformedResponse(f"tensor {tensor.name!r} has the shape {shape}")
    if tensor.dtype == tensor_pb2.DATA_TYPE_STRING:
        return _unpack(tensor, shape)
    dtype = _FIXED.get(tensor.dtype)
    if dtype is None:
        raise MalformedResponse(f"tensor {tensor.name!r} has the unknown type {tensor.dtype}")
    wanted = math.prod(shape) * dtype.itemsize
    if len(tensor.data) != wanted:
        raise MalformedResponse(f"tensor {tensor.name!r} has {len(tensor.data)} bytes instead of {wanted}")
    return np.frombuffer(tensor.data, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _pack(array: Array) -> bytes:
    """Each element is a 4-byte little-endian length followed by that number of bytes of UTF-8."""
    encoded = (item.encode() for item in array.flat)
    return b"".join(len(item).to_bytes(4, "little") + item for item in encoded)


def _unpack(tensor: tensor_pb2.Tensor, shape: tuple[int, ...]) -> Array:
    data, at, items = tensor.data, 0, []
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        if end > len(data):
            break
        items.append(data[at + 4 : end])
        at = end
    if at != len(data) or len(items) != math.prod(shape):
        raise MalformedResponse(f"text tensor {tensor.name!r} of shape {shape} has damaged data")
    array = np.empty(len(items), dtype=object)
    try:
        array[:] = [item.decode() for item in items]
    except UnicodeDecodeError as error:
        raise MalformedResponse(f"text tensor {tensor.name!r} is not UTF-8: {error}") from error
    return array.reshape(shape)
