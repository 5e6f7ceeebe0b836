# SPDX-License-Identifier: Apache-2.0
"""Computes operations beside requests: takes them from the store, one after another, and keeps how they end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from google.rpc import code_pb2

from lstm_explain.errors import Error, drop_tracebacks
from lstm_explain.serving.errors import Overloaded, status_of
from lstm_explain.serving.observability.metrics import Metrics
from lstm_explain.serving.operations.claim import Claim
from lstm_explain.serving.operations.entry import CANCELLED, Damaged, Failure, Kind
from lstm_explain.serving.operations.store import OperationStore
from lstm_explain.serving.scheduling.admission import PendingCall

log = logging.getLogger(__name__)

SECONDS_BETWEEN_SCANS = 0.5  # for operations that other processes have accepted or left behind
SECONDS_BETWEEN_CANCEL_CHECKS = 0.02
SECONDS_BETWEEN_SWEEPS = 10.0
SECONDS_BETWEEN_PROGRESS = 0.1
SECONDS_AFTER_TROUBLE = 30.0  # before an operation is tried again that cannot run now, or whose end cannot be kept


class Work(Protocol):
    """Computes operations of one kind."""

    async def __call__(self, claim: Claim, call: PendingCall, progress: Callable[[int, int], None]) -> bytes | Failure:
        """Returns the result. Raises lstm_explain.Error as soon as `call` is no longer waited for, and Damaged."""


class OperationRunner:
    """Lives in the event loop. most: operations at a time. work: by kind."""

    def __init__(self, store: OperationStore, most: int, work: Mapping[Kind, Work], metrics: Metrics) -> None:
        self._store, self._most, self._work, self._metrics = store, most, work, metrics
        self._calls: dict[str, PendingCall] = {}  # of the operations that run here
        self._tasks: set[asyncio.Task[None]] = set()
        self._not_before: dict[str, float] = {}
        self._wake = asyncio.Event()
        self._stopping = False
        self._loops: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins to take operations."""
        self._loops = [asyncio.create_task(self._take()), asyncio.create_task(self._sweep())]

    def wake(self) -> None:
        """Says that there is a new operation."""
        self._wake.set()

    async def cancel(self, name: str) -> None:
        """Ends an operation for which the store knows that its caller wants the end: at once if it runs here or
        nowhere; the process that runs it sees it soon.
        """
        if (call := self._calls.get(name)) is not None:
            call.leave()
        elif (claim := await asyncio.to_thread(self._store.claim, name)) is not None:
            await self._finish(claim, CANCELLED)

    async def stop(self, grace: float) -> None:
        """Takes no more operations, and leaves those to others that do not end within `grace` seconds."""
        self._stopping = True
        for loop in self._loops:
            loop.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        for call in self._calls.values():
            call.leave()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _take(self) -> None:
        while True:
            self._wake.clear()
            try:
                if len(self._tasks) < self._most:
                    now = time.monotonic()
                    self._not_before = {name: then for name, then in self._not_before.items() if then > now}
                    for name in await asyncio.to_thread(self._store.pending):
                        await self._try(name)
                        if len(self._tasks) >= self._most:
                            break
            except Exception:  # the next round may succeed
                log.exception("the folder of operations cannot be read")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), SECONDS_BETWEEN_SCANS)

    async def _try(self, name: str) -> None:
        if name in self._calls or name in self._not_before:
            return
        claim = await asyncio.to_thread(self._store.claim, name)
        if claim is not None:
            task = asyncio.create_task(self._run(claim))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(lambda _: self._wake.set())

    async def _run(self, claim: Claim) -> None:
        """Computes an operation and keeps how it ends. Nothing that goes wrong with it may end the process."""
        call = self._calls[claim.id] = PendingCall(None)
        try:
            if claim.cancelled:
                return await self._finish(claim, CANCELLED)
            refused = await asyncio.to_thread(claim.begin)
            if refused is not None:
                log.error("operation %s is given up: %s", claim.id, refused.message)
                return await self._finish(claim, refused)
            if claim.attempt > 1:
                self._metrics.operation_retries.inc()
                log.warning("operation %s begins again, attempt %d", claim.id, claim.attempt)
            watch = asyncio.create_task(_until_cancelled(claim, call))
            try:
                end = await self._ended(claim, call)
            finally:
                watch.cancel()
            if end is None:
                await asyncio.to_thread(claim.release)
            else:
                await self._finish(claim, end)
        except Exception:
            log.exception("the end of operation %s cannot be kept", claim.id)
            self._not_before[claim.id] = time.monotonic() + SECONDS_AFTER_TROUBLE
        finally:
            del self._calls[claim.id]

    async def _ended(self, claim: Claim, call: PendingCall) -> bytes | Failure | None:
        """Computes an operation; None where it is to be left to another process, or to a later time."""
        work = self._work.get(claim.facts.kind)
        if work is None:
            return Failure(code_pb2.FAILED_PRECONDITION, "this server runs no batch jobs (--batch-folder)")
        try:
            return await work(claim, call, _Progress(claim))
        except Overloaded:  # its model waits for a worker that has crashed
            self._not_before[claim.id] = time.monotonic() + SECONDS_AFTER_TROUBLE
            return None
        except Damaged as problem:
            log.error("the operation %s is damaged: %s", claim.id, problem)
            return Failure(code_pb2.DATA_LOSS, f"what the server kept of this operation is damaged: {problem}")
        except Error as error:
            drop_tracebacks(error)
            if claim.cancelled:
                return CANCELLED
            if not call.waited_for:  # the server stops
                return None
            status = status_of(error, error.field)
            return Failure(status.code, status.message, error.field)
        except Exception:
            if not call.waited_for and self._stopping:
                return None
            log.exception("operation %s failed", claim.id)
            return Failure(code_pb2.INTERNAL, f"internal error; the server's log has it under operation {claim.id}")

    async def _finish(self, claim: Claim, end: bytes | Failure) -> None:
        try:
            await asyncio.to_thread(claim.finish, end)
        finally:
            code = end.code if isinstance(end, Failure) else code_pb2.OK
            self._metrics.operations_ended[code_pb2.Code.Name(code),].inc()

    async def _sweep(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self._store.sweep)
                counts = await asyncio.to_thread(self._store.counts)
                for state, count in counts.items():
                    self._metrics.operations.labels(state).set(count)
            except Exception:  # the next round may succeed
                log.exception("the folder of operations cannot be cleaned")
            await asyncio.sleep(SECONDS_BETWEEN_SWEEPS)


class _Progress:
    """Keeps the progress of an operation, at most ten times a second. Where a run is repeated (a batch that failed as a
    whole), `done` waits until the new run has got as far.
    """

    def __init__(self, claim: Claim) -> None:
        self._claim, self._next, self._done = claim, 0.0, 0

    def __call__(self, done: int, total: int) -> None:
        self._done = max(self._done, done)
        now = time.monotonic()
        if now >= self._next:
            self._next = now + SECONDS_BETWEEN_PROGRESS
            self._claim.report(self._done, max(self._done, total))


async def _until_cancelled(claim: Claim, call: PendingCall) -> None:
    while not claim.cancelled:
        await asyncio.sleep(SECONDS_BETWEEN_CANCEL_CHECKS)
    call.leave()
