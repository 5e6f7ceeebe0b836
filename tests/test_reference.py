"""The reference itself is tested: against ONNX Runtime, numbers worked out by hand, a second way, and its own laws."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import onnx
import pytest

from tests import zoo
from tests.builders import Built, network_model, random_layer, recurrent_model, run, unrolled_model
from tests.reference.activations import ALPHA_DEFAULT, BETA_DEFAULT, FUNCTIONS
from tests.reference.differences import STEP32, central_difference, onnx_difference
from tests.reference.graph import graph_lrp
from tests.reference.lstm import LstmCell
from tests.reference.textbook import (
    PRODUCT_RULES,
    Activation,
    Layer,
    Network,
    Rules,
    embedding_lrp,
    layer_forward,
    layer_lrp,
    lrp_linear,
    lrp_product,
    lrp_sum,
    one_hot,
    parse_activations,
    sign,
    stab,
)

STATES = (None, "constant", "input")
DIRECTIONS = ("forward", "reverse", "bidirectional")

# Every option of the three nodes at least once, as arguments of recurrent_model.
OPTIONS: dict[str, dict[str, Any]] = {
    "lstm": {},
    "lstm-bidirectional": {"direction": "bidirectional"},
    "lstm-reverse-Y_h": {"direction": "reverse", "head": "Y_h"},
    "lstm-states": {"initial_states": "input", "head": "Y_c"},
    "lstm-constant-states": {"initial_states": "constant", "layers": 2},
    "lstm-stacked-mean": {"layers": 2, "head": "mean", "direction": "bidirectional"},
    "lstm-sum": {"head": "sum"},
    "lstm-lens": {"sequence_lens": True, "direction": "bidirectional", "head": "Y_h"},
    "lstm-lens-Y_c": {"sequence_lens": True, "direction": "reverse", "head": "Y_c", "initial_states": "input"},
    "lstm-peepholes": {"peepholes": True, "initial_states": "input"},
    "lstm-input-forget": {"input_forget": True},
    "lstm-clip": {"clip": 0.3},
    "lstm-everything": {"peepholes": True, "input_forget": True, "clip": 0.5, "direction": "bidirectional"},
    "lstm-no-bias": {"bias": False},
    "lstm-hard": {
        "activations": ["HardSigmoid", "Softsign", "ScaledTanh"],
        "activation_alpha": [0.25, 1.5],
        "activation_beta": [0.4, 0.7],
    },
    "gru": {"op": "GRU"},
    "gru-lbr": {"op": "GRU", "linear_before_reset": True},
    "gru-bidirectional": {"op": "GRU", "direction": "bidirectional", "initial_states": "input", "layers": 2},
    "gru-lbr-lens": {"op": "GRU", "linear_before_reset": True, "sequence_lens": True, "head": "Y_h"},
    "gru-clip": {"op": "GRU", "clip": 0.3},
    "gru-lbr-clip-reverse": {"op": "GRU", "linear_before_reset": True, "clip": 0.3, "direction": "reverse"},
    "rnn": {"op": "RNN"},
    "rnn-bidirectional": {"op": "RNN", "direction": "bidirectional", "layers": 2, "head": "mean"},
    "rnn-states-lens": {"op": "RNN", "initial_states": "input", "sequence_lens": True, "head": "Y_h"},
    "rnn-relu-clip": {"op": "RNN", "activations": ["Relu"], "clip": 0.8},
    "rnn-affine": {"op": "RNN", "activations": ["Affine"], "activation_alpha": [0.6], "activation_beta": [0.1]},
}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20170907)


def check_forward(built: Built, feeds: dict[str, Any]) -> None:
    (logits,) = run(built.model, feeds)
    np.testing.assert_allclose(logits, built.reference_forward(feeds), rtol=0, atol=1e-5)


# --- forward: the textbook equals ONNX Runtime -----------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIONS)
def test_forward_equals_onnxruntime(name: str, rng: np.random.Generator) -> None:
    built = recurrent_model(rng, **OPTIONS[name])
    check_forward(built, built.feeds(rng, T=6))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_forward_equals_onnxruntime_for_states_lengths_and_heads(
    op: str, direction: str, rng: np.random.Generator
) -> None:
    heads = ("last", "Y_h", "mean", "sum", "Y_c") if op == "LSTM" else ("last", "Y_h", "mean", "sum")
    for states, lens, head in itertools.product(STATES, (False, True), heads):
        built = recurrent_model(
            rng, op, direction=direction, initial_states=states, sequence_lens=lens, head=head, layers=2
        )
        check_forward(built, built.feeds(rng, T=5))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_activations_equal_onnxruntimes(name: str, rng: np.random.Generator) -> None:
    for given in (False, True):
        alpha = [0.6] if given and name in ALPHA_DEFAULT else []
        beta = [0.3] if given and name in BETA_DEFAULT else []
        parameters = {"activation_alpha": alpha, "activation_beta": beta}
        places = [("RNN", [name]), ("GRU", [name, "Tanh"]), ("GRU", ["Sigmoid", name])]
        places += [("LSTM", [name, "Tanh", "Tanh"]), ("LSTM", ["Sigmoid", name, "Tanh"])]
        places += [("LSTM", ["Sigmoid", "Tanh", name])]
        for op, activations in places:
            built = recurrent_model(rng, op, activations=activations, direction="bidirectional", **parameters)
            check_forward(built, built.feeds(rng, T=3))


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_an_empty_sequence_has_zero_states_as_in_onnxruntime(op: str, rng: np.random.Generator) -> None:
    built = recurrent_model(rng, op, head="Y_h", initial_states="input", sequence_lens=True, direction="bidirectional")
    feeds = built.feeds(rng, T=4)
    feeds["lens"] = np.array([4, 0, 2], dtype=np.int32)
    check_forward(built, feeds)


@pytest.mark.parametrize("opset", [11, 12, 13, 14, 17, 18, 19, 21])
def test_builders_know_the_opsets(opset: int, rng: np.random.Generator) -> None:
    for op, head in (("LSTM", "mean"), ("GRU", "sum"), ("RNN", "Y_h")):
        built = recurrent_model(rng, op, head=head, opset=opset, direction="bidirectional", batch_first=True)
        check_forward(built, built.feeds(rng, T=3))


def test_float64_recurrent_models_are_valid(rng: np.random.Generator) -> None:
    """ONNX Runtime has no float64 kernel for them, so validity is all that can be checked."""
    for op in ("LSTM", "GRU", "RNN"):
        built = recurrent_model(rng, op, dtype=np.float64)
        onnx.checker.check_model(built.model, full_check=True)
        assert built.feeds(rng, T=3)["x"].dtype == np.float64


@pytest.mark.parametrize(("op", "lbr"), [("LSTM", False), ("GRU", False), ("GRU", True), ("RNN", False)])
def test_unrolled_models_compute_the_same(op: str, lbr: bool, rng: np.random.Generator) -> None:
    for head in ("last", "mean"):
        built = recurrent_model(rng, op, layers=2, head=head, linear_before_reset=lbr)
        feeds = built.feeds(rng, T=4)
        check_forward(built, feeds)
        expected = built.reference_forward(feeds)
        for gemm, fused, concat, batch_first in itertools.product((False, True), repeat=4):
            variant = {"gemm": gemm, "fused": fused, "concat": concat, "batch_first": batch_first}
            for dtype, tolerance in ((np.float32, 1e-5), (np.float64, 1e-12)):
                unrolled = unrolled_model(built.network, 4, dtype=dtype, **variant)
                x = (feeds["x"].swapaxes(0, 1) if batch_first else feeds["x"]).astype(dtype)
                np.testing.assert_allclose(run(unrolled.model, {"x": x})[0], expected, rtol=0, atol=tolerance)
                np.testing.assert_array_equal(unrolled.reference_forward({"x": x}), expected)


# --- the rules by themselves -----------------------------------------------------------------------------------------


def test_stabiliser_takes_zero_as_positive() -> None:
    np.testing.assert_array_equal(sign(np.array([-2.0, -0.0, 0.0, 3.0])), [-1.0, 1.0, 1.0, 1.0])
    np.testing.assert_array_equal(stab(np.array([-2.0, 0.0, 3.0]), 0.5), [-2.5, 0.5, 3.5])


def test_linear_rule_by_hand() -> None:
    """z = 2 * 3 - 1 * 1 + 0.5 = 5.5, eps 0.5: stab(z) = 6. R_z = 12, so one unit of z is worth 2."""
    a, W, b = np.array([3.0, 1.0]), np.array([[2.0, -1.0]]), np.array([0.5])
    z, R_z = np.array([5.5]), np.array([12.0])
    R, absorbed = lrp_linear(a, W, b, z, R_z, 2, 0.5, 0.0)
    np.testing.assert_allclose(R, [12.0, -2.0])
    assert absorbed == pytest.approx(2.0)  # (0.5 + 0.5) * 2
    R, absorbed = lrp_linear(a, W, b, z, R_z, 2, 0.5, 1.0)
    np.testing.assert_allclose(R, [13.0, -1.0])  # each gets half of what was absorbed
    assert absorbed == 0.0


def test_linear_rule_counts_its_units() -> None:
    ones = np.ones(2)
    with pytest.raises(ValueError, match="number of units"):
        lrp_linear(ones, np.ones((1, 2)), ones[:1], ones[:1], ones[:1], 3, 0.0, 1.0)


@pytest.mark.parametrize(
    ("rule", "R_gate", "R_signal", "taken"),
    [
        ("all", 0.0, 6.0, 0.0),
        ("half", 3.0, 3.0, 0.0),
        ("prop", 6 * 0.5 / -1.1, 6 * -1.5 / -1.1, 6 * -0.1 / -1.1),  # 0.5 - 1.5 = -1, stab -1.1
        ("abs", 6 * 0.5 / 2.1, 6 * 1.5 / 2.1, 6 * 0.1 / 2.1),  # 0.5 + 1.5 = 2, stab 2.1
    ],
)
def test_product_rules_by_hand(rule: Any, R_gate: float, R_signal: float, taken: float) -> None:
    gate, signal, R_p = np.array([0.5]), np.array([-1.5]), np.array([6.0])
    R_a, R_s, absorbed = lrp_product(gate, signal, R_p, Rules(rule, epsilon=0.1, bias_factor=0.0))
    assert (R_a[0], R_s[0], absorbed) == pytest.approx((R_gate, R_signal, taken))
    R_a, R_s, absorbed = lrp_product(gate, signal, R_p, Rules(rule, epsilon=0.1, bias_factor=1.0))
    assert (R_a[0], R_s[0], absorbed) == pytest.approx((R_gate + taken / 2, R_signal + taken / 2, 0.0))


def test_sum_rule_by_hand() -> None:
    (R_a, R_b), absorbed = lrp_sum(
        [np.array([3.0]), np.array([1.0])], np.array([4.0]), np.array([10.0]), Rules("all", 1.0)
    )
    assert (R_a[0], R_b[0], absorbed) == pytest.approx((6.0, 2.0, 2.0))


def test_unknown_product_rule_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown product rule"):
        lrp_product(np.ones(1), np.ones(1), np.ones(1), Rules("both"))  # type: ignore[arg-type]


def test_embedding_sums_over_the_vector() -> None:
    np.testing.assert_array_equal(embedding_lrp(np.array([[1.0, 2.0], [3.0, -3.0]])), [3.0, 0.0])


# --- one cell by hand ------------------------------------------------------------------------------------------------


def one_unit_lstm(W: list[float], R: list[float]) -> LstmCell:
    """D = H = 1, no bias; W and R in the order i, o, f, c."""
    defaults = parse_activations(["Sigmoid", "Tanh", "Tanh"])
    return LstmCell.from_onnx(np.array(W)[:, None], np.array(R)[:, None], None, None, defaults)


def test_one_step_lstm_by_hand() -> None:
    """All gates half open (z = 0), candidate tanh(2 x): c = tanh(2) / 2, h = tanh(c) / 2, for x = 1."""
    cell = one_unit_lstm([0.0, 0.0, 0.0, 2.0], [0.0] * 4)
    steps = cell.forward(np.ones((1, 1)), np.zeros(1), np.zeros(1))
    c = math.tanh(2.0) / 2
    h = math.tanh(c) / 2
    assert steps[0].h[0] == pytest.approx(h, rel=1e-15)

    eps, zero = 0.01, np.zeros(1)
    arriving = steps[0].h[np.newaxis]
    R = cell.lrp(steps, arriving, zero, zero, Rules("all", eps))
    at_candidate = h * c / (c + eps)  # the cell sum, then everything to the candidate
    assert R.x[0, 0] == pytest.approx(at_candidate * 2 / (2 + eps), rel=1e-14)
    assert R.absorbed == pytest.approx(h - R.x[0, 0], rel=1e-12)

    # half: a half stays with the output gate, then with the input gate; both have z = 0 and no input to give it to.
    R = cell.lrp(steps, arriving, zero, zero, Rules("half", eps))
    assert R.x[0, 0] == pytest.approx(at_candidate / 4 * 2 / (2 + eps), rel=1e-14)
    assert (R.initial_h[0], R.initial_c[0]) == (0.0, 0.0)

    # prop: in proportion to the values 1/2 and tanh(c), then 1/2 and tanh(2).
    R = cell.lrp(steps, arriving, zero, zero, Rules("prop", eps))
    at_cell = h * math.tanh(c) / (0.5 + math.tanh(c) + eps)
    at_candidate = at_cell * c / (c + eps) * math.tanh(2.0) / (0.5 + math.tanh(2.0) + eps)
    assert R.x[0, 0] == pytest.approx(at_candidate * 2 / (2 + eps), rel=1e-14)


def test_two_step_lstm_by_hand() -> None:
    """Relevance of x_0 takes both ways: through the forget gate's product and through h_0 in the next candidate."""
    cell = one_unit_lstm([0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 3.0])
    x0, x1, eps = 0.7, -0.4, 0.02
    steps = cell.forward(np.array([[x0], [x1]]), np.zeros(1), np.zeros(1))
    c0 = 0.5 * math.tanh(x0)
    h0 = 0.5 * math.tanh(c0)
    z1 = x1 + 3 * h0
    c1 = 0.5 * c0 + 0.5 * math.tanh(z1)
    h1 = 0.5 * math.tanh(c1)
    assert steps[1].h[0] == pytest.approx(h1, rel=1e-14)

    def stabilised(z: float) -> float:
        return z + math.copysign(eps, z)

    R_c0 = h1 * 0.5 * c0 / stabilised(c1)
    R_z1 = h1 * 0.5 * math.tanh(z1) / stabilised(c1)
    R_x1 = R_z1 * x1 / stabilised(z1)
    R_h0 = R_z1 * 3 * h0 / stabilised(z1)
    R_x0 = (R_c0 + R_h0) * c0 / stabilised(c0) * x0 / stabilised(x0)
    R = cell.lrp(steps, np.zeros((2, 1)), np.array([h1]), np.zeros(1), Rules("all", eps))
    np.testing.assert_allclose(R.x[:, 0], [R_x0, R_x1], rtol=1e-13)


