# SPDX-License-Identifier: Apache-2.0
"""Sums of products of bytes do not saturate where two products exceed 16 bits.

ONNX Runtime's kernels for processors without VNNI saturate there by default; these tests can only fail on such
processors.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import lstm_explain as lx
from tests.graph.test_quantised_models import AnyArray, model_of, rng

BATCH = 3
LARGE = np.array([[127, 100], [127, -100], [90, -128], [80, 127]], np.int8)


@pytest.mark.parametrize("name", ["MatMulInteger", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"])
def test_a_product_of_levels_does_not_saturate(name: str) -> None:
    levels = helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"])
    nodes = {
        "MatMulInteger": [
            levels,
            helper.make_node(name, ["q", "W", "z", "zw"], ["sums"]),
            helper.make_node("Cast", ["sums"], ["counted"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["s", "sw"], ["unit"]),
            helper.make_node("Mul", ["counted", "unit"], ["y"]),
        ],
        "DynamicQuantizeMatMul": [helper.make_node(name, ["x", "W", "sw", "zw"], ["y"], domain="com.microsoft")],
        "MatMulIntegerToFloat": [
            levels,
            helper.make_node(name, ["q", "W", "s", "sw", "z", "zw"], ["y"], domain="com.microsoft"),
        ],
    }[name]
    model = lx.load(model_of(nodes, ["N", 4], ["N", 2], {"W": LARGE, "sw": np.float32(0.01), "zw": np.int8(0)}))
    x = rng(4).uniform(0.7, 1, (BATCH, 4)).astype(np.float32)
    half_a_level = np.float32(x.max() / 255 / 2)
    expected, error = x @ (LARGE * 0.01), half_a_level * np.abs(LARGE * 0.01).sum(axis=0).max()
    predicted = model.predict({"x": x})["y"]
    np.testing.assert_allclose(predicted, expected, atol=1.01 * error)
    np.testing.assert_allclose(model.explain({"x": x}, lx.LRP()).outputs["y"], predicted, atol=1e-5)


def branches(operands: list[str], own: list[onnx.TensorProto]) -> dict[str, onnx.GraphProto]:
    """Both of an If: the product of levels."""
    return {
        name: helper.make_graph(
            [helper.make_node("MatMulInteger", operands, [name])],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.INT32, ["N", 2])],
            own,
        )
        for name in ("then_branch", "else_branch")
    }


@pytest.mark.parametrize("zero", [True, False], ids=["zero point", "no zero point"])
@pytest.mark.parametrize("inside", [True, False], ids=["inside", "around"])
def test_a_product_in_a_body_does_not_saturate_wherever_its_weights_are(inside: bool, zero: bool) -> None:
    """ONNX Runtime's tool leaves weights where they are: in the body, or in the enclosing graph."""

    operands = ["q", "W", "z", *(["zw"] if zero else [])]
    own = [numpy_helper.from_array(LARGE, "W")] if inside else []
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
        helper.make_node("Greater", ["largest", "none"], ["any"]),
        helper.make_node("If", ["any"], ["sums"], **branches(operands, own)),
        helper.make_node("Cast", ["sums"], ["counted"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["counted", "s"], ["y"]),
    ]
    constants: dict[str, AnyArray] = {"none": np.array(0, np.float32), "zw": np.array(0, np.int8)}
    proto = model_of(nodes, ["N", 4], ["N", 2], constants if inside else constants | {"W": LARGE})
    before = proto.SerializeToString()
    model = lx.load(proto)
    x = rng(4).uniform(0.7, 1, (BATCH, 4)).astype(np.float32)
    predicted = model.predict({"x": x})["y"]
    error = x.max() / 255 / 2 * np.abs(LARGE.astype(float)).sum(axis=0).max()
    np.testing.assert_allclose(predicted, x @ LARGE.astype(np.float32), atol=1.01 * error)
    np.testing.assert_allclose(model.explain({"x": x}, lx.LRP()).outputs["y"], predicted, rtol=1e-5)
    assert proto.SerializeToString() == before


def test_a_product_in_a_body_without_relevance_does_not_saturate() -> None:
    """Such a body is run by ONNX Runtime, in a segment."""
    nodes = [
        helper.make_node("Greater", ["x", "none"], ["positive"]),
        helper.make_node("Where", ["positive", "most", "least"], ["q"]),
        helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
        helper.make_node("Greater", ["largest", "none"], ["any"]),
        helper.make_node("If", ["any"], ["sums"], **branches(["q", "W"], [])),
        helper.make_node("Cast", ["sums"], ["counted"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["x", "last"], ["total"]),
        helper.make_node("Mul", ["counted", "total"], ["y"]),
    ]
    constants = {"none": np.float32(0), "most": np.uint8(255), "least": np.uint8(1), "last": np.array([1]), "W": LARGE}
    model = lx.load(model_of(nodes, ["N", 4], ["N", 2], constants))
    x = np.full((BATCH, 4), 0.25, np.float32)
    expected = [255 * LARGE.astype(np.float32).sum(axis=0)] * BATCH
    np.testing.assert_allclose(model.predict({"x": x})["y"], expected)
    np.testing.assert_allclose(model.explain({"x": x}, lx.LRP()).outputs["y"], expected)
