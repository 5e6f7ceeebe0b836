# SPDX-License-Identifier: Apache-2.0
"""The compilation of a kernel, which cannot be interrupted, neither counts towards a deadline nor as stuck."""

from __future__ import annotations

import time

import numba
import pytest
from numba.core.compiler_lock import global_compiler_lock

from lstm_explain.cancellation import Cancelled, CancelScope, cancel_scope
from lstm_explain.serving.scheduling import compile_time
from lstm_explain.serving.scheduling.admission import CallDeadline, PendingCall
from lstm_explain.serving.scheduling.watchdog import Watchdog


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


def test_compilation_time_does_not_count(clock: Clock) -> None:
    compile_time.listen()
    given_up: list[float] = []
    watchdog = Watchdog(0.0, lambda: given_up.append(clock.now))
    deadline = CallDeadline(PendingCall(None), 20.0)
    deadline.begin()
    watch = CancelScope(deadline, on_compiled=deadline.extend)
    with cancel_scope(watch):
        with global_compiler_lock:
            for _ in range(3):
                with global_compiler_lock:  # as a kernel that calls others is compiled
                    clock.now += 100
                watchdog.check()
        assert watch.cancelled is None
        clock.now += 19
        watchdog.check()
        watch.check()
        clock.now += 2
        with pytest.raises(Cancelled, match="longer than the server allows"):
            watch.check()
        for _ in range(2):
            clock.now += 1
            watchdog.check()
    assert watch.cancelled is not None
    assert given_up == [clock.now]


def test_numba_compiles_under_the_compiler_lock() -> None:
    compile_time.listen()
    times: list[float] = []
    watch = CancelScope(lambda: None, on_compiled=times.append)
    with cancel_scope(watch):
        kernel = numba.njit(lambda x: x + 1)
        assert kernel(1) == kernel(1) == 2
        assert len([t for t in times if t > 0]) >= 1
        assert not watch.compiling
        times.clear()
        assert kernel(1) == 2
    assert not times
