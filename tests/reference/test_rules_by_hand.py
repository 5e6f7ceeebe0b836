# SPDX-License-Identifier: Apache-2.0
"""The textbook's rules, and its cells under them, equal numbers that were worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tests.reference.lstm import LstmCell
from tests.reference.textbook import (
    Activation,
    Layer,
    Rules,
    embedding_lrp,
    layer_forward,
    layer_lrp,
    lrp_linear,
    lrp_product,
    lrp_sum,
    parse_activations,
    sign,
    stab,
)

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
    """The relevance of x_0 takes both paths: the product of the forget gate, and h_0 in the next candidate."""
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
