"""Connections to the page that keep others out: what arrives too slowly ends, and makes room where there is none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from lstm_explain.serving.connections import most_of_page


class Connection(H11Protocol):
    """One of uvicorn's, which knows since when it waits for its client.

    Beyond `most` connections the one that has waited for longest makes room for a new one: half a request costs
    nothing to send, so whoever sends many of them must not be able to keep others out.
    """

    most = most_of_page()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._since = time.monotonic()
        self._stalled = False

    @property
    def limit_concurrency(self) -> int | None:
        """What uvicorn holds connections and tasks against: where connections do not reach it there is none.

        The task of a connection that was ended goes on for a moment, which must not keep anyone out.
        """
        return self._limit if self._limit is not None and len(self.connections) >= self._limit else None

    @limit_concurrency.setter
    def limit_concurrency(self, limit: int | None) -> None:
        self._limit = limit

    def waits_since(self) -> float | None:
        """When its client had last done its part; None while it is our turn."""
        cycle = self.cycle
        ours = cycle is not None and not cycle.response_complete and not cycle.more_body
        return self._since if self._stalled or not ours else None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) >= self.most:
            others = (c for c in self.connections if isinstance(c, Connection) and c is not self)
            _end(_longest(others))

    def handle_events(self) -> None:
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:  # the headers are there: now the body may take its time
            self._since = time.monotonic()

    def on_response_complete(self) -> None:
        self._since = time.monotonic()
        super().on_response_complete()

    def pause_writing(self) -> None:
        self._since, self._stalled = time.monotonic(), True
        super().pause_writing()

    def resume_writing(self) -> None:
        self._stalled = False
        super().resume_writing()


def end_slow(connections: Iterable[object], deadline: float) -> int:
    """Ends those that have waited for their clients for longer than `deadline` seconds; how many there were."""
    latest = time.monotonic() - deadline
    late = [c for c in connections if isinstance(c, Connection) and (c.waits_since() or latest) < latest]
    for connection in late:
        _end(connection)
    return len(late)


def _longest(connections: Iterable[Connection]) -> Connection | None:
    waiting = [(since, id(c), c) for c in connections if (since := c.waits_since()) is not None]
    return min(waiting)[2] if waiting else None


def _end(connection: Connection | None) -> None:
    if connection is not None:
        connection.connections.discard(connection)  # at once: whoever comes next counts them
        connection.transport.abort()
