# SPDX-License-Identifier: Apache-2.0
"""Models that ONNX Runtime's own tools have quantised or halved, and the operators that it puts into them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization
from onnxruntime.transformers.float16 import convert_float_to_float16

import lstm_explain as lx
from tests.builders import recurrent_model
from tests.engine_checks import check_ledger

AnyArray = npt.NDArray[Any]
BATCH, TIME, FEATURES, HIDDEN = 3, 6, 4, 5
RULES: tuple[lx.ProductRule, ...] = ("all", "half", "abs")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def model_of(
    nodes: Sequence[onnx.NodeProto], shape: Sequence[Any], out: Sequence[Any], constants: dict[str, AnyArray]
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items()],
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def plain_session(proto: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # how many there are decides which samples an LSTM rounds together
    options.add_session_config_entry("session.x64quantprecision", "1")  # sums do not saturate on any processor
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def as_onnx_runtime_runs_it(proto: onnx.ModelProto, x: AnyArray) -> AnyArray:
    return np.asarray(plain_session(proto).run(["y"], {"x": x})[0])


# --- whole models ----------------------------------------------------------------------------------------------------


def network() -> onnx.ModelProto:
    """Convolution, LSTM, a gated and attended sum over its steps, two dense layers."""

    def weights(*shape: int) -> AnyArray:
        return (rng(sum(shape)).standard_normal(shape) * 0.6).astype(np.float32)

    constants = {
        "K": weights(8, FEATURES, 3), "W": weights(1, 4 * HIDDEN, 8), "R": weights(1, 4 * HIDDEN, HIDDEN),
        "B": weights(1, 8 * HIDDEN), "G": weights(HIDDEN, HIDDEN), "S": weights(2 * HIDDEN, 1),
        "D": weights(2 * HIDDEN, 6), "d": weights(6), "E": weights(6, 3), "one": np.array([1]),
    }  # fmt: skip
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        helper.make_node("Conv", ["t", "K"], ["k"], pads=[1, 1]),
        helper.make_node("Relu", ["k"], ["r"]),
        helper.make_node("Transpose", ["r"], ["s"], perm=[2, 0, 1]),
        helper.make_node("LSTM", ["s", "W", "R", "B"], ["Y"], name="lstm", hidden_size=HIDDEN),
        helper.make_node("Squeeze", ["Y", "one"], ["h"]),
        helper.make_node("Transpose", ["h"], ["hb"], perm=[1, 0, 2]),
        helper.make_node("MatMul", ["hb", "G"], ["g"]),
        helper.make_node("Sigmoid", ["g"], ["gate"]),
        helper.make_node("Mul", ["gate", "hb"], ["gated"]),
        helper.make_node("Concat", ["gated", "gate"], ["both"], axis=2),
        helper.make_node("MatMul", ["both", "S"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["attention"], axis=1),
        helper.make_node("Mul", ["both", "attention"], ["weighted"]),
        helper.make_node("ReduceMean", ["weighted"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("Gemm", ["mean", "D", "d"], ["dense"]),
        helper.make_node("LeakyRelu", ["dense"], ["leaky"], alpha=0.1),
        helper.make_node("Gemm", ["leaky", "E"], ["y"]),
    ]
    return model_of(nodes, ["N", TIME, FEATURES], ["N", 3], constants)


class Samples(quantization.CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        self.left = [rng(seed).standard_normal((8, TIME, FEATURES)).astype(np.float32) for seed in range(3)]

    def get_next(self) -> dict[str, AnyArray] | None:
        return {"x": self.left.pop()} if self.left else None


X = rng(5).standard_normal((BATCH, TIME, FEATURES)).astype(np.float32)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("levels", ["QInt8", "QUInt8"])
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_a_statically_quantised_model_answers_as_its_float_original_but_for_rounding(
    tmp_path: Path, form: str, levels: str, per_channel: bool
) -> None:
    original = network()
    onnx.save(original, tmp_path / "float.onnx")
    quantization.quantize_static(
        tmp_path / "float.onnx", tmp_path / "quantised.onnx", Samples(),
        quant_format=quantization.QuantFormat[form], activation_type=quantization.QuantType[levels],
        weight_type=quantization.QuantType.QInt8, per_channel=per_channel,
    )  # fmt: skip
    model = lx.load(tmp_path / "quantised.onnx")
    assert model.report().supported
    size = np.abs(as_onnx_runtime_runs_it(original, X)).max()
    for method in [lx.GradientTimesInput(), *map(lx.LRP, RULES)]:
        e = model.explain({"x": X}, method, lx.Target(index=1))
        expected = lx.load(original).explain({"x": X}, method, lx.Target(index=1))
        np.testing.assert_allclose(e.outputs["y"], expected.outputs["y"], atol=0.1 * size)
        np.testing.assert_array_equal(e.outputs["y"], model.predict({"x": X})["y"])
        if not isinstance(method, lx.LRP):  # which divides by sums that the rounding may turn
            scale = np.abs(expected.relevance["x"]).max()
            np.testing.assert_allclose(e.relevance["x"], expected.relevance["x"], atol=0.25 * scale)
        else:
            check_ledger(e, {"x": 0}, relative=1e-3)


@pytest.mark.parametrize(("direction", "layers"), [("forward", 1), ("reverse", 1), ("bidirectional", 2)])
@pytest.mark.parametrize("states", [None, "constant", "input"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_a_dynamically_quantised_lstm(
    tmp_path: Path, direction: Any, layers: int, states: Any, per_channel: bool
) -> None:
    """Its predictions equal ONNX Runtime's, and it is explained as the original LSTM."""
    built = recurrent_model(
        np.random.default_rng(7), layers=layers, direction=direction, sequence_lens=True,
        initial_states=states, head="Y_h",
    )  # fmt: skip
    onnx.save(built.model, tmp_path / "float.onnx")
    quantization.quantize_dynamic(tmp_path / "float.onnx", tmp_path / "quantised.onnx", per_channel=per_channel)
    proto = onnx.load(tmp_path / "quantised.onnx")
    count = sum(n.op_type == "DynamicQuantizeLSTM" for n in proto.graph.node)
    assert count == layers
    model, original = lx.load(proto), lx.load(built.model)
    assert model.report().supported
    feeds = built.feeds(np.random.default_rng(8), T=5)
    target = lx.Target(index=1)
    (expected,) = plain_session(proto).run(None, feeds)
    for method in [lx.GradientTimesInput(), *map(lx.LRP, RULES), lx.LRP(bias_factor=1.0)]:
        e, float_e = (m.explain(feeds, method, target) for m in (model, original))
        np.testing.assert_allclose(e.outputs["logits"], expected, atol=1e-5)
        np.testing.assert_allclose(e.outputs["logits"], model.predict(feeds)["logits"], atol=1e-5)
        if isinstance(method, lx.LRP):
            check_ledger(e, {name: 0 if name == "lens" else 1 for name in feeds})
        else:
            scale = np.abs(float_e.relevance["x"]).max()
            np.testing.assert_allclose(e.relevance["x"], float_e.relevance["x"], atol=0.05 * scale)
            np.testing.assert_array_equal(e.relevance["x"][feeds["lens"].max() :], 0)


