# SPDX-License-Identifier: Apache-2.0
"""Runs work that would block the event loop in background threads."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, TypeVar

from lstm_explain.errors import drop_tracebacks
from lstm_explain.serving.scheduling.admission import PendingCall

Result = TypeVar("Result")
LOW_PRIORITY = 10  # a niceness: 0 is the usual one, 19 the lowest priority


@dataclass(frozen=True)
class _Raised:
    """The result of work that raised an error."""

    error: Exception


class BackgroundThreads:
    """At most `count` threads; further work waits until one is free. gently: at low priority, on Linux."""

    def __init__(self, count: int, *, gently: bool = False) -> None:
        self._threads = ThreadPoolExecutor(count, "background", lower_priority if gently else None)

    async def do(self, work: Callable[[], Result], call: PendingCall) -> Result:
        """Runs `work` in a thread with this task's context; returns or raises what it does.

        If the task is cancelled, `call` learns that its caller has gone, and the task still waits for the work to end:
        so limits of concurrency count threads that still run.
        """
        future = asyncio.get_running_loop().run_in_executor(self._threads, copy_context().run, _run, work)
        try:
            result = await asyncio.shield(future)
        except asyncio.CancelledError:
            call.leave()
            await asyncio.wait([future])
            if not future.cancelled() and isinstance(late := future.result(), _Raised):
                drop_tracebacks(late.error)
            raise
        finally:
            del future
        if isinstance(result, _Raised):
            raise result.error
        return result

    def shut_down(self) -> None:
        """Cancels work that has not begun, and waits for the rest."""
        self._threads.shutdown(cancel_futures=True)


def lower_priority() -> None:
    """Lets other threads go first, where processors are scarce. Linux has a priority for each thread."""
    os.setpriority(os.PRIO_PROCESS, 0, LOW_PRIORITY)


def _run(work: Callable[[], Any]) -> Any:
    """Returns what `work` returns, or _Raised: a future would keep the traceback, and the call's arrays, in a cycle."""
    try:
        return work()
    except Exception as error:
        return _Raised(error)
