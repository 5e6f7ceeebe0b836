# SPDX-License-Identifier: Apache-2.0
"""Explanations can be stopped between their steps, and report where their time went."""

from __future__ import annotations

import threading
import timeit

import numpy as np
import pytest

import lstm_explain as lx
from lstm_explain.cancellation import Cancelled, CancelScope, cancel_scope, checkpoint
from tests.serving.models import lstm

METHODS = [
    lx.LRP(),
    lx.Gradient(),
    lx.IntegratedGradients(steps=3),
    lx.SmoothGrad(samples=3),
    lx.Occlusion(),
    lx.ShapleySampling(permutations=2, exact_players=0),
    lx.ContextualDecomposition(),
]
X = np.random.default_rng(0).standard_normal((2, 5, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> lx.Model:
    return lx.load(lstm())


class _Countdown:
    """Cancels at the call after `most` calls."""

    def __init__(self, most: int) -> None:
        self.calls, self.most = 0, most

    def __call__(self) -> None:
        self.calls += 1
        if self.calls > self.most:
            raise Cancelled(RuntimeError("enough"))


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_every_method_stops_at_every_step(model: lx.Model, method: lx.Method) -> None:
    count = _Countdown(10**9)
    with cancel_scope(CancelScope(count)):
        whole = model.explain({"x": X}, method)
    assert count.calls >= 2
    for most in range(min(count.calls, 12)):
        with cancel_scope(CancelScope(_Countdown(most))), pytest.raises(Cancelled):
            model.explain({"x": X}, method)
    again = model.explain({"x": X}, method)  # a stopped one leaves nothing behind
    np.testing.assert_array_equal(again.relevance["x"], whole.relevance["x"])


@pytest.mark.parametrize("method", METHODS[:-1], ids=lambda m: m.name)
def test_phases_take_less_than_the_whole(model: lx.Model, method: lx.Method) -> None:
    with cancel_scope(CancelScope(lambda: None)) as watch:
        seconds = timeit.timeit(lambda: model.explain({"x": X}, method), number=1)
    walks_back = isinstance(method, (lx.LRP, lx.Gradient, lx.IntegratedGradients, lx.SmoothGrad))
    assert set(watch.timings) == ({"forward", "backward"} if walks_back else {"forward"})
    assert 0 < sum(part.seconds for part in watch.timings.values()) <= seconds
    assert all(part.times > 0 and part.start <= part.end for part in watch.timings.values())


def test_other_threads_are_not_watched(model: lx.Model) -> None:
    seen = []
    with cancel_scope(CancelScope(_Countdown(0))):
        thread = threading.Thread(target=lambda: seen.append(model.explain({"x": X})))
        thread.start()
        thread.join()
    assert len(seen) == 1


def test_a_checkpoint_costs_less_than_a_microsecond() -> None:
    best = min(timeit.repeat(checkpoint, number=10_000, repeat=20)) / 10_000
    assert best < 1e-6
