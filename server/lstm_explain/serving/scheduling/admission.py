# SPDX-License-Identifier: Apache-2.0
"""Bounds how many calls and streams are admitted, how many of them compute, and how long each may take."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Protocol

from lstm_explain.cancellation import Cancelled, may_be_cancelled
from lstm_explain.errors import Error
from lstm_explain.serving.audit.note import Origin, RequestNote
from lstm_explain.serving.errors import Dropped, Idle, Overloaded, TooLate
from lstm_explain.serving.security.permits import ANYBODY, Permit

POLL_SECONDS = 0.01
SECONDS_BETWEEN_CHECKS = 0.002
WAITING, AT_WORK = "while the request waited", "during the work"
EVICTION_SECONDS = 5.0  # seconds of idleness after which a stream makes room for another one
RETRY_AFTER = 0.1  # seconds in which a queue of short explanations empties


class PendingCall:
    """A call whose caller waits for the answer. The event loop notes here when the caller goes away.

    remaining: seconds until the deadline; None if there is none. origin: where it comes from. note: for the audit log;
    the requests of a stream have their own. permit: what the caller may do. canary: whether the
    caller asks for the canary of a model, or None. end: the deadline (time.monotonic).
    waited_for: whether the caller still waits.
    """

    def __init__(
        self,
        remaining: float | None,
        origin: Origin = Origin(),  # noqa: B008 - frozen
        permit: Permit = ANYBODY,
        canary: bool | None = None,
    ) -> None:
        self.origin, self.permit, self.canary, self.note = origin, permit, canary, RequestNote()
        # Without a deadline, some versions of grpc give None and others a number of years.
        self.end = None if remaining is None else time.monotonic() + min(max(remaining, 0.0), threading.TIMEOUT_MAX)
        self.waited_for = True

    def left(self) -> float | None:
        """Returns the seconds until the deadline; None if there is none."""
        return None if self.end is None else max(0.0, self.end - time.monotonic())

    def too_late(self) -> bool:
        """Returns whether the deadline has passed."""
        return self.end is not None and time.monotonic() >= self.end

    def leave(self) -> None:
        """Notes that the caller has gone."""
        self.waited_for = False
        may_be_cancelled.set()


class CallDeadline:
    """The end of the time for a call. Call it between the steps of the work: raises Cancelled when the time is over.

    most_seconds: the most time that the work may take once it has begun, however late its caller's deadline is.
    """

    def __init__(self, call: PendingCall, most_seconds: float | None = None) -> None:
        self._call = call
        self._most_seconds, self._left, self._work_end = most_seconds, most_seconds, math.inf
        self._next_check = time.monotonic() + SECONDS_BETWEEN_CHECKS

    def __call__(self) -> None:
        now = time.monotonic()
        if now < self._next_check:  # most requests are done before the first check
            return
        self._next_check = now + SECONDS_BETWEEN_CHECKS
        error = self.over(AT_WORK)
        if error is not None:
            raise Cancelled(error)

    def begin(self) -> None:
        """Notes that the work begins, or goes on after a pause."""
        if self._left is not None:
            self._work_end = time.monotonic() + self._left

    def pause(self) -> None:
        """Notes that the work waits for a slot. The time until the next `begin` does not count."""
        if self._left is not None:
            self._left, self._work_end = self._work_end - time.monotonic(), math.inf

    def extend(self, seconds: float) -> None:
        """Extends the time by a delay that is not the request's fault."""
        self._work_end += seconds

    def over(self, when: str) -> Error | None:
        """Returns the error if the time is over or the caller has gone, else None. when: describes the current
        activity.
        """
        if self._call.too_late():
            return TooLate(f"the deadline passed {when}")
        if time.monotonic() >= self._work_end:
            return TooLate(
                f"the work took longer than the server allows (--max-request-seconds {self._most_seconds:g})"
            )
        return None if self._call.waited_for else Dropped(f"the caller went away {when}")

    def left(self) -> float | None:
        """Returns the seconds until the caller's deadline; None if there is none."""
        return self._call.left()


class Slots:
    """A semaphore that costs a tenth of threading.Semaphore, which is written in Python."""

    def __init__(self, count: int) -> None:
        self._free: SimpleQueue[None] = SimpleQueue()
        for _ in range(count):
            self._free.put(None)

    def acquire(self, timeout: float | None = None) -> bool:
        """Returns whether a slot became free within `timeout` seconds. Call `release` afterwards."""
        try:
            self._free.get(timeout=None if timeout is None else min(timeout, threading.TIMEOUT_MAX))
        except Empty:
            return False
        return True

    def release(self) -> None:
        self._free.put(None)


class ConcurrencyLimit:
    """Admits at most `most` at a time. As a context, it refuses further ones at once: raises Overloaded."""

    def __init__(self, most: int, what: str) -> None:
        self._slots = Slots(most)
        self._refusal = f"{most} {what} are open already, try again later"

    def __enter__(self) -> None:
        if not self.enter():
            raise Overloaded(self._refusal, RETRY_AFTER)

    def __exit__(self, *_: object) -> None:
        self._slots.release()

    def enter(self) -> bool:
        """Returns whether there was room. Call `leave` afterwards."""
        return self._slots.acquire(0.0)

    def leave(self) -> None:
        self._slots.release()


class IdleStream(Protocol):
    """A stream, which can be ended while it waits for its caller."""

    def idle_since(self) -> float | None:
        """Returns the time (time.monotonic) since which it has waited for its caller; None while one of its
        requests runs.
        """

    def end(self, error: Error) -> None:
        """Ends the stream with this error."""


class StreamLimit(ConcurrencyLimit):
    """Admits at most `most` streams, and ends those that wait for their callers for longer than `timeout` seconds.

    Where there is no room for another stream, the one that has waited longest is ended early: the new caller is refused
    once, and admitted when it tries again.
    """

    def __init__(self, most: int, timeout: float) -> None:
        super().__init__(most, "streams")
        self.timeout = timeout
        self.open: set[IdleStream] = set()

    def __enter__(self) -> None:
        try:
            super().__enter__()
        except Overloaded:
            self._make_room()
            raise

    def _make_room(self) -> None:
        latest = time.monotonic() - min(EVICTION_SECONDS, self.timeout)
        waiting = [(since, id(s), s) for s in self.open if (since := s.idle_since()) is not None and since < latest]
        if waiting:
            min(waiting)[2].end(Idle("the stream was idle, and another caller needed its place"))


class StreamPermits:
    """Lets the requests of streams take up to half of the places of a ConcurrencyLimit; the other half is for other
    calls.

    A request of a stream waits for its place, so that a busy server reads its streams more slowly.
    """

    def __init__(self, limit: ConcurrencyLimit, most: int) -> None:
        self._limit = limit
        self._own = asyncio.Semaphore(max(1, most // 2))

    async def acquire(self) -> None:
        """Waits for a place."""
        await self._own.acquire()
        try:
            while not self._limit.enter():
                await asyncio.sleep(POLL_SECONDS)
        except BaseException:
            self._own.release()
            raise

    def release(self) -> None:
        self._limit.leave()
        self._own.release()


@dataclass(frozen=True)
class Admission:
    """The limits that all services share.

    calls: of unary calls. streams: of open streams. permits: of requests in streams. window: how many requests of one
    stream are read ahead of their answers.
    """

    calls: ConcurrencyLimit
    streams: StreamLimit
    permits: StreamPermits
    window: int
