# SPDX-License-Identifier: Apache-2.0
"""Encrypted connections: which clients are accepted, and renewal of certificates."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from tests.serving.calling import request, stub
from tests.serving.certificates import DAY, Authority, Files, Pair, secure_channel, serial, shown
from tests.serving.models import lstm, write_version
from tests.serving.running import Running, command, serving


@dataclass(frozen=True)
class Secure:
    server: Running
    files: Files
    authority: Authority
    clients: Authority

    def channel(self, client: Pair | None = None, root: Authority | None = None) -> grpc.Channel:
        return secure_channel(self.server.address, (root or self.authority).certificate, client)

    def shown(self) -> int:
        return shown(self.server.address, self.authority.certificate)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_version(folder, "lstm", lstm())
    return folder


@pytest.fixture(scope="module")
def one_way(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    files, authority = Files(tmp_path_factory.mktemp("certificates")), Authority("servers")
    files.write(authority.sign("server"))
    with serving(folder, *files.flags) as server:
        yield Secure(server, files, authority, Authority("nobody"))


@pytest.fixture(scope="module")
def mutual(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    files, authority, clients = Files(tmp_path_factory.mktemp("mutual")), Authority("servers"), Authority("clients")
    files.write(authority.sign("server"), clients)
    with serving(folder, *files.flags, *files.client_flags) as server:
        yield Secure(server, files, authority, clients)


def code_of(channel: grpc.Channel) -> grpc.StatusCode:
    """The status code of a call."""
    with channel:
        try:
            stub(channel).Explain(request(), timeout=10)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def test_a_client_that_trusts_the_authority_connects(one_way: Secure) -> None:
    assert code_of(one_way.channel()) == grpc.StatusCode.OK


def test_a_server_with_an_unsigned_certificate_is_refused(one_way: Secure) -> None:
    assert code_of(one_way.channel(root=Authority("servers"))) == grpc.StatusCode.UNAVAILABLE


def test_plain_text_is_refused(one_way: Secure) -> None:
    assert code_of(grpc.insecure_channel(one_way.server.address)) == grpc.StatusCode.UNAVAILABLE


def test_a_client_with_a_certificate_connects(mutual: Secure) -> None:
    assert code_of(mutual.channel(mutual.clients.sign("me"))) == grpc.StatusCode.OK


@pytest.mark.parametrize("which", ["none", "expired", "foreign", "the server's authority", "signed by itself"])
def test_a_client_without_a_valid_certificate_is_refused(mutual: Secure, which: str) -> None:
    pair = {
        "none": None,
        "expired": mutual.clients.sign("me", valid_for=-DAY),
        "foreign": Authority("clients").sign("me"),
        "the server's authority": mutual.authority.sign("me"),
        "signed by itself": Authority("me").sign("me"),
    }[which]
    assert code_of(mutual.channel(pair)) == grpc.StatusCode.UNAVAILABLE


def test_a_renewed_client_authority_applies_at_once(mutual: Secure) -> None:
    old, new = mutual.clients.sign("me"), Authority("newer clients")
    mutual.files.write(mutual.authority.sign("server"), new)
    assert code_of(mutual.channel(new.sign("me"))) == grpc.StatusCode.OK
    assert code_of(mutual.channel(old)) == grpc.StatusCode.UNAVAILABLE
    mutual.files.write(mutual.authority.sign("server"), mutual.clients)
    assert code_of(mutual.channel(old)) == grpc.StatusCode.OK


def test_files_that_do_not_belong_together_change_nothing(one_way: Secure) -> None:
    before, good = one_way.shown(), one_way.authority.sign("server")
    for bad in (Pair(good.certificate, one_way.authority.sign("other").key), Pair(b"no PEM", good.key), Pair(b"", b"")):
        one_way.files.write(bad)
        assert one_way.shown() == before
    assert "cannot be used, so the old ones stay" in one_way.server.logged()
    one_way.files.write(good)
    assert one_way.shown() == serial(good.certificate) != before


@pytest.mark.parametrize("renewals", [15, pytest.param(300, marks=pytest.mark.slow)])
def test_nothing_is_lost_while_certificates_are_renewed(one_way: Secure, renewals: int) -> None:
    """Eight clients, each with a new connection every five calls, while the certificate is renewed again and again."""
    stop, failures, calls = threading.Event(), [], [0] * 8
    seen = set()

    def caller(number: int) -> None:
        while not stop.is_set():
            with one_way.channel() as channel:
                for _ in range(5):
                    try:
                        stub(channel).Explain(request(), timeout=20)
                        calls[number] += 1
                    except grpc.RpcError as error:
                        failures.append(error)

    threads = [threading.Thread(target=caller, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(renewals):
        one_way.files.write(one_way.authority.sign("server"))
        seen.add(one_way.shown())
    stop.set()
    for thread in threads:
        thread.join()
    print(f"\n{renewals} renewals, {sum(calls)} calls over {sum(calls) // 5} connections")
    assert failures == []
    assert min(calls) > 0
    assert len(seen) == renewals


def _refusal_to_start(*flags: str) -> str:
    done = subprocess.run(command("serve", *flags), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert done.stdout == ""
    return done.stderr.splitlines()[-1]


def test_without_encryption_it_listens_on_loopback_only(folder: Path) -> None:
    for address in ("0.0.0.0:0", "[::]:0", "192.0.2.1:0", "example.org:0"):
        message = _refusal_to_start("--models", str(folder), "--listen", address)
        assert "--tls-cert" in message
        assert "--insecure-listen" in message
    with serving(folder, "--listen", "0.0.0.0:0", "--insecure-listen") as server:
        address = f"127.0.0.1:{server.address.rsplit(':', 1)[1]}"
        assert code_of(grpc.insecure_channel(address)) == grpc.StatusCode.OK


def test_unusable_files_are_reported_at_startup(folder: Path, tmp_path: Path) -> None:
    files, authority = Files(tmp_path), Authority("servers")
    files.write(Pair(authority.sign("a").certificate, authority.sign("b").key), authority)
    flags = ("--models", str(folder), "--listen", "127.0.0.1:0")
    message = _refusal_to_start(*flags, *files.flags)
    assert "cannot use --tls-cert, --tls-key or --tls-client-ca" in message
    assert str(tmp_path) not in message
    assert "need each other" in _refusal_to_start(*flags, *files.flags[:2])
    assert "needs --tls-cert" in _refusal_to_start(*flags, *files.client_flags)
