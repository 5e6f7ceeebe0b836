# SPDX-License-Identifier: Apache-2.0
"""The loops that methods of many runs consist of end at once when another thread stops them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest

import lstm_explain as lx
from lstm_explain.cancellation import Cancelled, CancelScope, cancel_scope
from lstm_explain.kernels import buffer_pool
from lstm_explain.operators.recurrent import Recurrent
from lstm_explain.operators.tape import SavedTensors
from tests.builders import recurrent_model

T, B, H = 12, 2, 4
GO, STOP = np.zeros(1, np.uint8), np.ones(1, np.uint8)


def zeros(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Callable[[], Any]:
    return lambda: np.zeros(shape, dtype)


@pytest.fixture(params=["LSTM", "GRU", "RNN"])
def cell(request: pytest.FixtureRequest) -> Recurrent:
    built = recurrent_model(np.random.default_rng(1), op=request.param, D=3, H=H)
    (found,) = lx.load(built.model).engine.cells.values()
    return found


@pytest.mark.parametrize("keep", [SavedTensors.SIGNALS, SavedTensors.SLOPES, SavedTensors.GATES_FLOAT64])
def test_a_stopped_loop_fills_nothing(cell: Recurrent, keep: SavedTensors) -> None:
    x = np.random.default_rng(2).standard_normal((T, B, 3)).astype(np.float32)
    lens, states = cell.of_full_length(T, B, {})
    (direction,) = cell.directions
    with mock.patch.object(buffer_pool, "maker", zeros):
        run = direction.ready(T, lens, keep)
        done, stopped = (run(x, states[0], flag)[0] for flag in (GO, STOP))
        assert done.hidden.all()
        assert not stopped.hidden.any()
        if keep is not SavedTensors.SLOPES:
            return
        back, at_steps = direction.ready_back(T, lens, done.dtype, None), np.ones((T, B, H), done.dtype)
        ends = [np.zeros((B, H), done.dtype) for _ in cell.state_slots]
        gradients = [back(done, at_steps.copy(), [e.copy() for e in ends], np.zeros(B), flag) for flag in (GO, STOP)]
    assert gradients[0].any(axis=2).all()
    assert not gradients[1].any()


@pytest.mark.parametrize("method", [lx.IntegratedGradients(), lx.SmoothGrad(), lx.Occlusion()], ids=lambda m: m.name)
def test_what_a_stopped_loop_has_filled_is_not_used(method: lx.Method) -> None:
    """`stop` is set without a checkpoint that notices it: the loop itself has to."""
    built = recurrent_model(np.random.default_rng(1), D=3, H=H)
    model, feeds = lx.load(built.model), built.feeds(np.random.default_rng(2), T=70, B=B)
    model.explain(feeds, method)  # loads the kernels: with compile_time.listen(), that lifts an interruption
    scope = CancelScope(lambda: None)
    scope.interrupt(Cancelled(RuntimeError("enough")))
    with cancel_scope(scope), pytest.raises(Cancelled):
        model.explain(feeds, method)


def test_a_loop_ends_that_has_begun() -> None:
    """Without the flag it would go on for minutes."""
    built = recurrent_model(np.random.default_rng(1), D=3, H=64)
    model = lx.load(built.model)
    x = np.random.default_rng(2).standard_normal((3_000, 1, 3)).astype(np.float32)
    scope, begun = CancelScope(lambda: None), threading.Event()
    raised: list[BaseException] = []

    def work() -> None:
        try:
            with cancel_scope(scope):
                model.explain({"x": x}, lx.IntegratedGradients(10_000), progress=lambda done, _: done and begun.set())
        except Cancelled as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(60)
    scope.interrupt(Cancelled(RuntimeError("enough")))
    thread.join(60)
    assert len(raised) == 1
