# SPDX-License-Identifier: Apache-2.0
"""product_rule="attn": attention by the formulas of AttnLRP, entry by entry; everything else as under "all"."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

import lstm_explain as lx
from tests import zoo
from tests.attention_models import (
    FORMS,
    attention_model,
    causal,
    hybrid_model,
    made_attention,
    made_lstm,
    recurrent_model,
)
from tests.compiled.compiled_files import check_like_engine, run_file
from tests.engine_checks import check_ledger, check_same, method
from tests.graph_builder import GraphBuilder, run
from tests.reference.attention import OverLstm, product_lrp, softmax, softmax_lrp
from tests.reference.common import Relative, Rules
from tests.reference.dense import dense_lrp, mean_lrp
from tests.reference.layer import Layer, layer_forward, layer_lrp

AnyArray = npt.NDArray[Any]
STEPS, WIDTH, BATCH = 5, 6, 3
SETTINGS = {"exact": Rules(epsilon=0.0), "papers": Rules(epsilon=1e-3), "relative": Rules(relative=Relative())}
RNG = np.random.default_rng(9)
X = RNG.standard_normal((BATCH, STEPS, WIDTH))
WEIGHTS = RNG.standard_normal((STEPS, WIDTH))
TARGET = lx.Target(weights=WEIGHTS)


def attn(rules: Rules) -> lx.LRP:
    """The textbook's settings, under which gates are as in "all"."""
    own = method(rules).parameters() | {"product_rule": "attn"}
    return lx.LRP(**{name: value for name, value in own.items() if value is not None})


# --- the formulas ----------------------------------------------------------------------------------------------------


def test_the_rules_of_the_paper_by_hand() -> None:
    """Two scores, 0 and log 3: the weights are 1/4 and 3/4. Two terms of a product, 2 * 3 and -1 * 4."""
    R, rest = softmax_lrp(np.array([0.0, np.log(3)]), np.array([1.0, 2.0]))
    np.testing.assert_allclose(R, [0.0, np.log(3) * (2 - 0.75 * 3)])
    np.testing.assert_allclose(rest, 3 - R.sum())
    R_A, R_V, absorbed = product_lrp(
        np.array([[2.0, -1.0]]), np.array([[3.0], [4.0]]), np.array([[5.0]]), Rules("all", 0)
    )
    np.testing.assert_allclose(R_A, [[6 * 5 / 4, -4 * 5 / 4]])
    np.testing.assert_allclose(R_V, R_A.T)
    assert absorbed == 0


# A Mul with its ReduceSum and the mask's Add are one neuron with one stabiliser, and ONNX's function scales query and
# key before their product, so these forms differ from the textbook where a stabiliser acts.
OTHER_SUMS = {("mul", True, "papers"), ("mul", True, "relative"), *(("attention", m, "papers") for m in (False, True))}


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize(
    ("form", "masked", "settings"),
    [own for own in itertools.product(FORMS, (False, True), SETTINGS) if own not in OTHER_SUMS],
)
def test_self_attention_equals_the_textbook(form: str, masked: bool, settings: str, heads: int) -> None:
    rules, tolerance = SETTINGS[settings], 1e-6 if form == "attention" else 1e-9  # that function's scale is in float32
    own = made_attention(WIDTH, heads, causal(STEPS) if masked else None)
    e = lx.load(attention_model(own, STEPS, form)).explain({"x": X}, attn(rules), TARGET)
    for b in range(BATCH):
        y = own.forward(X[b])
        np.testing.assert_allclose(e.outputs["logits"][b], y, atol=tolerance)
        expected, absorbed = own.lrp(X[b], WEIGHTS * y, rules)
        check_same(e.relevance["x"][b], expected, tolerance)
        np.testing.assert_allclose(e.ledger.absorbed[b], absorbed.total, atol=tolerance * np.abs(expected).sum())
        if form != "attention":  # the rest of the rule is in the ledger under the name of the Softmax
            np.testing.assert_allclose(e.ledger.by_node["softmax"][b], absorbed.softmax, atol=1e-9)
    check_ledger(e, {"x": 0}, relative=1e-9)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("heads", [1, 3])
