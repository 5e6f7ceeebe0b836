"""Time that work spends on compiling kernels is not held against its request.

A kernel is compiled where it is first used, if no cache has it: once, for a minute where the processors are busy, and
without a place at which the compiler could be stopped. The request that happens to be the first has not asked for much.
"""

from __future__ import annotations

import functools
import threading
import time

from numba.core import event

from lstm_explain.cancellation import CancelScope, current_scope


class _Listener(event.Listener):  # type: ignore[misc]
    """Of Numba's lock, which is also waited for where another thread compiles. It is taken again within itself."""

    def __init__(self) -> None:
        self._of = threading.local()

    def on_start(self, event: object) -> None:
        depth = self._of.depth = getattr(self._of, "depth", 0) + 1
        if depth == 1:
            self._of.watch, self._of.began = current_scope(), time.monotonic()
            if self._of.watch is not None:
                self._of.watch.compiling = True

    def on_end(self, event: object) -> None:
        depth = self._of.depth = getattr(self._of, "depth", 1) - 1
        watch: CancelScope | None = getattr(self._of, "watch", None)
        if depth == 0 and watch is not None:
            self._of.watch = None
            watch.compiled(time.monotonic() - self._of.began)
            watch.compiling, watch.stopped = False, None


_listener = _Listener()


@functools.cache
def follow() -> None:
    """From now on every CancelScope hears of it."""
    event.register("numba:compiler_lock", _listener)