@pytest.mark.parametrize("input_forget", [False, True])
@pytest.mark.parametrize("clip", [None, 0.4])
def test_peepholes_input_forget_and_clip_by_hand(input_forget: bool, clip: float | None) -> None:
    """One step of one unit, rule "half", as plain scalars; a peephole makes N = 3, the rules see z unclipped."""
    w, r, b, p = [0.9, -0.7, 0.4, 1.3], [0.3, 0.8, -0.5, 0.6], [0.2, -0.1, 0.3, 0.1], [0.5, -0.9, 1.1]
    layer = Layer(
        "LSTM",
        np.array(w).reshape(1, 4, 1),
        np.array(r).reshape(1, 4, 1),
        np.array([[*b, 0.0, 0.0, 0.0, 0.0]]),
        np.array([p]),
        clip=clip,
        input_forget=input_forget,
    )
    x, h0, c0, eps, delta, arriving = 0.6, -0.4, 0.8, 0.03, 0.5, 2.0

    def sigmoid(z: float) -> float:
        return 1 / (1 + math.exp(-bounded(z)))

    def bounded(z: float) -> float:
        return z if clip is None else max(-clip, min(clip, z))

    def messages(terms: list[float], bias: float, R: float) -> list[float]:
        z = sum(terms) + bias
        extra = bias + math.copysign(eps, z)
        return [(term + delta * extra / len(terms)) * R / (z + math.copysign(eps, z)) for term in terms]

    at_i = [w[0] * x, r[0] * h0, p[0] * c0]
    at_f = [w[2] * x, r[2] * h0, p[2] * c0]
    at_c = [w[3] * x, r[3] * h0]
    i, g = sigmoid(sum(at_i) + b[0]), math.tanh(bounded(sum(at_c) + b[3]))
    f = 1 - i if input_forget else sigmoid(sum(at_f) + b[2])
    c = f * c0 + i * g
    at_o = [w[1] * x, r[1] * h0, p[1] * c]
    h = sigmoid(sum(at_o) + b[1]) * math.tanh(c)

    from_o = messages(at_o, b[1], arriving / 2)
    kept, added = messages([f * c0, i * g], 0.0, arriving / 2 + from_o[2])
    to_i, to_f = (added / 2 + kept / 2, 0.0) if input_forget else (added / 2, kept / 2)
    from_i, from_f, from_c = messages(at_i, b[0], to_i), messages(at_f, b[2], to_f), messages(at_c, b[3], added / 2)

    def cube(value: float) -> Any:
        return np.full((1, 1, 1), value)

    given = {"initial_h": cube(h0), "initial_c": cube(c0)}
    assert layer_forward(layer, cube(x), **given).Y_h.item() == pytest.approx(h, rel=1e-13)
    got = layer_lrp(layer, cube(x), Rules("half", eps, delta), R_Y_h=cube(arriving), **given)
    assert got.x.item() == pytest.approx(from_o[0] + from_i[0] + from_f[0] + from_c[0], rel=1e-12)
    assert got.initial_h.item() == pytest.approx(from_o[1] + from_i[1] + from_f[1] + from_c[1], rel=1e-12)
    assert got.initial_c.item() == pytest.approx(kept / 2 + from_i[2] + from_f[2], rel=1e-12)


