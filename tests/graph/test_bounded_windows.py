# SPDX-License-Identifier: Apache-2.0
"""Windows whose size is an input: equal to ONNX Runtime up to a limit, and an immediate error beyond it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

import lstm_explain as lx
from lstm_explain.graph.bounded_windows import MAX_VALUES

WINDOWS = ["BlackmanWindow", "HammingWindow", "HannWindow"]


def scaled_by(op: str, kind: int = TensorProto.INT64, size: int | None = None) -> onnx.ModelProto:
    """y = x * the sum of a window of `size` values, or of n values, where n is an input."""
    mel = op == "MelWeightMatrix"
    given = [helper.make_tensor("rate", kind, [], [8000]), helper.make_tensor("lowest", 1, [], [10.0])]
    given.append(helper.make_tensor("highest", 1, [], [3000.0]))
    inputs = [helper.make_tensor_value_info("x", 1, ["B", 3])]
    if size is None:
        inputs.append(helper.make_tensor_value_info("n", kind, []))
    else:
        given.append(helper.make_tensor("n", kind, [], [size]))
    made = helper.make_node(op, ["n", "n", "rate", "lowest", "highest"] if mel else ["n"], ["window"], name="made")
    nodes = [made, helper.make_node("ReduceSum", ["window"], ["sum"], keepdims=0)]
    nodes.append(helper.make_node("Mul", ["x", "sum"], ["y"]))
    output = helper.make_tensor_value_info("y", 1, ["B", 3])
    graph = helper.make_graph(nodes, "scaled", inputs, [output], given if mel or size is not None else [])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("kind", [TensorProto.INT32, TensorProto.INT64])
@pytest.mark.parametrize("op", [*WINDOWS, "MelWeightMatrix"])
def test_a_size_from_an_input_equals_onnx_runtime(op: str, kind: Any) -> None:
    proto = scaled_by(op, kind)
    feeds = {"x": np.ones((2, 3), np.float32), "n": np.array(40, helper.tensor_dtype_to_np_dtype(kind))}
    expected = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)[0]
    np.testing.assert_array_equal(lx.load(proto).predict(feeds)["y"], expected)


@pytest.mark.parametrize("method", [lx.Occlusion(), None], ids=["occlusion", "prediction"])
@pytest.mark.parametrize("op", [*WINDOWS, "MelWeightMatrix"])
def test_a_size_beyond_the_limit_is_refused_before_it_is_computed(op: str, method: lx.Method | None) -> None:
    """This is the smallest size that is refused; without the limit, it would be computed."""
    model, size = lx.load(scaled_by(op)), 2049 if op == "MelWeightMatrix" else MAX_VALUES + 1
    feeds = {"x": np.ones((1, 3), np.float32), "n": np.array(size)}
    with pytest.raises(lx.InputError, match=f"made: {op} of more than {MAX_VALUES} values"):
        model.predict(feeds) if method is None else model.explain(feeds, method)


def test_a_size_whose_product_leaves_its_type_is_refused() -> None:
    feeds = {"x": np.ones((1, 3), np.float32), "n": np.array(2**33)}
    with pytest.raises(lx.InputError, match="MelWeightMatrix of more than"):
        lx.load(scaled_by("MelWeightMatrix")).predict(feeds)


def test_a_constant_size_is_left_as_it_is() -> None:
    model = lx.load(scaled_by("HannWindow", size=40))
    assert not any(node.op_type == "Gather" for node in model.proto.graph.node)
    assert model.steady
