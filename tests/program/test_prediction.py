# SPDX-License-Identifier: Apache-2.0
"""Copies that begin alike run together: they predict what ONNX Runtime does for each copy, in half the steps."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

import lstm_explain as lx
from lstm_explain.cancellation import Cancelled, CancelScope, cancel_scope
from lstm_explain.operators.recurrent import neighbours
from lstm_explain.operators.tape import Lengths, all_of, longest_first
from lstm_explain.program.prediction import Prediction
from tests.builders import Built, recurrent_model
from tests.graph_builder import run

T, B = 40, 2
TOLERANCE = 2e-6  # of float32, for logits of size 1
BIDIRECTIONAL: dict[str, Any] = {"direction": "bidirectional"}
MODELS: dict[str, dict[str, Any]] = {
    "LSTM": {},
    "GRU": {"op": "GRU"},
    "GRU, linear before reset": {"op": "GRU", "linear_before_reset": True},
    "RNN": {"op": "RNN"},
    "reverse LSTM": {"direction": "reverse"},
    "LSTM in both directions": BIDIRECTIONAL,
    "GRU in both directions": {"op": "GRU", **BIDIRECTIONAL},
    "stacked LSTM": {"layers": 2},
    "stacked RNN, mean of all steps": {"op": "RNN", "layers": 3, "head": "mean"},
    "stacked GRU in both directions": {"op": "GRU", "layers": 2, **BIDIRECTIONAL},
    "LSTM with the states given": {"initial_states": "input"},
    "LSTM with peepholes and coupled gates": {"peepholes": True, "input_forget": True},
    "GRU with other activations": {"op": "GRU", "activations": ["HardSigmoid", "Softsign"], "clip": 0.5},
    "RNN with a clip": {"op": "RNN", "clip": 0.4},
    "LSTM with lengths": {"sequence_lens": True},
    "LSTM from its last state": {"head": "Y_h"},
}


def made(options: dict[str, Any]) -> tuple[Built, dict[str, Any], lx.Model]:
    rng = np.random.default_rng(5)
    built = recurrent_model(rng, **{"D": 3, "H": 6, **options})
    return built, built.feeds(rng, T=T, B=B), lx.load(built.model)


def stacked(feeds: dict[str, Any], xs: list[Any]) -> dict[str, Any]:
    """The inputs of one batch of copies, which differ in x. Samples are the last axis but one, except for lengths."""
    copies = {name: np.concatenate([a] * len(xs), axis=0 if a.ndim == 1 else -2) for name, a in feeds.items()}
    return {**copies, "x": np.concatenate(xs, axis=1)}


def occluded(x: Any) -> list[Any]:
    """A copy per step, without that step."""
    copies = [x.copy() for _ in range(len(x))]
    for t, copy in enumerate(copies):
        copy[t] = 0
    return copies


def joining(x: Any) -> list[Any]:
    """Copies in which one step more is present each time, in random order."""
    present, copies = np.zeros_like(x), []
    for t in np.random.default_rng(1).permutation(len(x)):
        present[t] = x[t]
        copies.append(present.copy())
    return copies


@pytest.mark.parametrize("change", [occluded, joining])
@pytest.mark.parametrize("name", MODELS)
def test_predictions_are_those_of_onnx_runtime(name: str, change: Any) -> None:
    built, feeds, model = made(MODELS[name])
    copies = change(feeds["x"])
    _, head = model.explained(lx.Occlusion(), lx.Target())
    found = Prediction(model.engine, head)(stacked(feeds, copies), B)["logits"].reshape(len(copies), B, -1)
    for logits, x in zip(found, copies, strict=True):
        (expected,) = run(built.model, {**feeds, "x": x}, "logits")
        np.testing.assert_allclose(logits, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("change", [occluded, joining])
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_what_runs_together_does_not_change_a_bit(op: Any, direction: Any, change: Any) -> None:
    """Each sequence alone has no prefix to share."""
    _, feeds, model = made({"op": op, "direction": direction})
    (cell,) = model.engine.cells.values()
    x = np.concatenate(change(feeds["x"]), axis=1)
    outputs = cell.node.outputs
    together = cell.predict({0: x}, B, outputs)
    for b in range(x.shape[1]):
        alone = cell.predict({0: np.ascontiguousarray(x[:, b : b + 1])}, 1, outputs)
        for name in filter(None, outputs):
            np.testing.assert_array_equal(together[name][..., b : b + 1, :], alone[name])


LENGTHS = {
    "all different": lambda n: np.random.default_rng(2).integers(0, T + 1, n),
    "shorter and shorter": lambda n: T - np.arange(n) * T // n,
    "most of full length": lambda n: np.where(np.arange(n) % 7, T, T - 1 - np.arange(n) % 5),
}


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("change", [occluded, joining])
@pytest.mark.parametrize(
    "name", ["LSTM in both directions", "GRU in both directions", "stacked RNN, mean of all steps"]
)
def test_copies_may_have_different_lengths(name: str, change: Any, lengths: str) -> None:
    """As in a model that counts the words that are left; ONNX Runtime runs all copies as they are."""
    built, feeds, model = made({**MODELS[name], "sequence_lens": True})
    copies = change(feeds["x"])
    feeds["lens"] = np.zeros(B, np.int32)
    batch = {**stacked(feeds, copies), "lens": LENGTHS[lengths](B * len(copies)).astype(np.int32)}
    _, head = model.explained(lx.Occlusion(), lx.Target())
    found = Prediction(model.engine, head)(batch, B)["logits"]
    (expected,) = run(built.model, batch, "logits")
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_a_prefix_runs_once_although_lengths_differ(op: Any, direction: Any) -> None:
    _, feeds, model = made({"op": op, "direction": direction})
    lens = np.repeat(np.where(np.arange(T) % 7, T, T - 5), B)
    assert steps_run(model, occluded(feeds["x"]), lens) < 0.75 * B * T * T, "a shorter one separates its neighbours"
    assert steps_run(model, [feeds["x"]] * T, np.full(B * T, 3)) == 3 * B, "no step after the end"


def steps_run(model: lx.Model, xs: list[Any], steps: Any = None) -> int:
    (cell,) = model.engine.cells.values()
    x = np.ascontiguousarray(np.concatenate(xs, axis=1))
    n = x.shape[1]
    states = [np.zeros((n, cell.hidden), np.float32) for _ in cell.state_slots]
    last = [np.zeros_like(state) for state in states]
    nothing = np.zeros((0, 0, 0), np.float32)
    lens = all_of(len(x), n) if steps is None else Lengths(steps, False, longest_first(steps))
    return cell.directions[0].predict(x, states, lens, neighbours(n, B), nothing, last, np.zeros(1, np.uint8))


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_a_prefix_runs_once(op: Any, direction: Any) -> None:
    """After t steps, at most t + 1 of the sequences differ: half of T² steps for every sample, or fewer where the
    network forgets.
    """
    _, feeds, model = made({"op": op, "direction": direction})
    half = B * T * (T + 3) / 2
    assert steps_run(model, joining(feeds["x"])) <= half
    assert steps_run(model, occluded(feeds["x"])) <= half
    assert steps_run(model, [feeds["x"]] * T) == B * T, "equal sequences run once"


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_what_is_forgotten_runs_once_again(op: Any) -> None:
    """Of a recurrence without a memory, all that is different is one step."""
    rng = np.random.default_rng(5)
    built = recurrent_model(rng, op, D=3, H=6)
    for array in built.model.graph.initializer:
        if array.name.startswith("R"):
            array.raw_data = bytes(len(array.raw_data))
    if op == "RNN":
        ran = steps_run(lx.load(built.model), occluded(built.feeds(rng, T=T, B=B)["x"]))
        assert ran <= 4 * B * T
    else:  # The gates keep some memory, which fades.
        long = built.feeds(rng, T=400, B=B)["x"]
        ran = steps_run(lx.load(built.model), occluded(long))
        assert ran < 0.35 * B * 400 * 400


def test_a_number_that_is_not_finite_stays_in_its_sequence() -> None:
    _, feeds, model = made({})
    (cell,) = model.engine.cells.values()
    copies = occluded(feeds["x"])
    copies[3] = np.full_like(copies[3], np.nan)
    name = cell.node.outputs[0]
    y = cell.predict({0: np.concatenate(copies, axis=1)}, B, [name])[name].reshape(T, len(copies), B, -1)
    assert np.isnan(y[:, 3]).all()
    assert np.isfinite(np.delete(y, 3, axis=1)).all()


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_a_cancelled_kernel_stops_within_100_milliseconds(op: Any) -> None:
    """The kernel itself would run for much longer, and nothing but the scope ends it."""
    rng = np.random.default_rng(5)
    model = lx.load(recurrent_model(rng, op, D=3, H=256).model)
    (cell,) = model.engine.cells.values()
    cell.predict({0: rng.normal(size=(4, 2, 3)).astype(np.float32)}, 1, cell.node.outputs)  # compiles it
    x = rng.normal(size=(16_000 if op == "RNN" else 4_000, 64, 3)).astype(np.float32)
    scope, cancelled_at = CancelScope(lambda: None), []

    def cancel() -> None:
        cancelled_at.append(time.perf_counter())
        scope.interrupt(Cancelled(RuntimeError("enough")))

    timer = threading.Timer(0.3, cancel)
    timer.start()
    with cancel_scope(scope), pytest.raises(Cancelled):
        cell.predict({0: x}, 1, cell.node.outputs[1:])
    assert time.perf_counter() - cancelled_at[0] < 0.1
