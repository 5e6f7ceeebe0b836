# SPDX-License-Identifier: Apache-2.0
"""The watchdog interrupts work without checkpoints, and brief work does not begin what may take long."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import lstm_explain as lx
from lstm_explain.cancellation import Cancelled, CancelScope, Deferred, cancel_scope
from lstm_explain.graph.data_dependent_sizes import sizes_are_fixed
from lstm_explain.graph.ir import Graph
from lstm_explain.serving.scheduling.watchdog import Watchdog
from tests import hostile
from tests.serving.models import lstm

ONCE = {"x": np.zeros((1, 2), np.float32)}
FOREVER = {"x": np.full((1, 2), 200, np.float32)}
X = np.random.default_rng(0).standard_normal((1, 5, 4)).astype(np.float32)
GIVEN_UP: list[float] = []
SECONDS = 30  # until what is to be ended has ended, on a machine with much else to do


@pytest.fixture(scope="module", autouse=True)
def watchdog() -> Iterator[None]:
    watchdog = Watchdog(0.5, lambda: GIVEN_UP.append(time.monotonic()))
    watchdog.start()
    yield
    watchdog.stop()


class Deadline:
    """Cancels the work after so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds

    def __call__(self) -> None:
        if time.monotonic() >= self.end:
            raise Cancelled(TimeoutError("late"))


def outcome(watch: CancelScope, work: Callable[[], object]) -> BaseException | None:
    """What the work raises under the watchdog. It runs in a thread, so that endless work does not block the test."""
    received: list[BaseException | None] = []

    def run() -> None:
        try:
            with cancel_scope(watch):
                work()
        except BaseException as error:
            received.append(error)
        else:
            received.append(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(SECONDS)
    assert received, "the work goes on although nobody wants it any more"
    return received[0]


@pytest.fixture(scope="module")
def loop() -> lx.Model:
    return lx.load(hostile.endless(guarded=True))


@pytest.mark.parametrize(
    "work",
    [
        lambda model: model.predict(FOREVER),  # within one call of ONNX Runtime
        lambda model: model.explain(FOREVER),  # in our own walk through the iterations
        lambda model: model.explain(FOREVER, lx.Occlusion()),
        lambda model: model.explain(FOREVER, lx.IntegratedGradients(steps=3)),
    ],
    ids=["predict", "lrp", "occlusion", "ig"],
)
def test_an_endless_loop_is_interrupted(loop: lx.Model, work: Callable[[lx.Model], object]) -> None:
    assert isinstance(outcome(CancelScope(Deadline(0.3)), lambda: work(loop)), Cancelled)
    np.testing.assert_array_equal(loop.predict(ONCE)["y"], ONCE["x"])  # and nothing is left of it


def test_nested_endless_loops_are_interrupted() -> None:
    assert isinstance(outcome(CancelScope(Deadline(1.0)), lambda: lx.load(hostile.endless(nested=True))), Cancelled)


def test_memory_of_iterations_is_bounded() -> None:
    model = lx.load(hostile.endless(guarded=True, growing=100_000))
    received = outcome(CancelScope(Deadline(SECONDS), max_bytes=1 << 26), lambda: model.explain(FOREVER))
    assert isinstance(received, lx.InputError)
    assert "node 'forever'" in str(received)


@pytest.mark.parametrize("iterations", [1 << 40, 1 << 27, 1 << 16])
def test_overhead_of_small_arrays_counts_towards_memory(iterations: int) -> None:
    """Few numbers are kept per iteration, but the objects around them take kilobytes."""
    model, most = lx.load(hostile.counted()), 100 << 20
    model.explain({**ONCE, "n": np.array(3)}, lx.Gradient())
    before, taken = resident(), [0]

    def check() -> None:
        taken[0] = max(taken[0], resident() - before)

    received = outcome(
        CancelScope(check, max_bytes=most), lambda: model.explain({**ONCE, "n": np.array(iterations)}, lx.Gradient())
    )
    assert f"more than the {most} bytes" in str(received)
    assert taken[0] < most


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_work_that_does_not_stop_is_given_up() -> None:
    GIVEN_UP.clear()
    with cancel_scope(CancelScope(Deadline(0.0), describe=lambda: "a call that looks at nothing")):
        end = time.monotonic() + 30
        while not GIVEN_UP and time.monotonic() < end:
            time.sleep(0.05)
    assert GIVEN_UP


def test_brief_work_compiles_nothing() -> None:
    model = lx.load(lstm())
    brief = CancelScope(lambda: None, quick_only=True)
    for method in (lx.LRP(), lx.Gradient(), lx.IntegratedGradients(steps=2), lx.Occlusion()):
        with cancel_scope(brief), pytest.raises(Deferred):
            model.explain({"x": X}, method)
    plain = model.explain({"x": X})
    with cancel_scope(brief):  # it is prepared now
        np.testing.assert_array_equal(model.explain({"x": X[:, :4]}).relevance["x"].shape, (1, 4, 4))
    with cancel_scope(brief), pytest.raises(Deferred):  # for shapes that come twice, the program is specialised
        model.explain({"x": X})
    model.explain({"x": X})
    with cancel_scope(brief):
        np.testing.assert_array_equal(model.explain({"x": X}).relevance["x"], plain.relevance["x"])


def test_brief_work_is_not_repeated_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    model = lx.load(lstm())
    model.explain({"x": X})
    monkeypatch.setattr("lstm_explain.program.precision.Precision.wanting", lambda *_: np.array([0]))
    model.explain({"x": X[:, :3]})  # the copy in float64 is there
    with cancel_scope(CancelScope(lambda: None, quick_only=True)), pytest.raises(Deferred):
        model.explain({"x": X[:, :4]})


def graph_of(model: lx.Model) -> Graph:
    return model._engine.graph


def test_models_with_data_dependent_sizes(loop: lx.Model) -> None:
    assert not loop.steady
    assert not sizes_are_fixed(graph_of(loop))
    assert lx.load(lstm()).steady
    for op, named in (("Expand", ["x", "n"]), ("Tile", ["x", "n"]), ("ConstantOfShape", ["n"])):
        assert not lx.load(hostile.sized_by_input(op, named)).steady
        assert lx.load(hostile.sized_by_input(op, named, by_shape=True)).steady
