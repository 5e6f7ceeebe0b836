# SPDX-License-Identifier: Apache-2.0
"""Converts tensors of the Open Inference Protocol, as raw bytes or as typed contents, to NumPy arrays and back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain.errors import InputError
from lstm_explain.model import TensorSpec
from lstm_explain.serving.wire.tensors import (
    carried,
    checked_count,
    checked_shape,
    decode_numbers,
    decode_strings,
    encode_strings,
    widened,
)
from lstm_explain_proto.inference import grpc_service_pb2 as pb

Array = npt.NDArray[Any]

BYTES = "BYTES"
# For each datatype, the type of its elements, and the field of its typed contents (FP16 has none).
_NUMBERS: dict[str, tuple[np.dtype[Any], str]] = {
    "BOOL": (np.dtype("?"), "bool_contents"),
    "INT8": (np.dtype("i1"), "int_contents"),
    "INT16": (np.dtype("<i2"), "int_contents"),
    "INT32": (np.dtype("<i4"), "int_contents"),
    "INT64": (np.dtype("<i8"), "int64_contents"),
    "UINT8": (np.dtype("u1"), "uint_contents"),
    "UINT16": (np.dtype("<u2"), "uint_contents"),
    "UINT32": (np.dtype("<u4"), "uint_contents"),
    "UINT64": (np.dtype("<u8"), "uint64_contents"),
    "FP16": (np.dtype("<f2"), ""),
    "FP32": (np.dtype("<f4"), "fp32_contents"),
    "FP64": (np.dtype("<f8"), "fp64_contents"),
}
WIDER = tuple(np.dtype(kind) for kind in ("i1", "u1", "<f4"))  # candidates to replace types that the protocol lacks
_DATATYPES = {dtype: name for name, (dtype, _) in _NUMBERS.items()}

CHUNK = 1 << 14  # numbers to convert while the interpreter is held, which takes a millisecond or two


def to_arrays(request: pb.ModelInferRequest) -> dict[str, Array]:
    """Returns the inputs by name; BYTES as an object array of str. Raises InputError."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InputError(f"got {len(raw)} raw contents for {len(request.inputs)} inputs", field="raw_input_contents")
    arrays: dict[str, Array] = {}
    for i, tensor in enumerate(request.inputs):
        field = f"inputs[{i}]"
        if not tensor.name or tensor.name in arrays:
            problem = f"{tensor.name!r} is given twice" if tensor.name else "an input has no name"
            raise InputError(problem, field=f"{field}.name")
        if "shared_memory_region" in tensor.parameters:
            raise InputError(f"input {tensor.name!r}: shared memory is not supported", field=f"{field}.parameters")
        shape = checked_shape(tensor.name, tensor.shape, field)
        if not raw:
            arrays[tensor.name] = _typed(tensor, shape, field)
        elif tensor.HasField("contents"):
            raise InputError(f"input {tensor.name!r} has both contents and raw contents", field=f"{field}.contents")
        else:
            arrays[tensor.name] = _raw(tensor, raw[i], shape, field, f"raw_input_contents[{i}]")
    return arrays


def add_outputs(response: pb.ModelInferResponse, arrays: Mapping[str, Array], *, raw: bool) -> None:
    """Adds the arrays as raw or as typed contents. Raises ModelError for unsupported types."""
    arrays = {name: a if datatype_of(a.dtype) else widened(a, WIDER, name) for name, a in arrays.items()}
    raw = raw or any(array.dtype == np.float16 for array in arrays.values())
    for name, array in arrays.items():
        datatype = datatype_of(array.dtype)
        output = response.outputs.add(name=name, datatype=datatype, shape=array.shape)
        if raw:
            response.raw_output_contents.append(_bytes(array))
        elif datatype == BYTES:
            output.contents.bytes_contents.extend(str(text).encode() for text in array.ravel())
        else:
            getattr(output.contents, _NUMBERS[datatype][1]).extend(array.ravel().tolist())


def to_metadata(
    specs: Mapping[str, TensorSpec], *, sent: bool = False
) -> list[pb.ModelMetadataResponse.TensorMetadata]:
    """sent: for outputs, where a wider type replaces one that the protocol lacks; else such a type has NumPy's name."""
    return [
        pb.ModelMetadataResponse.TensorMetadata(
            name=name,
            datatype=datatype_of(spec.dtype) or datatype_of(_carried(spec.dtype, sent=sent)) or spec.dtype.name.upper(),
            shape=[extent if isinstance(extent, int) else -1 for extent in spec.shape],
        )
        for name, spec in specs.items()
    ]


def datatype_of(dtype: np.dtype[Any]) -> str:
    """Returns the protocol's name of a type; empty if it has none."""
    return BYTES if dtype.kind == "O" else _DATATYPES.get(dtype.newbyteorder("<"), "")


def _carried(dtype: np.dtype[Any], *, sent: bool) -> np.dtype[Any]:
    return (carried(dtype, WIDER) or dtype) if sent else dtype


def _bytes(array: Array) -> bytes:
    if array.dtype == object:
        return encode_strings(array)
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _raw(
    tensor: pb.ModelInferRequest.InferInputTensor, data: bytes, shape: tuple[int, ...], field: str, place: str
) -> Array:
    if tensor.datatype == BYTES:
        return decode_strings(data, shape, place)
    return decode_numbers(tensor.name, data, _number(tensor, field)[0], shape, place)


def _typed(tensor: pb.ModelInferRequest.InferInputTensor, shape: tuple[int, ...], field: str) -> Array:
    place = f"{field}.contents"
    used = [f.name for f, _ in tensor.contents.ListFields()]
    dtype, expected = (np.dtype(object), "bytes_contents") if tensor.datatype == BYTES else _number(tensor, field)
    if not expected:
        raise InputError(f"input {tensor.name!r}: {tensor.datatype} can be sent as raw contents only", field=place)
    if used not in ([], [expected]):
        raise InputError(f"input {tensor.name!r} of {tensor.datatype} takes {expected}, got {used[0]}", field=place)
    elements: Sequence[Any] = getattr(tensor.contents, expected)
    if len(elements) != math.prod(shape):
        problem = f"of shape {list(shape)} takes {math.prod(shape)} elements, got {len(elements)}"
        raise InputError(f"input {tensor.name!r} {problem}", field=place)
    if dtype.kind == "O":
        checked_count(shape, place)
        return _texts(elements, place).reshape(shape)
    array = np.empty(len(elements), dtype)
    bounds: np.iinfo[Any] | None = np.iinfo(dtype) if dtype.kind in "iu" else None
    for start in range(0, len(elements), CHUNK):
        piece = elements[start : start + CHUNK]
        if bounds is not None and (min(piece) < bounds.min or max(piece) > bounds.max):
            raise InputError(f"input {tensor.name!r}: a number is outside the range of {tensor.datatype}", field=place)
        array[start : start + CHUNK] = piece
    return array.reshape(shape)


def _texts(elements: Iterable[bytes], field: str) -> Array:
    try:
        return np.array([element.decode() for element in elements], dtype=object)
    except UnicodeDecodeError as error:
        raise InputError(f"a text is not UTF-8: {error.reason}", field=field) from None


def _number(tensor: pb.ModelInferRequest.InferInputTensor, field: str) -> tuple[np.dtype[Any], str]:
    known = _NUMBERS.get(tensor.datatype)
    if known is None:
        known_names = ", ".join([*_NUMBERS, BYTES])
        raise InputError(
            f"input {tensor.name!r} has the unknown datatype {tensor.datatype!r}; known are {known_names}",
            field=f"{field}.datatype",
        )
    return known
