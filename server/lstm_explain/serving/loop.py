"""asyncio's loop in a thread of its own, as other threads see it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

Result = TypeVar("Result")


class Loop:
    """Runs until it is closed. Nothing in it may take long: it has one thread for all that is done in it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="loop", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """What it returns or raises, when it is done. Not to be called in the loop's own thread."""
        return self.begin(work).result()

    def begin(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Does not wait."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def soon(self, work: Callable[[], object]) -> None:
        """Does not wait; one after the other, in the order of the calls."""
        self._loop.call_soon_threadsafe(work)

    def later(self, seconds: float, work: Callable[[], object]) -> None:
        """In the loop's own thread: does the work there after so many seconds."""
        self._loop.call_later(seconds, work)

    def close(self) -> None:
        """Ends the thread, with what is still at work in the loop."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
