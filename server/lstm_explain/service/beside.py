"""Threads beside asyncio's loop, for what would hold it up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from lstm_explain.service.gate import Call

Result = TypeVar("Result")


class Beside:
    """At most `count` threads; what comes when all are busy waits."""

    def __init__(self, count: int) -> None:
        self._threads = ThreadPoolExecutor(count, "beside")

    async def do(self, work: Callable[[], Result], call: Call) -> Result:
        """What `work` returns or raises, done in a thread with this task's context.

        A caller who leaves meanwhile is told to `call`, where the work looks, and is waited for no less: so whoever
        counts what goes on counts threads that are still at it.
        """
        running = asyncio.get_running_loop().run_in_executor(self._threads, copy_context().run, work)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            call.leave()
            await asyncio.wait([running])
            if not running.cancelled():
                running.exception()  # or asyncio logs that nobody asked for it
            raise

    def shut_down(self) -> None:
        """What has not begun never does."""
        self._threads.shutdown(cancel_futures=True)
