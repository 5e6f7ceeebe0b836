# SPDX-License-Identifier: Apache-2.0
"""Every spelling of LayerNormalization is explained alike."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.inliner
import pytest
from onnx import TensorProto, helper, numpy_helper

import lstm_explain as lx
from tests.graph.networks import RULES, Net, assert_alike, explain, rng

# --- LayerNormalization ----------------------------------------------------------------------------------------------

SCALE, SHIFT = rng(3).uniform(0.5, 1.5, 5), rng(4).standard_normal(5)


def fused_layer_norm(net: Net, x: str) -> str:
    return net.op("LayerNormalization", x, net.const(SCALE), net.const(SHIFT), axis=-1, epsilon=1e-3)


def torch_layer_norm(net: Net, x: str) -> str:
    """As PyTorch's older exporter writes it."""
    centred = net.op("Sub", x, net.mean(x, -1))
    variance = net.mean(net.op("Pow", centred, net.const(np.array(2.0))), -1)
    deviation = net.op("Sqrt", net.op("Add", variance, net.const(np.array(1e-3))))
    even = net.op("Div", centred, deviation)
    return net.op("Add", net.op("Mul", even, net.const(SCALE)), net.const(SHIFT))


def keras_layer_norm(net: Net, x: str) -> str:
    """E[x^2] - E[x]^2, and the product with the inverse deviation."""
    mean = net.mean(x, -1)
    variance = net.op("Sub", net.mean(net.op("Mul", x, x), -1), net.op("Mul", mean, mean))
    inverse = net.op("Reciprocal", net.op("Sqrt", net.op("Add", variance, net.const(np.array(1e-3)))))
    even = net.op("Mul", net.op("Sub", x, mean), inverse)
    return net.op("Add", net.op("Mul", even, net.const(SCALE)), net.const(SHIFT))


def powered_layer_norm(net: Net, x: str) -> str:
    """The inverse deviation as a power; the variance divided by n - 1 and back."""
    centred = net.op("Sub", x, net.mean(x, -1))
    unbiased = net.op("Div", net.mean(net.op("Mul", centred, centred), -1), net.const(np.array(0.8)))
    variance = net.op("Mul", unbiased, net.const(np.array(0.8)))
    floored = net.op("Max", net.op("Add", variance, net.const(np.array(1e-3))), net.const(np.array(1e-9)))
    even = net.op("Mul", net.op("Pow", floored, net.const(np.array(-0.5))), centred)
    return net.op("Add", net.op("Mul", even, net.const(SCALE)), net.const(SHIFT))


def test_layer_normalization_in_every_spelling() -> None:
    fused = Net().model(fused_layer_norm)
    typed = onnx.ModelProto()
    typed.CopyFrom(fused)  # the inliner asks for the types of initializers too
    typed.graph.value_info.extend(
        helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in fused.graph.initializer
    )
    body = onnx.inliner.inline_selected_functions(typed, [("", "LayerNormalization")], inline_schema_functions=True)
    assert "LayerNormalization" not in {n.op_type for n in body.graph.node}
    spellings = [torch_layer_norm, keras_layer_norm, powered_layer_norm]
    assert_alike([fused, body, *(Net().model(spelling) for spelling in spellings)])


@pytest.mark.parametrize("opset", [17, 18, 21, 23])
def test_layer_normalization_in_every_opset(opset: int) -> None:
    assert_alike([Net(opset).model(fused_layer_norm), Net(opset).model(torch_layer_norm)])


def test_layer_normalization_in_half_and_double() -> None:
    assert_alike([Net(17, np.float16).model(layer) for layer in (fused_layer_norm, torch_layer_norm)], 0.02, np.float16)
    models = [Net(17, np.float64).model(layer) for layer in (fused_layer_norm, torch_layer_norm)]
    assert_alike(models, 1e-9, np.float64)


def test_the_scale_receives_no_relevance() -> None:
    """LRP of LayerNormalization is that of the linear map that it is once its scale is held fixed (Ali et al. 2022)."""
    W, x = rng(1).standard_normal((5, 5)), rng(2).standard_normal((1, 5))
    net = Net(dtype=np.float64)
    y = torch_layer_norm(net, net.op("MatMul", "x", net.const(W)))
    net.nodes.append(helper.make_node("Identity", [y], ["y"]))
    info = [helper.make_tensor_value_info(n, TensorProto.DOUBLE, ["N", 5]) for n in ("x", "y")]
    graph = helper.make_graph(net.nodes, "net", info[:1], info[1:], net.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    z = x @ W
    deviation = np.sqrt(((z - z.mean()) ** 2).mean() + 1e-3)
    factor = SCALE[3] / deviation
    y3 = (z[0, 3] - z.mean()) * factor + SHIFT[3]
    density = factor * y3 / (y3 + 1e-3 * np.sign(y3))
    both = density * (np.eye(5)[3] - 1 / 5)  # z goes into the sum and into its mean: a neuron, with its own stabiliser
    settled = both * z[0] / (z[0] + 1e-3 * np.sign(z[0]))
    for rule in RULES:
        e = lx.load(model).explain({"x": x}, lx.LRP(rule, 1e-3), lx.Target(index=3))
        np.testing.assert_allclose(e.relevance["x"][0], x[0] * (W @ settled), rtol=1e-9, atol=1e-12)


def test_by_node_names_the_layer() -> None:
    e = explain(Net().model(fused_layer_norm), lx.LRP(epsilon=1e-3))
    assert any(name.startswith("layernormalization2/") for name in e.ledger.by_node)


def test_both_further_outputs_of_layer_normalization_stay() -> None:
    x, ones = rng().standard_normal((3, 5)).astype(np.float32), np.ones(5, np.float32)
    node = helper.make_node("LayerNormalization", ["x", "s"], ["y", "mean", "inverse"], axis=-1)
    info = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", k]) for n, k in zip("xym", (5, 5, 1), strict=True)
    ]
    outputs = [info[1], *(onnx.ValueInfoProto(name=n, type=info[2].type) for n in ("mean", "inverse"))]
    graph = helper.make_graph([node], "g", info[:1], outputs, [numpy_helper.from_array(ones, "s")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    e = lx.load(model).explain({"x": x}, lx.LRP(epsilon=1e-3), lx.Target(output="mean", index=0))
    np.testing.assert_allclose(e.relevance["x"].sum(axis=1) + e.ledger.absorbed, e.explained, rtol=1e-5)
    np.testing.assert_allclose(e.outputs["inverse"][:, 0], 1 / np.sqrt(x.var(axis=1) + 1e-5), rtol=1e-5)