def test_gru_by_hand() -> None:
    """Update gate half open; linear_before_reset with R = 0: n = tanh(x), h = (n + h_prev) / 2."""
    W, R = np.array([[[0.0], [0.0], [1.0]]]), np.zeros((1, 3, 1))
    x, h_prev, eps = np.full((1, 1, 1), 0.8), np.full((1, 1, 1), 0.5), 0.05
    n = math.tanh(0.8)
    h = (n + 0.5) / 2
    for lbr in (False, True):
        layer = Layer("GRU", W, R, linear_before_reset=lbr)
        assert layer_forward(layer, x, initial_h=h_prev).Y_h.item() == pytest.approx(h, rel=1e-14)
        got = layer_lrp(layer, x, Rules("all", eps), R_Y_h=np.full((1, 1, 1), h), initial_h=h_prev)
        assert got.x.item() == pytest.approx(h * (n / 2) / (h + eps) * 0.8 / (0.8 + eps), rel=1e-13)
        assert got.initial_h.item() == pytest.approx(h * 0.25 / (h + eps), rel=1e-13)


def test_rnn_by_hand() -> None:
    """z = 2 * 1.5 + 0.5 * 2 + 0.25 - 0.75 = 3.5; relevance 7 arrives, stab(z) = 4: x has 3/4, h_prev 1/4 of it."""
    layer = Layer(
        "RNN",
        np.full((1, 1, 1), 2.0),
        np.full((1, 1, 1), 0.5),
        np.array([[0.25, -0.75]]),
        activations=(Activation("Affine", 1.0, 0.0),),
    )
    x, h = np.full((1, 1, 1), 1.5), np.full((1, 1, 1), 2.0)
    assert layer_forward(layer, x, initial_h=h).Y_h.item() == 3.5
    got = layer_lrp(layer, x, Rules(epsilon=0.5), R_Y=np.full((1, 1, 1, 1), 7.0), initial_h=h)
    assert (got.x.item(), got.initial_h.item(), got.absorbed.item()) == (5.25, 1.75, 0.0)  # bias -0.5 meets eps 0.5


