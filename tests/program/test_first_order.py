# SPDX-License-Identifier: Apache-2.0
"""Relevance in graphs that compute with logarithms, and the exponential gates of newer recurrences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import lstm_explain as lx
from lstm_explain.evaluate.agreement import rank_correlation
from tests.graph_builder import AnyArray, GraphBuilder, run

EXPORTS = Path(__file__).parents[1] / "exports"
STEPS, TAGS, BATCH = 5, 3, 4
METHODS = [lx.LRP(), lx.LRP(epsilon=1e-3), lx.LRP("half", bias_factor=1.0)]


def log_sum_exp(g: GraphBuilder, z: str, how: str) -> str:
    """[B, K, K] to [B, K], by the operator or as frameworks write it out."""
    if how == "operator":
        return g.with_axes("ReduceLogSumExp", z, [1], since=18, keepdims=0)
    largest = g.with_axes("ReduceMax", z, [1], since=18, keepdims=1)
    total = g.reduce("sum", g.op("Exp", [g.op("Sub", [z, largest])]), 1, f"total_{len(g.nodes)}")
    return g.op("Add", [g.op("Log", [total]), g.squeeze(largest, 1)])


def forward_algorithm(how: str, *, padded: bool = False) -> onnx.ModelProto:
    """The scores alpha_T [B, K] of a conditional random field from its emissions x [B, T, K]."""
    rng = np.random.default_rng(3)
    g = GraphBuilder(np.float64, 17)
    x = g.input("x", ["B", STEPS, TAGS])
    transitions = g.constant(rng.standard_normal((1, TAGS, TAGS)), "transitions")
    if padded:  # a tag that nothing may follow
        barred = g.constant(np.eye(TAGS)[None, :1].astype(bool).transpose(0, 2, 1), "barred")
    alpha = g.op("Gather", [x, g.constant(np.array(0), "step_0")], axis=1)
    for t in range(1, STEPS):
        scores = g.op("Add", [g.unsqueeze(alpha, 2), transitions])
        if padded:
            scores = g.op("Where", [barred, g.constant(np.array(-np.inf), "never"), scores])
        emission = g.op("Gather", [x, g.constant(np.array(t), f"step_{t}")], axis=1)
        alpha = g.op("Add", [log_sum_exp(g, scores, how), emission])
    return g.model(alpha, ["B", TAGS])


def times_gradient(model: onnx.ModelProto, x: AnyArray, index: int, step: float = 1e-5) -> AnyArray:
    """x times the gradient of the output `index`, by central differences of ONNX Runtime's own answers."""
    gradient = np.zeros_like(x)
    for place in np.ndindex(x.shape[1:]):
        there, back = x.copy(), x.copy()
        there[:, *place] += step
        back[:, *place] -= step
        ends = [run(model, {"x": moved})[0][:, index] for moved in (there, back)]
        gradient[:, *place] = (ends[0] - ends[1]) / (2 * step)
    return x * gradient


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("how", ["operator", "written out"])
def test_scores_of_a_conditional_random_field(how: str, padded: bool, method: lx.LRP) -> None:
    model = forward_algorithm(how, padded=padded)
    x = np.random.default_rng(1).standard_normal((BATCH, STEPS, TAGS))
    e = lx.load(model).explain({"x": x}, method, lx.Target(index=2))
    expected = times_gradient(model, x, 2)
    np.testing.assert_allclose(e.relevance["x"], expected, atol=1e-6)
    total = e.relevance["x"].sum(axis=(1, 2))
    np.testing.assert_allclose(e.explained, run(model, {"x": x})[0][:, 2], rtol=1e-6)
    np.testing.assert_allclose(total + e.ledger.absorbed, e.explained, atol=1e-6)


def scan(unit: float = 1.0) -> onnx.ModelProto:
    """h [B, K], the sum over t of v_t times the product of the later gates, computed from logarithms.

    v = x / unit is positive. The gates are sigmoids of constants.
    """
    rng = np.random.default_rng(5)
    g = GraphBuilder(np.float64, 17)
    x = g.input("x", ["B", STEPS, TAGS])
    log_v = g.op("Log", [g.op("Div", [x, g.constant(np.array(unit), "unit")])])
    log_gates = g.constant(-np.log1p(np.exp(-rng.standard_normal((1, STEPS, TAGS)))), "log_gates")
    passed = g.op("CumSum", [log_gates, g.constant(np.array(1), "axis")], exclusive=1, reverse=1)
    terms = g.op("Add", [log_v, passed])
    h = g.op("Exp", [g.with_axes("ReduceLogSumExp", terms, [1], since=18, keepdims=0)])
    weights = g.constant(rng.standard_normal((TAGS, 2)), "weights")
    return g.model(g.op("MatMul", [h, weights]), ["B", 2])


