# SPDX-License-Identifier: Apache-2.0
"""Occlusion equals explicit runs of the model, and Shapley values equal an enumeration."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

import lstm_explain as lx
from lstm_explain.methods.shapley_sampling import draw_orders, estimate
from lstm_explain.methods.student import t_quantile
from tests.builders import recurrent_model
from tests.engine_checks import check_same
from tests.graph_builder import GraphBuilder

T, B = 6, 3


def made(**options: Any) -> tuple[Any, dict[str, Any], lx.Model]:
    rng = np.random.default_rng(41)
    built = recurrent_model(rng, D=2, H=3, **options)
    return built, built.feeds(rng, T=T, B=B), lx.load(built.model)


def score(model: lx.Model, feeds: dict[str, Any], index: int = 1) -> Any:
    return model.predict(feeds)["logits"][:, index].astype(np.float64)


# --- occlusion ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("baseline", [None, 0.5, np.array([0.3, -0.7])], ids=["zero", "number", "features"])
def test_occlusion_is_the_fall_of_the_score(baseline: Any) -> None:
    _, feeds, model = made(sequence_lens=True)
    e = model.explain(feeds, lx.Occlusion(baseline=baseline), lx.Target(index=1))
    for t in range(T):
        x = feeds["x"].copy()
        x[t] = 0 if baseline is None else baseline
        fall = score(model, feeds) - score(model, {**feeds, "x": x})
        np.testing.assert_allclose(e.relevance["x"][t].sum(axis=1), fall, atol=2e-6)
    x = np.zeros_like(feeds["x"]) + (0 if baseline is None else baseline)
    np.testing.assert_allclose(e.ledger.absorbed, score(model, {**feeds, "x": x.astype(np.float32)}), atol=1e-6)


def test_a_window_is_shared_by_its_steps() -> None:
    _, feeds, model = made()
    e = model.explain(feeds, lx.Occlusion(window=3), lx.Target(index=1))
    shares: list[list[Any]] = [[] for _ in range(T)]
    for start in range(T - 2):
        x = feeds["x"].copy()
        x[start : start + 3] = 0
        fall = score(model, feeds) - score(model, {**feeds, "x": x})
        for t in range(start, start + 3):
            shares[t].append(fall / 3)
    for t in range(T):
        np.testing.assert_allclose(e.relevance["x"][t].sum(axis=1), np.mean(shares[t], axis=0), atol=2e-6)


@pytest.mark.parametrize("over", ["features", "cells"])
@pytest.mark.parametrize("baseline", [None, np.array([0.3, -0.7])], ids=["zero", "features"])
def test_occlusion_by_feature_and_by_cell_is_the_fall_of_the_score(over: Any, baseline: Any) -> None:
    _, feeds, model = made(sequence_lens=True)
    e = model.explain(feeds, lx.Occlusion(baseline=baseline, over=over), lx.Target(index=1))
    units = [(slice(None), d) for d in range(2)] if over == "features" else list(np.ndindex(T, 2))
    for t, d in units:
        x = feeds["x"].copy()
        x[t, :, d] = 0 if baseline is None else baseline[d]
        fall = score(model, feeds) - score(model, {**feeds, "x": x})
        received = e.relevance["x"][t, :, d]
        np.testing.assert_allclose(received.reshape(-1, B).sum(axis=0), fall, atol=2e-6)
    x = np.zeros_like(feeds["x"]) + (0 if baseline is None else baseline.astype(np.float32))
    np.testing.assert_allclose(e.ledger.absorbed, score(model, {**feeds, "x": x}), atol=1e-6)
    np.testing.assert_allclose(e.ledger.inputs, e.relevance["x"].sum(axis=(0, 2)), atol=2e-6)
    assert (e.relevance["x"][np.arange(T)[:, None] >= feeds["lens"]] == 0).all()


@pytest.mark.parametrize("over", ["features", "cells"])
def test_only_steps_have_windows(over: Any) -> None:
    with pytest.raises(lx.MethodError, match="only steps have windows") as error:
        lx.Occlusion(window=2, over=over)
    assert error.value.field == "method.window"
    assert lx.Occlusion(window=2).kept_beside({"over"}) == {"baseline": None, "of": "score"}
    assert lx.Occlusion(over=over).kept_beside({"window"}) == {"baseline": None, "of": "score"}


def test_cells_that_equal_the_baseline_get_nothing() -> None:
    _, feeds, model = made()
    feeds["x"][2, 1] = [0.0, 4.0]
    feeds["x"][3, 1] = 0.0
    e = model.explain(feeds, lx.Occlusion(), lx.Target(index=1))
    assert e.relevance["x"][2, 1, 0] == 0
    assert e.relevance["x"][2, 1, 1] != 0
    assert (e.relevance["x"][3, 1] == 0).all()


def probability_model(activation: str | None) -> Any:
    rng = np.random.default_rng(42)
    g = GraphBuilder(np.float32, 17)
    x = g.input("x", ["B", "T", 2])
    summed = g.op("ReduceSum", [g.op("Tanh", [x]), g.ints(1)], keepdims=0)
    z = g.op("MatMul", [summed, g.constant(rng.normal(size=(2, 3)), "W")])
    return g.model(g.op(activation, [z]) if activation else z, ["B", 3], rename="y")


@pytest.mark.parametrize("activation", ["Softmax", "LogSoftmax", "Sigmoid", None])
def test_occlusion_of_the_probability(activation: str | None) -> None:
    model = lx.load(probability_model(activation))
    x = np.random.default_rng(43).normal(size=(2, 3, 2)).astype(np.float32)

    def probability(x: Any) -> Any:
        y = model.predict({"x": x})["y"].astype(np.float64)
        if activation in ("Softmax", "Sigmoid"):
            return y[:, 2]
        powers = np.exp(y)
        return (powers / powers.sum(axis=1, keepdims=True))[:, 2]

    e = model.explain({"x": x}, lx.Occlusion(of="probability"), lx.Target(index=2))
    np.testing.assert_allclose(e.explained, probability(x), rtol=1e-5)
    for t in range(3):
        hidden = x.copy()
        hidden[:, t] = 0
        np.testing.assert_allclose(e.relevance["x"][:, t].sum(axis=1), probability(x) - probability(hidden), atol=1e-6)


def test_a_regression_output_has_no_probability() -> None:
    g = GraphBuilder(np.float32, 17)
    x = g.input("x", ["B", 2])
    model = lx.load(g.model(g.op("ReduceSum", [x, g.ints(1)], keepdims=1), ["B", 1]))
    with pytest.raises(lx.MethodError) as error:
        model.explain({"x": np.ones((2, 2), np.float32)}, lx.Occlusion(of="probability"))
    assert error.value.field == "method.of"


# --- Shapley -----------------------------------------------------------------------------------------------------


def enumerated(model: lx.Model, feeds: dict[str, Any]) -> Any:
    """[T, B]: the definition, over all 2^6 coalitions of time steps."""
    worth = {}
    for present in itertools.product([0, 1], repeat=T):
        x = feeds["x"] * np.array(present, np.float32)[:, None, None]
        worth[present] = score(model, {**feeds, "x": x})
    phi = np.zeros((T, B))
    for present, value in worth.items():
        size = sum(present)
        for t in range(T):
            if present[t]:
                without = tuple(0 if k == t else p for k, p in enumerate(present))
                weight = math.factorial(size - 1) * math.factorial(T - size) / math.factorial(T)
                phi[t] += weight * (value - worth[without])
    return phi


def test_shapley_values_are_those_of_the_definition(monkeypatch: Any) -> None:
    """Exactly over all 720 orders; within the reported error over 60 sampled orders; complete in both cases."""
    _, feeds, model = made()
    expected = enumerated(model, feeds)
    few = model.explain(feeds, lx.ShapleySampling(60, exact_players=0), lx.Target(index=1))
    error = np.linalg.norm(few.standard_error["x"], axis=2) * math.sqrt(2)  # of the sum of two equal cells
    assert (np.abs(few.relevance["x"].sum(axis=2) - expected) <= 4 * error + 1e-6).all()
    assert (np.abs(few.ledger.residual) < 1e-5).all()
    every = np.array(list(itertools.permutations(range(T))))
    monkeypatch.setattr("lstm_explain.methods.shapley_sampling.draw_orders", lambda players, count, seed: every)
    exact = model.explain(feeds, lx.ShapleySampling(720, exact_players=0), lx.Target(index=1))
    np.testing.assert_allclose(exact.relevance["x"].sum(axis=2), expected, atol=1e-5)


@pytest.mark.parametrize("over", ["steps", "features", "cells"])
def test_where_nothing_interacts_every_order_is_exact(over: Any) -> None:
    """In a linear model, the value is w (x - x') in every order, without an error."""
    rng = np.random.default_rng(44)
    g = GraphBuilder(np.float32, 17)
    x = g.input("x", ["B", "T", 2])
    w = rng.normal(size=(4, 2)).astype(np.float32)
    y = g.op("ReduceSum", [g.op("Mul", [x, g.constant(w, "w")]), g.ints(1, 2)], keepdims=0)
    model = lx.load(g.model(y, ["B"], rename="y"))
    feeds = {"x": rng.normal(size=(2, 4, 2)).astype(np.float32)}
    e = model.explain(feeds, lx.ShapleySampling(5, over=over, baseline=0.25, exact_players=0))
    parts = w * (feeds["x"] - 0.25)
    axis = {"steps": (2,), "features": (1,), "cells": ()}[over]
    np.testing.assert_allclose(e.relevance["x"].sum(axis=axis), parts.sum(axis=axis), atol=1e-5)
    assert e.standard_error["x"].max() < 1e-5


def test_every_second_order_is_the_reverse() -> None:
    orders = draw_orders(7, 5, seed=1)
    assert orders.shape == (5, 7)
    np.testing.assert_array_equal(orders[1], orders[0][::-1])
    np.testing.assert_array_equal(orders[3], orders[2][::-1])
    assert (np.sort(orders, axis=1) == np.arange(7)).all()


def test_the_standard_error_is_that_of_pairs() -> None:
    gains = np.random.default_rng(45).normal(size=(8, 2, 3))
    mean, error = estimate(gains)
    pairs = (gains[0::2] + gains[1::2]) / 2
    np.testing.assert_allclose(mean, pairs.mean(axis=0))
    factor = 3.182446 / 1.959964  # of three degrees of freedom and of the normal distribution
    np.testing.assert_allclose(error, factor * pairs.std(axis=0, ddof=1) / math.sqrt(4), rtol=2e-3)
    assert np.isnan(estimate(gains[:2])[1]).all()


@pytest.mark.parametrize("pairs", [2, 3, 5, 20])
def test_an_interval_of_two_standard_errors_covers_95_percent(pairs: int) -> None:
    gains = np.random.default_rng(46).normal(size=(2 * pairs, 100, 200))  # their mean is zero
    mean, error = estimate(gains)
    assert (np.abs(mean) <= 1.959964 * error).mean() == pytest.approx(0.95, abs=0.006)


@pytest.mark.parametrize(("degrees", "quantile"), [(1, 12.7062), (2, 4.302653), (4, 2.776445), (12, 2.178813)])
def test_quantiles_of_the_t_distribution(degrees: int, quantile: float) -> None:
    """The values are those of published tables."""
    assert t_quantile(degrees) == pytest.approx(quantile, rel=1e-3)


# --- both --------------------------------------------------------------------------------------------------------


def test_models_without_lrp_support_are_perturbed() -> None:
    g = GraphBuilder(np.float32, 17)
    x = g.input("x", ["B", "T", 2])
    square = g.op("MatMul", [g.op("Transpose", [x], perm=[0, 2, 1]), x])
    model = lx.load(g.model(g.op("Reshape", [g.op("Det", [square]), g.ints(-1, 1)]), ["B", 1]))
    feeds = {"x": np.random.default_rng(46).normal(size=(2, 4, 2)).astype(np.float32)}
    with pytest.raises(lx.UnsupportedOperator):
        model.explain(feeds, lx.LRP())
    e = model.explain(feeds, lx.Occlusion(), lx.Target(index=0))
    hidden = feeds["x"].copy()
    hidden[:, 2] = 0
    fall = (model.predict(feeds)["logits"] - model.predict({"x": hidden})["logits"])[:, 0]
    np.testing.assert_allclose(e.relevance["x"][:, 2].sum(axis=1), fall, rtol=1e-4, atol=1e-5)
    shapley = model.explain(feeds, lx.ShapleySampling(4), lx.Target(index=0))
    np.testing.assert_allclose(shapley.ledger.inputs + shapley.ledger.absorbed, shapley.explained, rtol=1e-4)


def test_the_target_stays_that_of_the_whole_input() -> None:
    """Without these steps, the model prefers another class, but the original class is still explained."""
    _, feeds, model = made()
    best = model.predict(feeds)["logits"].argmax(axis=1)
    e = model.explain(feeds, lx.Occlusion())
    np.testing.assert_array_equal(e.target.index[:, 0], best)
    fixed = model.explain(feeds, lx.Occlusion(), lx.Target(index=best))
    np.testing.assert_array_equal(e.relevance["x"], fixed.relevance["x"])


def test_tokens_are_replaced_by_zero() -> None:
    g = GraphBuilder(np.float32, 17)
    tokens = g.input("tokens", ["B", "T"], TensorProto.INT64)
    table = np.random.default_rng(47).normal(size=(5, 2)).astype(np.float32)
    looked_up = g.op("Gather", [g.constant(table, "table"), tokens])
    proto = g.model(g.op("ReduceSum", [g.op("Tanh", [looked_up]), g.ints(1)], keepdims=0), ["B", 2])
    e = lx.load(proto).explain({"tokens": np.array([[1, 4, 0], [2, 2, 3]])}, lx.Occlusion(), lx.Target(index=0))
    worth = np.tanh(table[:, 0])
    np.testing.assert_allclose(e.relevance["tokens"][0], [worth[1] - worth[0], worth[4] - worth[0], 0], atol=1e-6)


def test_contrasts_and_weights_are_occluded_alike() -> None:
    _, feeds, model = made()
    rows = [model.explain(feeds, lx.Occlusion(), lx.Target(index=k)).relevance["x"] for k in range(3)]
    contrast = model.explain(feeds, lx.Occlusion(), lx.Target(index=2, contrast=0)).relevance["x"]
    check_same(contrast, rows[2] - rows[0], 1e-4)
    weights = np.array([1.0, -2.0, 0.5], np.float32)
    weighted = model.explain(feeds, lx.Occlusion(), lx.Target(weights=weights)).relevance["x"]
    check_same(weighted, np.tensordot(weights, rows, 1), 1e-4)
