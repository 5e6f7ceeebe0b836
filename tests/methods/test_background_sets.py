# SPDX-License-Identifier: Apache-2.0
"""Background sets: the mean over draws equals explicit runs, enumerations and the textbook; the error covers it."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

import lstm_explain as lx
from lstm_explain.methods.base import BaselineMethod
from lstm_explain.runner import stacking
from tests.builders import recurrent_model
from tests.engine_checks import check_same
from tests.graph_builder import GraphBuilder
from tests.reference.differences import central_difference

T, B, N = 5, 3, 4
TARGET = lx.Target(index=1)
METHODS: list[Any] = [lx.IntegratedGradients(20), lx.GradientShap(8), lx.Occlusion(), lx.ShapleySampling(8)]
by_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)


def made(dtype: Any = np.float32, steps: int = T, **options: Any) -> tuple[Any, Any, Any, lx.Model]:
    """A model, its inputs [T, B, 2], and N background samples [N, T, 2]."""
    rng = np.random.default_rng(61)
    built = recurrent_model(rng, D=2, H=3, dtype=dtype, **options)
    feeds = built.feeds(rng, T=steps, B=B)
    return built, feeds, rng.normal(size=(N, steps, 2)).astype(dtype), lx.load(built.model)


def linear_model(w: Any) -> lx.Model:
    g = GraphBuilder(np.float32, 17)
    product = g.op("Mul", [g.input("x", ["B", *w.shape]), g.constant(w, "w")])
    return lx.load(g.model(g.op("ReduceSum", [product, g.ints(1, 2)], keepdims=0), ["B"], rename="y"))


def score(model: lx.Model, x: Any) -> Any:
    return model.predict({"x": x.astype(np.float32)})["logits"][:, 1].astype(np.float64)


def in_place_of(x: Any, draw: Any) -> Any:
    """The draw as every sample of the batch."""
    return np.broadcast_to(draw[:, None], x.shape)


# --- against independent figures ---------------------------------------------------------------------------------


@pytest.mark.parametrize("over", ["steps", "features", "cells"])
def test_occlusion_is_the_mean_fall_over_the_samples(over: Any) -> None:
    _, feeds, samples, model = made()
    e = model.explain(feeds, lx.Occlusion(baseline=lx.Background({"x": samples}), over=over), TARGET)
    x = feeds["x"]
    units: list[Any] = {
        "steps": [(t,) for t in range(T)],
        "features": [(slice(None), slice(None), d) for d in range(2)],
        "cells": [(t, slice(None), d) for t in range(T) for d in range(2)],
    }[over]
    for unit in units:
        falls = []
        for draw in samples:
            changed = x.copy()
            changed[unit] = in_place_of(x, draw)[unit]
            falls.append(score(model, x) - score(model, changed))
        received = np.zeros_like(x)
        received[unit] = e.relevance["x"][unit]
        np.testing.assert_allclose(received.sum(axis=(0, 2)), np.mean(falls, axis=0), atol=2e-6)
    absorbed = np.mean([score(model, in_place_of(x, draw)) for draw in samples], axis=0)
    np.testing.assert_allclose(e.ledger.absorbed, absorbed, atol=1e-6)
    assert not e.standard_error  # nothing was sampled


def mean_game(model: lx.Model, x: Any, samples: Any) -> Any:
    """[T, B]: the Shapley values of v(S) = mean over samples of f(x in S, the sample elsewhere), by the definition."""
    steps = len(x)
    worth = {}
    for present in itertools.product([0, 1], repeat=steps):
        kept = np.array(present, bool)[:, None, None]
        worth[present] = np.mean([score(model, np.where(kept, x, in_place_of(x, draw))) for draw in samples], axis=0)
    phi = np.zeros((steps, x.shape[1]))
    for present, value in worth.items():
        size = sum(present)
        for t in range(steps):
            if present[t]:
                without = tuple(0 if k == t else p for k, p in enumerate(present))
                weight = math.factorial(size - 1) * math.factorial(steps - size) / math.factorial(steps)
                phi[t] += weight * (value - worth[without])
    return phi


def test_shapley_values_are_those_of_the_mean_game() -> None:
    _, feeds, samples, model = made()
    expected = mean_game(model, feeds["x"], samples)
    e = model.explain(feeds, lx.ShapleySampling(400, baseline=lx.Background({"x": samples})), TARGET)
    error = np.linalg.norm(e.standard_error["x"], axis=2) * math.sqrt(2)  # of the sum of two equal cells
    assert (np.abs(e.relevance["x"].sum(axis=2) - expected) <= 4 * error + 1e-6).all()
    assert error.max() < 0.05 * np.abs(expected).max()  # so the comparison says something
    absorbed = np.mean([score(model, in_place_of(feeds["x"], draw)) for draw in samples], axis=0)
    np.testing.assert_allclose(e.ledger.absorbed, absorbed, atol=1e-6)
    assert (np.abs(e.ledger.residual) < 1e-5).all()


@pytest.mark.parametrize(("count", "quantile"), [(4, 3.18), (7, 2.4), (8, 2.31)])
def test_the_standard_error_is_that_of_the_mean_game_of_the_whole_set(count: int, quantile: float) -> None:
    """Over many seeds: of 8 samples, half are drawn, all but one, or all, where only the orders contribute.

    quantile: of Student's t distribution, by published tables, for the degrees of freedom of what contributes most.
    """
    rng = np.random.default_rng(62)
    g = GraphBuilder(np.float32, 17)
    z = g.op("MatMul", [g.input("x", ["B", 6]), g.constant(2 * rng.normal(size=(6, 8)).astype(np.float32), "W")])
    tanh = g.op("Tanh", [z])
    y = g.op("MatMul", [tanh, g.constant(rng.normal(size=(8, 1)).astype(np.float32), "v")])
    model = lx.load(g.model(y, ["B", 1], rename="y"))
    x, samples = rng.normal(size=(1, 6)).astype(np.float32), rng.normal(size=(1, 6)) + rng.normal(size=(8, 6)) / 4

    def found(seed: int, count: int, orders: int) -> lx.Explanation:
        background = lx.Background({"x": samples.astype(np.float32)}, draws=count, seed=seed)
        return model.explain(
            {"x": x}, lx.ShapleySampling(orders, seed, background, over="cells", exact_players=0), lx.Target(index=0)
        )

    exact = found(0, 8, 20_000 // 8 * 4).relevance["x"]
    answers = [found(seed, count, 4) for seed in range(1, 201)]
    errors = np.array([a.standard_error["x"] for a in answers])
    deviations = np.array([a.relevance["x"] - exact for a in answers])
    assert np.sqrt(np.mean(errors**2) / np.mean(deviations**2)) * 1.959964 == pytest.approx(quantile, rel=0.1)


def test_expected_gradients_of_a_linear_model_are_the_weights_times_the_difference_from_the_mean() -> None:
    rng = np.random.default_rng(63)
    w, x, samples = (rng.normal(size=shape).astype(np.float32) for shape in ((4, 2), (B, 4, 2), (N, 4, 2)))
    e = linear_model(w).explain({"x": x}, lx.IntegratedGradients(steps=1, baseline=lx.Background({"x": samples})))
    np.testing.assert_allclose(e.relevance["x"], w * (x - samples.mean(axis=0)), atol=1e-5)
    np.testing.assert_allclose(e.ledger.absorbed, (w * samples.mean(axis=0)).sum(), atol=1e-5)
    assert (np.abs(e.ledger.residual) < 1e-5).all()


def test_expected_gradients_of_a_recurrent_model_are_those_of_the_textbook() -> None:
    """Central differences of the textbook's float64 forward pass, at 16 Gauss-Legendre points per sample."""
    built, feeds, samples, model = made(np.float64, steps=3)
    places, weights = np.polynomial.legendre.leggauss(16)
    x = feeds["x"]

    def scored(at: Any) -> float:
        return float(built.reference_forward({"x": at})[:, 1].sum())

    expected = np.zeros_like(x)
    for draw in samples:
        start = in_place_of(x, draw)
        for place, weight in zip((places + 1) / 2, weights / 2, strict=True):
            expected += weight * central_difference(scored, start + place * (x - start)) * (x - start) / N
    e = model.explain(feeds, lx.IntegratedGradients(baseline=lx.Background({"x": samples})), TARGET)
    check_same(e.relevance["x"], expected, 1e-8)
    at_samples = np.mean([built.reference_forward({"x": in_place_of(x, draw)})[:, 1] for draw in samples], axis=0)
    np.testing.assert_allclose(e.ledger.absorbed, at_samples, rtol=1e-9)
    np.testing.assert_allclose(e.relevance["x"].sum(axis=(0, 2)), e.explained - at_samples, atol=1e-8)