# --- laws ------------------------------------------------------------------------------------------------------------


def scale_of(R: Any) -> Any:
    """The largest magnitude that took part in the sum: rounding is relative to that, not to what is left of it."""
    parts = [abs(R.x).max(axis=(0, 2)), abs(R.explained), *(abs(a) for a in R.absorbed.values())]
    parts += [abs(s).max(axis=(0, 2)) for s in [*R.initial_h, *R.initial_c]]
    return np.max(parts, axis=0)


@pytest.mark.parametrize("rule", PRODUCT_RULES)
@pytest.mark.parametrize("name", OPTIONS)
def test_conservation(name: str, rule: Any, rng: np.random.Generator) -> None:
    """bias_factor 1 gives everything to inputs and states, 0 and anything between needs what was absorbed."""
    built = recurrent_model(rng, **OPTIONS[name])
    feeds = built.feeds(rng, T=5)
    weights = one_hot([0, 1, 2], 3, 3)
    for bias_factor in (0.0, 0.3, 1.0):
        R = built.reference_lrp(feeds, weights, Rules(rule, 1e-3, bias_factor))
        np.testing.assert_array_less(abs(R.explained - R.total - R.total_absorbed), 1e-12 * scale_of(R))
        if bias_factor == 1.0:
            assert max(abs(part).max() for part in R.absorbed.values()) == 0.0


