# SPDX-License-Identifier: Apache-2.0
"""Runs an asyncio event loop in a thread of its own, and gives it work from other threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

Result = TypeVar("Result")


class Loop:
    """Runs until it is closed. Work in the loop must not block: one thread does all of it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="loop", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Waits for the coroutine; returns or raises what it does. Must not be called in the loop's own thread."""
        return self.submit(work).result()

    def submit(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Starts the coroutine without waiting for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call_soon(self, work: Callable[[], object]) -> None:
        """Calls `work` in the loop without waiting for it, in the order of these calls."""
        self._loop.call_soon_threadsafe(work)

    def call_later(self, seconds: float, work: Callable[[], object]) -> None:
        """Calls `work` in the loop after so many seconds. Must be called in the loop's own thread."""
        self._loop.call_later(seconds, work)

    def close(self) -> None:
        """Ends the thread, and abandons what still runs in the loop."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
