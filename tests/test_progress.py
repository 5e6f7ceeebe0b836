# SPDX-License-Identifier: Apache-2.0
"""Methods that run the model many times tell how often they have, and how often they will."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pytest

import lstm_explain as lx
from lstm_explain.kernels.flush_to_zero import state_of_thread
from lstm_explain.program.prediction import Prediction
from lstm_explain.runner import scores, stacking
from tests.builders import recurrent_model
from tests.methods.test_batch_independence import shared_scale

T = scores.LONG + 6
LONG_METHODS: list[lx.Method] = [
    lx.ShapleySampling(permutations=3),
    lx.Occlusion(),
    lx.Occlusion(over="cells"),
    lx.IntegratedGradients(),
    lx.IntegratedGradients(steps=25, max_steps=400),
    lx.SmoothGrad(),
    lx.GradientShap(),
    lx.ContextualDecomposition(),
]
Told = list[tuple[int, int]]


def explained(model: lx.Model, feeds: dict[str, Any], method: lx.Method, **options: Any) -> tuple[lx.Explanation, Told]:
    told: Told = []
    return model.explain(feeds, method, **options, progress=lambda *counts: told.append(counts)), told


def check(told: Told) -> None:
    """Checks what holds for every method."""
    assert told
    done = [counts[0] for counts in told]
    assert done[0] == 0
    assert done == sorted(done)
    assert all(0 <= some <= all_ for some, all_ in told)
    assert len(set(told)) == len(told)
    assert told[-1][0] == told[-1][1] > 0


@pytest.fixture(scope="module")
def lstm() -> tuple[lx.Model, dict[str, Any]]:
    rng = np.random.default_rng(7)
    built = recurrent_model(rng, D=2, H=4)
    return lx.load(built.model), built.feeds(rng, T=T, B=2)


@pytest.mark.parametrize("method", LONG_METHODS, ids=str)
def test_runs_are_counted_and_the_answer_is_the_same(lstm: tuple[lx.Model, Any], method: lx.Method) -> None:
    model, feeds = lstm
    with mock.patch.object(stacking, "MAX_COPIES", 8), mock.patch.object(stacking, "LEAST_ALIKE", 1):
        answer, told = explained(model, feeds, method)
    check(told)
    assert len(told) > 3 or isinstance(method, lx.ContextualDecomposition)  # whose phrases take little memory
    np.testing.assert_allclose(answer.relevance["x"], model.explain(feeds, method).relevance["x"], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("method", [lx.ShapleySampling(permutations=3), lx.Occlusion()], ids=str)
def test_the_count_is_what_the_model_was_run_on(lstm: tuple[lx.Model, Any], method: lx.Method) -> None:
    model, feeds = lstm
    own, samples, seen = Prediction.__call__, 0, []

    def counting(self: Prediction, inputs: Any, distance: int) -> Any:
        nonlocal samples
        samples += inputs["x"].shape[1]
        return own(self, inputs, distance)

    with mock.patch.object(Prediction, "__call__", counting), mock.patch.object(stacking, "MAX_COPIES", 8):
        model.explain(feeds, method, progress=lambda done, _: seen.append((done, samples)))
    unchanged = 2  # both samples as they are
    assert seen[1:] == [(done, 2 * done + unchanged) for done, _ in seen[1:]]
    assert seen[-1][1] == samples


def test_the_first_total_is_known_before_the_first_run(lstm: tuple[lx.Model, Any]) -> None:
    model, feeds = lstm
    assert explained(model, feeds, lx.ShapleySampling(permutations=3))[1][0] == (0, 3 * T)
    assert explained(model, feeds, lx.Occlusion(window=3))[1][0] == (0, T - 2)
    assert explained(model, feeds, lx.IntegratedGradients())[1][0] == (0, 50)
    draws = lx.Background({"x": np.moveaxis(feeds["x"], 1, 0)}, draws=2)
    assert explained(model, feeds, lx.Occlusion(baseline=draws))[1][0] == (0, 2 * T)


def test_several_targets_are_counted_together(lstm: tuple[lx.Model, Any]) -> None:
    model, feeds = lstm
    told: Told = []
    model.explain_many(feeds, lx.Occlusion(), [0, 2], progress=lambda *counts: told.append(counts))
    check(told)
    assert told[0] == (0, 2 * T)
    assert told[-1][0] == 2 * (T + 1)  # the baseline, too


def test_a_measure_is_counted(lstm: tuple[lx.Model, Any]) -> None:
    model, feeds = lstm
    told = explained(model, feeds, lx.Occlusion(), target="l2_norm")[1]
    check(told)
    assert told[0] == (0, T)


def test_samples_of_their_own_length_are_one_count() -> None:
    rng = np.random.default_rng(3)
    built = recurrent_model(rng, D=2, H=4, sequence_lens=True, head="Y_h")
    model, feeds = lx.load(built.model), built.feeds(rng, T=20, B=3)
    (lengths,) = model.lengths
    feeds[lengths] = np.array([20, 8, 20], feeds[lengths].dtype)
    told = explained(model, feeds, lx.Occlusion())[1]
    check(told)
    assert told[-1][0] == (21 + 9 + 21) // 3


def test_samples_that_are_explained_one_by_one_are_one_count() -> None:
    model, feeds = shared_scale(3)
    told = explained(model, feeds, lx.SmoothGrad(samples=30), target=lx.Target(index=1))[1]
    check(told)
    assert told[0] == (0, 30)
    assert told[-1][0] == 30
    assert len(told) > 3


@pytest.mark.parametrize("method", [lx.LRP(), lx.Gradient(), lx.GradientTimesInput()], ids=str)
def test_one_pass_tells_nothing(lstm: tuple[lx.Model, Any], method: lx.Method) -> None:
    assert explained(*lstm, method)[1] == []


def test_an_exception_of_the_callback_ends_the_explanation(lstm: tuple[lx.Model, Any]) -> None:
    model, feeds = lstm
    before = model.explain(feeds, lx.Occlusion()).relevance["x"]

    def enough(done: int, total: int) -> None:
        if done:
            raise RuntimeError("enough")

    state = state_of_thread()
    with pytest.raises(RuntimeError, match="enough"):
        model.explain(feeds, lx.Occlusion(), progress=enough)
    assert state_of_thread() == state
    np.testing.assert_array_equal(model.explain(feeds, lx.Occlusion()).relevance["x"], before)


def test_the_callback_has_the_floating_point_state_of_the_caller(lstm: tuple[lx.Model, Any]) -> None:
    model, feeds = lstm
    state, seen = state_of_thread(), set()
    model.explain(feeds, lx.Occlusion(), progress=lambda *_: seen.add(state_of_thread()))
    assert seen == {state}
