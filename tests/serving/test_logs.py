# SPDX-License-Identifier: Apache-2.0
"""With JSON logs, every line that the server writes is one JSON object, whatever happens."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

import lstm_explain_client
from lstm_explain.serving.observability import native_output, output_capture
from lstm_explain.serving.observability.logs import JsonFormatter, formatter, requested_format
from tests.serving.calling import request, stub
from tests.serving.certificates import Authority, Files, secure_channel
from tests.serving.crashing import SEGFAULT, SITECUSTOMIZE, fatal
from tests.serving.models import lstm, write_version
from tests.serving.running import Running, command, free_address, serving

LEVELS = {"debug", "info", "warning", "error", "critical"}
JSON = ("--log-format", "json")
SECONDS = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_version(folder, "lstm", lstm())
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    """A server whose metrics are on the port METRICS."""
    with serving(folder, *JSON, "--log-level", "debug", "--metrics-listen", METRICS) as server:
        yield server


METRICS = free_address()


def records(text: str) -> list[dict[str, Any]]:
    """Parses the lines as records. The last line may be incomplete."""
    lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
    for line in lines:
        assert isinstance(line, dict)
        assert line["level"] in LEVELS
        assert isinstance(line["message"], str)
        assert isinstance(line["logger"], str)
    return lines


def foreign(server: Running) -> list[dict[str, Any]]:
    """The records of output that bypasses Python's logging."""
    return [line for line in records(server.logged()) if line["logger"] == output_capture.LOGGER]


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)


def reset(address: str, data: bytes = b"") -> None:
    """Sends these bytes over a connection, then resets it."""
    host, port = address.rsplit(":", 1)
    connection = socket.create_connection((host, int(port)), timeout=10)
    with suppress(OSError):
        connection.sendall(data)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def answered(server: Running) -> bool:
    with server.channel() as channel:
        return bool(stub(channel).Explain(request(), timeout=SECONDS).model == "lstm")


def test_the_ready_line_is_a_record_too(server: Running) -> None:
    (line,) = records(Path(server.out.name).read_text())
    assert line["message"] == f"lstm-explain ready on {server.address}"


def test_connections_that_are_reset(server: Running) -> None:
    before = len(server.logged().splitlines())
    for _ in range(100):
        reset(METRICS, b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        reset(METRICS, b"GET /met")
        reset(server.address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))
        reset(server.address, b"GET / HTTP/1.1\r\n\r\n")
        time.sleep(0.02)  # the metrics' port has a short queue; what does not fit tries again a second later
    assert answered(server)
    messages = records(server.logged())[before:]
    assert not [line for line in messages if line["level"] not in ("debug", "info")]


def test_oversized_metadata(server: Running) -> None:
    for size in (70_000, 700_000):
        with server.channel() as channel, pytest.raises(grpc.RpcError):
            stub(channel).Explain(request(), metadata=(("x-big", "a" * size),), timeout=SECONDS)
    assert answered(server)
    records(server.logged())


def test_a_client_that_pings_too_often(folder: Path) -> None:
    """For pings that come too often, gRPC sends GOAWAY."""
    with serving(folder, *JSON, "--min-ping-interval", "3000") as server:
        for _ in range(3):
            with socket.create_connection(server.address.split(":"), timeout=10) as connection:
                connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
                with suppress(OSError):
                    for _ in range(50):
                        connection.sendall(bytes([0, 0, 8, 6, 0, 0, 0, 0, 0]) + bytes(8))
                    while connection.recv(4096):
                        pass
        assert answered(server)
        records(server.logged())