def test_tokens_of_the_samples_stand_for_their_vectors() -> None:
    """f = sum over steps of v · tanh(E[token]): every method's answer is known in closed form."""
    rng = np.random.default_rng(64)
    table = rng.normal(size=(9, 3)).astype(np.float32)
    g = GraphBuilder(np.float32, 17)
    tokens = g.input("tokens", ["B", "T"], TensorProto.INT64)
    looked_up = g.op("Gather", [g.constant(table, "E"), tokens])
    y = g.op("ReduceSum", [g.op("Tanh", [looked_up]), g.ints(1, 2)], keepdims=1)
    model = lx.load(g.model(g.op("Reshape", [y, g.ints(-1, 1)]), ["B", 1], rename="y"))
    ids, samples = rng.integers(1, 9, size=(2, 4)), rng.integers(1, 9, size=(N, 4))
    worth = np.tanh(table.astype(np.float64)).sum(axis=1)
    expected = worth[ids] - worth[samples].mean(axis=0)
    for method in (lx.IntegratedGradients(), lx.Occlusion(), lx.ShapleySampling(4)):
        e = model.explain({"tokens": ids}, method.with_baseline(lx.Background({"tokens": samples})), lx.Target(index=0))
        np.testing.assert_allclose(e.relevance["tokens"], expected, atol=1e-5)
        np.testing.assert_allclose(e.ledger.absorbed, worth[samples].sum(axis=1).mean(), atol=1e-5)


