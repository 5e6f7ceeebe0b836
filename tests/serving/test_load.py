# SPDX-License-Identifier: Apache-2.0
"""The server under load and at shutdown: limits, deadlines, draining, ports in use, workers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

import lstm_explain as lx
from lstm_explain_proto.lstm_explain.v1 import method_pb2, model_pb2, model_pb2_grpc
from tests.serving.calling import array_of, refusal, request, sequence, stub, tensor
from tests.serving.models import FEATURES, lstm, write_version
from tests.serving.running import Running, command, free_address, serving

HIDDEN = 256


@pytest.fixture(scope="module")
def heavy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("heavy")
    write_version(folder, "lstm", lstm(hidden=HIDDEN))
    return folder


@pytest.fixture(scope="module")
def narrow(heavy_folder: Path) -> Iterator[Running]:
    """A server for one explanation at a time and two requests."""
    with serving(heavy_folder, "--parallel", "1", "--max-concurrent", "2", "--log-format", "json") as server:
        yield server


def heavy(seed: int = 0, time_steps: int = 4000, **fields: Any):
    """A request that takes a large part of a second."""
    return request(inputs=[tensor("x", sequence(8, time_steps, seed, FEATURES))], **fields)


def test_more_requests_than_allowed_are_refused_at_once(narrow: Running, heavy_folder: Path) -> None:
    engine = lx.load(heavy_folder / "lstm" / "1" / "model.onnx")
    with narrow.channel() as channel, ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(stub(channel).Explain, heavy(seed)) for seed in range(8)]
        errors = {seed: call.exception() for seed, call in enumerate(calls)}
    refused = [refusal(error) for error in errors.values() if isinstance(error, grpc.RpcError)]
    answered = [seed for seed, error in errors.items() if error is None]
    assert answered
    assert refused
    assert {status.code for status in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert refused[0].detail(error_details_pb2.RetryInfo).retry_delay.ToNanoseconds() > 0
    for seed in answered[:2]:
        expected = engine.explain({"x": sequence(8, 4000, seed, FEATURES)})
        np.testing.assert_array_equal(array_of(calls[seed].result().relevance[0]), expected.relevance["x"])


def test_lists_are_answered_while_all_slots_are_taken(narrow: Running) -> None:
    with narrow.channel() as channel:
        busy = [stub(channel).Explain.future(heavy(time_steps=8000)) for _ in range(2)]
        listed = model_pb2_grpc.ModelServiceStub(channel).ListModels(model_pb2.ListModelsRequest(), timeout=5)
        assert len(listed.models) == 1
        for call in busy:
            call.exception()


def test_a_request_whose_deadline_passes_in_the_queue_is_never_computed(narrow: Running) -> None:
    with narrow.channel() as channel:
        seconds = method_pb2.Method(integrated_gradients=method_pb2.IntegratedGradients(steps=15, max_steps=1))
        first = stub(channel).Explain.future(heavy(method=seconds))
        time.sleep(0.5)  # until the server works at it
        late = stub(channel).Explain.future(heavy(time_steps=10), timeout=0.2)
        assert late.exception().code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert first.exception() is None
        assert stub(channel).Explain(request(inputs=[tensor("x", sequence())]), timeout=10).model == "lstm"
    dropped = [
        line for line in map(json.loads, narrow.logged().splitlines()) if line.get("code") == "DEADLINE_EXCEEDED"
    ]
    assert dropped
    assert dropped[0]["rpc"] == "Explain"
    assert dropped[0]["request_id"]


def test_sigterm_lets_running_requests_finish(heavy_folder: Path) -> None:
    with serving(heavy_folder) as server, server.channel() as channel:
        stub(channel).Explain(request(inputs=[tensor("x", sequence())]))
        calls = [stub(channel).Explain.future(heavy(seed)) for seed in range(4)]
        time.sleep(0.2)
        assert server.stop() == 0
        assert [call.exception() for call in calls] == [None] * 4
        with pytest.raises(grpc.RpcError) as raised:
            stub(channel).Explain(request(), timeout=5)
        assert raised.value.code() == grpc.StatusCode.UNAVAILABLE


def test_requests_beyond_the_grace_period_are_cancelled(heavy_folder: Path) -> None:
    with serving(heavy_folder, "--grace-period", "0.3") as server, server.channel() as channel:
        stub(channel).Explain(request(inputs=[tensor("x", sequence())]))
        minutes = method_pb2.Method(integrated_gradients=method_pb2.IntegratedGradients(steps=1000))
        endless = stub(channel).Explain.future(heavy(method=minutes))
        time.sleep(0.3)
        start = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - start < 6  # of minutes
        assert endless.exception().code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)


def test_a_port_in_use_is_reported_in_one_line(heavy_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for flag, other in (("--listen", []), ("--metrics-listen", ["--listen", "127.0.0.1:0"])):
            arguments = command("serve", "--models", str(heavy_folder), flag, address, *other)
            done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
            assert (done.returncode, done.stdout) == (1, "")
            assert f"cannot listen on {address}" in done.stderr.splitlines()[-1]
            assert "Traceback" not in done.stderr


def test_settings_come_from_the_environment_and_metrics_are_counted(heavy_folder: Path) -> None:
    """A misspelt variable is reported once, by the parent of two workers."""
    address = free_address()
    variables = {
        "LSTM_EXPLAIN_METRICS_LISTEN": address,
        "LSTM_EXPLAIN_WORKERS": "2",
        "LSTM_EXPLAIN_MAX_BACH": "7",
    }
    with serving(heavy_folder, **variables) as server, server.channel() as channel:
        (message,) = (line for line in server.logged().splitlines() if "WARNING" in line)
        assert message.endswith("LSTM_EXPLAIN_MAX_BACH is not a setting")
        assert len(server.workers()) == 2
        stub(channel).Explain(request(inputs=[tensor("x", sequence())]))
        with pytest.raises(grpc.RpcError):
            stub(channel).Explain(request("nothing"))
        text = urllib.request.urlopen(f"http://{address}/metrics", timeout=5).read().decode()
    assert 'lstm_explain_calls_total{code="OK",rpc="Explain"} 1.0' in text
    assert 'lstm_explain_calls_total{code="NOT_FOUND",rpc="Explain"} 1.0' in text
    assert 'lstm_explain_models{state="ready"} 1.0' in text


def test_sixteen_callers_get_their_own_answers(running: Running, models_folder: Path) -> None:
    engine = lx.load(models_folder / "lstm" / "2" / "model.onnx")
    wrong: list[int] = []

    def caller(number: int) -> None:
        with running.channel() as channel:
            for i in range(10):
                seed = number * 10 + i
                x = sequence(1 + seed % 3, 3 + seed % 11, seed)
                response = stub(channel).Explain(request(inputs=[tensor("x", x)]), timeout=30)
                if not np.array_equal(array_of(response.relevance[0]), engine.explain({"x": x}).relevance["x"]):
                    wrong.append(seed)

    threads = [threading.Thread(target=caller, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_worker_that_dies_is_replaced_while_the_other_serves(heavy_folder: Path) -> None:
    metrics = free_address()
    with serving(heavy_folder, "--workers", "2", "--metrics-listen", metrics) as server:
        first = server.workers()
        assert len(first) == 2
        os.kill(first[0], signal.SIGKILL)
        for seed in range(20):
            with server.channel() as channel:
                answer = stub(channel).Explain(
                    request(inputs=[tensor("x", sequence(seed=seed))]), timeout=20, wait_for_ready=True
                )
                assert answer.model == "lstm"
        end = time.monotonic() + 30
        while len(server.workers()) < 2 and time.monotonic() < end:
            time.sleep(0.1)
        assert len(set(server.workers()) - set(first)) == 1
        assert "lstm_explain_workers_replaced_total 1.0" in urllib.request.urlopen(f"http://{metrics}/").read().decode()
        assert server.stop() == 0
        assert server.family()[1:] == []


def test_workers_do_not_outlive_their_server(heavy_folder: Path) -> None:
    with serving(heavy_folder, "--workers", "2") as server:
        workers = server.family()[1:]
        server.process.kill()
        server.process.wait()
        end = time.monotonic() + 20
        while any(Path(f"/proc/{worker}").exists() for worker in workers) and time.monotonic() < end:
            time.sleep(0.1)
        assert [worker for worker in workers if Path(f"/proc/{worker}").exists()] == []


def test_workers_that_cannot_start_are_reported(heavy_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        arguments = command("serve", "--models", str(heavy_folder), "--workers", "2", "--listen", address)
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"cannot listen on {address}" in done.stderr.splitlines()[-1]


def test_health_bypasses_the_queue_of_calls(running: Running) -> None:
    """Calls wait in a queue, but health checks are answered before them."""
    with running.channel() as crowd, running.channel() as prober:
        ask = health_pb2_grpc.HealthStub(prober).Check
        ask(health_pb2.HealthCheckRequest(), timeout=20)  # the connection is there then
        calls = [stub(crowd).Explain.future(request(), timeout=60) for _ in range(400)]
        ask(health_pb2.HealthCheckRequest(), timeout=20)
        waiting = sum(not call.done() for call in calls)
        assert {call.result().model for call in calls} == {"lstm"}
    assert waiting > 100