def test_failed_handshakes(folder: Path, tmp_path: Path) -> None:
    """At most one line each, without an alarming level; for many, a count."""
    files, authority = Files(tmp_path), Authority("servers")
    files.write(authority.sign("server"))
    with serving(folder, *JSON, *files.flags) as server:
        for _ in range(60):
            reset(server.address, b"GET / HTTP/1.1\r\n\r\n")
            reset(server.address, b"\x16\x03\x01\x00\x05hello")
        with secure_channel(server.address, authority.certificate) as channel:
            assert stub(channel).Explain(request(), timeout=SECONDS).model == "lstm"
        assert server.stop() == 0
        messages = foreign(server)
        assert len(messages) <= 60
        assert {line["level"] for line in messages} <= {"info", "warning"}
        assert all("omitted" in line["message"] for line in messages if line["level"] == "warning")


def test_a_process_without_file_descriptors(folder: Path) -> None:
    with serving(folder, *JSON, most_files=(96, 96)) as server:
        host, port = server.address.rsplit(":", 1)
        connections = [socket.create_connection((host, int(port)), timeout=10) for _ in range(150)]
        until(lambda: "which is the limit" in server.logged() or "descriptor" in server.logged())
        time.sleep(1)
        for connection in connections:
            connection.close()
        assert answered(server)
        assert len(foreign(server)) < 50  # gRPC says it again and again


def test_the_last_words_of_a_process(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SITECUSTOMIZE)
    python_path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with serving(folder, *JSON, PYTHONPATH=python_path) as server:
        (worker,) = server.workers()
        with server.channel() as channel, pytest.raises(grpc.RpcError):
            stub(channel).Explain(fatal("lstm", SEGFAULT), timeout=SECONDS)
        until(lambda: "ended with SIGSEGV" in server.logged())
        until(lambda: any(line["message"].startswith("Fatal Python error: Seg") for line in foreign(server)))
        (first,) = (line for line in foreign(server) if line["message"].startswith("Fatal Python error"))
        assert (first["level"], first["process_id"]) == ("error", worker)


@pytest.mark.parametrize("expected", [JSON, ("--log-format=json",), ()])
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--workers", "none"), "--workers"),
        (("--nonsense",), "nonsense"),
        (("--models", "/nowhere"), "/nowhere is not a folder"),
        (("--listen", "192.0.2.1:1", "--insecure-listen"), "cannot listen on 192.0.2.1:1"),
    ],
)
def test_errors_at_startup(folder: Path, expected: tuple[str, ...], flags: tuple[str, ...], message: str) -> None:
    environment = {**os.environ, **({} if expected else {"LSTM_EXPLAIN_LOG_FORMAT": "json"})}
    arguments = command("serve", "--models", str(folder), "--listen", "127.0.0.1:0", *expected, *flags)
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    assert message in records(done.stderr)[-1]["message"]


def test_an_input_that_loses_digits_is_logged_once(server: Running) -> None:
    dates = np.full((1, 3, 4), 20261129.0)
    with lstm_explain_client.Client(server.address) as client:
        results = [client.explain("lstm", {"x": dates + 2 * day}) for day in range(3)]
    assert not [text for result in results for text in result.warnings if "round" in text]
    lines = [line for line in records(server.logged()) if "float32 rounds" in line["message"]]
    assert [line["level"] for line in lines] == ["warning"]