def test_attention_over_an_lstm_equals_the_textbook(heads: int, settings: str) -> None:
    rules, readout, x = SETTINGS[settings], RNG.standard_normal((WIDTH, 2)), RNG.standard_normal((BATCH, STEPS, 3))
    own = OverLstm(made_attention(WIDTH, heads), made_lstm(3, WIDTH), readout)
    e = lx.load(recurrent_model(own, STEPS)).explain({"x": x}, attn(rules), lx.Target(index=1))
    expected, absorbed = own.lrp(x, 1, rules)
    check_same(e.relevance["x"], expected, 1e-9)
    np.testing.assert_allclose(e.outputs["logits"], own.forward(x), atol=1e-9)
    assert (np.abs(e.ledger.absorbed - absorbed) <= 1e-9 * np.abs(expected).sum(axis=(1, 2))).all()


def test_additive_attention_of_pytorch_equals_the_textbook() -> None:
    """Scores that a small network computes, in float32: Softmax over time, Mul and ReduceSum."""
    case = zoo.load("t_lstm_addattn_legacy17")
    proto = onnx.load(case.path)
    W = {t.name: onnx.numpy_helper.to_array(t).astype(np.float64) for t in proto.graph.initializer}
    nodes = {n.name: n for n in proto.graph.node}
    layer = Layer("LSTM", *(W[name] for name in nodes["/rnn/LSTM"].input[1:4]))
    W_w, W_v = W[nodes["/w/MatMul"].input[1]], W[nodes["/v/MatMul"].input[1]]
    rules, (x,) = Rules(relative=Relative()), case.inputs.values()
    index = case.target_index[-1]
    e = lx.load(case.path).explain(case.inputs, lx.LRP("attn"), lx.Target(index=index))
    Y = layer_forward(layer, x.swapaxes(0, 1)).Y[:, 0].swapaxes(0, 1)  # [B, T, H]
    R_Y, of_softmax = np.zeros_like(Y), np.zeros(len(Y))
    for b, h in enumerate(Y):
        at_tanh = np.tanh(h @ W_w + W["w.bias"])
        scores = (at_tanh @ W_v)[:, 0]
        a = softmax(scores)
        context = a @ h
        R_z = np.zeros(len(W["fc.bias"]))
        R_z[index] = (W["fc.weight"] @ context + W["fc.bias"])[index]
        R_context, _ = dense_lrp(context, W["fc.weight"], W["fc.bias"], R_z, rules)
        R_terms, _ = mean_lrp(a[:, None] * h * len(a), R_context, rules)
        R_scores, of_softmax[b] = softmax_lrp(scores, R_terms.sum(axis=1) / 2)
        R_Y[b] = R_terms / 2
        for t in range(len(a)):
            R_tanh, _ = dense_lrp(at_tanh[t], W_v.T, np.zeros(1), R_scores[t : t + 1], rules)
            R_Y[b, t] += dense_lrp(h[t], W_w.T, W["w.bias"], R_tanh, rules)[0]
    expected = layer_lrp(layer, x.swapaxes(0, 1), rules, R_Y.swapaxes(0, 1)[:, None])
    check_same(e.relevance["x"], expected.x.swapaxes(0, 1), 1e-4)
    np.testing.assert_allclose(e.ledger.by_node["/Softmax"], of_softmax, atol=1e-5 * np.abs(expected.x).sum())
    check_ledger(e, {"x": 0})


