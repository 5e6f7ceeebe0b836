# SPDX-License-Identifier: Apache-2.0
"""Arrays on the wire equal bytes that are written here independently."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from lstm_explain_client.errors import InvalidRequest, MalformedResponse
from lstm_explain_client.tensors import as_array, from_wire, to_wire
from lstm_explain_proto.lstm_explain.v1 import tensor_pb2

# dtype, its wire code, the elements, their struct format
FIXED = [
    ("float32", tensor_pb2.DATA_TYPE_FLOAT32, [0.0, -1.5, 3.25e38, float("inf"), 1e-45, -0.0], "<6f"),
    ("float64", tensor_pb2.DATA_TYPE_FLOAT64, [0.1, -1e300, 5e-324, 2.0, -0.0, 7.0], "<6d"),
    ("float16", tensor_pb2.DATA_TYPE_FLOAT16, [0.5, -65504.0, 6e-8, 1.0, -2.0, 0.0], "<6e"),
    ("int32", tensor_pb2.DATA_TYPE_INT32, [0, -1, 2**31 - 1, -(2**31), 7, 8], "<6i"),
    ("int64", tensor_pb2.DATA_TYPE_INT64, [0, -1, 2**63 - 1, -(2**63), 7, 8], "<6q"),
    ("bool", tensor_pb2.DATA_TYPE_BOOL, [True, False, False, True, True, False], "<6?"),
]


@pytest.mark.parametrize(("dtype", "code", "elements", "layout"), FIXED, ids=[f[0] for f in FIXED])
def test_bytes_of_every_type(dtype, code, elements, layout):
    array = np.array(elements, dtype=dtype).reshape(2, 3)
    tensor = to_wire(array, "x")
    assert (tensor.name, tensor.dtype, list(tensor.shape)) == ("x", code, [2, 3])
    assert tensor.data == struct.pack(layout, *elements)
    back = from_wire(tensor)
    assert back.dtype == np.dtype(dtype)
    assert back.tobytes() == array.tobytes()
    back[0, 0] = 1  # its own copy


def test_text():
    tensor = to_wire(as_array([["a", "", "żółw"], ["🐢", "b\0", "\n"]], "x"))
    packed = b"".join(struct.pack("<I", len(t.encode())) + t.encode() for t in ("a", "", "żółw", "🐢", "b\0", "\n"))
    assert (tensor.dtype, list(tensor.shape), tensor.data) == (tensor_pb2.DATA_TYPE_STRING, [2, 3], packed)
    assert from_wire(tensor).tolist() == [["a", "", "żółw"], ["🐢", "b\0", "\n"]]


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=">f4").reshape(2, 3),
        np.arange(12, dtype=np.float32).reshape(2, 6)[:, ::2],
        np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    ],
    ids=["big-endian", "strided", "column-major"],
)
def test_memory_layout_does_not_matter(array):
    tensor = to_wire(as_array(array, "x"))
    assert tensor.data == struct.pack("<6f", *(float(v) for row in array.tolist() for v in row))


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1, 1, 1)])
def test_scalars_and_empty_arrays(shape):
    assert from_wire(to_wire(np.zeros(shape, np.int64))).shape == shape


@pytest.mark.parametrize(
    ("value", "dtype", "shape"),
    [
        ([[1, 2], [3, 4]], "int64", (2, 2)),
        ([[1, 2.5]], "float32", (1, 2)),
        ([True, False], "bool", (2,)),
        (3.0, "float32", ()),
        ([np.zeros(2), np.ones(2)], "float64", (2, 2)),
        (np.zeros(3), "float64", (3,)),
        (np.float64(2), "float64", ()),
        ([np.int32(1)], "int32", (1,)),
        ("a text", "object", (1,)),
        (np.array(["a", "b"]), "object", (2,)),
    ],
)
def test_python_types_become_the_usual_types(value, dtype, shape):
    array = as_array(value, "inputs.x")
    assert (array.dtype, array.shape) == (np.dtype(dtype), shape)


@pytest.mark.parametrize(
    "value",
    [
        [[1, 2], [3]],
        np.zeros(2, complex),
        np.zeros(2, np.uint8),
        ["a", 1],
        [None],
        b"raw",
        [2**70],
        "\ud800",
        object(),
        np.array(["2020-01-01"], "M8[D]"),
    ],
)
def test_values_without_a_type_on_the_wire_are_refused(value):
    with pytest.raises(InvalidRequest) as caught:
        as_array(value, "inputs.x")
    assert caught.value.field == "inputs.x"
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    "broken",
    [
        {"dtype": 1, "shape": [2], "data": b"1234"},
        {"dtype": 1, "shape": [-1], "data": b""},
        {"dtype": 1, "shape": [1], "data": b"12345"},
        {"dtype": 0, "shape": [0], "data": b""},
        {"dtype": 99, "shape": [1], "data": b"1234"},
        {"dtype": 7, "shape": [1], "data": b"\x05\0\0\0abc"},
        {"dtype": 7, "shape": [2], "data": b"\x01\0\0\0a"},
        {"dtype": 7, "shape": [1], "data": b"\x01\0\0\0a\0"},
        {"dtype": 7, "shape": [1], "data": b"\x01\0\0\0\xff"},
    ],
)
def test_damaged_tensors_are_reported(broken):
    with pytest.raises(MalformedResponse):
        from_wire(tensor_pb2.Tensor(**broken))
