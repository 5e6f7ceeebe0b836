# SPDX-License-Identifier: Apache-2.0
"""Limits on the number of connections and on idle connections."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lstm_explain_client import Client
from tests.serving import http2
from tests.serving.calling import request, sequence, stub
from tests.serving.certificates import Authority, Files
from tests.serving.models import lstm, write_version
from tests.serving.running import Running, free_address, serving
from tests.serving.test_workers import METRICS, metric, until
from tests.serving.web import LIST, ask

TOLD = "connections are open, which is the limit"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_version(folder, "lstm", lstm())
    return folder


def health(channel: grpc.Channel) -> int:
    """Checks that health is answered within two seconds, the limit of a probe."""
    status: int = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=2).status
    return status


def by_a_new_connection(server: Running, call: Callable[[grpc.Channel], int] = health) -> int | grpc.StatusCode:
    """The health status over a new connection, or the error."""
    with grpc.insecure_channel(server.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        try:
            return call(channel)
        except grpc.RpcError as error:
            return error.code()


def crowd(server: Running, count: int) -> ExitStack:
    """Opens connections, and closes them when the context ends."""
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(http2.connected(server.address))
        return stack.pop_all()


def test_connections_beyond_the_limit_are_closed_and_open_ones_go_on(folder: Path) -> None:
    where = free_address()
    flags = ("--max-connections", "20", "--metrics-listen", where, "--web", "127.0.0.1:0")
    with serving(folder, *flags) as server, server.channel() as channel:
        METRICS[server.address] = where
        assert health(channel) == health_pb2.HealthCheckResponse.SERVING
        with crowd(server, 60):
            until(lambda: TOLD in server.logged())
            assert by_a_new_connection(server) == grpc.StatusCode.UNAVAILABLE
            assert health(channel) == health_pb2.HealthCheckResponse.SERVING
            assert stub(channel).Explain(request(), timeout=60).model == "lstm"
            assert ask(server.page(), LIST).status == 200
            assert metric(server, "lstm_explain_connections") == metric(server, "lstm_explain_connections_limit") == 20
        until(lambda: metric(server, "lstm_explain_connections") <= 2)
        assert by_a_new_connection(server) == health_pb2.HealthCheckResponse.SERVING
        assert server.logged().count(TOLD) == 1


def test_a_server_with_few_file_descriptors_serves_open_and_later_connections(folder: Path) -> None:
    """400 connections for 256 descriptors: new ones hung, nothing on disk could be read, and the log filled."""
    with serving(folder, "--no-spare", most_files=(256, 256)) as server, server.channel() as channel:
        assert health(channel) == health_pb2.HealthCheckResponse.SERVING
        with crowd(server, 400):
            until(lambda: TOLD in server.logged())
            assert health(channel) == health_pb2.HealthCheckResponse.SERVING
            assert stub(channel).Explain(request(), timeout=60).model == "lstm"
            assert by_a_new_connection(server) == grpc.StatusCode.UNAVAILABLE
        until(lambda: by_a_new_connection(server) == health_pb2.HealthCheckResponse.SERVING)
        assert "the limit of open files allows 156 connections, not 1000" in server.logged()
        assert "oo many open files" not in server.logged()
        assert "File descriptor limit" not in server.logged()


def test_a_server_raises_its_limit_of_open_files(folder: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with serving(folder, "--no-spare", most_files=(256, hard)) as server:
        for process in server.family():
            soft, hard = resource.prlimit(process, resource.RLIMIT_NOFILE)
            assert soft == hard > 256


@pytest.fixture(scope="module")
def impatient(folder: Path) -> Iterator[Running]:
    with serving(folder, "--no-spare", "--max-connection-idle", "1") as server:
        yield server


def ends(own: socket.socket) -> bool:
    """Whether the server ends the connection within 30 seconds; gRPC's own limits are two minutes or none."""
    end = time.monotonic() + 30
    own.settimeout(30)
    try:
        while own.recv(1 << 16):
            if time.monotonic() > end:
                return False
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


def test_a_connection_without_calls_ends(impatient: Running) -> None:
    with connected(impatient) as own:
        own.sendall(http2.HELLO)
        assert ends(own)


def test_a_handshake_that_takes_too_long_ends(folder: Path, tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.write(Authority("servers").sign("server"))
    with serving(folder, "--no-spare", "--keepalive-timeout", "1", *files.flags) as server:
        for begun in (b"", b"\x16\x03\x01\x02\x00\x01"):  # silent, half of a greeting
            with connected(server) as own:
                own.sendall(begun)
                assert ends(own)


def connected(server: Running) -> socket.socket:
    host, _, port = server.address.rpartition(":")
    return socket.create_connection((host, int(port)))


def test_clients_reconnect_after_an_idle_connection_is_closed(impatient: Running) -> None:
    (worker,) = impatient.workers()
    with Client(impatient.address) as client:
        for _ in range(3):
            assert client.explain("lstm", {"x": sequence()}).model == "lstm"
            until(lambda: not connections_of(worker, impatient.address))


def connections_of(process: int, address: str) -> int:
    """The established connections of the server, from the kernel's table."""
    port = f":{int(address.rpartition(':')[2]):04X}"
    rows = [line.split() for line in Path(f"/proc/{process}/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(port) and row[3] == "01" for row in rows)
