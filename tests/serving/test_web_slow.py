# SPDX-License-Identifier: Apache-2.0
"""Endless requests to the page time out, hold little memory, and keep nobody out."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from lstm_explain.serving.web.bodies import FREE_BYTES, Bodies, Body, TooMuch, TooSlow
from tests.serving.calling import request
from tests.serving.certificates import Authority, Files
from tests.serving.running import Running, serving
from tests.serving.test_text import peak
from tests.serving.web import EXPLAIN, LIST, ask, explanation

MANY, MORE = 500, 20  # together more than the 512 that there may be
START = b"POST " + EXPLAIN.encode() + b" HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/proto\r\n"


@pytest.fixture(scope="module")
def patient(one_model: Path) -> Iterator[Running]:
    """A server with a timeout of an hour, so that only eviction can end slow requests."""
    with serving(one_model, "--web", "127.0.0.1:0", "--web-patience", "3600") as server:
        yield server


@pytest.fixture(scope="module")
def impatient(one_model: Path) -> Iterator[Running]:
    with serving(one_model, "--web", "127.0.0.1:0", "--web-patience", "1") as server:
        yield server


@contextmanager
def connected(page: str, count: int = 1) -> Iterator[list[socket.socket]]:
    where = urlsplit(page)
    with ExitStack() as stack:
        sockets = []
        for _ in range(count):
            own = stack.enter_context(socket.create_connection((where.hostname or "", where.port or 0), timeout=60))
            sockets.append(own)
        yield sockets


def rest(own: socket.socket) -> bytes:
    """Everything that arrives until the server closes the connection."""
    data = b""
    try:
        while chunk := own.recv(1 << 16):
            data += chunk
    except ConnectionError:
        pass
    return data


@pytest.mark.parametrize(
    "begun",
    [b"", b"POST /x HT", START, START + b"Content-Length: 1000\r\n\r\nabc"],
    ids=["none", "line", "half", "body"],
)
def test_many_incomplete_requests_keep_nobody_out(patient: Running, begun: bytes) -> None:
    page = patient.page()
    with connected(page, MANY) as sockets:
        for own in sockets:
            own.sendall(begun)
        assert ask(page, LIST).status == 200
        with connected(page, MORE) as others:
            for own in others:
                own.sendall(begun)
            for _ in range(3):
                assert ask(page, LIST).status == 200
                assert ask(page, EXPLAIN, explanation(request())).status == 200
            assert sum(map(_ended, sockets)) >= MANY + MORE - 512


def _ended(own: socket.socket) -> bool:
    """Whether the server has ended the connection, without waiting."""
    own.setblocking(False)
    try:
        return own.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"POST /x HT",
        START,
        START + b"Content-Length: 1000\r\n\r\nabc",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET",
    ],
    ids=["none", "line", "half", "body", "second"],
)
def test_an_incomplete_request_times_out(impatient: Running, begun: bytes) -> None:
    with connected(impatient.page()) as (own,):
        own.sendall(begun)
        answer = rest(own)
    assert (b" 408 " in answer) == (b"abc" in begun)
    assert (b" 200 " in answer) == (b"GET" in begun)


def test_an_incomplete_handshake_times_out(one_model: Path, tmp_path: Path) -> None:
    """asyncio alone would wait for a minute."""
    files, authority = Files(tmp_path), Authority("servers")
    files.write(authority.sign("server"))
    with serving(one_model, "--web", "127.0.0.1:0", "--web-patience", "1", *files.flags) as server:
        for begun in (b"", b"\x16\x03\x01\x02\x00\x01"):
            with connected(server.page()) as (own,):
                own.settimeout(30)
                own.sendall(begun)
                assert rest(own) == b""
        trusting = ssl.create_default_context(cadata=authority.certificate.decode())
        assert ask(server.page(), LIST, context=trusting).status == 200


def test_an_unread_response_times_out(impatient: Running) -> None:
    """The caller sends requests over one connection, and reads no response."""
    requested = b"GET /app.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000
    with connected(impatient.page()) as (own,), pytest.raises(ConnectionError):
        _send_for_ever(own, requested)


def _send_for_ever(own: socket.socket, data: bytes) -> None:
    while True:
        own.sendall(data)


def test_endless_bodies_stay_within_the_memory_budget(one_model: Path) -> None:
    """40 of 40 MiB held 1.6 GB."""
    size = 40 * 2**20
    flags = ("--web-patience", "3600", "--max-web-bytes", str(64 * 2**20))
    with serving(one_model, "--web", "127.0.0.1:0", *flags) as server:
        page, before = server.page(), peak(server)
        with connected(page, 20) as sockets:
            for own in sockets:
                own.sendall(START + b"Content-Length: " + str(size + 1).encode() + b"\r\n\r\n")
                try:
                    own.sendall(bytes(size))
                except ConnectionError:
                    continue
            assert peak(server) - before < 250 * 2**20
            assert b" 429 " in sockets[0].recv(1 << 16)
            assert ask(page, EXPLAIN, explanation(request())).status == 200
            large = ask(page, EXPLAIN, bytes(30 * 2**20), {"content-type": "application/proto"})
            assert large.status == 400  # it was read, to its end
        assert peak(server) - before < 400 * 2**20


async def _chunks(*sizes: int, then_wait: bool = False) -> AsyncIterator[bytes]:
    for size in sizes:
        yield bytes(size)
    if then_wait:
        await asyncio.Event().wait()


def test_the_longest_arriving_body_is_evicted() -> None:
    async def scene() -> None:
        bodies = Bodies(1_000_000, 3600.0)
        slow = [Body() for _ in range(3)]
        waiting = [asyncio.create_task(bodies.read(b, _chunks(400_000, then_wait=True), 10**9)) for b in slow]
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert done == {waiting[0]}
        with pytest.raises(TooMuch):
            await waiting[0]
        whole = Body()
        assert await bodies.read(whole, _chunks(500_000, 300_000), 10**9) == bytes(800_000)
        with pytest.raises(TooMuch):
            await waiting[1]
        with pytest.raises(TooMuch):
            await waiting[2]
        with pytest.raises(TooMuch):  # what is there whole does not give way
            await bodies.read(Body(), _chunks(400_000), 10**9)
        small = Body()
        assert await bodies.read(small, _chunks(FREE_BYTES), 10**9) == bytes(FREE_BYTES)
        bodies.drop(whole)
        assert await bodies.read(Body(), _chunks(900_000), 10**9) == bytes(900_000)

    asyncio.run(scene())


def test_the_memory_of_a_body_is_released() -> None:
    async def scene() -> None:
        bodies = Bodies(1_000_000, 0.01)
        for _ in range(20):
            body = Body()
            with pytest.raises(TooSlow):
                await bodies.read(body, _chunks(900_000, then_wait=True), 10**9)
            bodies.drop(body)
            body = Body()
            assert await bodies.read(body, _chunks(900_000), 800_000) is None
            bodies.drop(body)

    asyncio.run(scene())
