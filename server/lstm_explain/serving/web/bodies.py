# SPDX-License-Identifier: Apache-2.0
"""Reads the bodies of HTTP requests within a shared budget of memory and a time limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

FREE_BYTES = 1 << 16  # bytes that every body may have, whatever the others hold


class TooSlow(Exception):  # noqa: N818 - named for what the caller sees
    """The body did not arrive in time."""


class TooMuch(Exception):  # noqa: N818
    """The budget has no room for this body."""


@dataclass(eq=False)
class Body:
    """A body, from its first byte until its request is answered.

    size: bytes so far. arriving: the time limit, while it arrives. evicted: whether its memory went to another body.
    """

    size: int = 0
    arriving: asyncio.Timeout | None = None
    evicted: bool = False


class Bodies:
    """At most `most_bytes` in all. A body without room evicts the one that has been arriving for longest.

    So bodies that never end keep nobody out. timeout: seconds that one body may take to arrive.
    """

    def __init__(self, most_bytes: int, timeout: float) -> None:
        self._most = most_bytes
        self.timeout = timeout
        self._held = 0
        self._arriving: dict[Body, None] = {}  # the oldest first

    async def read(self, body: Body, chunks: AsyncIterator[bytes], most: int) -> bytes | None:
        """Returns the whole body; None as soon as it has more than `most` bytes. Call `drop` afterwards in any case.

        Raises TooSlow, TooMuch.
        """
        parts: list[bytes] = []
        self._arriving[body] = None
        try:
            async with asyncio.timeout(self.timeout) as body.arriving:
                async for chunk in chunks:
                    self._take(body, len(chunk))
                    if body.size > most:
                        return None
                    parts.append(chunk)
        except TimeoutError:
            raise TooMuch if body.evicted else TooSlow from None
        finally:
            self._arriving.pop(body, None)
        return b"".join(parts)

    def drop(self, body: Body) -> None:
        """Returns the body's memory to the budget."""
        self._held -= max(0, body.size - FREE_BYTES)
        body.size = 0

    def _take(self, body: Body, size: int) -> None:
        before = max(0, body.size - FREE_BYTES)
        body.size += size
        self._held += max(0, body.size - FREE_BYTES) - before
        while self._held > self._most and body.size > FREE_BYTES:
            oldest = next((b for b in self._arriving if b.size > FREE_BYTES), body)
            if oldest is body:
                self.drop(body)
                raise TooMuch
            self._arriving.pop(oldest)
            oldest.evicted = True
            self.drop(oldest)
            if oldest.arriving is not None:
                oldest.arriving.reschedule(asyncio.get_running_loop().time())
