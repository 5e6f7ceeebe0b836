# SPDX-License-Identifier: Apache-2.0
"""What a calibration measures, against linear models whose curves are known, and what it chooses."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import lstm_explain as lx
from lstm_explain.calibration.agreement import Agreement
from lstm_explain.calibration.calibrate import choose, feature_means
from lstm_explain.calibration.candidates import DEFAULT_NAME, candidates, entry, papers
from lstm_explain.calibration.data import batches_of, singles
from lstm_explain.calibration.measure import Bench, Measured, counts_of
from lstm_explain.calibration.race import Race, difference, race
from lstm_explain.calibration.setup import Clock, Setup
from lstm_explain.program.axes import Axes
from lstm_explain.repository.text_notation import method_from_text
from tests import zoo
from tests.attention_models import made_attention, made_lstm
from tests.attention_models import recurrent_model as attention_over_lstm
from tests.builders import recurrent_model
from tests.graph_builder import GraphBuilder
from tests.reference.attention import OverLstm
from tests.test_verdict import steep

Array = npt.NDArray[Any]
STEPS, FEATURES = 12, 2
WEIGHTS = np.random.default_rng(5).normal(size=(STEPS, FEATURES)).astype(np.float32)


def linear() -> lx.Model:
    """x [B, 12, 2] to the sum of weights * x, [B, 1]."""
    g = GraphBuilder(np.float32, 17)
    terms = g.op("Mul", [g.input("x", ["B", STEPS, FEATURES]), g.constant(WEIGHTS, "w")])
    sums = g.op("ReduceSum", [terms, g.constant(np.array([1, 2]), "axes")], keepdims=0)
    model = lx.load(g.model(g.op("Unsqueeze", [sums, g.constant(np.array([1]), "at")]), ["B", 1], rename="y"))
    model.axes["x"] = Axes(0, 1)
    return model


def inputs(count: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(count, STEPS, FEATURES)).astype(np.float32)


def never(share: float, what: str) -> None:
    """A `progress` that reports nothing."""


def test_gains_of_a_linear_model_are_sums_of_its_largest_terms() -> None:
    x = inputs(3)
    bench = Bench(linear(), {"x": x}, lx.Target(), 0.0, "steps")
    measured = bench.of_method(lx.LRP(epsilon=0))
    terms = (x * WEIGHTS).sum(axis=2)
    largest = -np.sort(-terms, axis=1)
    expected = np.stack([largest[:, :count].sum(axis=1) for count in counts_of(STEPS)], axis=1)
    np.testing.assert_allclose(measured.deletion, expected, atol=1e-5)
    np.testing.assert_allclose(measured.insertion, expected, atol=1e-5)
    np.testing.assert_allclose(bench.explained(lx.LRP(epsilon=0))[0], terms, atol=1e-5)
    np.testing.assert_allclose(bench.explained(lx.Occlusion(baseline=0.0))[0], terms, atol=1e-5)
    assert measured.trusted.all()


def test_points_of_a_curve_rise_from_one_player_to_half() -> None:
    assert counts_of(400).tolist() == [1, 2, 5, 10, 21, 44, 94, 200]
    assert counts_of(2).tolist() == [1] * 8


def test_a_sample_without_finite_relevance_leaves_the_others_as_they_are() -> None:
    """Of [1, 1], every layer makes [1, 1] by terms that nearly cancel: relevance grows beyond float64."""
    model, x = lx.load(steep(90)), np.array([[1, 1], [0, 0], [0, 0]], np.float32)
    method, target = lx.LRP(epsilon=0), lx.Target(index=0)
    with pytest.raises(lx.InputError, match="overflow"):
        model.explain({"x": x}, method, target)
    relevance, trusted = Bench(model, {"x": x}, target, 0.0, "cells").explained(method)
    assert trusted.tolist() == [False, True, True]
    assert not relevance.any()


def test_a_race_drops_the_method_that_ranks_at_random() -> None:
    """The gradient of a linear model is the same for every input: it does not know which terms are large."""
    setup = Setup(linear(), lx.Target(), 0.0, "steps")
    benches = setup.benches(singles(setup.model, {"x": inputs(64)}))
    found = race({"exact": lx.LRP(epsilon=0), "gradient": lx.Gradient()}, benches, Clock(60, never))
    assert found.alive == ["exact"]
    assert found.dropped["gradient"].startswith("less faithful than exact: -")
    assert found.samples < 64  # one candidate is left


def test_a_race_drops_settings_whose_answers_are_not_to_be_trusted() -> None:
    """Relevance by the papers' epsilon is ten million times the explained value here (see test_verdict.py)."""
    setup = Setup(lx.load(steep()), lx.Target(index=0), 0.0, "cells")
    benches = setup.benches(singles(setup.model, {"x": np.ones((32, 2), np.float32)}))
    found = race({"papers": lx.LRP(epsilon=1e-3), "default": lx.LRP()}, benches, Clock(60, never))
    assert found.dropped == {"papers": "100 % untrusted answers"}
    assert found.best == "default"


