# SPDX-License-Identifier: Apache-2.0
"""LRP-all of an LSTM's products, sums and layers is a first-order Taylor expansion at a root point, as
docs/lrp-for-lstms.md derives it; derivatives are finite differences of the functions themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lstm_explain as lx
from tests.graph_builder import GraphBuilder
from tests.reference.differences import central_difference

Array = Any
GATE, SIGNAL = np.array([[-1.5, -0.3, 0.4, 2.0]]), np.array([[0.9, -1.7, 0.2, -0.05]])
WEIGHTS = np.array([[0.7, -1.2, 2.0, 0.4]])
SQUASH: dict[str, Callable[[Array], Array]] = {"Identity": lambda b: b, "Tanh": np.tanh}
by_squash = pytest.mark.parametrize("squash", SQUASH)


def sigmoid(a: Array) -> Array:
    return 1 / (1 + np.exp(-a))


def product(squash: str, gate: Array, signal: Array) -> Array:
    """The explained value of `product_model`, per product."""
    return WEIGHTS[0] * sigmoid(gate) * SQUASH[squash](signal)


def product_model(squash: str) -> lx.Model:
    """The weighted sum of sigmoid(gate) * squash(signal)."""
    g = GraphBuilder(np.float64, 17)
    gate, signal = g.input("gate", ["batch", 4]), g.input("signal", ["batch", 4])
    products = g.op("Mul", [g.op("Sigmoid", [gate]), g.op(squash, [signal])])
    weights = g.constant(WEIGHTS.T, "weights")
    return lx.load(g.model(g.op("MatMul", [products, weights]), ["batch", 1]))


def relevance(squash: str, rule: Any, gate: Array = GATE, signal: Array = SIGNAL) -> tuple[Array, Array]:
    method = lx.LRP(rule, epsilon=0)
    e = product_model(squash).explain({"gate": gate, "signal": signal}, method, lx.Target(index=0))
    return e.relevance["gate"], e.relevance["signal"]


def first_order(squash: str, gate: Array, signal: Array, at: tuple[Array, Array]) -> tuple[Array, Array]:
    """The first-order terms (x - root) * derivative at the root, of the gate and the signal."""
    of_gate = central_difference(lambda a: product(squash, a, at[1]).sum(), at[0])
    of_signal = central_difference(lambda b: product(squash, at[0], b).sum(), at[1])
    return (gate - at[0]) * of_gate, (signal - at[1]) * of_signal


@by_squash
@pytest.mark.parametrize("moved", [0.0, -3.0, 1.5])
def test_every_root_point_leaves_nothing_to_the_gate(squash: str, moved: float) -> None:
    """A sigmoid is never zero, so the roots are the points whose signal is zero, whatever their gate."""
    root = (GATE + moved, np.zeros_like(SIGNAL))
    np.testing.assert_array_equal(product(squash, *root), 0)
    of_gate, _ = first_order(squash, GATE, SIGNAL, root)
    np.testing.assert_allclose(of_gate, 0, atol=1e-9)
    np.testing.assert_array_equal(relevance(squash, "all")[0], 0)


def test_the_signal_takes_all_of_a_product_without_a_squashing_function() -> None:
    """At the nearest root, which has the gate of the sample, the expansion is exact."""
    _, expected = first_order("Identity", GATE, SIGNAL, (GATE, np.zeros_like(SIGNAL)))
    np.testing.assert_allclose(relevance("Identity", "all")[1], expected, rtol=1e-6)
    np.testing.assert_allclose(expected, product("Identity", GATE, SIGNAL), rtol=1e-6)


def test_the_remainder_of_tanh_is_of_third_order_and_belongs_to_the_signal() -> None:
    """The first-order term exceeds the relevance by the factor b / tanh(b); the rule gives the rest to the signal too,
    because it depends on the signal alone.
    """
    root = (GATE, np.zeros_like(SIGNAL))
    _, expected = first_order("Tanh", GATE, SIGNAL, root)
    found = relevance("Tanh", "all")[1]
    np.testing.assert_allclose(expected / found, SIGNAL / np.tanh(SIGNAL), rtol=1e-6)
    small = 0.1 * SIGNAL
    excess = [first_order("Tanh", GATE, s, root)[1] - relevance("Tanh", "all", signal=s)[1] for s in (small, small / 2)]
    np.testing.assert_allclose(excess[0] / excess[1], 8, rtol=0.03)


@by_squash
def test_half_is_the_shapley_value_against_a_closed_gate_and_no_signal(squash: str) -> None:
    """Two players: the gate's value and the signal's, each present or zero."""
    gate, signal = sigmoid(GATE), SQUASH[squash](SIGNAL)

    def value(with_gate: bool, with_signal: bool) -> Array:
        return WEIGHTS[0] * gate * with_gate * signal * with_signal

    of_gate = (value(True, False) - value(False, False) + value(True, True) - value(False, True)) / 2
    of_signal = (value(False, True) - value(False, False) + value(True, True) - value(True, False)) / 2
    found = relevance(squash, "half")
    np.testing.assert_allclose(found[0], of_gate, rtol=1e-12)
    np.testing.assert_allclose(found[1], of_signal, rtol=1e-12)


def test_a_layer_is_expanded_at_zero_and_its_bias_is_the_term_of_order_zero() -> None:
    rng = np.random.default_rng(61)
    W, b, x = rng.standard_normal((5, 3)), rng.standard_normal(3), rng.standard_normal((1, 5))
    g = GraphBuilder(np.float64, 17)
    layer = g.op("Gemm", [g.input("x", ["batch", 5]), g.constant(W, "W"), g.constant(b, "b")])
    e = lx.load(g.model(layer, ["batch", 3])).explain({"x": x}, lx.LRP(epsilon=0), lx.Target(index=1))
    zero = np.zeros_like(x)
    derivative = central_difference(lambda at: (at @ W + b)[0, 1], zero)
    np.testing.assert_allclose(e.relevance["x"], x * derivative, rtol=1e-6)
    np.testing.assert_allclose(e.ledger.absorbed, (zero @ W + b)[:, 1], rtol=1e-12)


def test_a_cell_of_small_signals_is_expanded_at_no_signal_with_its_gates_held() -> None:
    """A whole LSTM over three steps without biases: with a small cell input, the remainder of every tanh vanishes, and
    relevance becomes input times the derivative at an input of zero, with the gates held at those of the sample.
    """
    rng = np.random.default_rng(62)
    W, R, readout = (rng.standard_normal(shape).astype(np.float32) for shape in ((16, 3), (16, 4), (4, 1)))
    W[12:] *= 1e-3  # rows in ONNX's order i, o, f, c: only the cell input is small, the gates are far from one half
    g = GraphBuilder(np.float32, 17)
    x = g.input("x", [3, 1, 3])
    outputs = g.ops("LSTM", [x, g.constant(W[None], "W"), g.constant(R[None], "R")], 2, hidden_size=4)
    last = g.squeeze(outputs[1], 0)
    model = lx.load(g.model(g.op("MatMul", [last, g.constant(readout, "readout")]), [1, 1]))
    sequence = rng.standard_normal((3, 1, 3)).astype(np.float32)
    e = model.explain({"x": sequence}, lx.LRP(epsilon=0), lx.Target(index=0))

    def run(x: Array, held: list[Array] | None) -> tuple[Array, list[Array]]:
        """The score and the gates of every step; held: the gates to use instead of the cell's own."""
        h, c, gates = np.zeros(4), np.zeros(4), []
        for t in range(3):
            z = (W.astype(float) @ x[t] + R.astype(float) @ h).reshape(4, 4)
            gates.append(sigmoid(z[:3]) if held is None else held[t])
            i, o, f = gates[t]
            c = f * c + i * np.tanh(z[3])
            h = o * np.tanh(c)
        return float(readout[:, 0] @ h), gates

    at = sequence[:, 0].astype(float)
    score, gates = run(at, None)
    zero = np.zeros_like(at)
    expected = at * central_difference(lambda x: run(x, gates)[0], zero, step=1e-2)
    assert np.ptp(gates) > 0.5
    assert run(zero, gates)[0] == 0
    np.testing.assert_allclose(expected.sum(), score, rtol=1e-3)
    np.testing.assert_allclose(e.relevance["x"][:, 0], expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
