# SPDX-License-Identifier: Apache-2.0
"""Counterfactuals against brute force over all subsets, and against the model itself on changed inputs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import lstm_explain as lx
from lstm_explain.runner.run_count import runs
from tests.conformance import models
from tests.serving.models import lstm

STEPS = 7
X = np.random.default_rng(5).standard_normal((12, STEPS, 4)).astype(np.float32) * 2
SENTENCES = (
    "a great and wonderful film", "not a bad film at all", "terrible , boring mess", "it is a warm but slow film",
    "the plot is thin .", "one of the best films of the year", "i did not like it", "a witty , seductive movie .",
)  # fmt: skip


@pytest.fixture(scope="module")
def model() -> lx.Model:
    return lx.load(lstm())


@pytest.fixture(scope="module")
def sentiment() -> lx.Model:
    return lx.load(Path("models/sentiment"))


def margin_of(logits: np.ndarray, at: int) -> np.ndarray:
    """[...]: the entry `at` minus the largest other one."""
    return logits[..., at] - np.delete(logits, at, axis=-1).max(axis=-1)


def predicted(model: lx.Model, inputs: np.ndarray) -> np.ndarray:
    (name,) = model.inputs
    return model.predict({name: inputs})["logits"].astype(np.float64)


def subsets(count: int) -> Iterator[list[int]]:
    """All subsets, the smallest first."""
    for size in range(1, count + 1):
        yield from map(list, itertools.combinations(range(count), size))


def smallest(model: lx.Model, row: np.ndarray, at: int, baseline: Any = 0) -> int | None:
    """The size of the smallest set of steps whose replacement turns the sign of the margin, by brute force."""
    chosen = list(subsets(len(row)))
    changed = np.repeat(row[None], len(chosen), axis=0)
    for one, steps in zip(changed, chosen, strict=True):
        one[steps] = np.broadcast_to(baseline, row.shape)[steps]
    start = margin_of(predicted(model, row[None])[0], at) >= 0
    turns = (margin_of(predicted(model, changed), at) >= 0) != start
    return next((len(steps) for steps, turned in zip(chosen, turns, strict=True) if turned), None)


def replaced_in(relevance: np.ndarray) -> np.ndarray:
    """The steps with relevance."""
    return np.flatnonzero(np.abs(relevance).reshape(len(relevance), -1).sum(axis=1))


def check(
    model: lx.Model, row: np.ndarray, found: lx.Explanation, sample: int, at: int, baseline: Any = 0
) -> list[int]:
    """Checks one sample with the model itself; returns the sizes of its set and of the smallest one."""
    (name,) = model.inputs
    steps = replaced_in(found.relevance[name][sample])
    least = smallest(model, row, at, baseline)
    start = margin_of(predicted(model, row[None])[0], at)
    np.testing.assert_allclose(found.explained[sample], start, rtol=1e-4, atol=1e-5)
    if not len(steps):
        return [0, 0]
    changed = row.copy()
    changed[steps] = np.broadcast_to(baseline, row.shape)[steps]
    after = margin_of(predicted(model, changed[None])[0], at)
    np.testing.assert_allclose(found.ledger.absorbed[sample], after, rtol=1e-4, atol=1e-5)
    assert (after >= 0) != (start >= 0), "it turns the prediction"
    for step in steps:
        back = changed.copy()
        back[step] = row[step]
        again = margin_of(predicted(model, back[None])[0], at)
        assert (again >= 0) == (start >= 0), "none of it can be put back"
        total = found.relevance[name][sample][step].sum()
        np.testing.assert_allclose(total, again - after, rtol=1e-3, atol=1e-5)
    assert least is not None
    return [len(steps), least]


def test_every_set_turns_the_prediction_and_few_are_larger_than_the_smallest(model: lx.Model) -> None:
    found = model.explain({"x": X}, "counterfactual")
    assert found.explained_quantity == "margin"
    best = found.outputs["logits"].argmax(axis=1)
    np.testing.assert_array_equal(found.target.index[:, 0], best)
    sizes = np.array([check(model, row, found, i, int(best[i])) for i, row in enumerate(X)])
    turned = sizes[:, 0] > 0
    assert turned.sum() >= 8
    assert (sizes[turned, 0] - sizes[turned, 1]).mean() < 0.5
    assert (sizes[sizes[:, 1] == 1, 0] == 1).all(), "where one step suffices, one is found"
    left = [i for i in range(len(X)) if not turned[i]]
    assert bool(left) == any("does not turn every prediction" in warning for warning in found.warnings)
    np.testing.assert_allclose(found.ledger.absorbed[left], found.explained[left], rtol=1e-6)
    most = runs(model.axes, {"x": X}, found.method)
    assert (found.steps_used <= most).all()
    assert (found.steps_used >= 2 * STEPS).all()


def test_real_sentences_turn_with_the_fewest_words(sentiment: lx.Model) -> None:
    excess = []
    for sentence in SENTENCES:
        found = sentiment.explain({"tokens": sentence}, "counterfactual")
        ids, _ = sentiment.tokenizers["tokens"](np.array([sentence], dtype=object))
        size, least = check(sentiment, ids[0], found, 0, int(found.target.index[0, 0]))
        assert found.warnings == ()
        excess.append(size - least)
    assert np.mean(excess) <= 0.5, excess


def test_a_batch_has_the_answers_of_its_samples(model: lx.Model) -> None:
    whole = model.explain({"x": X}, "counterfactual")
    for sample in range(4):
        alone = model.explain({"x": X[sample : sample + 1]}, "counterfactual")
        np.testing.assert_allclose(whole.relevance["x"][sample], alone.relevance["x"][0], rtol=1e-3, atol=1e-5)
        assert whole.steps_used[sample] == alone.steps_used[0]


def test_another_class_than_the_predicted_one_is_made_the_largest(model: lx.Model) -> None:
    logits = predicted(model, X)
    other = int((logits[0].argmax() + 1) % 3)
    found = model.explain({"x": X}, "counterfactual", target=other)
    sizes = [check(model, row, found, i, other) for i, row in enumerate(X)]
    assert any(size for size, _ in sizes)
    held_back = (found.explained < 0) & (np.array(sizes)[:, 0] > 0)
    assert (found.relevance["x"][held_back].sum(axis=(1, 2)) < 0).all(), "what is replaced held the class back"


def test_features_and_cells_can_be_replaced(model: lx.Model) -> None:
    for over in ("features", "cells"):
        found = model.explain({"x": X[:3]}, lx.Counterfactual(over=over))
        for sample in range(3):
            mask = found.relevance["x"][sample] != 0
            if over == "features":
                assert (mask == mask[:1]).all()
            changed = np.where(mask, 0, X[sample])
            if mask.any():
                assert predicted(model, changed[None]).argmax() != predicted(model, X[sample : sample + 1]).argmax()


def test_a_threshold_is_crossed(model: lx.Model) -> None:
    logits = predicted(model, X)[:, 1]
    limit = float(np.median(logits))
    found = model.explain({"x": X}, lx.Counterfactual(threshold=limit), target=1)
    np.testing.assert_allclose(found.explained, logits - limit, rtol=1e-4, atol=1e-5)
    for sample, row in enumerate(X):
        steps = replaced_in(found.relevance["x"][sample])
        if len(steps):
            changed = row.copy()
            changed[steps] = 0
            assert (predicted(model, changed[None])[0, 1] > limit) != (logits[sample] > limit)


def test_the_draw_that_needs_the_fewest_steps_is_kept(model: lx.Model) -> None:
    samples = np.random.default_rng(8).standard_normal((5, STEPS, 4)).astype(np.float32)
    background = lx.Background({"x": samples}, draws=3, seed=1)
    found = model.explain({"x": X[:4]}, lx.Counterfactual(baseline=background))
    single = [model.explain({"x": X[:4]}, lx.Counterfactual(baseline=samples[n])) for n in background.numbers]
    counts = np.array([[len(replaced_in(one.relevance["x"][i])) or 99 for i in range(4)] for one in single])
    mine = np.array([len(replaced_in(found.relevance["x"][i])) or 99 for i in range(4)])
    np.testing.assert_array_equal(mine, counts.min(axis=0))
    again = model.explain({"x": X[:4]}, lx.Counterfactual(baseline=background))
    np.testing.assert_array_equal(again.relevance["x"], found.relevance["x"])
    np.testing.assert_array_equal(found.steps_used, sum(one.steps_used for one in single))


def test_bounds_are_kept_and_said(model: lx.Model) -> None:
    free = model.explain({"x": X}, "counterfactual")
    sizes = np.array([len(replaced_in(one)) for one in free.relevance["x"]])
    found = model.explain({"x": X}, lx.Counterfactual(most=1))
    np.testing.assert_array_equal([len(replaced_in(one)) for one in found.relevance["x"]], np.where(sizes == 1, 1, 0))
    assert any("replacing up to 1 units" in warning for warning in found.warnings)
    found = model.explain({"x": X}, lx.Counterfactual(max_runs=0))
    assert (found.steps_used == 2 * STEPS).all()
    assert any("fewer units may suffice" in warning for warning in found.warnings)
    larger = np.array([len(replaced_in(one)) for one in found.relevance["x"]])
    assert (larger >= sizes).all()


def test_what_cannot_turn_is_refused(model: lx.Model) -> None:
    with pytest.raises(lx.MethodError, match="expected a single one"):
        model.explain({"x": X}, "counterfactual", target=lx.Target(index=0, contrast=1))
    per_step = lx.load(models.steps().model)
    with pytest.raises(lx.MethodError, match="expected a single one"):
        per_step.explain({"x": X}, lx.Counterfactual(threshold=1.0), target="path_score")
    forecast = lx.load(Path("models/discharge"))
    (name, spec), *_ = forecast.inputs.items()
    weather = np.zeros((1, 9, spec.shape[-1]), np.float32)
    with pytest.raises(lx.MethodError, match="has no classes: set `threshold`"):
        forecast.explain({name: weather}, "counterfactual")


def test_a_condition_can_precede_it(model: lx.Model) -> None:
    whole = model.explain({"x": X}, "counterfactual")
    limit = float(np.median(whole.explained))
    found = model.explain({"x": X}, "counterfactual", condition=f"explained > {limit}")
    meets = whole.explained > limit
    assert [not reason for reason in found.not_explained] == meets.tolist()
    np.testing.assert_allclose(found.relevance["x"][meets], whole.relevance["x"][meets], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found.explained, whole.explained, rtol=1e-4, atol=1e-5)
    assert {found.replaced(i) == {} for i in np.flatnonzero(~meets)} == {True}
    none = model.explain({"x": X}, "counterfactual", condition="explained > 1e6")
    np.testing.assert_allclose(none.explained, whole.explained, rtol=1e-4, atol=1e-5)
    assert none.explained_quantity == "margin"


def test_the_margin_of_a_measure_is_called_margin(model: lx.Model) -> None:
    found = model.explain({"x": X}, lx.Counterfactual(threshold=2.0), target="l2_norm")
    norms = np.linalg.norm(found.outputs["logits"], axis=1)
    np.testing.assert_allclose(found.explained, norms - 2, rtol=1e-4, atol=1e-5)
    assert found.explained_quantity == "margin"


def test_warnings_of_sentences_of_several_lengths_name_no_wrong_sample(sentiment: lx.Model) -> None:
    found = sentiment.explain({"tokens": ["a warm , funny and moving film", "bad", "good"]}, lx.Counterfactual(most=1))
    assert [found.replaced(i) != {} for i in range(3)] == [False, True, False]
    assert found.warnings == ("counterfactual: replacing up to 1 units in their order does not turn every prediction",)


def test_samples_that_share_an_input_are_searched_one_by_one() -> None:
    proto = lstm()
    for node in proto.graph.node:
        node.input[:] = ["scaled" if name == "x" else name for name in node.input]
    proto.graph.node.insert(0, onnx.helper.make_node("Mul", ["x", "factors"], ["scaled"]))
    proto.graph.input.append(onnx.helper.make_tensor_value_info("factors", onnx.TensorProto.FLOAT, [4]))
    model, factors = lx.load(proto), np.array([0.5, -1, 2, 0.25], np.float32)
    found = model.explain({"x": X, "factors": factors}, lx.Counterfactual(baseline=1.0))
    alone = [model.explain({"x": row[None], "factors": factors}, lx.Counterfactual(baseline=1.0)) for row in X]
    assert any((one.relevance["factors"] != 0).any() for one in alone)
    np.testing.assert_allclose(found.ledger.absorbed, [one.ledger.absorbed[0] for one in alone], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.relevance["x"], [one.relevance["x"][0] for one in alone], rtol=1e-3, atol=1e-5)
    shared = sum(one.relevance["factors"] for one in alone)
    np.testing.assert_allclose(found.relevance["factors"], shared, rtol=1e-3, atol=1e-5)


def test_pictures_strike_through_what_was_replaced(sentiment: lx.Model, model: lx.Model) -> None:
    found = sentiment.explain({"tokens": ["not a bad film at all", "a great film"]}, "counterfactual")
    tokens = [token for token in found.tokens["tokens"][0] if token]
    places = found.replaced(0)["tokens"]
    page = found.sample_html(0)
    assert [f"<s>{token}</s>" in page for token in tokens] == [at in places for at in range(len(tokens))]
    assert f"{len(places)} replaced word" in page
    assert f"({found.steps_used[0]} runs of the model)" in page
    none = model.explain({"x": X[:1]}, lx.Counterfactual(threshold=1e6), target=0)
    assert none.replaced(0) == {}
    assert "No replacement was found that turns the prediction" in none.sample_html(0)
    some = model.explain({"x": X[1:2]}, "counterfactual")
    assert some.replaced(0) == {"x": replaced_in(some.relevance["x"][0]).tolist()}
    with pytest.raises(ValueError, match="the method is lrp, expected counterfactual"):
        model.explain({"x": X[:1]}).replaced(0)
