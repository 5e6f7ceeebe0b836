"""Equivalent networks give equal answers, and a sample's answer does not depend on its batch.

Cells unrolled into primitives: test_unrolled.py.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import lstm_explain as lx
from tests.builders import Built, network_model, recurrent_model
from tests.engine_checks import batch_axis, check_same
from tests.graph_builder import GraphBuilder
from tests.reference.textbook import PRODUCT_RULES, Layer, Rules, one_hot

SETTINGS = list(itertools.product(PRODUCT_RULES, (0.0, 1.0)))
MODELS: dict[str, dict[str, Any]] = {
    "lstm": {"direction": "bidirectional", "layers": 2, "head": "mean"},
    "lstm-Y_h": {"direction": "bidirectional", "head": "Y_h", "batch_first": True, "peepholes": True},
    "gru": {"op": "GRU", "head": "Y_h", "layers": 2},
    "gru-lbr": {"op": "GRU", "head": "mean", "linear_before_reset": True, "direction": "reverse"},
    "rnn": {"op": "RNN", "head": "sum", "direction": "bidirectional"},
}
PAPERS = lx.LRP(epsilon=1e-3)  # needs float64 where the default does not
EVERY_METHOD = [*(lx.LRP(rule, 0.01, share) for rule, share in SETTINGS), lx.Gradient(), lx.GradientTimesInput()]


def ragged(name: str, B: int = 4) -> tuple[Built, dict[str, Any], lx.Model]:
    rng = np.random.default_rng(41)
    built = recurrent_model(rng, sequence_lens=True, initial_states="input", dtype=np.float64, **MODELS[name])
    return built, built.feeds(rng, T=6, B=B), lx.load(built.model)


def relevance(proto: Any, feeds: dict[str, Any], how: lx.Method, index: Any = 1) -> dict[str, Any]:
    return lx.load(proto).explain(feeds, how, lx.Target(index=index)).relevance


# --- samples in company ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", EVERY_METHOD, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_a_sample_alone_equals_itself_in_a_ragged_batch(name: str, how: lx.Method) -> None:
    """The sample is cut to its own length, because its padding does not matter."""
    built, feeds, model = ragged(name)
    together = model.explain(feeds, how, lx.Target(index=1))
    time = 1 if built.batch_first else 0
    for b, length in enumerate(feeds["lens"]):
        alone = {x: a.take([b], batch_axis(built, x)) for x, a in feeds.items()}
        if MODELS[name]["head"] == "Y_h":  # a mean or sum over all steps knows how many there are
            alone["x"] = alone["x"].take(range(length), time)
        e = model.explain(alone, how, lx.Target(index=1))
        for x in alone:
            expected = together.relevance[x].take([b], batch_axis(built, x))
            if x == "x":
                expected = expected.take(range(alone["x"].shape[time]), time)
            check_same(e.relevance[x], expected, 1e-9, x)
        np.testing.assert_allclose(e.explained[0], together.explained[b], rtol=1e-12)


@pytest.mark.parametrize("how", EVERY_METHOD, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_permuting_the_batch_permutes_the_answer(name: str, how: lx.Method) -> None:
    built, feeds, model = ragged(name)
    order = np.array([2, 0, 3, 1])
    classes = np.array([0, 1, 2, 1])
    straight = model.explain(feeds, how, lx.Target(index=classes))
    moved = {x: a.take(order, batch_axis(built, x)) for x, a in feeds.items()}
    mixed = model.explain(moved, how, lx.Target(index=classes[order]))
    for x in feeds:
        check_same(mixed.relevance[x], straight.relevance[x].take(order, batch_axis(built, x)), 1e-10, x)
    np.testing.assert_allclose(mixed.explained, straight.explained[order], rtol=1e-12)
    np.testing.assert_allclose(mixed.ledger.inputs, straight.ledger.inputs[order], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(mixed.ledger.absorbed, straight.ledger.absorbed[order], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_the_content_of_padding_does_not_matter(name: str) -> None:
    built, feeds, model = ragged(name)
    time_first = feeds["x"].swapaxes(0, 1) if built.batch_first else feeds["x"]
    past = np.arange(len(time_first))[:, None] >= feeds["lens"]
    other = time_first.copy()
    other[past] = 1e6
    again = {**feeds, "x": np.ascontiguousarray(other.swapaxes(0, 1) if built.batch_first else other)}
    for how in EVERY_METHOD:
        first, second = (model.explain(f, how, lx.Target(index=0)) for f in (feeds, again))
        np.testing.assert_array_equal(first.relevance["x"], second.relevance["x"])


def test_the_same_call_twice_gives_the_same_answer_and_leaves_the_inputs_alone() -> None:
    _built, feeds, model = ragged("lstm")
    kept = {x: a.copy() for x, a in feeds.items()}
    for how in EVERY_METHOD:
        first, second = (model.explain(feeds, how, lx.Target(index=0)) for _ in range(2))
        for x in feeds:
            np.testing.assert_array_equal(first.relevance[x], second.relevance[x])
            np.testing.assert_array_equal(feeds[x], kept[x])


def test_memory_layout_does_not_matter() -> None:
    _built, feeds, model = ragged("lstm")
    wide = np.zeros((*feeds["x"].shape[:2], 2 * feeds["x"].shape[2]))
    wide[:, :, ::2] = feeds["x"]
    for x in (np.asfortranarray(feeds["x"]), wide[:, :, ::2], feeds["x"][::-1].copy()[::-1]):
        for how in (lx.LRP("abs"), lx.Gradient()):
            a, b = (model.explain(f, how, lx.Target(index=2)) for f in (feeds, {**feeds, "x": x}))
            np.testing.assert_array_equal(a.relevance["x"], b.relevance["x"])


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


# --- float32, whose rounding LRP magnifies ---------------------------------------------------------------------------


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize(
    "how", [lx.LRP(epsilon=1e-3), lx.LRP("half", 1e-3), lx.LRP(epsilon=0.0), lx.Gradient()], ids=str
)
def test_a_float32_answer_does_not_depend_on_the_batch(op: str, how: lx.Method) -> None:
    """Batches have 1 to 13 samples, because products process eight, four and two samples at once. D and H are not
    multiples of the tiles.
    """
    rng = np.random.default_rng(7)
    built = recurrent_model(rng, op=op, D=5, H=37, sequence_lens=True, head="Y_h", direction="bidirectional")
    model, feeds = lx.load(built.model), built.feeds(rng, T=40, B=13)
    alone = [model.explain({x: a.take([b], batch_axis(built, x)) for x, a in feeds.items()}, how) for b in range(13)]
    for size in range(2, 14):
        some = {x: a.take(range(size), batch_axis(built, x)) for x, a in feeds.items()}
        together = model.explain(some, how)
        for b in range(size):
            expected, received = (
                e.relevance["x"].take(at, batch_axis(built, "x")) for e, at in ((alone[b], 0), (together, b))
            )
            assert np.abs(received - expected).max() <= 1e-6 * np.abs(expected).max(), (size, b)


def test_samples_that_float32_cannot_explain_change_nothing_for_the_others() -> None:
    """Some of these samples need float64."""
    rng = np.random.default_rng(3)
    model = lx.load("models/sentiment/1/model.onnx")
    tokens = rng.integers(1, 8000, (24, 40))
    together = model.explain({"tokens": tokens}, PAPERS)
    left = np.abs(together.ledger.residual / together.explained)
    assert (left < 1e-10).any()
    assert (left > 1e-8).any()
    for b in range(24):
        alone = model.explain({"tokens": tokens[b : b + 1]}, PAPERS)
        expected = alone.relevance["tokens"][0]
        assert np.abs(together.relevance["tokens"][b] - expected).max() <= 1e-6 * np.abs(expected).max()
        assert alone.ledger.residual[0] == pytest.approx(together.ledger.residual[b], abs=1e-9)


def test_samples_in_float64_change_nothing_for_the_others_with_captures() -> None:
    model, tokens = lx.load("models/sentiment/1/model.onnx"), np.random.default_rng(3).integers(1, 8000, (8, 40))
    (cell,) = model.engine.cells
    (y, *_) = next(node.outputs for node in model.engine.graph.nodes if node.name == cell)
    capture = {model.engine.cells[cell].node.inputs[0]: 1, f"{cell}.cell": 2} | ({y: 2} if y else {})
    together = model.explain({"tokens": tokens}, PAPERS, capture=list(capture))
    left = np.abs(together.ledger.residual / together.explained)
    assert (left < 1e-10).any()  # samples in float64
    assert (left > 1e-8).any()  # and others
    for b in range(8):
        alone = model.explain({"tokens": tokens[b : b + 1]}, PAPERS, capture=list(capture))
        assert alone.ledger.residual[0] == pytest.approx(together.ledger.residual[b], abs=1e-9)
        for name, axis in capture.items():
            received, expected = together.captured[name].take(b, axis), alone.captured[name].take(0, axis)
            assert np.abs(received - expected).max() <= 1e-6 * np.abs(expected).max()