# --- GradientSHAP ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, N], ids=["baseline", "background"])
def test_gradient_shap_estimates_integrated_gradients_within_its_error(count: int) -> None:
    """Over many seeds: its mean is that of the textbook's integral, and its error that of its spread around it."""
    built, feeds, samples, model = made(np.float64, steps=3)
    x, background = feeds["x"], lx.Background({"x": samples[:count]})
    places, weights = np.polynomial.legendre.leggauss(16)
    expected = np.zeros_like(x)
    for draw in samples[:count]:
        start = in_place_of(x, draw)
        for place, weight in zip((places + 1) / 2, weights / 2, strict=True):
            at = start + place * (x - start)
            slope = central_difference(lambda at: float(built.reference_forward({"x": at})[:, 1].sum()), at)
            expected += weight * slope * (x - start) / count
    answers = [model.explain(feeds, lx.GradientShap(8, seed, background), TARGET) for seed in range(600)]
    deviations = np.array([a.relevance["x"] - expected for a in answers])
    errors = np.array([a.standard_error["x"] for a in answers])
    spread = deviations.std(axis=0)
    assert (np.abs(deviations.mean(axis=0)) < 4 * spread / math.sqrt(len(answers))).all()
    quantile = 2.364624 if count == 1 else 2.776445  # of 7 and 4 degrees of freedom
    ratio = np.sqrt(np.mean(errors**2) / np.mean(deviations**2)) * 1.959964
    assert ratio == pytest.approx(quantile, rel=0.1)
    at_samples = np.mean([built.reference_forward({"x": in_place_of(x, s)})[:, 1] for s in samples[:count]], axis=0)
    np.testing.assert_allclose(answers[0].ledger.absorbed, at_samples, rtol=1e-9)
    sums = answers[0].relevance["x"].sum(axis=(0, 2))
    np.testing.assert_allclose(answers[0].ledger.residual, answers[0].explained - sums - at_samples, atol=1e-9)


def test_gradient_shap_of_a_linear_model_is_exact() -> None:
    rng = np.random.default_rng(66)
    w, x, samples = (rng.normal(size=shape).astype(np.float32) for shape in ((4, 2), (B, 4, 2), (N, 4, 2)))
    e = linear_model(w).explain({"x": x}, lx.GradientShap(1, baseline=lx.Background({"x": samples})))
    np.testing.assert_allclose(e.relevance["x"], w * (x - samples.mean(axis=0)), atol=1e-5)
    assert (np.abs(e.ledger.residual) < 1e-5).all()


