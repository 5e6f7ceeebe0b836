# SPDX-License-Identifier: Apache-2.0
"""Equivalent networks give equal answers. Cells unrolled into primitives: test_unrolled.py."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import lstm_explain as lx
from tests.builders import Built, network_model, recurrent_model
from tests.engine_checks import check_same
from tests.graph_builder import GraphBuilder
from tests.program.layer_networks import EVERY_METHOD, SETTINGS, relevance
from tests.reference.textbook import Layer, Rules, one_hot

# --- one network, written in several ways ----------------------------------------------------------------------------


def halves(layer: Layer) -> list[Layer]:
    """The two directions of a layer as separate layers."""
    return [
        dataclasses.replace(
            layer,
            W=layer.W[d : d + 1],
            R=layer.R[d : d + 1],
            B=None if layer.B is None else layer.B[d : d + 1],
            direction=direction,
        )
        for d, direction in enumerate(("forward", "reverse"))
    ]


def two_nodes(built: Built, head: str) -> Any:
    """A bidirectional network with one node per direction and a Concat."""
    network = built.network
    g = GraphBuilder(built.dtype, 17)
    x = g.input("x", ["T", "B", network.layers[0].W.shape[2]])
    parts = []
    for d, one in enumerate(halves(network.layers[0])):
        weights = [g.constant(a, f"{name}{d}") for name, a in (("W", one.W), ("R", one.R), ("B", one.B))]
        outputs = g.ops(
            one.op,
            [x, *weights],
            3 if one.op == "LSTM" else 2,
            f"way{d}",
            hidden_size=one.hidden,
            direction=one.direction,
        )
        parts.append(g.squeeze(outputs[1], 0) if head == "Y_h" else g.squeeze(outputs[0], 1))
    seen = g.op("Concat", parts, axis=-1)
    if head == "mean":
        seen = g.reduce("mean", seen, 0, "head")
    logits = g.op("Gemm", [seen, g.constant(network.W, "V"), g.constant(network.b, "b")], "dense", transB=1)
    return g.model(logits, ["B", len(network.b)])


@pytest.mark.parametrize("head", ["Y_h", "mean"])
@pytest.mark.parametrize("how", EVERY_METHOD, ids=str)
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_a_bidirectional_node_equals_two_single_ones(op: Any, how: lx.Method, head: Any) -> None:
    rng = np.random.default_rng(44)
    built = recurrent_model(rng, op, direction="bidirectional", head=head, dtype=np.float64)
    feeds = built.feeds(rng, T=5)
    expected = relevance(built.model, feeds, how)["x"]
    check_same(relevance(two_nodes(built, head), feeds, how)["x"], expected, 1e-9)


@pytest.mark.parametrize("how", EVERY_METHOD, ids=str)
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_time_first_and_batch_first_give_the_same(op: Any, how: lx.Method) -> None:
    rng = np.random.default_rng(45)
    built = recurrent_model(rng, op, layers=2, direction="bidirectional", dtype=np.float64)
    turned = network_model(built.network, batch_first=True, dtype=np.float64)
    feeds = built.feeds(rng, T=4)
    expected = relevance(built.model, feeds, how)["x"]
    received = relevance(turned.model, {"x": np.ascontiguousarray(feeds["x"].swapaxes(0, 1))}, how)["x"]
    check_same(received.swapaxes(0, 1), expected, 1e-10)


@pytest.mark.parametrize("how", [lx.LRP("all"), lx.LRP("prop", 0.05), lx.Gradient()], ids=str)
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_layout_1_is_layout_0_transposed(op: Any, how: lx.Method) -> None:
    """The node's layout is batch first, which ONNX Runtime does not support."""
    rng = np.random.default_rng(46)
    built = recurrent_model(rng, op, direction="bidirectional", head="Y_h")
    feeds = built.feeds(rng, T=4)
    layer = built.network.layers[0]
    g = GraphBuilder(np.float32, 17)
    x = g.input("x", ["B", "T", layer.W.shape[2]])
    inputs = [x, g.constant(layer.W, "W"), g.constant(layer.R, "R"), g.constant(layer.B, "B")]
    count = 3 if op == "LSTM" else 2
    outputs = g.ops(op, inputs, count, "layer0", hidden_size=layer.hidden, direction=layer.direction, layout=1)
    seen = g.op("Reshape", [outputs[1], g.ints(0, -1)])  # Y_h is [B, dirs, H]
    logits = g.op("Gemm", [seen, g.constant(built.network.W, "V"), g.constant(built.network.b, "b")], transB=1)
    proto = g.model(logits, ["B", 3])
    expected = lx.load(built.model).explain(feeds, how, lx.Target(index=1))
    received = lx.load(proto).explain({"x": np.ascontiguousarray(feeds["x"].swapaxes(0, 1))}, how, lx.Target(index=1))
    np.testing.assert_allclose(received.outputs["logits"], expected.outputs["logits"], rtol=1e-5, atol=1e-6)
    check_same(received.relevance["x"].swapaxes(0, 1), expected.relevance["x"], 1e-4)


def with_identities(proto: Any) -> Any:
    """The same model with an Identity and a pair of Transposes before every floating-point node input `x`."""
    changed = type(proto)()
    changed.CopyFrom(proto)
    rank = len(changed.graph.input[0].type.tensor_type.shape.dim)
    turn = list(range(rank))[::-1]
    nodes = [
        helper.make_node("Identity", ["x"], ["x_same"]),
        helper.make_node("Transpose", ["x_same"], ["x_turned"], perm=turn),
        helper.make_node("Transpose", ["x_turned"], ["x_back"], perm=turn),
        helper.make_node("Cast", ["x_back"], ["x_double"], to=TensorProto.DOUBLE),
        helper.make_node("Cast", ["x_double"], ["x_single"], to=TensorProto.FLOAT),
    ]
    for node in changed.graph.node:
        for k, name in enumerate(node.input):
            if name == "x":
                node.input[k] = "x_single"
    rest = list(changed.graph.node)
    changed.graph.ClearField("node")
    changed.graph.node.extend([*nodes, *rest])
    return changed


