# SPDX-License-Identifier: Apache-2.0
"""Invalid headers and paths of requests to the page are never an internal error."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.serving.running import Running
from tests.serving.web import LIST, ask, refused

ODD_ORIGINS = [
    "http://[::1",
    "http://]",
    "http://[",
    "http://[::1]:x",
    "http://[zz]",
    "http://[v1.x",
    "[",
    "http://\u2100.example".encode().decode("latin-1"),
    "http://a@[::1",
    "http://127.0.0.1:999999999999999999999",
    "\x80\xff",
]
PARTS = [b"http", b"://", b"[", b"]", b":", b"@", b"/", b"\\", b"::1", b"127.0.0.1", b"localhost", b"%00", b"%5b",
         b"#", b"?", b"\xff", b"\xe2\x84\x80", b"null", b"cross-site", b"same-origin", b"none", b",", b" ",
         b"9" * 30, b"."]  # fmt: skip


@pytest.mark.parametrize("origin", ODD_ORIGINS)
def test_an_invalid_origin_is_refused(page: str, origin: str) -> None:
    answer = ask(page, LIST, b"{}", {"origin": origin})
    assert answer.status in (400, 403)
    assert refused(answer) in ("invalid_argument", "permission_denied")
    plain = ask(page, "/", None, method="GET").headers
    strict = {"content-security-policy", "x-content-type-options", "x-frame-options", "referrer-policy"}
    assert {n: answer.headers[n] for n in strict} == {n: plain[n] for n in strict}


def test_an_incomplete_origin_is_an_invalid_argument(page: str) -> None:
    answer = ask(page, LIST, b"{}", {"origin": "http://[::1"})
    assert (answer.status, refused(answer)) == (400, "invalid_argument")


def requests(seed: int, count: int) -> Iterator[bytes]:
    draw = random.Random(seed)

    def odd() -> bytes:
        return b"".join(draw.choices(PARTS, k=draw.randint(0, 5)))

    for _ in range(count):
        path = draw.choice([LIST.encode(), b"/", b"/" + odd().replace(b" ", b"%20"), b"/%00", b"/" + b"a" * 5000, b"*"])
        names = [b"Origin", b"Sec-Fetch-Site", b"Content-Type", b"Connect-Timeout-Ms", b"Accept-Encoding", b"Range",
                 b"If-Modified-Since", b"If-None-Match", b"X-Request-Id", b"Traceparent", b"Authorization", b"Expect",
                 b"Upgrade", b"Connection"]  # fmt: skip
        lines = [b"%s: %s" % (name, odd()) for name in draw.sample(names, draw.randint(0, 4))]
        lines += [b"Host: " + draw.choice([b"localhost", b"127.0.0.1", b"[::1]:80", odd()])] * draw.choice(
            [1, 1, 1, 0, 2]
        )
        kind = draw.choice(
            [b"Content-Type: application/json", b"Content-Type: application/proto", b"Content-Type: " + odd()]
        )
        size = draw.choice([b"2", b"2", b"2", b"0", b"-1", b"9" * 25, b"x"])
        lines += [kind, b"Content-Length: " + size]
        yield (
            draw.choice([b"POST", b"POST", b"GET", b"HEAD", b"OPTIONS", odd() or b"PUT"])
            + b" "
            + path
            + b" HTTP/1.1\r\n"
            + (b"\r\n".join(lines) + b"\r\n\r\n{}")
        )


def test_no_header_is_an_internal_error(web_server: Running) -> None:
    where = urlsplit(web_server.page())
    statuses: dict[int, int] = {}
    for message in requests(7, 1500):
        with socket.create_connection((where.hostname or "", where.port or 0), timeout=60) as own:
            own.sendall(message)
            own.shutdown(socket.SHUT_WR)
            head = own.recv(1 << 16)
        if head:  # what is cut off by us may get none
            status = int(head.split(b" ", 2)[1])
            assert status < 500 or status == 501, message
            statuses[status] = statuses.get(status, 0) + 1
    assert sum(statuses.values()) > 500
    assert {200, 400, 403, 404} <= set(statuses)
    assert "Traceback" not in web_server.logged()
