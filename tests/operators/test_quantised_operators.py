# SPDX-License-Identifier: Apache-2.0
"""Integer arithmetic: quantised values and products, and token ids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import lstm_explain as lx
from tests.operators.case import BATCH, ELEMENT, AnyArray, ints, normal, rng, smooth


def single(nodes: Sequence[onnx.NodeProto], x: AnyArray, constants: dict[str, AnyArray], opset: int = 17) -> lx.Model:
    """x [N, ...] -> nodes -> y."""
    element = ELEMENT[x.dtype]
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", element, ["N", *x.shape[1:]])],
        [helper.make_tensor_value_info("y", element if element != TensorProto.INT64 else TensorProto.FLOAT, None)],
        [numpy_helper.from_array(a, name) for name, a in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    model.graph.output[0].type.CopyFrom(onnx.shape_inference.infer_shapes(model).graph.output[0].type)
    return lx.load(model)


@pytest.mark.parametrize("per_channel", [False, True])
def test_quantised_values_pass_relevance_and_gradients(per_channel: bool) -> None:
    """A pair of QuantizeLinear and DequantizeLinear passes on the value that it rounds."""
    x = smooth(BATCH, 4)
    scale = np.full(4, 0.02, np.float32) if per_channel else np.float32(0.02)
    zero = np.zeros(4, np.int8) if per_channel else np.int8(3)
    W, b = normal(4, 2, seed=1), normal(2, seed=2)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], axis=1),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"], axis=1),
        helper.make_node("Gemm", ["d", "W", "b"], ["y"]),
    ]
    model = single(nodes, x, {"scale": np.asarray(scale), "zero": np.asarray(zero), "W": W, "b": b})
    rounded = np.round(x / 0.02) * 0.02
    target = lx.Target(index=0)
    np.testing.assert_allclose(
        model.explain({"x": x}, lx.Gradient(), target).relevance["x"], [W[:, 0]] * BATCH, rtol=1e-5
    )
    e = model.explain({"x": x}, lx.LRP(epsilon=0.0), target)
    z = rounded @ W[:, 0] + b[0]
    np.testing.assert_allclose(e.relevance["x"], rounded * W[:, 0] * (z / z)[:, None], atol=1e-5)


def dynamic(integer_product: str) -> list[onnx.NodeProto]:
    """Return x W + b (or a convolution) as onnxruntime.quantization.quantize_dynamic writes it."""
    return [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "q_scale", "q_zero"]),
        helper.make_node(integer_product, ["q", "W", "q_zero", "W_zero"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["q_scale", "W_scale"], ["scales"]),
        helper.make_node("Mul", ["floats", "scales"], ["product"]),
        helper.make_node("Add", ["product", "b"], ["y"]),
    ]


def levels(x: AnyArray, scale: AnyArray, zero: AnyArray) -> AnyArray:
    """Return the values that a quantised tensor represents."""
    info = np.iinfo(zero.dtype)
    rounded = np.clip(np.round(x / scale) + zero.astype(np.float64), info.min, info.max)
    return np.asarray((rounded - zero.astype(np.float64)) * scale)


def dynamic_levels(x: AnyArray) -> AnyArray:
    """Quantise as ONNX defines DynamicQuantizeLinear, and return the values that the levels represent."""
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    scale = np.float32((high - low) / 255)
    return levels(x, scale, np.uint8(np.round(np.clip(-low / scale, 0, 255))))


@pytest.mark.parametrize("opset", [11, 13, 21])
@pytest.mark.parametrize("per_channel", [False, True])
def test_dynamically_quantised_products_are_explained_as_real_products(per_channel: bool, opset: int) -> None:
    x, b = smooth(BATCH, 4), normal(2, seed=2)
    integers = rng(1).integers(-100, 100, (4, 2)).astype(np.int8)
    scale = np.array([0.02, 0.01], np.float32) if per_channel else np.float32(0.02)
    zero = np.array([3, -2], np.int8) if per_channel else np.int8(3)
    constants = {"W": integers, "W_zero": np.asarray(zero), "W_scale": np.asarray(scale), "b": b}
    model = single(dynamic("MatMulInteger"), x, constants, opset)
    W = (integers.astype(np.float64) - zero) * scale
    gradient = model.explain({"x": x}, lx.Gradient(), lx.Target(index=1)).relevance["x"]
    np.testing.assert_allclose(gradient, [W[:, 1]] * BATCH, rtol=1e-5)
    e = model.explain({"x": x}, lx.LRP(epsilon=0.0), lx.Target(index=1))
    np.testing.assert_allclose(e.explained, dynamic_levels(x) @ W[:, 1] + b[1], rtol=1e-5)
    np.testing.assert_allclose(e.relevance["x"], dynamic_levels(x) * W[:, 1], atol=1e-5)
    np.testing.assert_allclose(e.ledger.absorbed, b[1], rtol=1e-4)
    assert model.explain({"x": x}, lx.Occlusion(), lx.Target(index=1)).relevance["x"].shape == x.shape


@pytest.mark.parametrize("opset", [11, 13])
def test_a_dynamically_quantised_convolution(opset: int) -> None:
    x, b = smooth(BATCH, 2, 6), normal(1)
    integers = rng(1).integers(-100, 100, (3, 2, 3)).astype(np.int8)
    constants = {"W": integers, "W_zero": np.asarray(np.int8(0)), "W_scale": np.asarray(np.float32(0.02)), "b": b}
    nodes = dynamic("ConvInteger")
    nodes[1].attribute.extend([helper.make_attribute("pads", [1, 1]), helper.make_attribute("strides", [2])])
    model = single(nodes, x, constants, opset)
    W = integers * 0.02
    e = model.explain({"x": x}, lx.LRP(epsilon=0.0), lx.Target(index=(1, 1)))  # its window starts at position 1
    expected = np.zeros(x.shape)
    expected[:, :, 1:4] = dynamic_levels(x)[:, :, 1:4] * W[1]
    np.testing.assert_allclose(e.relevance["x"], expected, atol=1e-5)
    np.testing.assert_allclose(e.explained, expected.sum(axis=(1, 2)) + b[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("op", ["QLinearMatMul", "QLinearConv"])
def test_statically_quantised_products(op: str) -> None:
    """Inputs and outputs are levels; the unit of the convolution's bias is the product of both scales."""
    x = smooth(BATCH, 4)
    integers, bias = rng(1).integers(-100, 100, (4, 2)).astype(np.int8), np.array([120, -340], np.int32)
    sx, sw, sy = np.float32(0.02), np.float32(0.01), np.float32(0.05)
    constants: dict[str, AnyArray] = {
        **{name: np.asarray(v) for name, v in (("sx", sx), ("sw", sw), ("sy", sy))},
        **{name: np.asarray(v) for name, v in (("zx", np.uint8(110)), ("zw", np.int8(0)), ("zy", np.uint8(120)))},
        "W": integers,
        "bias": bias,
        "axes": ints(2),
    }
    nodes = [helper.make_node("QuantizeLinear", ["x", "sx", "zx"], ["q"])]
    if op == "QLinearConv":
        constants["W"] = integers.T[..., None].copy()  # one position: the same product
        nodes += [
            helper.make_node("Unsqueeze", ["q", "axes"], ["one"]),
            helper.make_node(op, ["one", "sx", "zx", "W", "sw", "zw", "sy", "zy", "bias"], ["out"]),
            helper.make_node("Squeeze", ["out", "axes"], ["r"]),
        ]
    else:
        nodes.append(helper.make_node(op, ["q", "sx", "zx", "W", "sw", "zw", "sy", "zy"], ["r"]))
    nodes.append(helper.make_node("DequantizeLinear", ["r", "sy", "zy"], ["y"]))
    model = single(nodes, x, constants, 13)
    W = integers.astype(np.float64) * sw
    read = levels(x, sx, np.uint8(110))
    z = read @ W[:, 0] + (bias[0] * sx * sw if op == "QLinearConv" else 0)
    y = levels(z, sy, np.uint8(120))
    e = model.explain({"x": x}, lx.LRP(epsilon=0.0), lx.Target(index=0))
    np.testing.assert_allclose(e.explained, y, rtol=1e-5)
    np.testing.assert_allclose(e.relevance["x"], read * W[:, 0] * (y / z)[:, None], atol=1e-5)
    gradient = model.explain({"x": x}, lx.Gradient(), lx.Target(index=0)).relevance["x"]
    np.testing.assert_allclose(gradient, [W[:, 0]] * BATCH, rtol=1e-5)