@pytest.mark.parametrize("unit", [1.0, 1e-6, 1e6])
def test_a_scan_first_order_shares_the_sum_that_it_computes(unit: float) -> None:
    """h is homogeneous of degree one in x, so that x times the gradient adds up to it (Euler)."""
    x = np.exp(np.random.default_rng(2).standard_normal((BATCH, STEPS, TAGS)))
    model = scan(unit)
    e = lx.load(model).explain({"x": x}, lx.LRP(epsilon=0.0), lx.Target(index=1))
    np.testing.assert_allclose(e.relevance["x"] * unit, times_gradient(scan(), x, 1), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(e.relevance["x"].sum(axis=(1, 2)), e.explained, rtol=1e-6)


def test_masked_scores_can_be_captured() -> None:
    """Their density is zero where they are minus infinity, and so is their relevance."""
    g = GraphBuilder(np.float64, 17)
    x, barred = g.input("x", ["B", STEPS]), g.constant(np.arange(STEPS)[None] > 2, "barred")
    scores = g.op("Where", [barred, g.constant(np.array(-np.inf), "never"), x])
    model = lx.load(g.model(g.with_axes("ReduceLogSumExp", scores, [1], since=18, keepdims=1), ["B", 1]))
    inputs = np.random.default_rng(9).standard_normal((BATCH, STEPS))
    e = model.explain({"x": inputs}, lx.LRP(), lx.Target(index=0), capture=[scores])
    np.testing.assert_array_equal(e.captured[scores][:, 3:], 0)
    np.testing.assert_allclose(e.captured[scores][:, :3], e.relevance["x"][:, :3], rtol=1e-12)


def test_samples_of_a_batch_are_explained_alone() -> None:
    model = lx.load(forward_algorithm("operator"))
    x = np.random.default_rng(6).standard_normal((BATCH, STEPS, TAGS))
    together = model.explain({"x": x}, lx.LRP(), lx.Target(index=0))
    for b in range(BATCH):
        alone = model.explain({"x": x[b : b + 1]}, lx.LRP(), lx.Target(index=0))
        np.testing.assert_array_equal(together.relevance["x"][b], alone.relevance["x"][0])


@pytest.mark.parametrize("other", ["Tanh", "Sigmoid", "Identity"])
def test_an_exponential_is_a_gate_where_there_is_no_other(other: str) -> None:
    g = GraphBuilder(np.float64, 17)
    k, v = g.input("k", ["B", TAGS]), g.input("v", ["B", TAGS])
    product = g.op("Mul", [g.op("Exp", [k]), g.op(other, [v])])
    model = lx.load(g.model(g.reduce("sum", product, 1, "total"), ["B"]))
    rng = np.random.default_rng(7)
    inputs = {name: rng.standard_normal((BATCH, TAGS)) for name in "kv"}
    e = model.explain(inputs, lx.LRP("all", epsilon=0.0))
    signal, gate = ("k", "v") if other == "Sigmoid" else ("v", "k")
    np.testing.assert_array_equal(e.relevance[gate], 0)
    assert np.all(e.relevance[signal] != 0)


def test_weights_of_constants_pass_their_density() -> None:
    """y = sum of w * sigmoid(s (x - mu)) * e, over the sum of w * sigmoid(s (x - mu)), as in a liquid cell.

    The divisor counts as a constant; relevance is x times the derivative of the rest.
    """
    rng = np.random.default_rng(8)
    w, s, mu, e = (rng.standard_normal((1, TAGS)) for _ in range(4))
    w, x = np.abs(w), rng.standard_normal((BATCH, TAGS))
    x[0] = mu + 1e-9  # where the argument of the sigmoid is almost zero

    def numerator(x: AnyArray) -> AnyArray:
        return np.asarray(w / (1 + np.exp(-s * (x - mu))) * e)

    g = GraphBuilder(np.float64, 17)
    argument = g.op("Mul", [g.constant(s, "s"), g.op("Sub", [g.input("x", ["B", TAGS]), g.constant(mu, "mu")])])
    weights = g.op("Mul", [g.constant(w, "w"), g.op("Sigmoid", [argument])])
    above = g.reduce("sum", g.op("Mul", [weights, g.constant(e, "e")]), 1, "above")
    below = g.op("Add", [g.reduce("sum", weights, 1, "below"), g.constant(np.array(0.1), "leak")])
    model = g.model(g.op("Div", [above, below]), ["B"])

    divisor = (w / (1 + np.exp(-s * (x - mu)))).sum(axis=1, keepdims=True) + 0.1
    slope = (numerator(x + 1e-6) - numerator(x - 1e-6)) / 2e-6
    received = lx.load(model).explain({"x": x}, lx.LRP(epsilon=0.0))
    np.testing.assert_allclose(received.relevance["x"], x * slope / divisor, rtol=1e-6)
    np.testing.assert_allclose(received.ledger.residual, 0, atol=1e-9)


def positive_mingru(form: str) -> onnx.ModelProto:
    """x [B, T, K] to the sum of h_T, where h = z c + (1 - z) h; z = sigmoid(v x) and c = x + 1/2, or the sigmoid of x
    where x is negative, are computed for all steps at once.
    """
    g = GraphBuilder(np.float64, 17)
    x, half, one = g.input("x", ["B", STEPS, TAGS]), g.constant(np.array(0.5), "half"), g.constant(np.array(1.0), "one")
    positive = g.op("GreaterOrEqual", [x, g.constant(np.array(0.0), "zero")])
    c = g.op("Where", [positive, g.op("Add", [x, half]), g.op("Sigmoid", [x])])
    z = g.op("Sigmoid", [g.op("Mul", [x, g.constant(GATES, "v")])])
    h = g.op(
        "Mul", [g.op("Gather", [x, g.constant(np.array(0), "step_0")], axis=1), g.constant(np.zeros(TAGS), "none")]
    )
    if form == "unrolled":
        for t in range(STEPS):
            c_t, z_t = (g.op("Gather", [v, g.constant(np.array(t), f"step_{t}")], axis=1) for v in (c, z))
            h = g.op("Add", [g.op("Mul", [z_t, c_t]), g.op("Mul", [g.op("Sub", [one, z_t]), h])])
    else:
        b = GraphBuilder(np.float64, 17)
        h_in, c_t, z_t = (b.input(name, ["B", TAGS]) for name in ("h_in", "c_t", "z_t"))
        keeps = b.op("Mul", [b.op("Sub", [b.constant(np.array(1.0), "whole"), z_t]), h_in], "keeps")
        h_out = b.op("Add", [b.op("Mul", [z_t, c_t], "takes"), keeps], "h_new")
        outputs = [onnx.helper.make_tensor_value_info(h_out, onnx.TensorProto.DOUBLE, ["B", TAGS])]
        body = onnx.helper.make_graph(b.nodes, "cell", b.inputs, outputs, list(b.initializers.values()))
        g.nodes.append(onnx.helper.make_node("Scan", [h, c, z], ["h_last"], body=body, num_scan_inputs=2,
                                             scan_input_axes=[1, 1], name="scan"))  # fmt: skip
        h = "h_last"
    return g.model(g.reduce("sum", h, 1, "total"), ["B"])


GATES = np.array([0.5, -1.5, 2.0])


@pytest.mark.parametrize("form", ["unrolled", "scan"])
def test_a_sigmoid_that_a_gate_weighs_passes_its_density(form: str) -> None:
    """With the gates z as constants, h_T is a sum over t; relevance is x times its derivative."""
    x = np.random.default_rng(4).standard_normal((BATCH, STEPS, TAGS))
    z = 1 / (1 + np.exp(-GATES * x))
    reaches = z * np.cumprod(np.concatenate([1 - z, np.ones((BATCH, 1, TAGS))], axis=1)[:, :0:-1], axis=1)[:, ::-1]
    sigmoid = 1 / (1 + np.exp(-x))
    slope = np.where(x >= 0, 1, sigmoid * (1 - sigmoid))
    model = lx.load(positive_mingru(form))
    e = model.explain({"x": x}, lx.LRP(epsilon=0.0))
    np.testing.assert_allclose(e.explained, (reaches * np.where(x >= 0, x + 0.5, sigmoid)).sum(axis=(1, 2)), rtol=1e-9)
    np.testing.assert_allclose(e.relevance["x"], x * slope * reaches, rtol=1e-9)
    np.testing.assert_allclose(e.ledger.residual, 0, atol=1e-9)
    assert any(node.op == "Sigmoid" and node.rule.startswith("first-order") for node in model.report().nodes)


def test_a_gate_that_a_loop_writes_is_one_outside_of_it() -> None:
    """c = c + x and o = sigmoid(x) in a Scan, o * c outside: with o as a constant, this is linear in x."""
    b = GraphBuilder(np.float64, 17)
    c_in, x_t = (b.input(name, ["B", TAGS]) for name in ("c_in", "x_t"))
    c_out = b.op("Add", [c_in, x_t], "c_new")
    made = [c_out, b.op("Identity", [c_out], "c_t"), b.op("Sigmoid", [x_t], "o_t")]
    outputs = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, ["B", TAGS]) for name in made]
    body = onnx.helper.make_graph(b.nodes, "cell", b.inputs, outputs)
    g = GraphBuilder(np.float64, 17)
    x = g.input("x", ["B", STEPS, TAGS])
    first = g.op("Gather", [x, g.constant(np.array(0), "step_0")], axis=1)
    start = g.op("Mul", [first, g.constant(np.zeros(TAGS), "none")])
    g.nodes.append(onnx.helper.make_node("Scan", [start, x], ["last", "c", "o"], body=body, num_scan_inputs=1,
                                         scan_input_axes=[1], scan_output_axes=[1, 1], name="scan"))  # fmt: skip
    h = g.op("Gather", [g.op("Mul", ["o", "c"]), g.constant(np.array(-1), "end")], axis=1)
    model = lx.load(g.model(g.reduce("sum", h, 1, "total"), ["B"]))
    values = np.random.default_rng(3).standard_normal((BATCH, STEPS, TAGS))
    gate = 1 / (1 + np.exp(-values[:, -1:]))
    e = model.explain({"x": values}, lx.LRP(epsilon=0.0))
    np.testing.assert_allclose(e.relevance["x"], values * gate, rtol=1e-9)