def test_attention_behind_a_selective_scan_equals_the_textbook() -> None:
    """What arrives at attention's input; the output projection and the residual sum are one neuron."""
    own, rules = made_attention(WIDTH, 2), Rules(relative=Relative())
    proto = hybrid_model(own, STEPS, np.float64)
    e = lx.load(proto).explain({"x": X}, lx.LRP("attn"), lx.Target(index=2), capture=["gated_out"])
    check_ledger(e, {"x": 0}, relative=1e-9)
    (gated,) = run(with_output(proto, "gated_out"), {"x": X}, "gated_out")
    for b in range(BATCH):
        mixed = own.mixed(gated[b])
        units, W = np.concatenate([gated[b, -1], mixed[-1]]), np.hstack([np.eye(WIDTH), own.weights["O"].T])
        z = W @ units + own.weights["o"]
        np.testing.assert_allclose(e.outputs["logits"][b], z, atol=1e-9)
        R_units, _ = dense_lrp(units, W, own.weights["o"], np.where(np.arange(WIDTH) == 2, z, 0), rules)
        R_mixed = np.zeros((STEPS, WIDTH))
        R_mixed[-1] = R_units[WIDTH:]
        expected, _ = own.lrp_of_mixed(gated[b], R_mixed, rules)
        expected[-1] += R_units[:WIDTH]
        check_same(e.captured["gated_out"][b], expected, 1e-9)


def with_output(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
    proto.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, None))
    return proto


# --- what is attention -----------------------------------------------------------------------------------------------


def gated_model(kind: str) -> onnx.ModelProto:
    """A Softmax over x W that weighs x ("weighs"), through a mask and a dropout ("moved"), after its weights are
    normalised again ("again"), that a sum reads ("summed"), or at the end of the output ("head"); or the same with a
    Sigmoid ("sigmoid").
    """
    g = GraphBuilder(np.float64, 17)
    x = g.input("x", ["batch", STEPS, WIDTH])
    scores = g.op("MatMul", [x, g.constant(np.random.default_rng(3).standard_normal((WIDTH, WIDTH)), "W")], "dense")
    if kind == "head":
        return g.model(g.op("Softmax", [scores], "softmax", axis=-1), ["batch", STEPS, WIDTH])
    operator, attributes = ("Sigmoid", {}) if kind == "sigmoid" else ("Softmax", {"axis": 1})
    weights = g.op(operator, [scores], "softmax", **attributes)
    if kind == "moved":
        mask = g.constant(np.arange(STEPS)[:, None] > 0, "mask")
        dropped = g.op("Mul", [weights, g.constant(np.array(1.25), "scale")])
        weights = g.op("Where", [mask, dropped, g.constant(np.array(0.0), "zero")])
    if kind == "again":
        weights = g.op("Div", [weights, g.op("ReduceSum", [weights, g.ints(2)], keepdims=1)])
    product = g.op("Add" if kind == "summed" else "Mul", [weights, x], "product")
    return g.model(g.op("ReduceSum", [product, g.ints(1)], "sum", keepdims=0), ["batch", WIDTH])


ATTENTION = {"weighs": True, "moved": True, "again": True, "summed": False, "head": False, "sigmoid": False}
OUTPUT = {"head": lx.Target(index=(1, 2))}


@pytest.mark.parametrize("kind", ATTENTION)
def test_a_softmax_that_weighs_a_live_value_is_attention(kind: str) -> None:
    model, target = lx.load(gated_model(kind)), OUTPUT.get(kind, lx.Target(index=2))
    marked = {n.name for n in model.report().nodes if n.attention}
    products = set() if kind == "again" else {"product"}  # weights that are normalised again are no gate
    assert marked == ({"softmax"} | products if ATTENTION[kind] else set())
    e, usual = (model.explain({"x": X}, lx.LRP(rule), target) for rule in ("attn", "all"))
    check_ledger(e, {"x": 0}, relative=1e-9)
    assert np.array_equal(e.relevance["x"], usual.relevance["x"]) != ATTENTION[kind]
    assert ("softmax" in e.ledger.by_node) == ATTENTION[kind]


def test_the_rules_are_in_the_report() -> None:
    rules = {n.name: n.rule for n in lx.load(gated_model("weighs")).report().nodes}
    assert rules["softmax"].endswith("the softmax rule under attn")
    assert rules["product"].endswith("half each under attn")
    assert "attn" not in rules["dense"] + rules["sum"]


