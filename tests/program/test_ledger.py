# SPDX-License-Identifier: Apache-2.0
"""The ledger closes: explained = inputs + initial states + absorbed + residual, and the residual is rounding.

The zoo's ledgers: test_zoo.py.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np
import pytest

import lstm_explain as lx
from tests.builders import Built, recurrent_model
from tests.engine_checks import batch_axis, check_ledger, check_textbook, method
from tests.graph_builder import GraphBuilder
from tests.reference.textbook import PRODUCT_RULES, Relative, Rules, one_hot

MODELS: dict[str, dict[str, Any]] = {
    "lstm": {},
    "lstm-bidirectional-mean": {"layers": 2, "direction": "bidirectional", "head": "mean"},
    "lstm-lens-Y_h": {"sequence_lens": True, "direction": "bidirectional", "head": "Y_h"},
    "lstm-lens-sum": {"sequence_lens": True, "head": "sum", "layers": 2},
    "lstm-states-input": {"initial_states": "input", "head": "Y_c", "batch_first": True},
    "lstm-states-constant": {"initial_states": "constant", "layers": 2},
    "lstm-everything": {"peepholes": True, "input_forget": True, "clip": 0.5, "direction": "reverse"},
    "lstm-no-bias": {"bias": False, "head": "sum"},
    "gru": {"op": "GRU", "layers": 2},
    "gru-lens-states": {"op": "GRU", "sequence_lens": True, "initial_states": "input", "head": "mean"},
    "gru-lbr-constant": {"op": "GRU", "linear_before_reset": True, "initial_states": "constant", "head": "Y_h"},
    "rnn": {"op": "RNN", "direction": "bidirectional", "layers": 2},
    "rnn-lens-states": {"op": "RNN", "sequence_lens": True, "initial_states": "input", "head": "mean"},
}


@functools.cache
def built(name: str, dtype: Any = np.float32) -> tuple[Built, lx.Model]:
    made = recurrent_model(np.random.default_rng(11), dtype=dtype, **MODELS[name])
    return made, lx.load(made.model)


def explain(name: str, rules: Rules, dtype: Any = np.float32, T: int = 9) -> tuple[Built, Any, lx.Explanation]:
    made, model = built(name, dtype)
    feeds = made.feeds(np.random.default_rng(12), T=T)
    return made, feeds, model.explain(feeds, method(rules), lx.Target(index=1))


SETTINGS = list(itertools.product(PRODUCT_RULES, (0.0, 1.0)))


@pytest.mark.parametrize("epsilon", [1e-6, 1e-3, 0.1])
@pytest.mark.parametrize(("rule", "bias_factor"), SETTINGS)
@pytest.mark.parametrize("name", MODELS)
def test_the_ledger_of_random_models_closes(name: str, rule: Any, bias_factor: float, epsilon: float) -> None:
    made, feeds, e = explain(name, Rules(rule, epsilon, bias_factor))
    check_ledger(e, {x: batch_axis(made, x) for x in feeds}, cancels=rule == "prop")
    np.testing.assert_allclose(e.explained, made.reference_forward(feeds)[:, 1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(e.outputs["logits"][:, 1], e.explained, rtol=1e-5, atol=1e-6)


RELATIVE = {"default": Relative(), "tight": Relative(0.3, 0.05, 0.1, 1.1), "small": Relative(0.01, ceiling=1e9)}


@pytest.mark.parametrize("stabiliser", RELATIVE)
@pytest.mark.parametrize(("rule", "bias_factor"), SETTINGS)
@pytest.mark.parametrize("name", MODELS)
def test_the_relative_stabiliser_equals_the_textbook_s(
    name: str, rule: Any, bias_factor: float, stabiliser: str
) -> None:
    rules = Rules(rule, bias_factor=bias_factor, relative=RELATIVE[stabiliser])
    made, feeds, e = explain(name, rules)
    check_textbook(made, feeds, e, one_hot(1, len(e.explained), 3), rules)
    check_ledger(e, {x: batch_axis(made, x) for x in feeds}, cancels=rule == "prop")


@pytest.mark.parametrize(("rule", "bias_factor"), SETTINGS)
@pytest.mark.parametrize("name", MODELS)
def test_in_float64_the_ledger_closes_to_a_billionth(name: str, rule: Any, bias_factor: float) -> None:
    made, feeds, e = explain(name, Rules(rule, 1e-3, bias_factor), np.float64)
    assert all(R.dtype == np.float64 for x, R in e.relevance.items() if x != "lens")
    check_ledger(e, {x: batch_axis(made, x) for x in feeds}, relative=1e-9, cancels=rule == "prop")


@pytest.mark.parametrize(("rule", "bias_factor"), SETTINGS)
@pytest.mark.parametrize("name", [name for name in MODELS if MODELS[name].get("sequence_lens")])
def test_padding_gets_exactly_nothing(name: str, rule: Any, bias_factor: float) -> None:
    _, feeds, e = explain(name, Rules(rule, 1e-3, bias_factor))
    past = np.arange(feeds["x"].shape[0])[:, None] >= feeds["lens"][None, :]
    assert past.any()
    assert (e.relevance["x"][past] == 0.0).all()
    assert (e.relevance["x"][~past] != 0.0).any()
    assert (e.relevance["lens"] == 0.0).all()


@pytest.mark.parametrize("rule", ["all", "half", "abs"])
@pytest.mark.parametrize("name", [name for name in MODELS if not MODELS[name].get("sequence_lens")])
def test_bias_factor_1_leaves_nothing_absorbed(name: str, rule: Any) -> None:
    """Every bias and every stabiliser is shared among the units that feed it, as in the conservation check of Arras et
    al. 2017.

    (With ragged lengths the padding's share of a bias has nowhere to go.)
    """
    _, _, e = explain(name, Rules(rule, 1e-3, 1.0))
    assert (np.abs(e.ledger.absorbed) <= 1e-4 * np.abs(e.explained)).all()


@pytest.mark.parametrize("name", ["lstm-states-constant", "gru-lbr-constant"])
def test_constant_states_have_an_entry_of_their_own(name: str) -> None:
    _made, _feeds, e = explain(name, Rules())
    assert list(e.relevance) == ["x"]
    assert (e.ledger.initial_states != 0.0).all()


@pytest.mark.parametrize("name", ["lstm-states-input", "gru-lens-states", "rnn-lens-states"])
def test_states_that_the_caller_supplies_are_inputs(name: str) -> None:
    _, feeds, e = explain(name, Rules())
    assert (e.ledger.initial_states == 0.0).all()
    for state in (x for x in feeds if x.startswith("initial_")):
        assert e.relevance[state].shape == feeds[state].shape
        assert (e.relevance[state] != 0.0).any()


@pytest.mark.parametrize("rule", PRODUCT_RULES)
def test_scaling_the_target_scales_the_account(rule: Any) -> None:
    made, model = built("lstm-bidirectional-mean")
    feeds = made.feeds(np.random.default_rng(12), T=5)
    once, thrice = (
        model.explain(feeds, lx.LRP(rule), lx.Target(weights=np.array([0.0, factor, 0.0]))) for factor in (1.0, -3.0)
    )
    np.testing.assert_allclose(thrice.explained, -3 * once.explained, rtol=1e-6)
    np.testing.assert_allclose(thrice.relevance["x"], -3 * once.relevance["x"], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("rule", PRODUCT_RULES)
@pytest.mark.parametrize("name", [name for name in MODELS if name.startswith("lstm")])
def test_absorbed_relevance_by_node_equals_the_textbook(name: str, rule: Any) -> None:
    made, feeds, e = explain(name, Rules(rule, 1e-2, 0.3), np.float64)
    textbook = made.reference_lrp(feeds, one_hot(1, 3, 3), Rules(rule, 1e-2, 0.3))
    largest = max(np.abs(entry).max() for entry in [textbook.x, *textbook.absorbed.values()])
    for part, expected in textbook.absorbed.items():
        received = e.ledger.by_node.get(part, np.zeros(3))
        np.testing.assert_allclose(received, expected, rtol=1e-7, atol=1e-8 * largest, err_msg=part)


def test_diverging_relevance_causes_a_warning() -> None:
    """LRP-prop gives a in a b the share a / (a + b), which is unbounded."""
    g = GraphBuilder(np.float64, 17)
    a, b = g.split(g.input("x", ["B", 2]), 2, 1, 1)
    model = lx.load(g.model(g.op("Mul", [a, b]), ["B", 1], rename="y"))
    x = np.array([[1.0, -1.0 + 1e-6]])
    e = model.explain({"x": x}, lx.LRP("prop", epsilon=1e-12))
    np.testing.assert_allclose(e.relevance["x"], x[:, 0] * x[:, 1] * x / x.sum(), rtol=1e-4)
    assert "diverges" in e.warnings[0]
    assert "1.0e+06" in e.warnings[0]
    for quiet in (lx.LRP("prop", epsilon=0.1), lx.LRP("half", epsilon=1e-12), lx.Gradient()):
        assert not model.explain({"x": x}, quiet).warnings
    heavy = lx.Target(weights=np.array([1e9]))
    assert not model.explain({"x": x}, lx.LRP("half"), heavy).warnings


def test_diverging_relevance_under_signal_takes_all_causes_a_warning() -> None:
    """In each layer, two units nearly cancel (4096 and 4095), so it passes on 8191 times the arriving relevance; the
    values remain 1.
    """
    g = GraphBuilder(np.float32, 17)
    value = g.input("x", ["B", 2])
    for layer in range(7):
        value = g.op("MatMul", [value, g.constant(np.array([[4096.0, -4095.0], [-4095.0, 4096.0]]), f"W{layer}")])
    model, x = lx.load(g.model(value, ["B", 2], rename="y")), np.ones((1, 2), np.float32)
    e = model.explain({"x": x}, lx.LRP(epsilon=1e-3), lx.Target(index=0))
    np.testing.assert_array_equal(e.outputs["y"], x)
    assert np.abs(e.relevance["x"]).max() > 1e24
    assert [w for w in e.warnings if "diverges" in w and "product rule" not in w]
    assert not model.explain({"x": x}, lx.LRP(epsilon=1e6), lx.Target(index=0)).warnings
    bounded = model.explain({"x": x}, lx.LRP(layer_stabiliser=0.1), lx.Target(index=0))
    assert np.abs(bounded.relevance["x"]).max() < 1e7  # each layer passes on at most 1 / beta times what it gets
