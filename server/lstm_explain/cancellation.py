# SPDX-License-Identifier: Apache-2.0
"""Cancels an explanation between its steps, limits its resources, and measures where its time goes.

The engine calls `checkpoint()` before every piece of work and `may_take_long()` before work that may take long, and
runs its phases within `FORWARD` and `BACKWARD`. The server runs it in a `cancel_scope`; without one, these calls cost
next to nothing. Code inside ONNX Runtime has no checkpoints: the watchdog ends it (serving/scheduling/watchdog.py).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt


class Cancelled(BaseException):  # Like asyncio.CancelledError: no `except Exception` may catch it.
    """The explanation is cancelled. `cause` is the reason."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Deferred(BaseException):
    """The scope allows only work that takes next to no time, and the work turned out to take longer."""


@dataclass
class Timing:
    """One phase of an explanation: how often it ran, total seconds, first start and last end (time.time_ns)."""

    times: int = 0
    seconds: float = 0.0
    start: int = 0
    end: int = 0


@dataclass
class CancelScope:
    """The limits of one explanation, and what it has done so far.

    check: called between the steps, and by the watchdog; raises Cancelled to end the work.
    timings: by phase, what has been done. describe: returns what is at work, for the log.
    quick_only: raise Deferred rather than begin anything that may take long.
    max_bytes: how much the iterations of a loop may take, or a pass whose size could not be estimated; None: as much as
        ONNX Runtime may hold.
    max_samples: how many samples a method may run the model on, where that is only known while it runs; None: any
        number. max_targets: how many targets there may be, where only the outputs show their number; None: any number.
    run_options: of the runs of ONNX Runtime. stop: not 0 to end the current kernel, if it looks at this.
    compiling: kernels are being compiled, which cannot be cancelled;
        afterwards `on_compiled` is called with the seconds that it took.
    """

    check: Callable[[], None]
    timings: dict[str, Timing] = field(default_factory=dict)
    describe: Callable[[], str] = str
    quick_only: bool = False
    max_bytes: int | None = None
    max_samples: int | None = None
    max_targets: int | None = None
    depth: int = 0  # of nested phases
    began: float = 0.0  # time.perf_counter() at the start of the outermost phase
    run_options: Any = None
    out_of_memory: bool = False  # Something failed for lack of memory.
    compiling: bool = False
    on_compiled: Callable[[float], None] = lambda seconds: None
    stop: npt.NDArray[np.uint8] = field(default_factory=lambda: np.zeros(1, np.uint8))
    cancelled: Cancelled | None = None
    cancelled_at: float = 0.0  # time.monotonic()

    def interrupt(self, reason: Cancelled) -> None:
        """Ends the current run of ONNX Runtime, which checks for this between nodes, and the current kernel, if it
        checks for this between time steps. The watchdog calls it repeatedly.
        """
        if self.cancelled is None:
            self.cancelled, self.cancelled_at = reason, time.monotonic()
        self.stop[0] = 1
        if self.run_options is not None:
            self.run_options.terminate = True


_scope: ContextVar[CancelScope | None] = ContextVar("lstm_explain_cancel_scope", default=None)
NEVER = np.zeros(1, np.uint8)
active_scopes: dict[int, CancelScope] = {}  # by id, for the watchdog
may_be_cancelled = threading.Event()  # Set it when a caller has gone, and the watchdog looks at once.


class cancel_scope:  # noqa: N801 - a context manager; contextlib's makes a generator per request
    """Explanations of this thread belong to the scope within this context."""

    def __init__(self, scope: CancelScope) -> None:
        self._own = scope

    def __enter__(self) -> CancelScope:
        self._token = _scope.set(self._own)
        active_scopes[id(self._own)] = self._own
        return self._own

    def __exit__(self, *_: object) -> None:
        active_scopes.pop(id(self._own), None)
        _scope.reset(self._token)


current_scope = _scope.get  # the scope of the current work, or None


def checkpoint() -> None:
    """Raises Cancelled if the current scope is cancelled."""
    scope = _scope.get()
    if scope is not None:
        scope.check()


def stop_flag() -> npt.NDArray[np.uint8]:
    """Returns the `stop` of the current scope, for a kernel; after the kernel, call `raise_if_stopped`."""
    scope = _scope.get()
    return NEVER if scope is None else scope.stop


def raise_if_stopped() -> None:
    """Raises Cancelled where a kernel may have ended early, so that unfinished results are not read."""
    scope = _scope.get()
    if scope is not None and scope.stop[0] and scope.cancelled is not None:
        raise scope.cancelled


def may_take_long() -> None:
    """Call this before work that may take more than a few milliseconds: compiling, copying a graph, repeating in
    float64.

    Raises Deferred where the scope allows only quick work.
    """
    scope = _scope.get()
    if scope is not None and scope.quick_only:
        raise Deferred


class TimedPhase:
    """A context that counts its work towards one phase; of nested phases, only the outermost counts."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        scope = _scope.get()
        if scope is None:
            return
        scope.depth += 1
        if scope.depth == 1:
            timing = scope.timings.setdefault(self._name, Timing())
            timing.start = timing.start or time.time_ns()
            scope.began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        scope = _scope.get()
        if scope is None:
            return
        scope.depth -= 1
        if not scope.depth:
            timing = scope.timings[self._name]
            timing.seconds += time.perf_counter() - scope.began
            timing.times += 1
            timing.end = time.time_ns()


FORWARD, BACKWARD = TimedPhase("forward"), TimedPhase("backward")
