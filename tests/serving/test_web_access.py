# SPDX-License-Identifier: Apache-2.0
"""The page's port refuses pages of other sites, foreign host names, and callers without a token or certificate."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.serving.calling import request
from tests.serving.certificates import Authority, Files, Pair
from tests.serving.running import Running, serving
from tests.serving.web import EXPLAIN, GET, JSON, LIST, ask, explanation, refused

READER, MANAGER = "reader-0123456789ab", "manager-0123456789a"


@pytest.fixture(scope="module")
def guarded(one_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text(f"{READER} explain\n{MANAGER} manage\n")
    flags = ("--tokens", str(tokens), "--web-hosts", "one.example, Two.example")
    with serving(one_model, "--web", "127.0.0.1:0", *flags) as server:
        yield server


# Whose page may ask


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_pages_of_other_sites_are_refused(page: str, headers: dict[str, str]) -> None:
    answer = ask(page, LIST, b"{}", headers)
    assert (answer.status, refused(answer)) == (403, "permission_denied")
    assert "access-control-allow-origin" not in answer.headers
    preflight = ask(page, LIST, None, {**headers, "access-control-request-method": "POST"}, method="OPTIONS")
    assert preflight.status in (403, 405)
    assert "access-control-allow-origin" not in preflight.headers


def test_our_own_page_and_programs_are_allowed(page: str) -> None:
    own = page.rstrip("/")
    assert ask(page, LIST, b"{}", {"origin": own, "sec-fetch-site": "same-origin"}).status == 200
    assert ask(page, LIST).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "localhost.evil.example", "", "a b", "[::1", "@"]
)
def test_foreign_host_names_are_refused(page: str, host: str) -> None:
    """A name of another site that points here (DNS rebinding) does not even get the page."""
    assert ask(page, LIST, b"{}", host=host).status in (400, 403)
    assert ask(page, "/", None, method="GET", host=host).status in (400, 403)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:9", "[::1]:80", "10.1.2.3"])
def test_addresses_cannot_be_rebound(page: str, host: str) -> None:
    assert ask(page, "/", None, method="GET", host=host).status == 200


def test_names_are_added_by_a_setting(guarded: Running) -> None:
    page = guarded.page()
    for host, status in (("one.example:80", 200), ("two.example", 200), ("three.example", 403)):
        assert ask(page, "/", None, method="GET", host=host).status == status
    headers = {"origin": "https://one.example", "authorization": f"Bearer {MANAGER}"}
    assert ask(page, LIST, b"{}", headers, host="one.example").status == 200


def test_responses_have_security_headers(page: str) -> None:
    for path, method in (("/", "GET"), ("/app.js", "GET"), ("/none", "GET"), (LIST, "POST")):
        headers = ask(page, path, method=method).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers
    assert ask(page, LIST).headers["cache-control"] == "no-store"
    assert ask(page, "/", None, method="GET").headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    "path", ["/../connect.py", "/..%2fconnect.py", "/%2e%2e/connect.py", "//etc/passwd", "/./../site.py"]
)
def test_nothing_but_the_page_is_served(page: str, path: str) -> None:
    answer = ask(page, path, None, method="GET")
    assert answer.status == 404
    assert b"import" not in answer.body


# Tokens and certificates


def test_calls_without_a_valid_token_are_refused(guarded: Running) -> None:
    page = guarded.page()
    tries = [{}, *({"authorization": f"Bearer {token}"} for token in ("wrong", READER[:-1], READER + "x", "é" * 20))]
    for headers in [*tries, {"authorization": READER}, {"cookie": f"token={READER}"}]:
        for path in (LIST, GET, EXPLAIN):
            answer = ask(page, path, b"{}", headers)
            assert (answer.status, refused(answer)) == (401, "unauthenticated")


def test_a_token_is_accepted_and_its_role_allows_calls(guarded: Running) -> None:
    page, body = guarded.page(), explanation(request())
    assert ask(page, EXPLAIN, body, {"authorization": f"Bearer {READER}"}).status == 200
    assert ask(page, LIST, b"{}", {"authorization": f"Bearer {MANAGER}"}).status == 200
    answer = ask(page, EXPLAIN, body, {"authorization": f"Bearer {MANAGER}"})
    assert (answer.status, refused(answer)) == (403, "permission_denied")
    assert answer.json()["details"][0]["debug"]["metadata"] == {"role": "explain"}
    assert READER not in guarded.logged()


def test_the_body_of_a_caller_without_a_token_is_not_read(guarded: Running) -> None:
    """The response comes although the body never does."""
    where = urlsplit(guarded.page())
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=10)
    connection.putrequest("POST", EXPLAIN)
    for name, value in {**JSON, "content-length": "1000000"}.items():
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.getresponse().status == 401
    connection.close()


def test_the_page_uses_grpcs_certificates(one_model: Path, tmp_path: Path) -> None:
    files, authority, clients = Files(tmp_path), Authority("servers"), Authority("clients")
    files.write(authority.sign("server"), clients)
    me, other = clients.sign("me"), Authority("clients").sign("me")
    with serving(one_model, "--web", "127.0.0.1:0", *files.flags, *files.client_flags) as server:
        page = server.page()
        assert page.startswith("https://")

        def status(pair: Pair | None) -> int:
            return ask(page, LIST, context=_context(authority, pair, tmp_path)).status

        assert status(me) == 200
        for nobody in (None, other):
            with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
                status(nobody)
        renewed = Authority("new servers")
        files.write(renewed.sign("server"), clients)
        with pytest.raises(ssl.SSLError):
            status(me)
        assert ask(page, LIST, context=_context(renewed, me, tmp_path)).status == 200
        files.write(authority.sign("server"))
        (tmp_path / "server.key").write_bytes(b"half a key")
        assert ask(page, LIST, context=_context(renewed, me, tmp_path)).status == 200  # the old ones stay


def _context(authority: Authority, pair: Pair | None, folder: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority.certificate.decode())
    if pair is not None:
        file = folder / "client.pem"
        file.write_bytes(pair.certificate + pair.key)
        context.load_cert_chain(file)
    return context
