# SPDX-License-Identifier: Apache-2.0
"""Outputs that cannot be returned are refused by name when a model is loaded."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import lstm_explain as lx


def beside_an_ordinary_one(node: onnx.NodeProto, output: onnx.ValueInfoProto, *more: onnx.NodeProto) -> onnx.ModelProto:
    ordinary = helper.make_tensor_value_info("z", TensorProto.FLOAT, [])
    nodes = [node, *more, helper.make_node("ReduceSum", ["x"], ["z"], keepdims=0)]
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", 3])]
    graph = helper.make_graph(nodes, "outputs", given, [ordinary, output])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def cast_to(kind: Any) -> onnx.ModelProto:
    return beside_an_ordinary_one(
        helper.make_node("Cast", ["x"], ["y"], to=kind), helper.make_tensor_value_info("y", kind, ["B", 3])
    )


@pytest.mark.parametrize("name", ["BFLOAT16", "INT4", "UINT4", "FLOAT8E5M2"])
def test_types_without_arrays(name: str) -> None:
    with pytest.raises(lx.ModelError, match=f"output 'y' holds {name.lower()}: outputs must be tensors of float16"):
        lx.load(cast_to(TensorProto.DataType.Value(name)))


@pytest.mark.parametrize("name", ["FLOAT8E4M3FN", "FLOAT16", "INT8", "UINT64", "BOOL", "STRING"])
def test_types_with_arrays_are_returned(name: str) -> None:
    model = lx.load(cast_to(TensorProto.DataType.Value(name)))
    assert model.predict({"x": np.ones((2, 3), np.float32)})["y"].shape == (2, 3)


def test_a_sequence() -> None:
    sequence = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    with pytest.raises(lx.ModelError, match="output 'y' is a sequence: outputs must be tensors"):
        lx.load(beside_an_ordinary_one(helper.make_node("SplitToSequence", ["x"], ["y"], axis=0), sequence))


def test_an_optional() -> None:
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, ["B", 3]))
    with pytest.raises(lx.ModelError, match="output 'y' is an optional: outputs must be tensors"):
        lx.load(beside_an_ordinary_one(helper.make_node("Optional", ["x"], ["y"]), helper.make_value_info("y", kind)))