def test_arithmetic_on_token_ids_passes_relevance_on() -> None:
    tokens = rng().integers(0, 4, (BATCH, 5))
    nodes = [
        helper.make_node("Add", ["x", "one"], ["moved"]),
        helper.make_node("Mod", ["moved", "seven"], ["wrapped"]),
        helper.make_node("Cast", ["wrapped"], ["unsigned"], to=TensorProto.UINT64),
        helper.make_node("BitShift", ["unsigned", "once"], ["shifted"], direction="RIGHT"),
        helper.make_node("Cast", ["shifted"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "index"], ["vectors"]),
        helper.make_node("ReduceSum", ["vectors", "axes"], ["y"], keepdims=0),
    ]
    table = normal(4, 3)
    constants = {"one": ints(1), "seven": ints(7), "once": np.array([1], np.uint64), "table": table, "axes": ints(1)}
    e = single(nodes, tokens, constants).explain({"x": tokens}, lx.LRP(epsilon=0.0), lx.Target(index=2))
    np.testing.assert_allclose(e.relevance["x"], table[(tokens + 1) % 7 // 2][..., 2], rtol=1e-4, atol=1e-6)


def test_integer_weights_are_multiplied_by_inputs_that_are_not_rounded() -> None:
    """By default, ONNX Runtime fuses these two operators into one that rounds the inputs as well."""
    x, integers = smooth(BATCH, 4), rng(1).integers(-100, 100, (4, 2)).astype(np.int8)
    scale = np.array([0.02, 0.01], np.float32)
    nodes = [
        helper.make_node("DequantizeLinear", ["W", "scale"], ["weights"], axis=1),
        helper.make_node("MatMul", ["x", "weights"], ["y"]),
    ]
    model = single(nodes, x, {"W": integers, "scale": scale}, 13)
    expected = x.astype(np.float64) @ (integers * scale)
    np.testing.assert_allclose(model.predict({"x": x})["y"], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.explain({"x": x}).outputs["y"], expected, rtol=1e-5, atol=1e-6)


def with_measured_scale(measure: list[onnx.NodeProto], x: AnyArray) -> lx.Model:
    """Quantise x with a scale that `measure` computes from x, then multiply by weights."""
    nodes = [
        *measure,
        helper.make_node("QuantizeLinear", ["x", "size", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "size", "zero"], ["d"], name="read"),
        helper.make_node("MatMul", ["d", "W"], ["y"]),
    ]
    constants: dict[str, AnyArray] = {
        "zero": np.asarray(np.int8(0)),
        "W": normal(4, 2, seed=1),
        "few": np.float32(0.05),
    }
    return single(nodes, x, constants)


@pytest.mark.parametrize("op", ["Det", "ReduceMax"])
def test_the_report_warns_of_a_scale_that_depends_on_the_inputs(op: str) -> None:
    """Whether or not the operator that computes the scale has a rule: it gets no relevance."""
    x = smooth(4, 4)
    measured = helper.make_node(op, ["x"], ["m"], **({} if op == "Det" else {"keepdims": 0}))
    measure = [measured, helper.make_node("Abs", ["m"], ["a"]), helper.make_node("Add", ["a", "few"], ["size"])]
    model = with_measured_scale(measure, x)
    assert [w for w in model.report().warnings if "node 'read': its input 'size'" in w]
    dynamic_quantisation = single(dynamic("MatMulInteger"), x, MEASURED)
    assert not dynamic_quantisation.report().warnings


MEASURED: dict[str, AnyArray] = {
    "W": rng(1).integers(-100, 100, (4, 2)).astype(np.int8),
    "W_zero": np.asarray(np.int8(0)),
    "W_scale": np.asarray(np.float32(0.02)),
    "b": normal(2, seed=2),
}


def test_the_report_warns_of_a_scale_measured_on_another_value() -> None:
    x = smooth(BATCH, 4)
    measure = [
        helper.make_node("Exp", ["x"], ["e"]),
        helper.make_node("DynamicQuantizeLinear", ["e"], ["unused", "size", "unused_zero"]),
    ]
    warnings = with_measured_scale(measure, x).report().warnings
    assert [w for w in warnings if "node 'read': its input 'size' depends on the inputs" in w]