@pytest.mark.parametrize("how", EVERY_METHOD, ids=str)
def test_identities_transposes_and_casts_change_nothing(how: lx.Method) -> None:
    rng = np.random.default_rng(47)
    built = recurrent_model(rng, "LSTM", head="mean")
    feeds = built.feeds(rng, T=4)
    expected = relevance(built.model, feeds, how)["x"]
    check_same(relevance(with_identities(built.model), feeds, how)["x"], expected, 1e-6)


def with_constants_as_nodes(proto: Any) -> Any:
    changed = type(proto)()
    changed.CopyFrom(proto)
    nodes = [
        helper.make_node("Constant", [], [t.name], value=numpy_helper.from_array(numpy_helper.to_array(t)))
        for t in changed.graph.initializer
    ]
    rest = list(changed.graph.node)
    changed.graph.ClearField("initializer")
    changed.graph.ClearField("node")
    changed.graph.node.extend([*nodes, *rest])
    return changed


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_weights_in_constant_nodes_are_weights(op: Any) -> None:
    rng = np.random.default_rng(48)
    built = recurrent_model(rng, op, layers=2, direction="bidirectional", initial_states="constant")
    feeds = built.feeds(rng, T=4)
    for how in EVERY_METHOD:
        expected = relevance(built.model, feeds, how)["x"]
        np.testing.assert_array_equal(relevance(with_constants_as_nodes(built.model), feeds, how)["x"], expected)


@pytest.mark.parametrize("opset", [11, 13, 14, 17, 18, 21])
def test_the_opset_does_not_matter(opset: int) -> None:
    rng = np.random.default_rng(49)
    built = recurrent_model(rng, "LSTM", direction="bidirectional", head="mean", layers=2)
    feeds = built.feeds(rng, T=4)
    expected = relevance(built.model, feeds, lx.LRP("abs"))["x"]
    check_same(relevance(network_model(built.network, opset=opset).model, feeds, lx.LRP("abs"))["x"], expected, 1e-6)


# --- capture ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rule", "bias_factor"), SETTINGS)
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_relevance_between_layers_is_conserved(op: Any, rule: Any, bias_factor: float) -> None:
    """The relevance that leaves the upper part arrives at the lower part, so both ledgers agree at the tensor between
    them.
    """
    rng = np.random.default_rng(50)
    built = recurrent_model(rng, op, layers=2, dtype=np.float64)
    feeds = built.feeds(rng, T=5)
    how = lx.LRP(rule, 0.01, bias_factor)
    e = lx.load(built.model).explain(feeds, how, lx.Target(index=1), capture=["layer0:0", "layer1:0", "x"])
    by_node = e.ledger.by_node
    Y0, Y1 = e.captured["layer0:0"], e.captured["layer1:0"]
    assert Y0.shape == Y1.shape == (5, 1, 3, 5)
    largest = max(np.abs(a).max() for a in (Y0, Y1, e.relevance["x"], *by_node.values()))

    def total(R: Any) -> Any:
        return R.sum(axis=tuple(a for a in range(R.ndim) if a != R.ndim - 2))

    def kept(name: str) -> Any:
        return by_node.get(name, np.zeros(3))

    textbook = built.reference_lrp(feeds, one_hot(1, 3, 3), Rules(rule, 0.01, bias_factor))
    states = [total(h) + total(c) for h, c in zip(textbook.initial_h, textbook.initial_c, strict=True)]
    np.testing.assert_allclose(total(Y1) + kept("dense"), e.explained, atol=1e-11 * largest)
    np.testing.assert_allclose(total(Y0) + kept("layer1") + states[1], total(Y1), atol=1e-10 * largest)
    np.testing.assert_allclose(total(e.relevance["x"]) + kept("layer0") + states[0], total(Y0), atol=1e-10 * largest)
    np.testing.assert_array_equal(e.captured["x"], e.relevance["x"])


def test_the_gradient_at_an_inner_tensor() -> None:
    """At the input of the dense layer, the gradient is a row of the weights."""
    rng = np.random.default_rng(51)
    built = recurrent_model(rng, "LSTM")
    (dense,) = (node for node in built.model.graph.node if node.name == "dense")
    e = lx.load(built.model).explain(
        built.feeds(rng, T=4), lx.Gradient(), lx.Target(index=np.array([2, 0, 1])), capture=[dense.input[0]]
    )
    np.testing.assert_allclose(e.captured[dense.input[0]], built.network.W[[2, 0, 1]], rtol=1e-6)


def test_capturing_changes_no_relevance() -> None:
    rng = np.random.default_rng(52)
    built = recurrent_model(rng, "LSTM", layers=2, direction="bidirectional", head="mean")
    feeds, model = built.feeds(rng, T=4), lx.load(built.model)
    names = [o for node in built.model.graph.node for o in node.output]
    for how in EVERY_METHOD:
        plain = model.explain(feeds, how, lx.Target(index=1))
        for name in ("layer0:0", "layer1:0", "head_out", "dense_out"):
            assert name in names
            e = model.explain(feeds, how, lx.Target(index=1), capture=[name])
            np.testing.assert_array_equal(e.relevance["x"], plain.relevance["x"])
