"""Cancels an explanation between its steps, bounds what it may take, and measures where its time goes.

The engine calls `checkpoint()` before every piece of work and `may_take_long()` before work that may take long, and
puts its parts in `FORWARD` and `BACKWARD`. The server runs it in a `cancel_scope`; without one, these calls cost next
to nothing. Code inside ONNX Runtime has no checkpoints: the watchdog ends it (serving/scheduling/watchdog.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any


class Cancelled(BaseException):  # as asyncio.CancelledError: no `except Exception` on its way may swallow it
    """The watcher wants no more of this explanation. `cause` is why."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Deferred(BaseException):
    """The watcher allows only what is over in next to no time, and the work turned out to be more than that."""


@dataclass
class Timing:
    """One kind of work within an explanation: how often, seconds in all, first start and last end (time.time_ns)."""

    times: int = 0
    seconds: float = 0.0
    start: int = 0
    end: int = 0


@dataclass
class CancelScope:
    """check: called between the steps, and by the watchdog; raises Cancelled to end the work. parts: by name, what has
    been done. about: what is at work, for the log. brief: nothing may be begun that may take long. most_bytes: what the
    iterations of a loop, or a pass whose size nobody could tell before, may take; None: as much as ONNX Runtime may
    hold. most_samples: on which a method may run the model, for what shows only while it does; None: any number.
    options: of what runs in ONNX Runtime. compiling: it is, and cannot be stopped; then `compiled` is called with the
    seconds that it took.
    """

    check: Callable[[], None]
    parts: dict[str, Timing] = field(default_factory=dict)
    about: Callable[[], str] = str
    brief: bool = False
    most_bytes: int | None = None
    most_samples: int | None = None
    depth: int = 0  # of timed parts within each other
    began: float = 0.0  # of the outermost, time.perf_counter()
    options: Any = None
    out_of_memory: bool = False  # something was given up for want of it
    compiling: bool = False
    compiled: Callable[[float], None] = lambda seconds: None
    stopped: Cancelled | None = None
    stopped_at: float = 0.0  # time.monotonic()

    def interrupt(self, why: Cancelled) -> None:
        """Ends what runs in ONNX Runtime, which looks at this between its nodes. For the watchdog, again and again."""
        if self.stopped is None:
            self.stopped, self.stopped_at = why, time.monotonic()
        if self.options is not None:
            self.options.terminate = True


_watch: ContextVar[CancelScope | None] = ContextVar("lstm_explain_watch", default=None)
at_work: dict[int, CancelScope] = {}  # by id: all that there are, for the watchdog


class cancel_scope:  # noqa: N801 - a context manager, and on the way of every request: contextlib's costs several times this
    """Explanations of this thread are watched inside."""

    def __init__(self, watch: CancelScope) -> None:
        self._mine = watch

    def __enter__(self) -> CancelScope:
        self._token = _watch.set(self._mine)
        at_work[id(self._mine)] = self._mine
        return self._mine

    def __exit__(self, *_: object) -> None:
        at_work.pop(id(self._mine), None)
        _watch.reset(self._token)


current_scope = _watch.get  # the watch of the work that is being done, or None


def checkpoint() -> None:
    """Raises Cancelled where the watcher wants no more."""
    watch = _watch.get()
    if watch is not None:
        watch.check()


def may_take_long() -> None:
    """To be called before what may take more than a few milliseconds: compiling, copying a graph, repeating in float64.
    Raises Deferred where only what is shorter is allowed.
    """
    watch = _watch.get()
    if watch is not None and watch.brief:
        raise Deferred


class TimedPart:
    """A context that counts the work inside towards one part of it; of parts within parts the outermost counts."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        watch = _watch.get()
        if watch is None:
            return
        watch.depth += 1
        if watch.depth == 1:
            timing = watch.parts.setdefault(self._name, Timing())
            timing.start = timing.start or time.time_ns()
            watch.began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        watch = _watch.get()
        if watch is None:
            return
        watch.depth -= 1
        if not watch.depth:
            timing = watch.parts[self._name]
            timing.seconds += time.perf_counter() - watch.began
            timing.times += 1
            timing.end = time.time_ns()


FORWARD, BACKWARD = TimedPart("forward"), TimedPart("backward")