def test_what_the_caller_says_of_gates_counts() -> None:
    model = lx.load(gated_model("weighs"), gates={"product": 0})
    assert not any(n.attention for n in model.report().nodes)
    e, usual = (model.explain({"x": X}, lx.LRP(rule), lx.Target(index=2)) for rule in ("attn", "all"))
    np.testing.assert_array_equal(e.relevance["x"], usual.relevance["x"])


NO_ATTENTION = [name for name in zoo.names() if name != "t_lstm_addattn_legacy17"]


@pytest.mark.parametrize("name", NO_ATTENTION)
def test_without_attention_it_is_the_rule_all(name: str) -> None:
    """Bit for bit, gates included: of LSTM, GRU and unrolled cells, a Softmax at the end, If and Loop."""
    case = zoo.load(name)
    model, target = lx.load(case.path), lx.Target(output=case.target_output, index=case.target_index)
    for parameters in ({}, {"epsilon": 0.01, "bias_factor": 1.0}):
        usual, e = (model.explain(case.inputs, lx.LRP(rule, **parameters), target) for rule in ("all", "attn"))
        for key, array in usual.relevance.items():
            np.testing.assert_array_equal(e.relevance[key], array)
        for key, amounts in usual.ledger.by_node.items():
            np.testing.assert_array_equal(e.ledger.by_node[key], amounts)
        assert not any(node.attention for node in model.report().nodes)


def test_gates_of_scores_stay_gates() -> None:
    """Gated additive attention (Ilse et al. 2018, arXiv 1802.04712): the Sigmoid gates the Tanh under both rules, but a
    matrix product of query and key is halved even where the query is a Sigmoid's.
    """
    rng = np.random.default_rng(3)
    for product in ("Mul", "MatMul"):
        g = GraphBuilder(np.float64, 17)
        x = g.input("x", ["batch", STEPS, WIDTH])
        left, right = (g.op("MatMul", [x, g.constant(rng.standard_normal((WIDTH, WIDTH)), n)]) for n in "UV")
        gate, signal = g.op("Sigmoid", [left], "gate"), g.op("Tanh", [right], "signal")
        if product == "Mul":
            hidden = g.op("Mul", [gate, signal], "inner")
            scores = g.op("MatMul", [hidden, g.constant(rng.standard_normal((WIDTH, STEPS)), "w")], "dense")
        else:
            scores = g.op("MatMul", [gate, g.op("Transpose", [signal], perm=[0, 2, 1])], "inner")
        mixed = g.op("MatMul", [g.op("Softmax", [scores], "softmax", axis=-1), x], "outer")
        model = lx.load(g.model(mixed, ["batch", STEPS, WIDTH]))
        marked = {n.name for n in model.report().nodes if n.attention}
        assert marked == {"softmax", "outer"} | ({"inner"} if product == "MatMul" else set())
        e = model.explain({"x": X}, lx.LRP("attn"), TARGET, capture=["gate_out", "signal_out"])
        assert bool(e.captured["gate_out"].any()) == (product == "MatMul")
        assert e.captured["signal_out"].any()


def test_attention_inside_a_loop_has_the_same_rules() -> None:
    """A decoder attends at every step, in the body of a Scan."""
    own = made_attention(WIDTH, 1)
    body = GraphBuilder(np.float64, 17)
    scores = body.op("MatMul", ["memory", body.op("Unsqueeze", ["state", body.ints(2)])], "scores")
    weights = body.op("Softmax", [scores], "softmax", axis=1)
    mixed = body.op("ReduceSum", [body.op("Mul", [weights, "memory"], "weighed"), body.ints(1)], "mixed", keepdims=0)
    state = body.op("Tanh", [body.op("Add", [mixed, "x_t"], "summed")], "next")
    ins = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.DOUBLE, None) for n in ("state", "x_t")]
    outs = [onnx.helper.make_tensor_value_info(state, onnx.TensorProto.DOUBLE, None)]
    inner = onnx.helper.make_graph(body.nodes, "body", ins, outs, list(body.initializers.values()))
    g = GraphBuilder(np.float64, 17)
    x = g.input("x", ["batch", STEPS, WIDTH])
    g.nodes.append(onnx.helper.make_node("MatMul", [x, g.constant(own.weights["K"], "K")], ["memory"], name="memory"))
    start = g.op("ReduceMean", [x], "start", axes=[1], keepdims=0)
    last = g.ops("Scan", [start, x], 1, "scan", body=inner, num_scan_inputs=1, scan_input_axes=[1])[0]
    model = lx.load(g.model(last, ["batch", WIDTH]))
    marked = {n.name for n in model.report().nodes if n.attention}
    assert marked == {f"scan/body/{name}" for name in ("softmax", "weighed")}
    for _ in range(3):
        e = model.explain({"x": X}, lx.LRP("attn"), lx.Target(index=1))
        check_ledger(e, {"x": 0}, relative=1e-9)
    assert any(name.endswith("softmax") for name in e.ledger.by_node)
    check_like_engine(run_file(lx.compile(model, method=lx.LRP("attn"), target=lx.Target(index=1)), {"x": X}), e)