def test_gates_in_log_space_pass_their_density() -> None:
    """log f' = -softplus(softplus(-f) - softplus(-i)) is the logarithm of f / (f + i) of sigmoids (minLSTM): a network
    that computes in log space only, so relevance is x times the gradient.
    """
    g = GraphBuilder(np.float32, 17)
    x = g.input("x", ["B", STEPS, TAGS])
    w = [g.constant(w, f"w{i}") for i, w in enumerate(np.random.default_rng(5).standard_normal((2, 1, STEPS, TAGS)))]
    f, i = (g.op("Softplus", [g.op("Neg", [g.op("Mul", [x, each])])]) for each in w)
    log_share = g.op("Neg", [g.op("Softplus", [g.op("Sub", [f, i])])])
    h = g.op("Exp", [g.with_axes("ReduceLogSumExp", log_share, [1], since=18, keepdims=0)])
    model = g.model(g.op("MatMul", [h, g.constant(np.eye(TAGS, 2), "weights")]), ["B", 2])
    values = np.random.default_rng(6).standard_normal((BATCH, STEPS, TAGS)).astype(np.float32)
    e = lx.load(model).explain({"x": values}, lx.LRP(epsilon=0.0), lx.Target(index=1))
    np.testing.assert_allclose(e.relevance["x"], times_gradient(model, values, 1, 1e-2), atol=2e-3)