@pytest.mark.parametrize("head", ["mean", "last"])
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_what_arrives_at_padding_is_absorbed(op: Any, head: Any, rng: np.random.Generator) -> None:
    """With bias_factor 1 the head gives its bias share to padded steps too; the ledger must not lose it."""
    built = recurrent_model(rng, op, sequence_lens=True, head=head)
    feeds = {**built.feeds(rng, T=5), "lens": np.array([5, 2, 0], dtype=np.int32)}
    R = built.reference_lrp(feeds, one_hot(1, 3, 3), Rules("half", 1e-3, 1.0))
    np.testing.assert_array_less(abs(R.explained - R.total - R.total_absorbed), 1e-12 * scale_of(R))
    assert R.absorbed["layer0"][0] == 0.0
    assert (R.absorbed["layer0"][1:] != 0.0).all()
    assert (R.x[2:, 1] == 0.0).all()
    assert (R.x[:, 2] == 0.0).all()


@pytest.mark.parametrize("rule", ["all", "half", "abs"])
@pytest.mark.parametrize("name", ["lstm", "lstm-peepholes", "lstm-lens", "lstm-input-forget", "gru", "gru-lbr", "rnn"])
def test_conservation_relative_to_the_score(name: str, rule: Any, rng: np.random.Generator) -> None:
    """Where no denominator comes close to zero, 1e-12 of the explained score itself."""
    built = recurrent_model(rng, **OPTIONS[name])
    R = built.reference_lrp(built.feeds(rng, T=5), one_hot(1, 3, 3), Rules(rule, 1e-3, 1.0))
    np.testing.assert_allclose(R.total, R.explained, rtol=1e-12)