def test_an_input_that_only_chooses_the_weights_receives_relevance() -> None:
    """Under "all" it feeds a gate only, and the answer says so."""
    g = GraphBuilder(np.float64, 17)
    x, q = g.input("x", ["batch", STEPS, WIDTH]), g.input("q", ["batch", STEPS])
    weights = g.op("Unsqueeze", [g.op("Softmax", [q], "softmax", axis=-1), g.ints(2)])
    mixed = g.op("ReduceSum", [g.op("Mul", [weights, x], "product"), g.ints(1)], "sum", keepdims=0)
    model = lx.load(g.model(mixed, ["batch", WIDTH]))
    feeds = {"x": X, "q": RNG.standard_normal((BATCH, STEPS))}
    for rule, warned in (("all", True), ("attn", False)):
        e = model.explain(feeds, lx.LRP(rule), lx.Target(index=1))
        assert e.relevance["q"].any() != warned
        assert any(w.startswith("feeds gates only") for w in e.warnings) == warned


# --- a sample in company, and other ways to the same answer ----------------------------------------------------------

MODELS = {
    "self-attention": lambda: attention_model(made_attention(WIDTH, 2, causal(STEPS)), STEPS, dtype=np.float32),
    "products of elements": lambda: attention_model(made_attention(WIDTH, 2), STEPS, "mul", np.float32),
    "recurrent": lambda: recurrent_model(
        OverLstm(made_attention(WIDTH, 2), made_lstm(WIDTH, WIDTH), WEIGHTS.T), STEPS, np.float32
    ),
    "hybrid": lambda: hybrid_model(made_attention(WIDTH, 2), STEPS),
    "over time": lambda: over_time(),
}


def over_time() -> onnx.ModelProto:
    """Softmax over the first axis, with one score per step: of one sample, the sum is over neighbours in memory."""
    g = GraphBuilder(np.float32, 17)
    x = g.input("x", ["batch", 40, WIDTH])
    first = g.op("Transpose", [x], perm=[1, 0, 2])
    scores = g.op("MatMul", [first, g.constant(np.random.default_rng(3).standard_normal((WIDTH, 1)), "w")], "dense")
    weighed = g.op("Mul", [g.op("Softmax", [scores], "softmax", axis=0), first], "weighed")
    return g.model(g.op("ReduceSum", [weighed, g.ints(0)], "sum", keepdims=0), ["batch", WIDTH])


@pytest.mark.parametrize("name", MODELS)
def test_a_sample_alone_equals_itself_in_a_batch_bit_for_bit(name: str) -> None:
    model = lx.load(MODELS[name]())
    steps = 40 if name == "over time" else STEPS
    x = np.random.default_rng(8).standard_normal((7, steps, WIDTH)).astype(np.float32)
    target = lx.Target(weights=WEIGHTS) if name in ("self-attention", "products of elements") else lx.Target(index=1)
    for _ in range(3):  # the last ones by a specialised program
        together = model.explain({"x": x}, lx.LRP("attn"), target)
        check_ledger(together, {"x": 0})
        compared = 0
        for b in range(len(x)):
            alone = model.explain({"x": x[b : b + 1]}, lx.LRP("attn"), target)
            if np.array_equal(alone.outputs["logits"][0], together.outputs["logits"][b]):  # ONNX Runtime may round
                np.testing.assert_array_equal(alone.relevance["x"][0], together.relevance["x"][b])
                compared += 1
        assert compared > len(x) // 2