# --- exported networks -----------------------------------------------------------------------------------------------

SAMPLES = 100
TARGETS = {"mingru_log": 0, "bilstm_crf": 2, "slstm": 0, "rwkv": 1, "mamba": 0, "ltc": 0}
# Mean rank correlation over time steps with Occlusion and with Shapley values. Gradient times input reaches 0.97, 0.95,
# 0.94, 0.85, 0.71 and 0.37 with Occlusion. For mamba and ltc, Occlusion and Shapley values agree by 0.74 and 0.57 only.
LEAST = {"mingru_log": 0.93, "bilstm_crf": 0.82, "slstm": 0.88, "rwkv": 0.82, "mamba": 0.55, "ltc": 0.3}


@pytest.mark.parametrize("name", TARGETS)
def test_relevance_agrees_with_what_the_model_does(name: str) -> None:
    model = lx.load(EXPORTS / name / "model.dynamo.onnx")
    with np.load(EXPORTS / name / "input.npz") as stored:
        (key, example), *_ = stored.items()
    inputs = {key: made_up(example)}
    target = lx.Target(index=TARGETS[name])

    def by_step(method: lx.Method) -> Any:
        relevance = model.explain(inputs, method, target).relevance[key]
        return relevance.reshape(SAMPLES, relevance.shape[1], -1).sum(axis=2)

    relevance = by_step(lx.LRP())
    for other in (lx.Occlusion(over="steps"), lx.ShapleySampling(permutations=10, over="steps")):
        assert np.nanmean(rank_correlation(relevance, by_step(other))) >= LEAST[name], type(other).__name__


def made_up(example: AnyArray) -> AnyArray:
    rng, shape = np.random.default_rng(0), (SAMPLES, *example.shape[1:])
    if example.dtype.kind == "i":
        return rng.integers(0, example.max() + 1, shape).astype(example.dtype)
    return rng.standard_normal(shape).astype(example.dtype)
