# SPDX-License-Identifier: Apache-2.0
"""Bearer tokens and their roles over a real connection."""

from __future__ import annotations

import hashlib
import os
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import lstm_explain_client
from lstm_explain.errors import Error
from lstm_explain.serving.registration import SERVICES
from lstm_explain.serving.security.access import ANYBODY, MANAGE, OPEN, REQUIRED_ROLES
from lstm_explain.serving.security.token_file import parse
from lstm_explain.serving.security.tokens import Tokens
from lstm_explain_proto.inference import grpc_service_pb2
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2, model_pb2, operation_pb2
from tests.serving.calling import refusal, request, stub
from tests.serving.models import lstm, write_version
from tests.serving.running import Running, serving

READER, MANAGER, BOTH, HASHED = (
    "reader-0123456789ab",
    "manager-0123456789a",
    "both-0123456789abcd",
    "hashed-0123456789ab",
)
FILE = f"""\
# who may do what
{READER} explain  the dashboard

{MANAGER}\tmanage
{BOTH} explain,manage both of them
sha256:{hashlib.sha256(HASHED.encode()).hexdigest()} explain hashed
"""
DENIED, UNKNOWN, OK = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.OK


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokens") / "tokens"


@pytest.fixture(scope="module")
def guarded(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("models")
    write_version(folder, "lstm", lstm())
    tokens.write_text(FILE)
    flags = ("--tokens", str(tokens), "--log-format", "json", "--metrics-listen", "127.0.0.1:0")
    with serving(folder, *flags) as server:
        yield server


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def called(server: Running, method: str, metadata: Any = ()) -> grpc.RpcError | None:
    """The status code of a call with an empty message."""
    with server.channel() as channel:
        try:
            list(channel.stream_stream(method)(iter([b""]), metadata=metadata, timeout=20))
        except grpc.RpcError as error:
            return error
    return None


def code_of(server: Running, method: str, metadata: Any = ()) -> grpc.StatusCode:
    error = called(server, method, metadata)
    return OK if error is None else error.code()


def explain(server: Running, metadata: Any) -> grpc.StatusCode:
    with server.channel() as channel:
        try:
            stub(channel).Explain(request(), metadata=metadata, timeout=20)
        except grpc.RpcError as error:
            return error.code()
    return OK


METHODS = sorted(method for method, needed in REQUIRED_ROLES.items() if needed != OPEN)


@pytest.mark.parametrize("method", METHODS)
def test_calls_without_a_valid_token_are_refused(guarded: Running, method: str) -> None:
    assert code_of(guarded, method) == UNKNOWN
    for token in ("wrong", READER[:-1], READER + "x", READER.upper(), "", " ", "sha256:" + "0" * 64, "x" * 4000):
        assert code_of(guarded, method, bearer(token)) == UNKNOWN
    hashed = hashlib.sha256(READER.encode()).hexdigest()
    assert code_of(guarded, method, bearer(hashed)) == UNKNOWN
    assert code_of(guarded, method, bearer(READER) * 2) == UNKNOWN
    assert code_of(guarded, method, (("authorization", f"Basic {READER}"),)) == UNKNOWN
    assert code_of(guarded, method, (("authorization", READER),)) == UNKNOWN


def test_unknown_methods_reveal_nothing_without_a_token(guarded: Running) -> None:
    for method in ("/lstm_explain.v1.ModelService/Nothing", "/nothing.Nothing/Nothing"):
        assert code_of(guarded, method) == UNKNOWN
        assert code_of(guarded, method, bearer(READER)) == DENIED
        assert code_of(guarded, method, bearer(BOTH)) == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("method", METHODS)
def test_a_role_allows_its_methods_only(guarded: Running, method: str) -> None:
    for token, roles in ((READER, {"explain"}), (MANAGER, {"manage"}), (BOTH, {"explain", "manage"})):
        allowed = REQUIRED_ROLES[method] in roles | {ANYBODY}
        assert (code_of(guarded, method, bearer(token)) == DENIED) is not allowed
        assert code_of(guarded, method, bearer(token)) != UNKNOWN


def test_a_caller_with_a_token_explains(guarded: Running) -> None:
    assert [explain(guarded, bearer(token)) for token in (READER, BOTH, HASHED)] == [OK] * 3
    assert explain(guarded, (("authorization", f"bearer {READER}"),)) == OK
    with lstm_explain_client.Client(guarded.address, token=READER) as client:
        assert [model.name for model in client.models()] == ["lstm"]
    with lstm_explain_client.Client(guarded.address) as client, pytest.raises(lstm_explain_client.Unauthenticated):
        client.models()


def test_a_refusal_has_status_and_details(guarded: Running) -> None:
    error = called(guarded, "/lstm_explain.v1.ModelService/DeleteModel", bearer(READER))
    assert error is not None
    status = refusal(error)
    assert status.detail(error_details_pb2.ErrorInfo).metadata["role"] == MANAGE
    assert dict(error.trailing_metadata())["x-request-id"]
    missing = called(guarded, "/lstm_explain.v1.ModelService/DeleteModel", (("x-request-id", "mine-1"),))
    assert missing is not None
    assert dict(missing.trailing_metadata())["x-request-id"] == "mine-1"
    lines = guarded.logged()
    assert "the dashboard" in lines  # who was denied
    assert not any(token in lines for token in (READER, MANAGER, BOTH, HASHED))


def test_health_needs_no_token_and_reflection_any(guarded: Running) -> None:
    with guarded.channel() as channel:
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        requested = [reflection_pb2.ServerReflectionRequest(list_services="")]
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        (answer,) = reflection(iter(requested), metadata=bearer(MANAGER), timeout=20)
        assert set(SERVICES) <= {service.name for service in answer.list_services_response.service}


def test_every_method_of_every_service_is_in_the_table() -> None:
    """So that no method gets the strictest role by accident."""
    stubs = (explanation_pb2, model_pb2, operation_pb2, grpc_service_pb2)
    services = [service for stub in stubs for service in stub.DESCRIPTOR.services_by_name.values()]
    assert {service.full_name for service in services} == set(SERVICES)
    methods = {f"/{service.full_name}/{method.name}" for service in services for method in service.methods}
    assert methods <= set(REQUIRED_ROLES)


def test_a_changed_file_is_reloaded(guarded: Running, tokens: Path) -> None:
    def write(text: str) -> None:
        tokens.with_suffix(".new").write_text(text)
        os.replace(tokens.with_suffix(".new"), tokens)

    fresh = "fresh-0123456789abc"
    try:
        write(f"{fresh} explain")
        assert explain(guarded, bearer(fresh)) == OK
        assert explain(guarded, bearer(READER)) == UNKNOWN
        for broken in ("", f"{READER} explain,root", "one-word", f"{READER} explain\n{READER} manage"):
            write(broken)
            assert explain(guarded, bearer(fresh)) == OK
            assert explain(guarded, bearer(READER)) == UNKNOWN
        tokens.unlink()
        assert explain(guarded, bearer(fresh)) == OK
    finally:
        write(FILE)
    assert explain(guarded, bearer(READER)) == OK
    assert explain(guarded, bearer(fresh)) == UNKNOWN
    assert fresh not in guarded.logged()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no token"),
        ("secret-0123456789abc", "line 1"),
        ("# fine\nsecret-0123456789abc root", "line 2"),
        ("sha256:123 explain", "line 1"),
        ("sécret-0123456789abc explain", "line 1"),
        ("secret-0123456789abc explain\nsecret-0123456789abc manage", "twice"),
    ],
)
def test_an_error_in_the_file_is_reported_without_the_secret(text: str, message: str) -> None:
    with pytest.raises(Error, match=message) as raised:
        parse(text)
    assert "0123456789abc" not in str(raised.value)