def measured(gains: Array, trusted: Array | None = None) -> Measured:
    """With the given faithfulness per sample."""
    trusted = np.ones(len(gains), bool) if trusted is None else trusted
    return Measured(gains[:, None], np.zeros((len(gains), 1)), trusted)


def test_the_default_stays_unless_another_setting_is_measurably_better() -> None:
    gains = np.random.default_rng(0).normal(1, 0.1, 50)
    noise = np.random.default_rng(1).normal(0, 0.01, 50)
    same = Race({DEFAULT_NAME: measured(gains), "other": measured(gains + noise)}, [DEFAULT_NAME, "other"], 50)
    assert choose(same, Agreement(), DEFAULT_NAME) == DEFAULT_NAME
    better = dataclasses.replace(same, measured={**same.measured, "other": measured(gains + 0.1 + noise)})
    assert choose(better, Agreement(), DEFAULT_NAME) == "other"


def test_among_equally_faithful_settings_agreement_with_shapley_values_decides() -> None:
    gains = np.ones(50)
    raced = Race({DEFAULT_NAME: measured(gains), "other": measured(gains)}, [DEFAULT_NAME, "other"], 50)
    rho = np.random.default_rng(0).uniform(0.6, 0.7, 20)
    assert choose(raced, Agreement({DEFAULT_NAME: rho, "other": rho + 0.1}), DEFAULT_NAME) == "other"
    assert choose(raced, Agreement({DEFAULT_NAME: rho, "other": rho[::-1]}), DEFAULT_NAME) == DEFAULT_NAME
    less = {**raced.measured, "other": measured(gains - np.tile([-0.1, 0.11], 25))}
    less_faithful = dataclasses.replace(raced, measured=less)
    assert "other" in less_faithful.tied
    assert choose(less_faithful, Agreement({DEFAULT_NAME: rho, "other": rho + 0.1}), DEFAULT_NAME) == DEFAULT_NAME
    unstable = {DEFAULT_NAME: np.full(20, 0.1), "other": np.full(20, 0.5)}
    assert choose(raced, Agreement({DEFAULT_NAME: rho, "other": rho + 0.1}, unstable), DEFAULT_NAME) == DEFAULT_NAME


def test_a_setting_that_is_better_at_insertion_and_worse_at_deletion_does_not_replace_the_current_one() -> None:
    gains = np.random.default_rng(0).normal(1, 0.1, (50, 1))
    other = dataclasses.replace(measured(gains[:, 0] - 0.1), insertion=np.full((50, 1), 0.5))
    raced = Race({DEFAULT_NAME: measured(gains[:, 0]), "other": other}, [DEFAULT_NAME, "other"], 50)
    assert raced.best == "other"
    assert choose(raced, Agreement(), DEFAULT_NAME) == DEFAULT_NAME


def test_few_untrusted_answers_do_not_rule_a_setting_out() -> None:
    """Three of 64 may be chance, 30 of 640 are not."""
    for count, ruled_out in ((64, False), (640, True)):
        trusted = np.arange(count) >= round(count * 3 / 64)
        raced = Race({DEFAULT_NAME: measured(np.ones(count), trusted)}, [DEFAULT_NAME], count)
        assert raced.is_distrusted(DEFAULT_NAME) == ruled_out


def test_small_differences_do_not_matter_however_sure_they_are() -> None:
    raced = Race(
        {DEFAULT_NAME: measured(np.ones(50)), "other": measured(np.full(50, 1.01))}, [DEFAULT_NAME, "other"], 50
    )
    assert choose(raced, Agreement(), DEFAULT_NAME) == DEFAULT_NAME
    raced.measured["other"] = measured(np.full(50, 1.03))
    assert choose(raced, Agreement(), DEFAULT_NAME) == "other"


def test_differences_are_paired() -> None:
    a = np.array([1.0, 5.0, 9.0])
    found = difference(a + np.array([0.9, 1.0, 1.1]), a)
    assert found.mean == pytest.approx(1.0)
    assert found.half == pytest.approx(1.96 * 0.1 / np.sqrt(3))
    assert found.is_better


