# SPDX-License-Identifier: Apache-2.0
"""Exempts the time that is spent on compiling kernels from the time limit of a request.

A kernel that no cache holds is compiled when it is first used. On busy processors that takes a minute, and the compiler
cannot be interrupted. It is not the fault of the request that happens to be the first.
"""

from __future__ import annotations

import functools
import threading
import time

from numba.core import event

from lstm_explain.cancellation import CancelScope, current_scope


class _Listener(event.Listener):  # type: ignore[misc]
    """Listens to Numba's compiler lock, which is reentrant; a thread also waits for it while another one compiles."""

    def __init__(self) -> None:
        self._local = threading.local()

    def on_start(self, event: object) -> None:
        depth = self._local.depth = getattr(self._local, "depth", 0) + 1
        if depth == 1:
            self._local.scope, self._local.start = current_scope(), time.monotonic()
            if self._local.scope is not None:
                self._local.scope.compiling = True

    def on_end(self, event: object) -> None:
        depth = self._local.depth = getattr(self._local, "depth", 1) - 1
        scope: CancelScope | None = getattr(self._local, "scope", None)
        if depth == 0 and scope is not None:
            self._local.scope = None
            scope.on_compiled(time.monotonic() - self._local.start)
            scope.compiling, scope.cancelled = False, None


_listener = _Listener()


@functools.cache
def listen() -> None:
    """Makes every CancelScope learn when its thread compiles."""
    event.register("numba:compiler_lock", _listener)