def test_token_lookup_takes_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every entry is compared, in constant time."""
    compared: list[tuple[int, int]] = []

    def counting(a: bytes, b: bytes) -> bool:
        compared.append((len(a), len(b)))
        return a == b

    monkeypatch.setattr("lstm_explain.serving.security.tokens.hmac", SimpleNamespace(compare_digest=counting))
    names = [f"token-{i:020d}" for i in range(2000)]
    with tempfile.NamedTemporaryFile("w", suffix=".tokens") as file:
        file.write("\n".join(f"{name} explain" for name in names))
        file.flush()
        known = Tokens(Path(file.name))
        for token in (names[0], names[1000], names[-1], "token-nobody-has-0000", "", "x" * 5000):
            compared.clear()
            assert (known.entry(token) is not None) == (token in names)
            assert compared == [(32, 32)] * len(names)


def test_metrics_contain_no_secret(guarded: Running) -> None:
    explain(guarded, bearer(READER))
    explain(guarded, bearer("guess-0123456789abcdef"))
    port = _metrics_port(guarded)
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
    assert 'code="UNAUTHENTICATED"' in text
    assert not any(secret in text for secret in (READER, MANAGER, BOTH, HASHED, "guess-", "dashboard"))


def _metrics_port(server: Running) -> int:
    """The second port that the process listens on."""
    own = int(server.address.rsplit(":", 1)[1])
    inodes = {os.readlink(fd) for fd in Path(f"/proc/{server.process.pid}/fd").iterdir() if fd.is_symlink()}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ports = {int(r[1].split(":")[1], 16) for r in rows if r[3] == "0A" and f"socket:[{r[9]}]" in inodes}
    (port,) = ports - {own}
    return port
