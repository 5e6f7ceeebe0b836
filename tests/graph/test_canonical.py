# SPDX-License-Identifier: Apache-2.0
"""Every spelling of a layer is explained alike: normalisations, activations, products and attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import lstm_explain as lx
from lstm_explain.graph.canonical import canonicalise
from lstm_explain.graph.read import build
from lstm_explain.graph.session import session_of
from tests.graph.networks import RULES, TIME, WIDTH, AnyArray, Net, assert_alike, explain, rng
from tests.graph.test_layer_normalization import SCALE, SHIFT

# --- the other layers ------------------------------------------------------------------------------------------------


def rms(net: Net, x: str, epsilon: float = 1e-3) -> str:
    return net.op("Sqrt", net.op("Add", net.mean(net.op("Mul", x, x), -1), net.const(np.array(epsilon))))


def spelled_rms_norm(net: Net, x: str) -> str:
    one = net.op("Div", net.const(np.array(1.0)), rms(net, x))
    return net.op("Mul", net.op("Mul", x, one), net.const(SCALE))


def test_rms_normalization() -> None:
    fused = Net(23).model(lambda net, x: net.op("RMSNormalization", x, net.const(SCALE), axis=-1, epsilon=1e-3))
    assert_alike([fused, Net(23).model(spelled_rms_norm)])


def norm(net: Net, op: str, x: str, axis: int) -> str:
    return net.op(op, x, axes=[axis], keepdims=1)


def test_lp_normalization() -> None:
    """The export of torch.nn.functional.normalize, with its floor and Expand."""

    def spelled(net: Net, x: str) -> str:
        length = net.op("Clip", norm(net, "ReduceL2", x, -1), net.const(np.array(1e-12)))
        return net.op("Div", x, net.op("Expand", length, net.op("Shape", x)))

    def squared(net: Net, x: str) -> str:
        return net.op("Div", x, net.op("Sqrt", norm(net, "ReduceSumSquare", x, -1)))

    fused = Net().model(lambda net, x: net.op("LpNormalization", x, axis=-1, p=2))
    assert_alike([fused, Net().model(spelled), Net().model(squared)])
    absolute = Net().model(lambda net, x: net.op("LpNormalization", x, axis=1, p=1))

    def summed(net: Net, x: str) -> str:
        total = net.op("ReduceSum", net.op("Abs", x), net.const(np.array([1])), keepdims=1)
        return net.op("Div", x, total)

    assert_alike([absolute, Net().model(summed)])


def channels_last(net: Net, x: str, op: str, *more: AnyArray, **attributes: Any) -> str:
    turned = net.op("Transpose", x, perm=[0, 2, 1])
    return net.op("Transpose", net.op(op, turned, *map(net.const, more), **attributes), perm=[0, 2, 1])


def standardised(net: Net, x: str, *axes: int, epsilon: float = 1e-3) -> str:
    centred = net.op("Sub", x, net.mean(x, *axes))
    power = net.mean(net.op("Mul", centred, centred), *axes)
    return net.op("Div", centred, net.op("Sqrt", net.op("Add", power, net.const(np.array(epsilon)))))


def erf_gelu(net: Net, x: str) -> str:
    """GELU as PyTorch writes it."""
    e = net.op("Erf", net.op("Div", x, net.const(np.array(2**0.5))))
    return net.op("Mul", net.op("Mul", x, net.op("Add", e, net.const(np.array(1.0)))), net.const(np.array(0.5)))


def tanh_gelu(net: Net, x: str) -> str:
    cubed = net.op("Mul", net.op("Mul", net.op("Mul", x, x), x), net.const(np.array(0.044715)))
    t = net.op("Tanh", net.op("Mul", net.op("Add", x, cubed), net.const(np.array((2 / np.pi) ** 0.5))))
    return net.op("Mul", net.op("Mul", x, net.const(np.array(0.5))), net.op("Add", net.const(np.array(1.0)), t))


ACTIVATIONS: dict[str, tuple[Callable[[Net, str], str], Callable[[Net, str], str]]] = {
    "Gelu": (lambda n, x: n.op("Gelu", x), erf_gelu),
    "Gelu by tanh": (lambda n, x: n.op("Gelu", x, approximate="tanh"), tanh_gelu),
    "Swish": (lambda n, x: n.op("Swish", x), lambda n, x: n.op("Mul", x, n.op("Sigmoid", x))),
    "Mish": (lambda n, x: n.op("Mish", x), lambda n, x: n.op("Mul", n.op("Tanh", n.op("Softplus", x)), x)),
    "HardSwish": (
        lambda n, x: n.op("HardSwish", x),
        lambda n, x: n.op("Mul", x, n.op("HardSigmoid", x, alpha=1 / 6, beta=0.5)),
    ),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_that_multiplies_a_value_by_a_function_of_it(name: str) -> None:
    fused, spelled = ACTIVATIONS[name]
    assert_alike([Net(24).model(fused), Net(24).model(spelled)])


def test_a_fourier_transform_is_a_matrix_product() -> None:
    """The transform runs over time; its real part is explained."""
    cosines = np.cos(np.outer(np.arange(TIME), np.arange(TIME)) * (2 * np.pi / TIME))

    def transformed(net: Net, x: str) -> str:
        waves = net.op("DFT", net.op("Unsqueeze", x, net.const(np.array([3]))), axis=1)
        return net.op("Gather", waves, net.const(np.array(0)), axis=3)

    def spelled(net: Net, x: str) -> str:
        return net.op("MatMul", net.const(cosines), x)

    assert_alike([Net().model(transformed), Net().model(spelled)], default=False)


@pytest.mark.parametrize("op", ["Sigmoid", "Softsign", "LeakyRelu", "Elu", "Atan", "Gelu", "Softmax"])
def test_a_value_times_any_function_of_its_elements_is_an_activation(op: str) -> None:
    """Softmax is not such a function, because each element depends on the others."""
    one = np.array(1.0)
    model = Net(20).model(lambda n, x: n.op("Mul", x, n.op(op, n.op("Add", x, n.const(one)))))
    rules = {node.op: node.rule for node in lx.load(model).report().nodes}
    gated = "product rule; the gate lies between 0 and 1; half each under attn"
    assert rules["Mul"] == (gated if op == "Softmax" else "relevance is unchanged")


def test_instance_normalization() -> None:
    fused = Net().model(lambda n, x: channels_last(n, x, "InstanceNormalization", SCALE, SHIFT, epsilon=1e-3))

    def spelled(net: Net, x: str) -> str:
        return net.op("Add", net.op("Mul", standardised(net, x, 1), net.const(SCALE)), net.const(SHIFT))

    def of_any_rank(net: Net, x: str) -> str:
        """After a Squeeze without axes, ONNX infers no rank."""
        return channels_last(net, net.op("Squeeze", x), "InstanceNormalization", SCALE, SHIFT, epsilon=1e-3)

    assert_alike([fused, Net().model(spelled), Net().model(of_any_rank)])


def test_group_normalization_of_one_group() -> None:
    fused = Net(21).model(
        lambda n, x: channels_last(n, x, "GroupNormalization", SCALE, SHIFT, num_groups=1, epsilon=1e-3)
    )

    def spelled(net: Net, x: str) -> str:
        return net.op("Add", net.op("Mul", standardised(net, x, 1, 2), net.const(SCALE)), net.const(SHIFT))

    assert_alike([fused, Net(21).model(spelled)])


def test_mean_variance_normalization() -> None:
    fused = Net().model(lambda net, x: net.op("MeanVarianceNormalization", x, axes=[1]))
    assert_alike([fused, Net().model(lambda net, x: standardised(net, x, 1, epsilon=0.0))])


def test_batch_normalization() -> None:
    mean, variance = rng(5).standard_normal(5), rng(6).uniform(0.5, 2, 5)

    def spelled(net: Net, x: str) -> str:
        factor = SCALE / np.sqrt(variance + 1e-3)
        return net.op("Add", net.op("Mul", x, net.const(factor)), net.const(SHIFT - mean * factor))

    fused = Net().model(
        lambda n, x: channels_last(n, x, "BatchNormalization", SCALE, SHIFT, mean, variance, epsilon=1e-3)
    )
    assert_alike([fused, Net().model(spelled)], default=False)


def test_gemm_of_two_live_values() -> None:
    """It is explained as a product and a sum."""
    bias = rng(3).standard_normal(TIME)

    def rows(net: Net, x: str) -> tuple[str, str]:
        flat = net.op("Reshape", x, net.const(np.array([-1, 5])))
        return flat, net.op("Tanh", flat)

    def fused(net: Net, x: str) -> str:
        left, right = rows(net, x)
        mixed = net.op("Gemm", left, right, net.const(bias[:1]), transB=1, alpha=0.1, beta=2.0)
        return net.op("Reshape", net.op("MatMul", mixed, left), net.const(np.array([-1, TIME, 5])))

    def spelled(net: Net, x: str) -> str:
        left, right = rows(net, x)
        product = net.op("MatMul", left, net.op("Transpose", right, perm=[1, 0]))
        scaled = net.op("Mul", product, net.const(np.array(0.1)))
        mixed = net.op("Add", scaled, net.const(2 * bias[:1]))
        return net.op("Reshape", net.op("MatMul", mixed, left), net.const(np.array([-1, TIME, 5])))

    methods = [lx.LRP(rule, 1e-3, bias_factor=f) for rule in RULES for f in (0.0, 1.0)]
    x = rng(9).standard_normal((1, TIME, WIDTH)).astype(np.float32)
    models = [lx.load(Net().model(layer)) for layer in (fused, spelled)]
    for method in methods:
        first, second = (m.explain({"x": x}, method, lx.Target(index=0)).relevance["x"] for m in models)
        np.testing.assert_allclose(first, second, atol=2e-5 * np.abs(first).max())


def test_simplified_layer_normalization_of_onnx_runtime() -> None:
    """ONNX's checker does not know this operator, but ONNX Runtime runs it."""
    x = rng().standard_normal((3, 5)).astype(np.float32)
    node = helper.make_node("SimplifiedLayerNormalization", ["x", "s"], ["y", "inverse"], axis=-1, epsilon=1e-3)
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 5])
    outputs = [onnx.ValueInfoProto(name=n) for n in ("y", "inverse")]
    scale = numpy_helper.from_array(SCALE.astype(np.float32), "s")
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(
        helper.make_graph([node], "g", [info], outputs, [scale]), opset_imports=opsets, ir_version=8
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    graph = canonicalise(build(model))
    assert "SimplifiedLayerNormalization" not in {n.op for n in graph.nodes}
    received = session_of(graph, graph.nodes, ["x"], ["y", "inverse"]).run(None, {"x": x})
    for a, b in zip(received, session.run(None, {"x": x}), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


# --- attention -------------------------------------------------------------------------------------------------------


def attention(weights: Callable[[Net, str], str]) -> Callable[[Net, str], str]:
    def layer(net: Net, x: str) -> str:
        scores = net.op("MatMul", x, net.op("Transpose", x, perm=[0, 2, 1]))
        return net.op("MatMul", weights(net, net.op("Mul", scores, net.const(np.array(5**-0.5)))), x)

    return layer


def fused_softmax(net: Net, scores: str) -> str:
    return net.op("Softmax", scores, axis=-1)


def spelled_softmax(net: Net, scores: str) -> str:
    largest = net.op("ReduceMax", scores, axes=[-1], keepdims=1)
    return plain_softmax(net, net.op("Sub", scores, largest))


def plain_softmax(net: Net, scores: str) -> str:
    powers = net.op("Exp", scores)
    return net.op("Div", powers, net.op("ReduceSum", powers, net.const(np.array([-1])), keepdims=1))


def test_softmax_in_every_spelling() -> None:
    assert_alike([Net().model(attention(w)) for w in (fused_softmax, spelled_softmax, plain_softmax)], 1e-4)


def test_a_quotient_that_is_not_a_softmax_is_unchanged() -> None:
    """The divisor is the sum over another axis."""

    def layer(net: Net, x: str) -> str:
        powers = net.op("Exp", net.op("Sub", x, net.op("ReduceMax", x, axes=[1], keepdims=1)))
        return net.op("Div", powers, net.op("ReduceSum", powers, net.const(np.array([2])), keepdims=1))

    e = explain(Net().model(layer), lx.LRP(epsilon=1e-3))
    np.testing.assert_allclose(e.ledger.residual, 0, atol=1e-5 * np.abs(e.relevance["x"]).sum())


@pytest.mark.parametrize("opset", [23, 24])
def test_attention_equals_its_definition_in_onnx(opset: int) -> None:
    def fused(net: Net, x: str) -> str:
        return net.op("Attention", x, x, x, q_num_heads=1, kv_num_heads=1)

    models = [Net(opset).model(fused), Net(opset).model(attention(fused_softmax))]
    assert_alike(models, 1e-3)
