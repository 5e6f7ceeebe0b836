"""Who watches an explanation: may stop it between its steps, and hears where its time goes.

The engine asks `checkpoint()` before every piece of work and marks its parts with `part`; whoever runs it may be
`watching`. Nobody is, and the two cost next to nothing, unless the service runs the engine.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Stopped(BaseException):  # as asyncio.CancelledError: no `except Exception` on its way may swallow it
    """The watcher wants no more of this explanation. `cause` is why."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


@dataclass
class Part:
    """One kind of work within an explanation: how often, seconds in all, first start and last end (time.time_ns)."""

    times: int = 0
    seconds: float = 0.0
    start: int = 0
    end: int = 0


@dataclass
class Watch:
    """check: called between the steps; raises Stopped to end the work. parts: by name, what has been done."""

    check: Callable[[], None]
    parts: dict[str, Part] = field(default_factory=dict)
    inside: bool = False

    def run(self, name: str, work: Callable[[], R]) -> R:
        """Counts the work towards `name`; of parts within parts the outer one counts."""
        if self.inside:
            return work()
        self.inside = True
        part = self.parts.setdefault(name, Part())
        part.start = part.start or time.time_ns()
        began = time.perf_counter()
        try:
            return work()
        finally:
            part.seconds += time.perf_counter() - began
            part.times += 1
            part.end = time.time_ns()
            self.inside = False


_watch: ContextVar[Watch | None] = ContextVar("lstm_explain_watch", default=None)


class watching:  # noqa: N801 - a context manager, and on the way of every request: contextlib's costs several times this
    """Explanations of this thread are watched inside."""

    def __init__(self, watch: Watch) -> None:
        self._mine = watch

    def __enter__(self) -> Watch:
        self._token = _watch.set(self._mine)
        return self._mine

    def __exit__(self, *_: object) -> None:
        _watch.reset(self._token)


def checkpoint() -> None:
    """Raises Stopped where the watcher wants no more."""
    watch = _watch.get()
    if watch is not None:
        watch.check()


def part(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Marks a function as a part of the work."""

    def mark(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            watch = _watch.get()
            if watch is None:
                return function(*args, **kwargs)
            return watch.run(name, lambda: function(*args, **kwargs))

        return run

    return mark