# --- operators between levels ----------------------------------------------------------------------------------------

READ = [np.float32(0.02), np.uint8(120)]  # scale and zero point: of x, of a constant operand, of what comes out
OTHER = [np.float32(0.015), np.uint8(100)]
WRITTEN = [np.float32(0.03), np.uint8(110)]
CONSTANT = rng(2).integers(0, 255, (4, 4)).astype(np.uint8)
WEIGHTS = rng(3).integers(-100, 100, (4, 4)).astype(np.int8)
BIAS = np.array([300, -200, 50, 0], np.int32)


def steps(levels: AnyArray, scale: Any, zero: Any) -> AnyArray:
    return ((levels.astype(np.float64) - float(zero)) * float(scale)).astype(np.float32)


WEIGHED = [np.float32(0.01), np.int8(3)]
# operator, operands behind the levels of x, attributes; the operator in floating point, its other operands, attributes
OPERATORS: dict[str, tuple[list[Any], dict[str, Any], str, list[Any], dict[str, Any]]] = {
    "QLinearSigmoid": ([*READ, *WRITTEN], {}, "Sigmoid", [], {}),
    "QLinearLeakyRelu": ([*READ, *WRITTEN], {"alpha": 0.3}, "LeakyRelu", [], {"alpha": 0.3}),
    "QLinearSoftmax": ([*READ, *WRITTEN], {"axis": -1, "opset": 13}, "Softmax", [], {"axis": -1}),
    "QLinearAdd": ([*READ, CONSTANT[:1], *OTHER, *WRITTEN], {}, "Add", [steps(CONSTANT[:1], *OTHER)], {}),
    "QLinearMul": ([*READ, CONSTANT[:1], *OTHER, *WRITTEN], {}, "Mul", [steps(CONSTANT[:1], *OTHER)], {}),
    "QGemm": (
        [*READ, WEIGHTS, *WEIGHED, BIAS, *WRITTEN],
        {"transB": 1},
        "Gemm",
        [steps(WEIGHTS, *WEIGHED), (BIAS * (READ[0] * WEIGHED[0])).astype(np.float32)],
        {"transB": 1},
    ),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_on_levels_equals_one_on_rounded_values(name: str) -> None:
    operands, attributes, plain, others, plain_attributes = OPERATORS[name]
    constants = {f"c{i}": np.asarray(a) for i, a in enumerate(operands)} | {"s": WRITTEN[0], "z": WRITTEN[1]}
    constants |= {"sx": READ[0], "zx": READ[1]}
    quantise = helper.make_node("QuantizeLinear", ["x", "sx", "zx"], ["q"])
    inputs = ["q", *[f"c{i}" for i in range(len(operands))]]
    fused = [
        quantise,
        helper.make_node(name, inputs, ["out"], domain="com.microsoft", **attributes),
        helper.make_node("DequantizeLinear", ["out", "s", "z"], ["y"]),
    ]
    apart = [
        quantise,
        helper.make_node("DequantizeLinear", ["q", "sx", "zx"], ["v"]),
        helper.make_node(plain, ["v", *[f"o{i}" for i in range(len(others))]], ["w"], **plain_attributes),
        helper.make_node("QuantizeLinear", ["w", "s", "z"], ["out"]),
        helper.make_node("DequantizeLinear", ["out", "s", "z"], ["y"]),
    ]
    received = model_of(fused, ["N", 4], ["N", 4], constants)
    expected = model_of(apart, ["N", 4], ["N", 4], constants | {f"o{i}": a for i, a in enumerate(others)})
    x = rng(4).uniform(-2, 2, (BATCH, 4)).astype(np.float32)
    target = lx.Target(index=0)
    for method in (lx.LRP(), lx.LRP(bias_factor=1.0), lx.Gradient()):
        a, b = (lx.load(m).explain({"x": x}, method, target) for m in (received, expected))
        np.testing.assert_allclose(a.outputs["y"], as_onnx_runtime_runs_it(received, x), atol=1.01 * WRITTEN[0])
        np.testing.assert_allclose(a.outputs["y"], b.outputs["y"], atol=1e-6)
        np.testing.assert_allclose(a.relevance["x"], b.relevance["x"], atol=1e-5)


@pytest.mark.parametrize("name", ["DynamicQuantizeMatMul", "MatMulIntegerToFloat"])
def test_products_that_end_in_floating_point(name: str) -> None:
    bias = np.float32([0.1, -0.2, 0.3, 0.4])
    constants = {"W": WEIGHTS, "sw": WEIGHED[0], "zw": WEIGHED[1], "b": bias}
    if name == "DynamicQuantizeMatMul":
        nodes = [helper.make_node(name, ["x", "W", "sw", "zw", "b"], ["y"], domain="com.microsoft")]
    else:
        nodes = [
            helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
            helper.make_node(name, ["q", "W", "s", "sw", "z", "zw", "b"], ["y"], domain="com.microsoft"),
        ]
    proto = model_of(nodes, ["N", 4], ["N", 4], constants)
    x = rng(4).uniform(-2, 2, (BATCH, 4)).astype(np.float32)
    model = lx.load(proto)
    weights = steps(WEIGHTS, *WEIGHED)
    e = model.explain({"x": x}, lx.LRP(epsilon=0.0), lx.Target(index=2))
    np.testing.assert_allclose(e.outputs["y"], as_onnx_runtime_runs_it(proto, x), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(e.relevance["x"], x * weights[:, 2], atol=0.02)  # within a level of x
    np.testing.assert_allclose(e.ledger.absorbed, bias[2], rtol=1e-4)
    gradient = model.explain({"x": x}, lx.Gradient(), lx.Target(index=2)).relevance["x"]
    np.testing.assert_allclose(gradient, [weights[:, 2]] * BATCH, rtol=1e-5)


# --- half precision --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [True, False])
def test_a_model_converted_to_half_precision(keep: bool) -> None:
    """The tool appends its casts after all other nodes."""
    original = network()
    model = lx.load(convert_float_to_float16(network(), keep_io_types=keep))
    x = X if keep else X.astype(np.float16)
    for method in (lx.GradientTimesInput(), lx.LRP()):
        e = model.explain({"x": x}, method, lx.Target(index=0))
        expected = lx.load(original).explain({"x": X}, method, lx.Target(index=0))
        np.testing.assert_allclose(e.outputs["y"], expected.outputs["y"], atol=0.02)
        scale = np.abs(expected.relevance["x"]).max()
        np.testing.assert_allclose(e.relevance["x"], expected.relevance["x"], atol=0.05 * scale)
        if isinstance(method, lx.LRP):
            check_ledger(e, {"x": 0}, relative=1e-3)
