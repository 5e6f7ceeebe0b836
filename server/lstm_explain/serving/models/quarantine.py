# SPDX-License-Identifier: Apache-2.0
"""Holds back requests to models that may have crashed a worker; processes/blame.py decides which models these are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

from lstm_explain.repository.model_folder import Tag
from lstm_explain.serving.errors import Dropped, Quarantined, Recovering, TooLate
from lstm_explain.serving.scheduling.admission import PendingCall

POLL_SECONDS = 0.02
MAX_WAIT_SECONDS = 30.0
MAX_WAITING = 16  # requests; further ones are asked to try again
RETRY_AFTER = 1.0  # seconds


class Quarantine:
    """`update` may be called from any thread; `turn` runs in the event loop.

    marked: models that are suspect or quarantined.
    """

    def __init__(self) -> None:
        self.marked: frozenset[Tag] = frozenset()
        self._quarantined: Mapping[Tag, str] = {}
        self._covered = True
        self._running: Tag | None = None
        self._count = 0
        self._waiting = 0

    def update(self, suspects: Iterable[Tag], quarantined: Mapping[Tag, str], *, covered: bool) -> None:
        """suspects: models that ran when a worker crashed. quarantined: the reason, by model. covered: whether another
        worker is ready to take over, or none is expected.
        """
        self._covered = covered
        self._quarantined = quarantined
        self.marked = frozenset(suspects) | quarantined.keys()

    @asynccontextmanager
    async def turn(self, tag: Tag, call: PendingCall) -> AsyncIterator[None]:
        """Waits until a suspect may run, and keeps other suspects from running at the same time.

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
        if self._may_run(tag):
            return
        reason = f"model {tag.name!r} waits until a crashed worker process is replaced"
        if self._waiting >= MAX_WAITING:
            raise Recovering(reason, RETRY_AFTER)
        end = time.monotonic() + MAX_WAIT_SECONDS
        self._waiting += 1
        try:
            while not self._may_run(tag):
                await asyncio.sleep(POLL_SECONDS)
                if call.too_late():
                    raise TooLate("the deadline passed while the request waited")
                if not call.waited_for:
                    raise Dropped("the caller went away while the request waited")
                if time.monotonic() >= end:
                    raise Recovering(reason, RETRY_AFTER)
        finally:
            self._waiting -= 1

    def _may_run(self, tag: Tag) -> bool:
        if tag in self._quarantined:
            raise Quarantined(f"model {tag.name!r} version {tag.version} is {self._quarantined[tag]}", field="model")
        return tag not in self.marked or (self._covered and self._running in (None, tag))