@pytest.mark.parametrize(("samples", "draws", "runs"), [(50, 1, 50), (50, 20, 80), (1, 1, 2), (8, 4, 8), (7, 1, 7)])
def test_draws_share_the_points_of_gradient_shap(samples: int, draws: int, runs: int) -> None:
    background = lx.Background({"x": np.zeros((draws, 3))}, draws=draws)
    assert lx.GradientShap(samples, baseline=background).fixed_runs == runs


# --- laws --------------------------------------------------------------------------------------------------------


@by_method
def test_a_set_of_one_sample_is_that_baseline(method: Any) -> None:
    _, feeds, samples, model = made()
    one = model.explain(feeds, method.with_baseline(lx.Background({"x": samples[:1]})), TARGET)
    plain = model.explain(feeds, method.with_baseline({"x": samples[0][:, None]}), TARGET)
    np.testing.assert_array_equal(one.relevance["x"], plain.relevance["x"])
    np.testing.assert_array_equal(one.ledger.absorbed, plain.ledger.absorbed)
    for name, array in plain.standard_error.items():
        np.testing.assert_array_equal(one.standard_error[name], array)


@by_method
def test_drawing_is_reproducible_and_without_replacement(method: Any) -> None:
    _, feeds, samples, model = made()
    first, again, other = (
        model.explain(feeds, method.with_baseline(lx.Background({"x": samples}, draws=2, seed=seed)), TARGET)
        for seed in (5, 5, 6)
    )
    assert lx.Background({"x": samples}, draws=2, seed=5).numbers != lx.Background({"x": samples}, 2, 6).numbers
    many = lx.Background({"x": np.zeros((50, 1))}, draws=40).numbers
    assert len(set(many)) == 40
    np.testing.assert_array_equal(first.relevance["x"], again.relevance["x"])
    assert (first.relevance["x"] != other.relevance["x"]).any()
    assert (first.standard_error["x"] > 0).all()
    whole = model.explain(feeds, method.with_baseline(lx.Background({"x": samples}, draws=N)), TARGET)
    plenty = model.explain(feeds, method.with_baseline(lx.Background({"x": samples}, draws=100, seed=1)), TARGET)
    np.testing.assert_array_equal(whole.relevance["x"], plenty.relevance["x"])


@by_method
def test_a_sample_gets_the_same_answer_alone_and_in_small_stacks(method: Any, monkeypatch: Any) -> None:
    _, feeds, samples, model = made()
    method = method.with_baseline(lx.Background({"x": samples}, draws=3))
    whole = model.explain(feeds, method, TARGET)
    monkeypatch.setattr(stacking, "MAX_COPIES", 2)
    for row in range(B):
        alone = model.explain({"x": feeds["x"][:, row : row + 1]}, method, TARGET)
        np.testing.assert_allclose(alone.relevance["x"][:, 0], whole.relevance["x"][:, row], atol=2e-6)
        np.testing.assert_allclose(alone.standard_error["x"][:, 0], whole.standard_error["x"][:, row], atol=2e-6)
        np.testing.assert_allclose(alone.ledger.absorbed, whole.ledger.absorbed[row], atol=1e-6)


@by_method
def test_an_input_without_samples_stays_as_it_is(method: Any) -> None:
    rng = np.random.default_rng(65)
    g = GraphBuilder(np.float32, 17)
    a, b = g.input("a", ["B", 3]), g.input("b", ["B", 3])
    y = g.op("ReduceSum", [g.op("Mul", [a, b]), g.ints(1)], keepdims=1)
    model = lx.load(g.model(y, ["B", 1], rename="y"))
    inputs = {name: rng.normal(size=(2, 3)).astype(np.float32) for name in "ab"}
    samples = rng.normal(size=(N, 3)).astype(np.float32)
    e = model.explain(inputs, method.with_baseline(lx.Background({"a": samples})), lx.Target(index=0))
    received = e.relevance["a"].sum(axis=1)
    np.testing.assert_allclose(received, ((inputs["a"] - samples.mean(axis=0)) * inputs["b"]).sum(axis=1), atol=1e-5)
    assert (e.relevance["b"] == 0).all()