def test_feature_means_are_over_samples_and_steps() -> None:
    model, x = linear(), inputs(20)
    np.testing.assert_allclose(feature_means(model, singles(model, {"x": x}))["x"], x.mean(axis=(0, 1)), atol=1e-6)


def test_candidates_keep_other_parameters_and_can_be_written_in_a_card() -> None:
    model = lx.load(recurrent_model(np.random.default_rng(0), op="GRU").model)
    found = candidates(model, lx.LRP("half", bias_factor=0.5, stabiliser=0.07))
    assert next(iter(found)) == DEFAULT_NAME
    assert found["as configured"].stabiliser == 0.07
    for method in (*found.values(), papers(lx.LRP("half", bias_factor=0.5))):
        assert (method.product_rule, method.bias_factor) == ("half", 0.5)
        written = entry(method)
        assert method_from_text(written.pop("name"), written) == method


def test_attention_adds_a_candidate() -> None:
    """Without attention, "attn" is "all", and would only take a share of the budget."""
    plain = lx.load(recurrent_model(np.random.default_rng(0), op="LSTM").model)
    attending = lx.load(zoo.load("t_lstm_addattn_legacy17").path)
    assert {n for n in candidates(plain, lx.LRP()) if "product_rule" in n} == {"product_rule=half"}
    found = candidates(attending, lx.LRP(bias_factor=0.5))
    assert {n for n in found if "product_rule" in n} == {"product_rule=half", "product_rule=attn"}
    assert found["product_rule=attn"] == lx.LRP("attn", bias_factor=0.5)
    written = entry(found["product_rule=attn"])
    assert method_from_text(written.pop("name"), written) == found["product_rule=attn"]
    kept = candidates(attending, lx.LRP("attn"))
    assert {n for n in kept if "product_rule" in n} == {"product_rule=half", "product_rule=all"}
    assert kept["ceiling=2"].product_rule == "attn"


def test_a_model_that_attends_is_calibrated() -> None:
    """Its products of live values are no dense layers, to which some candidates give a rule."""
    own = OverLstm(made_attention(4, 2), made_lstm(3, 4), np.eye(4)[:, :2])
    model = lx.load(attention_over_lstm(own, 6, np.float32))
    x = np.random.default_rng(0).normal(size=(12, 6, 3)).astype(np.float32)
    found = lx.calibrate(model, {"x": x}, target=lx.Target(index=1), budget=0.1)
    assert {"product_rule=attn", "composite=dense=gamma(0.25)"} <= found.race.measured.keys()


def test_samples_of_equal_shapes_share_a_batch() -> None:
    model = lx.load(recurrent_model(np.random.default_rng(0), op="LSTM").model)
    axes, spec = model.axes["x"], model.inputs["x"]
    shape = [3 if isinstance(n, str) else n for n in spec.shape]
    pieces = []
    for steps, count in ((5, 4), (7, 3)):
        shape[axes.time or 0], shape[axes.batch or 0] = steps, count
        pieces += singles(model, {"x": np.zeros(shape, np.float32)})
    extents = [(b["x"].shape[axes.time], b["x"].shape[axes.batch]) for b in batches_of(model, pieces[::-1], 2)]
    assert sorted(extents) == [(5, 2), (5, 2), (7, 1), (7, 2)]


def test_the_budget_bounds_the_race_and_every_phase_runs() -> None:
    """A budget that is used up at once leaves one batch to each phase."""
    messages: list[tuple[float, str]] = []
    found = lx.calibrate(
        linear(),
        {"x": inputs(40)},
        baseline=0.0,
        budget=1e-6,
        progress=lambda share, what: messages.append((share, what)),
    )
    assert (found.race.samples, found.samples) == (8, 8)
    assert {share for share, _ in messages} == {1.0}
    assert {"occlusion", "random order"} & found.held_out.keys() == {"random order"}  # Occlusion would take longer


def test_what_cannot_be_calibrated_is_an_error() -> None:
    with pytest.raises(lx.InputError, match="3 samples, expected at least 4"):
        lx.calibrate(linear(), {"x": inputs(3)})
    single = lx.load(recurrent_model(np.random.default_rng(0), D=1).model)
    shape = [6 if isinstance(n, str) else n for n in single.inputs["x"].shape]
    with pytest.raises(lx.InputError, match="a single player when features are deleted"):
        lx.calibrate(single, {"x": np.zeros(shape, np.float32)}, over="features")
    with pytest.raises(lx.InputError, match="0 samples of finite numbers"):
        lx.calibrate(linear(), {"x": np.full((8, STEPS, FEATURES), np.nan, np.float32)})