def test_explained_is_the_weighted_sum_of_the_logits(rng: np.random.Generator) -> None:
    built = recurrent_model(rng)
    feeds = built.feeds(rng, T=4)
    weights = rng.normal(size=(3, 3))
    R = built.reference_lrp(feeds, weights, Rules())
    np.testing.assert_allclose(R.explained, (weights * built.reference_forward(feeds)).sum(axis=1))


def test_relevance_is_linear_in_what_arrives(rng: np.random.Generator) -> None:
    layer = random_layer(rng, "LSTM", 3, 4, "bidirectional", peepholes=True)
    x = rng.normal(size=(5, 2, 3))
    R_Y, R_h, R_c = rng.normal(size=(5, 2, 2, 4)), rng.normal(size=(2, 2, 4)), rng.normal(size=(2, 2, 4))
    rules = Rules("abs", 0.01)
    whole = layer_lrp(layer, x, rules, R_Y, R_h, R_c)
    parts = [layer_lrp(layer, x, rules, R_Y=R_Y), layer_lrp(layer, x, rules, R_Y_h=R_h)]
    parts += [layer_lrp(layer, x, rules, R_Y_c=R_c)]
    for field in dataclasses.fields(whole):
        np.testing.assert_allclose(getattr(whole, field.name), sum(getattr(p, field.name) for p in parts), atol=1e-12)