# --- errors and costs --------------------------------------------------------------------------------------------


@by_method
def test_samples_of_another_length_are_an_error_that_names_both(method: Any) -> None:
    _, feeds, samples, model = made()
    method = method.with_baseline(lx.Background({"x": samples[:, :3]}))
    with pytest.raises(lx.InputError, match="have 3 time steps of 'x', the input has 5") as caught:
        model.explain(feeds, method, TARGET)
    assert caught.value.field == "inputs.x.shape"


@pytest.mark.parametrize(
    ("samples", "problem"),
    [
        ({"x": np.zeros((N, T, 7))}, r"have shape \(5, 7\) for 'x', expected \(5, 2\)"),
        ({"y": np.zeros((N, T, 2))}, "background for 'y', the model has x"),
        ({"x": np.full((N, T, 2), np.nan)}, "the baseline of 'x' is not finite"),
        (None, "the model has no background set"),
    ],
)
def test_samples_that_do_not_fit_are_an_error(samples: Any, problem: str) -> None:
    _, feeds, _, model = made()
    with pytest.raises(lx.MethodError, match=problem):
        model.explain(feeds, lx.Occlusion(baseline=lx.Background(samples)), TARGET)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"draws": 0}, "draws is 0, expected a whole number of at least 1"),
        ({"draws": 20_000}, "expected at most 10000"),
        ({"seed": -1}, "seed is -1"),
        ({"samples": {}}, "are none, expected"),
        ({"samples": {"a": np.zeros((2, 3)), "b": np.zeros((3, 3))}}, "2 of 'a', 3 of 'b', expected the same"),
        ({"samples": {"a": np.zeros((0, 3))}}, "0 of 'a', expected"),
    ],
)
def test_an_invalid_set_is_an_error(options: Any, problem: str) -> None:
    with pytest.raises(lx.MethodError, match=problem):
        lx.Background(**options)


@by_method
def test_samples_without_a_finite_score_are_an_error_that_names_the_input(method: Any) -> None:
    g = GraphBuilder(np.float32, 17)
    a, b = g.input("a", ["B", 3]), g.input("b", ["B", 3])
    y = g.op("ReduceSum", [g.op("Add", [a, g.op("Log", [b])]), g.ints(1)], keepdims=1)
    model = lx.load(g.model(y, ["B", 1], rename="y"))
    inputs = {name: np.ones((2, 3), np.float32) for name in "ab"}
    background = lx.Background({name: np.full((2, 3), -1, np.float32) for name in "ab"})
    with pytest.raises(lx.MethodError, match="input 'b' is replaced by samples of the background"):
        model.explain(inputs, method.with_baseline(background), lx.Target(index=0))


@by_method
def test_the_runs_count_every_draw(method: BaselineMethod) -> None:
    background = lx.Background({"x": np.zeros((50, 30, 2))}, draws=10)

    def runs(baseline: Any) -> int:
        return method.with_baseline(baseline).runs(lambda over: [30])

    # The draws share 8 orders or points, but each has at least 4 orders, or 2 points.
    share = {"shapley_sampling": 4 / 8, "gradient_shap": 2 / 8}.get(method.name, 1)
    assert runs(background) == 10 * share * runs(None)
    assert runs(lx.Background(draws=7)) == 7 * share * runs(None)


def test_curves_take_a_single_baseline() -> None:
    _, feeds, samples, model = made()
    background = lx.Background({"x": samples})
    with pytest.raises(lx.MethodError, match="a background set is given where a single baseline is expected"):
        lx.evaluate.deletion(model, [feeds], [lx.Gradient()], TARGET, baseline=background)


def test_a_models_own_samples_are_used_where_none_are_given() -> None:
    _, feeds, samples, model = made()
    given = model.explain(feeds, lx.Occlusion(baseline=lx.Background({"x": samples})), TARGET)
    model.background = {"x": samples}
    own = model.explain(feeds, lx.Occlusion(baseline=lx.Background()), TARGET)
    np.testing.assert_array_equal(own.relevance["x"], given.relevance["x"])
