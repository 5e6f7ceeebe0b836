# SPDX-License-Identifier: Apache-2.0
"""Inputs without axes, and values whose shape the model does not declare."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import lstm_explain as lx

X, S = np.array([[1.0, -2.0, 3.0], [0.5, 4.0, -1.0]], np.float32), np.array(0.3, np.float32)
FEEDS = {"x": X, "s": S}
METHODS: list[lx.Method] = [
    lx.LRP(), lx.LRP("prop", bias_factor=1.0), lx.Gradient(), lx.GradientTimesInput(), lx.IntegratedGradients(),
    lx.SmoothGrad(), lx.Occlusion(), lx.ShapleySampling(),
]  # fmt: skip


def scaled() -> lx.Model:
    return lx.load(
        onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 17]>
        scaled (float[N, 3] x, float s) => (float[N, 3] y) {
            e = Exp(s)
            y = Mul(x, e)
        }""")
    )


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_an_input_without_axes_gets_a_scalar(method: lx.Method) -> None:
    e = scaled().explain(FEEDS, method, lx.Target(index=1))
    assert isinstance(e.relevance["s"], np.ndarray)
    assert e.relevance["s"].shape == ()
    assert e.relevance["x"].shape == X.shape


def test_the_gradient_of_a_scalar_factor_is_a_sum() -> None:
    e = scaled().explain(FEEDS, lx.Gradient(), lx.Target(index=1))
    np.testing.assert_allclose(e.relevance["s"], X[:, 1].sum() * np.exp(0.3), rtol=1e-6)


def test_a_scan_over_scalars() -> None:
    """Along the only axis of its input, each step of a Scan is an array without axes."""
    model = lx.load(
        onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 17]>
        summed (float[T] x) => (float y) <float start = {0.0}> {
            y = Scan(start, x) <num_scan_inputs = 1, body = body (float h, float v) => (float g) {
                w = Mul(v, v)
                g = Add(h, w)
            }>
        }""")
    )
    e = model.explain({"x": X[0]}, lx.Gradient(), lx.Target(batch_axis=None))
    np.testing.assert_allclose(e.relevance["x"], 2 * X[0])
    e = model.explain({"x": X[0]}, lx.LRP(epsilon=0), lx.Target(batch_axis=None))
    np.testing.assert_allclose(e.relevance["x"], X[0] ** 2, rtol=1e-6)


def test_an_output_of_unknown_shape() -> None:
    """ONNX infers no shape for the state of a loop that may change shape; ONNX Runtime needs none."""
    nothing = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("h", "g")]
    flags = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("c", "d")]
    step = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    doubling = [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Add", ["h", "h"], ["g"])]
    body = helper.make_graph(doubling, "body", [step, flags[0], nothing[0]], [flags[1], nothing[1]])
    output = onnx.ValueInfoProto(name="y")
    output.type.tensor_type.elem_type = TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Loop", ["n", "yes", "x"], ["y"], name="loop", body=body)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [output],
        [helper.make_tensor("n", TensorProto.INT64, [], [3]), helper.make_tensor("yes", TensorProto.BOOL, [], [True])],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    e = lx.load(proto).explain({"x": X}, lx.Gradient(), lx.Target(index=1))
    np.testing.assert_array_equal(e.relevance["x"], [[0, 8, 0], [0, 8, 0]])
