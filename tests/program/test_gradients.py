# SPDX-License-Identifier: Apache-2.0
"""Gradient and GradientTimesInput against finite differences: of the ONNX model, and of the textbook in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import lstm_explain as lx
from tests.builders import Built, recurrent_model
from tests.engine_checks import check_same
from tests.graph_builder import GraphBuilder
from tests.reference.differences import central_difference, onnx_difference
from tests.reference.textbook import Rules, one_hot
from tests.unrolled_models import unrolled_model

MODELS: dict[str, dict[str, Any]] = {
    "lstm": {},
    "lstm-bidirectional-states": {"direction": "bidirectional", "initial_states": "input", "head": "mean"},
    "lstm-reverse-Y_h": {"direction": "reverse", "head": "Y_h", "batch_first": True},
    "lstm-stacked-Y_c": {"layers": 2, "head": "Y_c", "initial_states": "input"},
    "lstm-lens": {"sequence_lens": True, "direction": "bidirectional", "head": "Y_h"},
    "lstm-constant-states": {"initial_states": "constant", "head": "sum"},
    "lstm-peepholes": {"peepholes": True, "initial_states": "input"},
    "lstm-input-forget": {"input_forget": True, "peepholes": True},
    "lstm-clip": {"clip": 0.4},
    "lstm-softsign": {"activations": ["Sigmoid", "Softsign", "ScaledTanh"], "activation_alpha": [1.5]},
    "lstm-affine": {"activations": ["Sigmoid", "Affine", "Softplus"], "activation_alpha": [0.6]},
    "gru": {"op": "GRU", "initial_states": "input"},
    "gru-lbr": {"op": "GRU", "linear_before_reset": True, "direction": "bidirectional", "head": "mean"},
    "gru-lens": {"op": "GRU", "sequence_lens": True, "head": "Y_h", "direction": "reverse"},
    "gru-clip": {"op": "GRU", "clip": 0.4, "linear_before_reset": True},
    "rnn": {"op": "RNN", "initial_states": "input", "layers": 2},
    "rnn-lens": {"op": "RNN", "sequence_lens": True, "direction": "bidirectional", "head": "sum"},
    "rnn-affine": {"op": "RNN", "activations": ["Affine"], "activation_alpha": [0.6], "activation_beta": [0.1]},
}


def made(name: str, dtype: Any) -> tuple[Built, dict[str, Any], lx.Model]:
    rng = np.random.default_rng(21)
    built = recurrent_model(rng, D=2, H=3, batch=2, dtype=dtype, **MODELS[name])
    return built, built.feeds(rng, T=3, B=2), lx.load(built.model)


def numbers(feeds: dict[str, Any]) -> list[str]:
    return [name for name in feeds if name != "lens"]


@pytest.mark.parametrize("name", MODELS)
def test_gradient_equals_differences_of_the_onnx_model(name: str) -> None:
    built, feeds, model = made(name, np.float32)
    e = model.explain(feeds, lx.Gradient(), lx.Target(index=2))
    step = 5e-3 if "clip" in MODELS[name] else 3e-2  # no kink within two steps
    for x in numbers(feeds):
        expected = onnx_difference(built.model, feeds, x, "logits", (2,), step=step)
        check_same(e.relevance[x], expected, 1e-3 if step < 1e-2 else 2e-4, x)


@pytest.mark.parametrize("name", MODELS)
def test_gradient_equals_differences_of_the_textbook(name: str) -> None:
    """The computation is in float64, so it agrees to about nine digits."""
    built, feeds, model = made(name, np.float64)
    e = model.explain(feeds, lx.Gradient(), lx.Target(index=0))
    for x in numbers(feeds):
        expected = central_difference(
            lambda v, x=x: float(built.reference_forward({**feeds, x: v})[:, 0].sum()), feeds[x]
        )
        check_same(e.relevance[x], expected, 1e-8, x)


@pytest.mark.parametrize("name", MODELS)
def test_gradient_times_input_is_the_product(name: str) -> None:
    _, feeds, model = made(name, np.float32)
    plain, times = (model.explain(feeds, how, lx.Target(index=1)) for how in (lx.Gradient(), lx.GradientTimesInput()))
    for x in numbers(feeds):
        np.testing.assert_allclose(times.relevance[x], plain.relevance[x] * feeds[x], rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(plain.explained, times.explained)


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_an_unrolled_cell_has_the_gradient_of_the_node(op: Any) -> None:
    rng = np.random.default_rng(22)
    built = recurrent_model(rng, op, dtype=np.float64)
    feeds = built.feeds(rng, T=4)
    node = lx.load(built.model).explain(feeds, lx.Gradient(), lx.Target(index=1))
    unrolled = lx.load(unrolled_model(built.network, 4, dtype=np.float64).model)
    check_same(unrolled.explain(feeds, lx.Gradient(), lx.Target(index=1)).relevance["x"], node.relevance["x"], 1e-10)


def test_gradients_are_linear_in_the_target() -> None:
    _, feeds, model = made("lstm-bidirectional-states", np.float64)

    def gradient(**target: Any) -> Any:
        return model.explain(feeds, lx.Gradient(), lx.Target(**target)).relevance["x"]

    weights = np.array([0.5, -2.0, 3.0])
    single = [gradient(index=k) for k in range(3)]
    np.testing.assert_allclose(gradient(weights=weights), np.tensordot(weights, single, 1), atol=1e-14)
    np.testing.assert_allclose(gradient(index=2, contrast=0), single[2] - single[0], atol=1e-14)


def test_a_linear_network_is_its_gradient_times_input_and_so_is_its_lrp() -> None:
    """RNN with an affine activation and no bias, epsilon 0: one answer, and with the bias it is the output."""
    rng = np.random.default_rng(23)
    built = recurrent_model(
        rng, "RNN", bias=False, activations=["Affine"], activation_alpha=[1.0], layers=2, dtype=np.float64
    )
    b = built.network.b
    feeds, model = built.feeds(rng, T=4), lx.load(built.model)
    times = model.explain(feeds, lx.GradientTimesInput(), lx.Target(index=1))
    lrp = model.explain(feeds, lx.LRP(epsilon=0.0), lx.Target(index=1))
    total = times.relevance["x"].sum(axis=(0, 2))
    np.testing.assert_allclose(total, times.explained - b[1], rtol=1e-10)
    np.testing.assert_allclose(lrp.ledger.absorbed, b[1], rtol=1e-9)
    textbook = built.reference_lrp(feeds, one_hot(1, 3, 3), Rules("all", 1e-14))
    check_same(lrp.relevance["x"], textbook.x, 1e-9)
    check_same(lrp.relevance["x"], times.relevance["x"], 1e-9)


HEADS = ["Softmax", "LogSoftmax", "Sigmoid"]


def with_head(activation: str) -> tuple[Any, dict[str, Any]]:
    rng = np.random.default_rng(24)
    g = GraphBuilder(np.float32, 17)
    x = g.input("x", ["B", 4])
    z = g.op("Gemm", [x, g.constant(rng.normal(size=(3, 4)), "W"), g.constant(rng.normal(size=3), "b")], transB=1)
    model = g.model(g.op(activation, [z]), ["B", 3], rename="y")
    model.graph.output.append(helper.make_tensor_value_info(z, TensorProto.FLOAT, ["B", 3]))
    return model, {"x": rng.normal(size=(2, 4)).astype(np.float32)}


@pytest.mark.parametrize("activation", HEADS)
def test_a_final_activation_is_skipped_or_differentiated(activation: str) -> None:
    proto, feeds = with_head(activation)
    model, z = lx.load(proto), proto.graph.output[1].name
    pre = model.explain(feeds, lx.Gradient(), lx.Target("y", 1))
    check_same(pre.relevance["x"], onnx_difference(proto, feeds, "x", z, (1,)), 2e-4)
    np.testing.assert_allclose(pre.explained, pre.outputs[z][:, 1], rtol=1e-6)
    post = model.explain(feeds, lx.Gradient(), lx.Target("y", 1, pre_activation=False))
    check_same(post.relevance["x"], onnx_difference(proto, feeds, "x", "y", (1,)), 2e-4)
    np.testing.assert_allclose(post.explained, post.outputs["y"][:, 1], rtol=1e-6)


@pytest.mark.parametrize("activation", HEADS)
def test_the_default_class_is_the_predicted_one(activation: str) -> None:
    proto, feeds = with_head(activation)
    e = lx.load(proto).explain(feeds, lx.Gradient())
    z = e.outputs[proto.graph.output[1].name]
    np.testing.assert_allclose(e.explained, z.max(axis=1), rtol=1e-6)
