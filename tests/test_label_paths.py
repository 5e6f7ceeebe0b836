# SPDX-License-Identifier: Apache-2.0
"""Paths of labels through per-step scores, against all paths of a short output, by every method."""

from __future__ import annotations

from itertools import groupby, product

import grpc
import numpy as np
import pytest

import lstm_explain as lx
from lstm_explain.label_paths import NO_LABEL, alignment, best_paths
from lstm_explain.target import text_of
from tests.conformance import models
from tests.serving.calling import array_of, request, stub, tensor

STEPS, LABELS = 5, 3
EVERY = np.array(list(product(range(LABELS), repeat=STEPS)))


def read_by_ctc(path: list[int], blank: int) -> list[int]:
    return [label for label, _ in groupby(path) if label != blank]


@pytest.mark.parametrize("ends", [False, True])
def test_viterbi_finds_the_best_of_all_paths(ends: bool) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores = rng.normal(size=(2, STEPS, LABELS))
        transitions = 2 * rng.normal(size=(LABELS + ends, LABELS + ends))
        total = scores[:, np.arange(STEPS), EVERY].sum(axis=2) + transitions[EVERY[:, :-1], EVERY[:, 1:]].sum(axis=1)
        if ends:
            total += transitions[-1, EVERY[:, 0]] + transitions[EVERY[:, -1], -1]
        np.testing.assert_array_equal(best_paths(scores, transitions), EVERY[total.argmax(axis=1)])


@pytest.mark.parametrize("blank", [0, 2])
def test_an_alignment_is_the_best_path_that_ctc_reads_so(blank: int) -> None:
    rng = np.random.default_rng(1)
    read = [read_by_ctc(path, blank) for path in EVERY.tolist()]
    for labels in {tuple(one) for one in read if one}:
        scores = rng.normal(size=(STEPS, LABELS))
        allowed = EVERY[[one == list(labels) for one in read]]
        best = allowed[scores[np.arange(STEPS), allowed].sum(axis=1).argmax()]
        np.testing.assert_array_equal(alignment(scores, list(labels), blank), best)


def test_a_search_that_would_take_minutes_is_refused() -> None:
    with pytest.raises(lx.TargetError, match="1 × 20000 steps with 500 × 500 transitions takes too long"):
        best_paths(np.zeros((1, 20_000, 500)), np.zeros((500, 500)))


@pytest.fixture(scope="module")
def model() -> lx.Model:
    return lx.load(models.steps().model)


X = np.random.default_rng(2).standard_normal((2, 4, 4)).astype(np.float32)


@pytest.mark.parametrize(
    "method",
    [lx.LRP(), lx.Gradient(), lx.IntegratedGradients(steps=8), lx.Occlusion(), lx.ShapleySampling(permutations=4)],
    ids=lambda method: method.name,
)
def test_a_path_is_the_sum_of_its_entries(model: lx.Model, method: lx.Method) -> None:
    path = [0, 3, 1, 1, 2, 0]
    weights = np.zeros((models.STEPS, models.LABELS), np.float32)
    weights[np.arange(models.STEPS), path] = 1
    found = model.explain({"x": X}, method, lx.Target(index=tuple(path), measure=lx.Measure("path_score")))
    expected = model.explain({"x": X}, method, lx.Target(weights=weights))
    np.testing.assert_array_equal(found.relevance["x"], expected.relevance["x"])
    np.testing.assert_array_equal(found.explained, expected.explained)
    np.testing.assert_array_equal(found.target.index, [path, path])


def test_each_sample_has_its_own_best_path_and_the_ledger_closes(model: lx.Model) -> None:
    found = model.explain({"x": X}, lx.LRP(), "path_score")
    scores = found.outputs["scores"]
    np.testing.assert_array_equal(found.target.index, scores.argmax(axis=2))
    np.testing.assert_allclose(found.explained, scores.max(axis=2).sum(axis=1), rtol=1e-6)
    np.testing.assert_allclose(found.ledger.residual, 0, atol=1e-5)
    again = model.explain({"x": X}, lx.LRP(), found.target)
    np.testing.assert_array_equal(again.relevance["x"], found.relevance["x"])


def test_targets_as_text(model: lx.Model) -> None:
    found = model.explain({"x": X[:1]}, lx.LRP(), "path_score(2,2,1,blank=3)")
    assert read_by_ctc(found.target.index[0].tolist(), 3) == [2, 2, 1]
    assert (
        model.explain({"x": X[:1]}, lx.LRP(), text_of(found.target)).target.index.tolist()
        == found.target.index.tolist()
    )


@pytest.mark.parametrize(
    ("index", "fields", "message"),
    [
        ((0, 1), {}, "has 2 labels, expected 6 for the steps"),
        ((0, 1, 2, 3, 4, 0), {}, "outside the 4 labels"),
        ((NO_LABEL,) * 6, {}, "has no label"),
        ((0, NO_LABEL, 2, 3, 0, 0), {}, "has no label before the last one"),
        ((1, 1, 1, 1), {"blank": 0}, "4 labels take 7 steps"),
        ((0, 1), {"blank": 0}, "that is not in"),
        ((0, 1), {"blank": 4}, "blank is 4"),
        (None, {"reference": np.zeros((3, 4))}, "have shape (3, 4), expected (4, 4) or (5, 5)"),
        (None, {"reference": np.full((4, 4), np.nan)}, "a transition is nan or infinite"),
        (None, {"reference": [[1, 2], [3]]}, "the reference is no array"),
        (None, {"reference": np.full((4, 4), "a")}, "expected numbers"),
    ],
)
def test_what_is_no_path_is_refused(model: lx.Model, index: tuple[int, ...] | None, fields: dict, message: str) -> None:
    with pytest.raises(lx.TargetError) as error:
        model.explain({"x": X}, lx.LRP(), lx.Target(index=index, measure=lx.Measure("path_score", **fields)))
    assert message in str(error.value)


def test_a_path_is_no_target_for_every_entry(model: lx.Model) -> None:
    with pytest.raises(lx.TargetError, match="path_score is of a whole sample"):
        model.explain_many({"x": X}, targets=[lx.Every(0, target=lx.Target(measure=lx.Measure("path_score")))])


def test_an_output_without_steps_is_refused(channel: grpc.Channel) -> None:
    """Over the wire; the next request works."""
    target = {"measure": {"kind": "MEASURE_KIND_PATH_SCORE"}}
    with pytest.raises(grpc.RpcError) as error:
        stub(channel).Explain(request(inputs=[tensor("x", X)], target=target))
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "expected [steps, labels]" in error.value.details()
    assert array_of(stub(channel).Explain(request(inputs=[tensor("x", X)])).relevance[0]).shape == X.shape