@pytest.mark.parametrize("rule", PRODUCT_RULES)
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_reverse_is_forward_on_the_sequence_turned_round(op: Any, rule: Any, rng: np.random.Generator) -> None:
    layer = random_layer(rng, op, 3, 4)
    turned = dataclasses.replace(layer, direction="reverse")
    x, R_Y = rng.normal(size=(6, 2, 3)), rng.normal(size=(6, 1, 2, 4))
    np.testing.assert_array_equal(layer_forward(layer, x).Y, layer_forward(turned, x[::-1]).Y[::-1])
    there, back = layer_lrp(layer, x, Rules(rule), R_Y), layer_lrp(turned, x[::-1], Rules(rule), R_Y[::-1])
    np.testing.assert_array_equal(there.x, back.x[::-1])
    np.testing.assert_array_equal(there.absorbed, back.absorbed)


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_two_directions_are_one_and_the_other(op: Any, rng: np.random.Generator) -> None:
    both = random_layer(rng, op, 3, 4, "bidirectional")
    x, R_Y = rng.normal(size=(5, 2, 3)), rng.normal(size=(5, 2, 2, 4))
    whole = layer_lrp(both, x, Rules("prop"), R_Y)
    halves = []
    for d, direction in enumerate(("forward", "reverse")):
        one = dataclasses.replace(
            both, W=both.W[d : d + 1], R=both.R[d : d + 1], B=both.B[d : d + 1], direction=direction
        )
        np.testing.assert_array_equal(layer_forward(one, x).Y[:, 0], layer_forward(both, x).Y[:, d])
        halves.append(layer_lrp(one, x, Rules("prop"), R_Y[:, d : d + 1]))
    np.testing.assert_allclose(whole.x, halves[0].x + halves[1].x, rtol=1e-13)


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_a_length_cuts_the_sequence(op: Any, rng: np.random.Generator) -> None:
    """A sample with length L is the sample cut to L steps, and its padding has exactly no relevance."""
    layer = random_layer(rng, op, 3, 4, "bidirectional")
    x, lens, rules = rng.normal(size=(6, 2, 3)), np.array([6, 3]), Rules("half", bias_factor=0.5)
    R_Y, R_h = rng.normal(size=(6, 2, 2, 4)), rng.normal(size=(2, 2, 4))
    R_Y[3:, :, 1] = 0.0
    whole = layer_lrp(layer, x, rules, R_Y, R_h, lens=lens)
    cut = layer_lrp(layer, x[:3, 1:], rules, R_Y[:3, :, 1:], R_h[:, 1:])
    np.testing.assert_array_equal(whole.x[:3, 1:], cut.x)
    np.testing.assert_array_equal(whole.x[3:, 1], 0.0)
    np.testing.assert_allclose(whole.absorbed[1], cut.absorbed[0], rtol=1e-14)


def test_lstm_under_all_is_a_linear_recurrence(rng: np.random.Generator) -> None:
    """The closed form that an implementation would use: s_{t-1} = A_t s_t + Rext_{t-1} + h_{t-1} * (R_c^T m_t)."""
    H, T, eps = 4, 6, 1e-2
    layer = random_layer(rng, "LSTM", 3, H)
    cell = layer.cell(0)
    assert isinstance(cell, LstmCell)
    x, R_Y = rng.normal(size=(T, 3)), rng.normal(size=(T, H))
    steps = cell.forward(x, np.zeros(H), np.zeros(H))
    expected, s = np.zeros_like(x), np.zeros(H)
    for t in reversed(range(T)):
        step = steps[t]
        s = s + R_Y[t]
        m = step.i * step.g / (stab(step.c, eps) * stab(step.z["c"], eps)) * s
        expected[t] = x[t] * (m @ cell.W["c"])
        s = step.f * step.c_prev / stab(step.c, eps) * s + step.h_prev * (m @ cell.R["c"])
    got = cell.lrp(steps, R_Y, np.zeros(H), np.zeros(H), Rules("all", eps))
    np.testing.assert_allclose(got.x, expected, rtol=1e-10)


