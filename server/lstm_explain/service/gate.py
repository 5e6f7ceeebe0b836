"""How much goes on at once: calls let in are bounded, and of these as many compute as there are slots."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from lstm_explain.service.errors import Dropped, Overloaded, TooLate

RETRY_AFTER = 0.1  # seconds; a queue of short explanations is gone by then


class Call(Protocol):
    """Who waits for the answer, and how long. A grpc.ServicerContext is one."""

    def is_active(self) -> bool: ...

    def time_remaining(self) -> float | None: ...


class Limit:
    """Lets in at most `most` at a time and refuses the others at once."""

    def __init__(self, most: int, what: str) -> None:
        self._free = threading.Semaphore(most)
        self._refusal = f"{most} {what} are open already, try again later"

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Raises Overloaded."""
        if not self._free.acquire(blocking=False):
            raise Overloaded(self._refusal, RETRY_AFTER)
        try:
            yield
        finally:
            self._free.release()


@dataclass(frozen=True)
class Doors:
    """What all services share: how many unary calls and streams are let in, and who does the work of streams.

    window: requests of one stream that are read ahead of their answers.
    """

    calls: Limit
    streams: Limit
    pool: Executor
    window: int


class Slots:
    """`count` explanations compute at a time, the others wait."""

    def __init__(self, count: int) -> None:
        self._free = threading.Semaphore(count)

    @contextmanager
    def slot(self, call: Call) -> Iterator[None]:
        """Raises TooLate or Dropped if, when the turn comes, nobody waits for the answer any more."""
        remaining = call.time_remaining()
        # Where there is no deadline, some versions of grpc say None and others a number of years.
        timeout = None if remaining is None else min(max(remaining, 0.0), threading.TIMEOUT_MAX)
        if not self._free.acquire(timeout=timeout):
            raise TooLate("the deadline passed while the request waited")
        try:
            if not call.is_active():
                raise Dropped("the caller went away while the request waited")
            yield
        finally:
            self._free.release()