@pytest.mark.parametrize("name", MODELS)
def test_a_compiled_file_gives_the_same_answer(name: str) -> None:
    proto, steps = MODELS[name](), 40 if name == "over time" else STEPS
    x = np.random.default_rng(8).standard_normal((3, steps, WIDTH)).astype(np.float32)
    target = lx.Target(weights=WEIGHTS) if name in ("self-attention", "products of elements") else lx.Target(index=1)
    model = lx.load(proto)
    found = run_file(lx.compile(model, method=lx.LRP("attn"), target=target), {"x": x})
    check_like_engine(found, model.explain({"x": x}, lx.LRP("attn"), target))


def test_what_float32_cannot_resolve_is_answered_in_float64() -> None:
    """An explained value that is next to nothing beside what cancels in it, for the first sample."""
    own, x = made_attention(WIDTH, 2), X.astype(np.float32)
    y = own.forward(x[0].astype(np.float64))
    target = lx.Target(weights=WEIGHTS - y * ((WEIGHTS * y).sum() / (y * y).sum()) * (1 - 1e-5))
    single, double = (lx.load(attention_model(own, STEPS, dtype=dtype)) for dtype in (np.float32, np.float64))
    e = single.explain({"x": x}, lx.LRP("attn"), target)
    finer = double.explain({"x": x.astype(np.float64)}, lx.LRP("attn"), target)
    assert np.abs(finer.explained[0]) < 1e-4 < np.abs(finer.explained[1:]).min()
    assert (np.abs(e.ledger.residual) <= 5e-5 * np.abs(finer.explained)).all()
    check_same(e.relevance["x"], finer.relevance["x"], 1e-6)


def test_many_targets_equal_one_after_the_other() -> None:
    model = lx.load(MODELS["recurrent"]())
    x = RNG.standard_normal((2, STEPS, WIDTH)).astype(np.float32)
    targets = [lx.Target(index=k) for k in range(4)]
    for e, target in zip(model.explain_many({"x": x}, lx.LRP("attn"), targets), targets, strict=True):
        np.testing.assert_array_equal(e.relevance["x"], model.explain({"x": x}, lx.LRP("attn"), target).relevance["x"])


def test_rules_for_dense_layers_leave_the_products_of_attention() -> None:
    """The projections are dense layers, the products of live values are not: as when the projections are named."""
    model = lx.load(attention_model(made_attention(WIDTH, 2), STEPS))
    dense = [n.name for n in model.report().nodes if n.op == "MatMul" and n.name not in ("scores", "weighed")]
    for rule in ("all", "attn"):
        kind, named = (lx.Composite(dict.fromkeys(keys, lx.Gamma(0.25))) for keys in (["dense"], dense))
        e, expected = (model.explain({"x": X}, lx.LRP(rule, composite=c), TARGET) for c in (kind, named))
        np.testing.assert_array_equal(e.relevance["x"], expected.relevance["x"])
        assert not np.array_equal(e.relevance["x"], model.explain({"x": X}, lx.LRP(rule), TARGET).relevance["x"])


def test_gradients_have_no_rules_of_attention() -> None:
    """Gradient × input of a sum over attention, by central differences."""
    own = made_attention(WIDTH, 2)
    model = lx.load(attention_model(own, STEPS))
    e, step = model.explain({"x": X}, lx.Gradient(), TARGET), 1e-6
    for place in ((0, 1, 2), (2, 4, 0)):
        up, down = X[place[0]].copy(), X[place[0]].copy()
        up[place[1:]] += step
        down[place[1:]] -= step
        slope = (WEIGHTS * (own.forward(up) - own.forward(down))).sum() / (2 * step)
        np.testing.assert_allclose(e.relevance["x"][place], slope, rtol=1e-5)
