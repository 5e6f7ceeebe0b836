# SPDX-License-Identifier: Apache-2.0
"""Occlusion and Shapley values of long sequences equal runs of the whole model by ONNX Runtime, one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import pytest

import lstm_explain as lx
from lstm_explain.kernels.compilation import NotCompiled
from lstm_explain.methods.shapley_sampling import draw_orders
from lstm_explain.operators.gru_cell import GRUDirection
from lstm_explain.operators.lstm_cell import LSTMDirection
from lstm_explain.operators.rnn_cell import RNNDirection
from lstm_explain.program.prediction import Prediction
from lstm_explain.runner import scores
from tests.builders import recurrent_model

T, B = scores.LONG + 6, 2
TOLERANCE = 2e-6  # of float32, for logits of size 1
MODELS: dict[str, dict[str, Any]] = {
    "LSTM": {},
    "GRU": {"op": "GRU", "layers": 2},
    "RNN": {"op": "RNN"},
    "both directions": {"direction": "bidirectional", "layers": 2},
    "batch first": {"batch_first": True, "head": "mean"},
    "lengths": {"direction": "bidirectional", "sequence_lens": True},
    "states": {"initial_states": "input", "peepholes": True, "head": "mean"},
}


@pytest.fixture(params=["compiled", "in NumPy"])
def loops(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs a test with the loops of kernels/prefixes.py, and with those of over_steps/alike.py."""
    in_numpy, ran = request.param == "in NumPy", []
    for direction in (LSTMDirection, GRUDirection, RNNDirection):

        def missing(*_: Any) -> None:
            ran.append(True)
            raise NotCompiled

        if in_numpy:
            monkeypatch.setattr(direction, "predict", missing)
    yield
    assert bool(ran) == in_numpy


def made(name: str) -> tuple[dict[str, Any], lx.Model, int]:
    """The inputs, the model, and the axis of time."""
    rng = np.random.default_rng(7)
    options = MODELS[name]
    built = recurrent_model(rng, **{"D": 2, "H": 4, **options})
    return built.feeds(rng, T=T, B=B), lx.load(built.model), 1 if options.get("batch_first") else 0


def score(model: lx.Model, feeds: dict[str, Any]) -> Any:
    return model.predict(feeds)["logits"][:, 1].astype(np.float64)


def without(feeds: dict[str, Any], time: int, steps: Any, value: float) -> dict[str, Any]:
    x = np.moveaxis(feeds["x"].copy(), time, 0)
    x[steps] = value
    return {**feeds, "x": np.ascontiguousarray(np.moveaxis(x, 0, time))}


def by_step(relevance: Any, time: int) -> Any:
    """[T, B]."""
    total = relevance.sum(axis=-1)
    return total.T if time == 1 else total


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize("value", [0.0, 0.5])
@pytest.mark.parametrize("name", MODELS)
def test_occlusion_is_the_fall_of_the_score(name: str, value: float) -> None:
    feeds, model, time = made(name)
    e = model.explain(feeds, lx.Occlusion(baseline=value), lx.Target(index=1))
    found, before = by_step(e.relevance["x"], time), score(model, feeds)
    for t in range(T):
        fall = before - score(model, without(feeds, time, t, value))
        np.testing.assert_allclose(found[t], fall, atol=TOLERANCE)
    np.testing.assert_allclose(e.explained, before, atol=TOLERANCE)


def test_a_window_is_shared_by_its_steps() -> None:
    feeds, model, time = made("LSTM")
    width = 5
    e = model.explain(feeds, lx.Occlusion(window=width), lx.Target(index=1))
    shares: list[list[Any]] = [[] for _ in range(T)]
    for start in range(T - width + 1):
        window = range(start, start + width)
        fall = score(model, feeds) - score(model, without(feeds, time, window, 0))
        for t in window:
            shares[t].append(fall / width)
    expected = [np.mean(own, axis=0) for own in shares]
    np.testing.assert_allclose(by_step(e.relevance["x"], time), expected, atol=TOLERANCE)


def test_occlusion_of_cells_is_the_fall_of_the_score() -> None:
    feeds, model, _ = made("GRU")
    e = model.explain(feeds, lx.Occlusion(over="cells"), lx.Target(index=1))
    before = score(model, feeds)
    for t, d in [(0, 0), (3, 1), (T // 2, 0), (T - 1, 1)]:
        x = feeds["x"].copy()
        x[t, :, d] = 0
        np.testing.assert_allclose(e.relevance["x"][t, :, d], before - score(model, {**feeds, "x": x}), atol=TOLERANCE)


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN", "both directions", "lengths"])
def test_shapley_values_are_mean_gains_over_the_orders(name: str) -> None:
    feeds, model, time = made(name)
    e = model.explain(feeds, lx.ShapleySampling(permutations=2, seed=3), lx.Target(index=1))
    gains = np.zeros((2, T, B))
    for own, order in zip(gains, draw_orders(T, 2, 3), strict=True):
        before = score(model, without(feeds, time, range(T), 0))
        for joined, t in enumerate(order, start=1):
            after = score(model, without(feeds, time, order[joined:], 0))
            own[t], before = after - before, after
    np.testing.assert_allclose(by_step(e.relevance["x"], time), gains.mean(axis=0), atol=TOLERANCE)
    np.testing.assert_allclose(e.ledger.residual, 0, atol=TOLERANCE)


@pytest.mark.parametrize("name", [name for name in MODELS if name not in ("lengths", "states")])
def test_a_sample_has_the_same_answer_alone_and_in_a_batch(name: str) -> None:
    feeds, model, time = made(name)
    together = model.explain(feeds, lx.Occlusion(), lx.Target(index=1)).relevance["x"]
    for b in range(B):
        x = feeds["x"].take([b], 1 - time)
        alone = model.explain({**feeds, "x": x}, lx.Occlusion(), lx.Target(index=1)).relevance["x"]
        np.testing.assert_array_equal(together.take([b], 1 - time), alone)


def test_a_step_without_effect_has_exactly_no_relevance() -> None:
    feeds, model, _ = made("LSTM")
    feeds["x"][10] = 0  # as the baseline
    relevance = model.explain(feeds, lx.Occlusion(), lx.Target(index=1)).relevance["x"]
    assert not relevance[10].any()


def test_a_model_that_cannot_be_cut_runs_as_a_whole() -> None:
    feeds, _, _ = made("LSTM")
    expected = made("LSTM")[1].explain(feeds, lx.Occlusion(), lx.Target(index=1)).relevance["x"]
    with mock.patch.object(Prediction, "__init__", side_effect=RuntimeError):
        found = made("LSTM")[1].explain(feeds, lx.Occlusion(), lx.Target(index=1)).relevance["x"]
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)


def test_short_sequences_run_as_a_whole() -> None:
    rng = np.random.default_rng(7)
    built = recurrent_model(rng, D=2, H=4)
    feeds = built.feeds(rng, T=scores.LONG - 1, B=B)
    with mock.patch.object(Prediction, "__call__", side_effect=AssertionError):
        lx.load(built.model).explain(feeds, lx.Occlusion(), lx.Target(index=1))
