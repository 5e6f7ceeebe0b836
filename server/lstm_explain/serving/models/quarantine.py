"""What a worker does about models that may have brought another one down; which these are is decided in blame.py."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

from lstm_explain.repository.model_folder import Tag
from lstm_explain.serving.errors import Dropped, Quarantined, Recovering, TooLate
from lstm_explain.serving.scheduling.admission import PendingCall

SECONDS_BETWEEN_LOOKS = 0.02
MOST_SECONDS = 30.0  # that a request waits
MOST_WAITING = 16  # requests; more are told to come back
RETRY_AFTER = 1.0


class Quarantine:
    """Asked in asyncio's loop; may be told from any thread.

    marked: models that ran when a worker crashed, suspects and those in quarantine.
    """

    def __init__(self) -> None:
        self.marked: frozenset[Tag] = frozenset()
        self._quarantined: Mapping[Tag, str] = {}
        self._covered = True
        self._running: Tag | None = None
        self._count = 0
        self._waiting = 0

    def tell(self, suspects: Iterable[Tag], quarantined: Mapping[Tag, str], *, covered: bool) -> None:
        """covered: whether another worker stands ready to take over, or none is to be expected."""
        self._covered = covered
        self._quarantined = quarantined
        self.marked = frozenset(suspects) | quarantined.keys()

    @asynccontextmanager
    async def turn(self, tag: Tag, call: PendingCall) -> AsyncIterator[None]:
        """Waits until a suspect may run, and keeps other suspects from running inside.

        Raises Quarantined, Recovering, TooLate, Dropped.
        """
        await self._wait(tag, call)
        self._running = tag
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1
            if not self._count:
                self._running = None

    async def _wait(self, tag: Tag, call: PendingCall) -> None:
        if self._free(tag):
            return
        why = f"model {tag.name!r} waits until a crashed worker process is replaced"
        if self._waiting >= MOST_WAITING:
            raise Recovering(why, RETRY_AFTER)
        end = time.monotonic() + MOST_SECONDS
        self._waiting += 1
        try:
            while not self._free(tag):
                await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
                now = time.monotonic()
                if call.end is not None and now >= call.end:
                    raise TooLate("the deadline passed while the request waited")
                if not call.waited_for:
                    raise Dropped("the caller went away while the request waited")
                if now >= end:
                    raise Recovering(why, RETRY_AFTER)
        finally:
            self._waiting -= 1

    def _free(self, tag: Tag) -> bool:
        if tag in self._quarantined:
            raise Quarantined(f"model {tag.name!r} version {tag.version} is {self._quarantined[tag]}", field="model")
        return tag not in self.marked or (self._covered and self._running in (None, tag))
