# SPDX-License-Identifier: Apache-2.0
"""The textbook conserves relevance, obeys the symmetries of its networks, and equals a second implementation."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from tests import zoo
from tests.builders import random_layer, recurrent_model
from tests.reference.differences import STEP32, central_difference, onnx_difference
from tests.reference.graph import graph_lrp
from tests.reference.lstm import LstmCell
from tests.reference.options import OPTIONS
from tests.reference.textbook import (
    PRODUCT_RULES,
    Rules,
    layer_forward,
    layer_lrp,
    one_hot,
    stab,
)
from tests.unrolled_models import unrolled_model

# --- laws ------------------------------------------------------------------------------------------------------------


def scale_of(R: Any) -> Any:
    """The largest magnitude in the sum, since rounding is relative to it and not to the sum itself."""
    parts = [abs(R.x).max(axis=(0, 2)), abs(R.explained), *(abs(a) for a in R.absorbed.values())]
    parts += [abs(s).max(axis=(0, 2)) for s in [*R.initial_h, *R.initial_c]]
    return np.max(parts, axis=0)


@pytest.mark.parametrize("rule", PRODUCT_RULES)
@pytest.mark.parametrize("name", OPTIONS)
def test_conservation(name: str, rule: Any, rng: np.random.Generator) -> None:
    """With bias_factor 1, inputs and states receive everything; below 1, the absorbed part must be added."""
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
def test_relevance_at_padding_is_absorbed(op: Any, head: Any, rng: np.random.Generator) -> None:
    """With bias_factor 1 the head gives its bias share to padded steps too; the ledger must account for it."""
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


def test_relevance_is_linear_in_the_arriving_relevance(rng: np.random.Generator) -> None:
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
def test_reverse_equals_forward_on_the_reversed_sequence(op: Any, rule: Any, rng: np.random.Generator) -> None:
    layer = random_layer(rng, op, 3, 4)
    turned = dataclasses.replace(layer, direction="reverse")
    x, R_Y = rng.normal(size=(6, 2, 3)), rng.normal(size=(6, 1, 2, 4))
    np.testing.assert_array_equal(layer_forward(layer, x).Y, layer_forward(turned, x[::-1]).Y[::-1])
    there, back = layer_lrp(layer, x, Rules(rule), R_Y), layer_lrp(turned, x[::-1], Rules(rule), R_Y[::-1])
    np.testing.assert_array_equal(there.x, back.x[::-1])
    np.testing.assert_array_equal(there.absorbed, back.absorbed)


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_a_bidirectional_layer_equals_its_two_directions(op: Any, rng: np.random.Generator) -> None:
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
    """With one Gemm over [x, h] per gate, the graph's own rules are the recurrent node's, whatever epsilon."""
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
def test_both_difference_quotients_agree(op: Any, rng: np.random.Generator) -> None:
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