# --- a second way: the unrolled graph, node by node -------------------------------------------------------------------


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("bias_factor", [0.0, 1.0])
@pytest.mark.parametrize("rule", PRODUCT_RULES)
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_unrolled_graph_gives_the_same_relevance(
    op: Any, rule: Any, bias_factor: float, fused: bool, rng: np.random.Generator
) -> None:
    """With one Gemm over [x, h] a gate, the graph's own rules are the recurrent node's, whatever epsilon."""
    built = recurrent_model(rng, op, layers=2)
    unrolled = unrolled_model(built.network, 4, gemm=True, concat=True, fused=fused, dtype=np.float64)
    feeds, weights, rules = unrolled.feeds(rng, T=4), one_hot([0, 1, 2], 3, 3), Rules(rule, 0.05, bias_factor)
    expected = built.reference_lrp(feeds, weights, rules).x
    np.testing.assert_allclose(graph_lrp(unrolled.model, feeds, weights, rules), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("rule", PRODUCT_RULES)
def test_unrolled_graph_with_separate_products_agrees_as_epsilon_vanishes(rule: Any, rng: np.random.Generator) -> None:
    """linear_before_reset adds W x and r * (R h): two stabilised sums against one, equal in the limit."""
    for op, lbr in (("LSTM", False), ("GRU", True), ("RNN", False)):
        built = recurrent_model(rng, op, linear_before_reset=lbr)
        unrolled = unrolled_model(built.network, 4, gemm=True, dtype=np.float64)
        feeds, weights, rules = unrolled.feeds(rng, T=4), one_hot(0, 3, 3), Rules(rule, 1e-12)
        expected = built.reference_lrp(feeds, weights, rules).x
        np.testing.assert_allclose(graph_lrp(unrolled.model, feeds, weights, rules), expected, rtol=1e-6, atol=1e-8)


# --- gradients -------------------------------------------------------------------------------------------------------


def test_a_linear_network_without_bias_has_relevance_gradient_times_input(rng: np.random.Generator) -> None:
    """RNN with an affine activation: as epsilon goes to 0, LRP of a linear map is gradient times input."""
    built = recurrent_model(rng, "RNN", bias=False, activations=["Affine"], activation_alpha=[0.5], layers=2)
    network = dataclasses.replace(built.network, b=np.zeros(3))
    plain = dataclasses.replace(built, network=network)
    feeds = plain.feeds(rng, T=4)
    gradient = central_difference(lambda x: float(plain.reference_forward({"x": x})[:, 1].sum()), feeds["x"])
    R = plain.reference_lrp(feeds, one_hot(1, 3, 3), Rules(epsilon=1e-12))
    np.testing.assert_allclose(R.x, gradient * feeds["x"], atol=1e-9)


def test_central_difference_on_a_known_function() -> None:
    x = np.array([[0.3, -1.2], [2.0, 0.0]])
    np.testing.assert_allclose(central_difference(lambda v: float(np.sin(v).sum()), x), np.cos(x), atol=1e-11)


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_both_differences_agree(op: Any, rng: np.random.Generator) -> None:
    built = recurrent_model(rng, op, direction="bidirectional", initial_states="input")
    feeds = built.feeds(rng, T=3)
    for name in feeds:
        exact = central_difference(
            lambda v, name=name: float(built.reference_forward({**feeds, name: v})[:, 2].sum()), feeds[name]
        )
        measured = onnx_difference(built.model, feeds, name, "logits", (2,))
        np.testing.assert_allclose(measured, exact, atol=1e-4)


@pytest.mark.parametrize("name", ["h_gru_lbr1_op14", "t_lstm_last_legacy17", "k_simplernn_tf2onnx15"])
def test_differences_agree_with_the_recorded_gradients(name: str) -> None:
    case = zoo.load(name)
    measured = onnx_difference(
        str(case.path), case.inputs, "x", case.target_output, case.target_index, case.target_batch_axis, STEP32
    )
    np.testing.assert_allclose(measured, case.grads["x"], atol=1e-4)


# --- helpers ---------------------------------------------------------------------------------------------------------


def test_activation_parameters_are_read_in_order() -> None:
    parsed = parse_activations(["hardsigmoid", "Tanh", "SCALEDTANH"], [0.25, 1.5], [0.5])
    assert parsed == (Activation("HardSigmoid", 0.25, 0.5), Activation("Tanh"), Activation("ScaledTanh", 1.5, 1.0))


def test_same_weights_serve_several_models(rng: np.random.Generator) -> None:
    built = recurrent_model(rng)
    again = network_model(built.network, sequence_lens=True, batch_first=True)
    feeds = {"x": built.feeds(rng, T=4)["x"]}
    turned = {"x": np.ascontiguousarray(feeds["x"].swapaxes(0, 1)), "lens": np.full(3, 4, dtype=np.int32)}
    np.testing.assert_allclose(run(again.model, turned)[0], built.reference_forward(feeds), atol=1e-5)
    assert isinstance(again.network, Network)


def test_zoo_is_complete() -> None:
    cases = zoo.cases()
    assert len(cases) == 48
    for case in cases:
        assert case.path.is_file()
        assert case.inputs
        assert case.outputs
        assert case.grads
        assert case.target_output in case.outputs
        assert bool(case.pre) == case.is_pre_activation
        for tensor in [*case.inputs, *case.outputs, *case.grads]:
            assert case.batch_axis(tensor) in (0, 1)
