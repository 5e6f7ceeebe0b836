"""Threads beside asyncio's loop, for what would hold it up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, TypeVar

from lstm_explain.errors import drop_tracebacks
from lstm_explain.serving.scheduling.admission import PendingCall

Result = TypeVar("Result")


@dataclass(frozen=True)
class _Raised:
    """Stands for the result of work that failed."""

    error: Exception


class BackgroundThreads:
    """At most `count` threads; what comes when all are busy waits."""

    def __init__(self, count: int) -> None:
        self._threads = ThreadPoolExecutor(count, "background")

    async def do(self, work: Callable[[], Result], call: PendingCall) -> Result:
        """What `work` returns or raises, done in a thread with this task's context.

        A caller who leaves meanwhile is told to `call`, where the work looks, and is waited for no less: so whoever
        counts what goes on counts threads that are still at it.
        """
        running = asyncio.get_running_loop().run_in_executor(self._threads, copy_context().run, _done, work)
        try:
            done = await asyncio.shield(running)
        except asyncio.CancelledError:
            call.leave()
            await asyncio.wait([running])
            if not running.cancelled() and isinstance(left := running.result(), _Raised):
                drop_tracebacks(left.error)
            raise
        finally:
            del running
        if isinstance(done, _Raised):
            raise done.error
        return done

    def shut_down(self) -> None:
        """What has not begun never does."""
        self._threads.shutdown(cancel_futures=True)


def _done(work: Callable[[], Any]) -> Any:
    """What `work` returns, or _Raised: a future would keep a traceback, and with it this call's arrays, in a cycle."""
    try:
        return work()
    except Exception as error:
        return _Raised(error)
