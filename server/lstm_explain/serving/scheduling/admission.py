"""How much goes on at once: calls let in are bounded, and of these as many compute as there are slots."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Protocol

from lstm_explain.cancellation import Cancelled
from lstm_explain.errors import Error
from lstm_explain.serving.errors import Dropped, Idle, Overloaded, TooLate

SECONDS_BETWEEN_LOOKS = 0.01
SECONDS_BETWEEN_CHECKS = 0.002
WAITING, AT_WORK = "while the request waited", "during the work"
SECONDS_TO_BE_IDLE = 5.0  # after which a stream makes room for another
RETRY_AFTER = 0.1  # seconds; a queue of short explanations is gone by then


class PendingCall:
    """Who waits for the answer, and how long: for the loop, which hears of it, to tell all that work for the call.

    remaining: seconds until the deadline; None without one. request_id: for the log.
    """

    def __init__(self, remaining: float | None, request_id: str = "") -> None:
        self.request_id = request_id
        # Where there is no deadline, some versions of grpc say None and others a number of years.
        self.end = None if remaining is None else time.monotonic() + min(max(remaining, 0.0), threading.TIMEOUT_MAX)
        self.waited_for = True

    def leave(self) -> None:
        """The caller has gone."""
        self.waited_for = False


class CallDeadline:
    """How long a caller waits. Call it between the steps of the work: raises watch.Stopped when the wait is over.

    most: seconds that the work may take once it has begun, however long its caller would wait.
    """

    def __init__(self, call: PendingCall, most: float | None = None) -> None:
        self._call, self._end = call, call.end
        self._most, self._left, self._last = most, most, math.inf
        self._next_look = time.monotonic() + SECONDS_BETWEEN_CHECKS

    def __call__(self) -> None:
        now = time.monotonic()
        if now < self._next_look:  # most requests are over by then
            return
        self._next_look = now + SECONDS_BETWEEN_CHECKS
        over = self.over(AT_WORK)
        if over is not None:
            raise Cancelled(over)

    def begin(self) -> None:
        """The work begins now, or goes on."""
        if self._left is not None:
            self._last = time.monotonic() + self._left

    def pause(self) -> None:
        """The work has to wait for a slot, which does not count; what it has taken so far does."""
        if self._left is not None:
            self._left, self._last = self._last - time.monotonic(), math.inf

    def extend(self, seconds: float) -> None:
        """The work may take so much longer: what took that long is not its own fault."""
        self._last += seconds

    def over(self, when: str) -> Error | None:
        """Why nobody waits any more, if so."""
        now = time.monotonic()
        if self._end is not None and now >= self._end:
            return TooLate(f"the deadline passed {when}")
        if now >= self._last:
            return TooLate(f"the work took longer than this server allows (--max-request-seconds {self._most:g})")
        return None if self._call.waited_for else Dropped(f"the caller went away {when}")

    def left(self) -> float | None:
        """Seconds until the deadline; None without one."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())


class Slots:
    """`count` at a time, the others wait: a semaphore that costs a tenth of threading's, which is written in Python."""

    def __init__(self, count: int) -> None:
        self._free: SimpleQueue[None] = SimpleQueue()
        for _ in range(count):
            self._free.put(None)

    def take(self, timeout: float | None = None) -> bool:
        """Whether one came free within so many seconds; `give_back` when done."""
        try:
            self._free.get(timeout=None if timeout is None else min(timeout, threading.TIMEOUT_MAX))
        except Empty:
            return False
        return True

    def give_back(self) -> None:
        self._free.put(None)


class ConcurrencyLimit:
    """Lets in at most `most` at a time. As a context it refuses the others at once, and raises Overloaded."""

    def __init__(self, most: int, what: str) -> None:
        self._slots = Slots(most)
        self._refusal = f"{most} {what} are open already, try again later"

    def __enter__(self) -> None:
        if not self.enter():
            raise Overloaded(self._refusal, RETRY_AFTER)

    def __exit__(self, *_: object) -> None:
        self._slots.give_back()

    def enter(self) -> bool:
        """Whether there is room; `leave` when done."""
        return self._slots.take(0.0)

    def leave(self) -> None:
        self._slots.give_back()


class IdleStream(Protocol):
    """A stream that can be ended while it waits for its caller."""

    def waits_since(self) -> float | None:
        """When its caller had last done its part (time.monotonic); None while something of it is at work."""

    def end(self, error: Error) -> None:
        """Ends it with that error."""


class StreamLimit(ConcurrencyLimit):
    """Lets in at most `most` streams, and ends those that wait for their callers for longer than `deadline` seconds.

    Where there is no room for another, the one that has waited longest leaves before its time: whoever comes is refused
    once, and let in when it tries again.
    """

    def __init__(self, most: int, deadline: float) -> None:
        super().__init__(most, "streams")
        self.deadline = deadline
        self.open: set[IdleStream] = set()

    def __enter__(self) -> None:
        try:
            super().__enter__()
        except Overloaded:
            self._make_room()
            raise

    def _make_room(self) -> None:
        latest = time.monotonic() - min(SECONDS_TO_BE_IDLE, self.deadline)
        waiting = [(since, id(s), s) for s in self.open if (since := s.waits_since()) is not None and since < latest]
        if waiting:
            min(waiting)[2].end(Idle("the stream was idle, and other callers waited for a place"))


class StreamPermits:
    """The places of a ConcurrencyLimit that streams may take, half of them, so that other calls are let in too.

    A request of a stream waits for its place: a server with much to do reads streams more slowly.
    """

    def __init__(self, limit: ConcurrencyLimit, most: int) -> None:
        self._limit = limit
        self._own = asyncio.Semaphore(max(1, most // 2))

    async def take(self) -> None:
        """Waits for a place."""
        await self._own.acquire()
        try:
            while not self._limit.enter():
                await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
        except BaseException:
            self._own.release()
            raise

    def give_back(self) -> None:
        self._limit.leave()
        self._own.release()


@dataclass(frozen=True)
class Admission:
    """What all services share: how many unary calls and streams are let in.

    places: of requests in streams. window: requests of one stream that are read ahead of their answers.
    """

    calls: ConcurrencyLimit
    streams: StreamLimit
    places: StreamPermits
    window: int