def test_warnings_and_uncaught_exceptions() -> None:
    """Warnings, uncaught exceptions, also in threads, and printed text."""
    program = """
import sys, threading, warnings
from lstm_explain.serving.observability import logs
with logs.capture_output("info", "json"):
    warnings.warn("beware", stacklevel=1)
    print("printed", file=sys.stderr, flush=True)
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    1 / 0
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=SECONDS, check=False)
    messages = records(done.stderr)
    assert [line["logger"] for line in messages if "beware" in line["message"]] == ["py.warnings"]
    assert [line["message"] for line in messages if line["logger"] == output_capture.LOGGER] == ["printed"]
    assert [line["exception"].splitlines()[-1] for line in messages if "exception" in line] == [
        "ZeroDivisionError: division by zero"
    ] * 2


def test_arbitrary_output_becomes_lines(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+b") as out:
        collected = output_capture.OutputCapture(out.fileno(), JsonFormatter(), logging.INFO)
        reading, writing = os.pipe()
        collected.read(reading, 7)
        os.write(writing, b"\xff\xfe no text\nin two")
        os.write(writing, b" parts\r\n\n   \n" + b"long " * 10_000 + b"\nthe end")
        os.close(writing)
        collected.close()
        out.seek(0)
        first, second, third, last = records(out.read().decode())
    assert first["message"] == r"\xff\xfe no text"
    assert second["message"] == "in two parts"
    assert len(third["message"]) < output_capture.MAX_LINE_BYTES + 100
    assert third["message"].endswith(f"and {50_000 - output_capture.MAX_LINE_BYTES} more bytes")
    assert (last["message"], last["level"], last["process_id"]) == ("the end", "warning", 7)


def test_repeated_lines_are_counted() -> None:
    now = 0.0
    limiter = native_output.LineLimiter(lambda: now)
    line = native_output.parse_line(
        b"E0000 00:00:1764300000.123456   12345 tcp_posix.cc:7] File descriptor limit reached"
    )
    other = native_output.parse_line(
        b"E0000 00:00:1764300001.000000   12345 tcp_posix.cc:7] File descriptor limit reached 2"
    )
    assert [limiter.admits(line if i % 2 else other) for i in range(40)].count(True) == native_output.MAX_LINES
    assert list(limiter.pop_omitted()) == []
    now = native_output.SECONDS
    assert list(limiter.pop_omitted()) == [("tcp_posix.cc:7", 40 - native_output.MAX_LINES)]
    assert limiter.admits(line)
    assert sum(limiter.admits(native_output.parse_line(b"%d" % i)) for i in range(10 * native_output.MAX_KINDS)) < 1010


@pytest.mark.parametrize(
    ("line", "level", "text"),
    [
        ("E0000 00:00:17.1 9 ssl_transport_security.cc:1884] Handshake failed", "info", "Handshake failed"),
        ("E0000 00:00:17.1 9 server_call.cc:12] broken", "error", "broken"),
        ("I0000 00:00:17.1 9 init.cc:12] begun", "info", "begun"),
        ("2026-01-01 00:00:00.1 [W:onnxruntime:, graph.cc:1 Run] odd", "warning", "odd"),
        ("\x1b[0;93m2026-01-01 00:00:00.1 [E:onnxruntime:x, graph.cc:1 Run] bad\x1b[m", "error", "bad"),
        ("free(): invalid next size (fast)", "error", "free(): invalid next size (fast)"),
        ("anything", "warning", "anything"),
    ],
)
def test_levels_of_native_output(line: str, level: str, text: str) -> None:
    found = native_output.parse_line(line.encode())
    assert found.level == level
    assert found.text.endswith(text)


def test_line_ends_in_messages_are_escaped() -> None:
    ends = "a\nb\rc\x0bd\x0ce\x1cf\x85g\u2028h\u2029i\ud800j"
    line = formatter("json").format(logging.LogRecord("x", logging.INFO, "", 0, ends, None, None))
    assert len(line.encode("utf-8", "backslashreplace").decode().splitlines()) == 1
    assert json.loads(line)["message"] == ends


def test_the_log_format_is_known_before_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert requested_format(["--log-format", "json"]) == requested_format(["--log-format=json"]) == "json"
    assert requested_format([]) == requested_format(["--log-format"]) == "text"
    monkeypatch.setenv("LSTM_EXPLAIN_LOG_FORMAT", "json")
    assert requested_format([]) == "json"
    assert requested_format(["--log-format", "text"]) == "text"


def test_an_unread_log_blocks_nothing(folder: Path) -> None:
    """The reader of the pipe has gone, and the parent, to whose pipe the workers write, is stopped."""
    with serving(folder, *JSON, "--log-level", "debug") as server:
        os.kill(server.process.pid, signal.SIGSTOP)
        try:
            for _ in range(3):
                assert answered(server)
        finally:
            os.kill(server.process.pid, signal.SIGCONT)
        assert answered(server)
