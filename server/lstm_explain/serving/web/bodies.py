"""Bodies of requests on their way: what all of them may hold in memory together, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

FREE = 1 << 16  # bytes that every body may have, whatever the others hold


class TooSlow(Exception):  # noqa: N818 - named for what the caller is told
    """The body was not there in time."""


class TooMuch(Exception):  # noqa: N818
    """There is no room for this body beside the others."""


@dataclass(eq=False)
class Body:
    """One body, from its first byte until its request is answered."""

    size: int = 0
    arriving: asyncio.Timeout | None = None
    gave_way: bool = False


class Bodies:
    """At most `most_bytes` in all. A body that finds no room takes that of the one that has been arriving for longest.

    So bodies that never end keep nobody out. patience: seconds that one may take to arrive.
    """

    def __init__(self, most_bytes: int, deadline: float) -> None:
        self._most = most_bytes
        self.deadline = deadline
        self._held = 0
        self._arriving: dict[Body, None] = {}  # the eldest first

    async def read(self, body: Body, chunks: AsyncIterator[bytes], most: int) -> bytes | None:
        """All of the body; None as soon as it has more than `most` bytes. `drop` it in the end, whatever happens.

        Raises TooSlow, TooMuch.
        """
        parts: list[bytes] = []
        self._arriving[body] = None
        try:
            async with asyncio.timeout(self.deadline) as body.arriving:
                async for chunk in chunks:
                    self._take(body, len(chunk))
                    if body.size > most:
                        return None
                    parts.append(chunk)
        except TimeoutError:
            raise TooMuch if body.gave_way else TooSlow from None
        finally:
            self._arriving.pop(body, None)
        return b"".join(parts)

    def drop(self, body: Body) -> None:
        """Gives back what the body took."""
        self._held -= max(0, body.size - FREE)
        body.size = 0

    def _take(self, body: Body, size: int) -> None:
        before = max(0, body.size - FREE)
        body.size += size
        self._held += max(0, body.size - FREE) - before
        while self._held > self._most and body.size > FREE:
            eldest = next((b for b in self._arriving if b.size > FREE), body)
            if eldest is body:
                self.drop(body)
                raise TooMuch
            self._arriving.pop(eldest)
            eldest.gave_way = True
            self.drop(eldest)
            if eldest.arriving is not None:
                eldest.arriving.reschedule(asyncio.get_running_loop().time())
