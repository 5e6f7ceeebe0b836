# SPDX-License-Identifier: Apache-2.0
"""Ends connections to the page whose clients are too slow, and makes room for new ones."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from lstm_explain.serving.connections import max_page_connections

SUBJECT = "subject"  # of the client's certificate, in the state of its requests
_SHORT = {
    "commonName": "CN",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "stateOrProvinceName": "ST",
    "localityName": "L",
    "domainComponent": "DC",
}


class Connection(H11Protocol):
    """A uvicorn connection that records since when it has waited for its client.

    Beyond `most` connections, the one that has waited for longest is ended to make room for a new one. Half a request
    costs nothing to send, so a client that sends many of them must not keep others out.
    """

    most = max_page_connections()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._since = time.monotonic()
        self._stalled = False

    @property
    def limit_concurrency(self) -> int | None:
        """uvicorn's limit for connections and for tasks; None while there are fewer connections.

        The task of an ended connection goes on for a moment, and must not keep a new client out.
        """
        return self._limit if self._limit is not None and len(self.connections) >= self._limit else None

    @limit_concurrency.setter
    def limit_concurrency(self, limit: int | None) -> None:
        self._limit = limit

    def idle_since(self) -> float | None:
        """Returns the time since which it has waited for its client; None while the server works on a response."""
        cycle = self.cycle
        working = cycle is not None and not cycle.response_complete and not cycle.more_body
        return self._since if self._stalled or not working else None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        certificate = transport.get_extra_info("peercert")
        if certificate:
            self.app_state = {**self.app_state, SUBJECT: subject_of(certificate)}
        if len(self.connections) >= self.most:
            others = (c for c in self.connections if isinstance(c, Connection) and c is not self)
            _end(_longest_idle(others))

    def handle_events(self) -> None:
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:  # the headers are complete, and the time for the body begins
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


def subject_of(certificate: Mapping[str, Any]) -> str:
    """Returns the subject of a certificate (`ssl.SSLSocket.getpeercert`) as gRPC writes it, such as `CN=a,O=b`."""
    parts = [part for group in reversed(certificate.get("subject", ())) for part in group]
    return ",".join(f"{_SHORT.get(kind, kind)}={value}" for kind, value in parts)


def end_slow(connections: Iterable[object], timeout: float) -> int:
    """Ends connections that have waited for their clients for longer than `timeout` seconds; returns their number."""
    latest = time.monotonic() - timeout
    late = [c for c in connections if isinstance(c, Connection) and (c.idle_since() or latest) < latest]
    for connection in late:
        _end(connection)
    return len(late)


def _longest_idle(connections: Iterable[Connection]) -> Connection | None:
    waiting = [(since, id(c), c) for c in connections if (since := c.idle_since()) is not None]
    return min(waiting)[2] if waiting else None


def _end(connection: Connection | None) -> None:
    if connection is not None:
        connection.connections.discard(connection)  # at once: the next connection counts them
        connection.transport.abort()
