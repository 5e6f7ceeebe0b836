# SPDX-License-Identifier: Apache-2.0
"""Memory of a request is freed: at once if it fails, and soon returned to the system."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from lstm_explain.memory_budget import bytes_when_idle
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2 as pb
from lstm_explain_proto.lstm_explain.v1 import method_pb2
from tests.hostile import sized_by_input
from tests.memory_models import attention
from tests.serving.calling import request, stub, tensor
from tests.serving.models import write_version
from tests.serving.running import Running, free_address, serving, tries_models
from tests.serving.test_workers import METRICS, spare_is_there, until

MIB = 1 << 20
MODELS = Path(__file__).parents[2] / "models"
HALF = method_pb2.Method(lrp=method_pb2.Lrp(product_rule=method_pb2.PRODUCT_RULE_HALF, epsilon=1e-3))


@pytest.fixture
def server() -> Iterator[Running]:
    with serving(MODELS, "--no-spare", "--max-request-bytes-estimate", str(8 << 30)) as server:
        outcome(server, weather(2, 20, HALF))  # compiles what is compiled on first use
        yield server


def weather(batch: int, steps: int, method: method_pb2.Method) -> pb.ExplainRequest:
    x = np.random.default_rng(0).standard_normal((batch, steps, 5)).astype(np.float32)
    return request("discharge", inputs=[tensor("weather", x)], method=method)


def outcome(server: Running, message: pb.ExplainRequest, timeout: float = 120) -> grpc.StatusCode:
    with server.channel() as channel:
        try:
            stub(channel).Explain(message, timeout=timeout)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def settled(server: Running, most: int, seconds: float = 60) -> int:
    """Waits until resident memory is at most `most`, and returns it."""
    end = time.monotonic() + seconds
    while (now := server.resident()) > most and time.monotonic() < end:
        time.sleep(0.2)
    return now


def test_a_failed_explanation_frees_its_memory(server: Running) -> None:
    """It takes about 800 MiB, and fails at the end since relevance overflows. The kernels keep at most 256 MiB."""
    before = server.resident()
    for _ in range(3):
        assert outcome(server, weather(100, 1000, HALF)) == grpc.StatusCode.INVALID_ARGUMENT
        assert settled(server, before + 400 * MIB, seconds=1) < before + 400 * MIB


def test_memory_of_a_heavy_request_is_returned_to_the_system(server: Running) -> None:
    before = server.resident()
    assert outcome(server, weather(200, 1000, method_pb2.Method(lrp=method_pb2.Lrp()))) == grpc.StatusCode.OK
    assert settled(server, before + 60 * MIB) < before + 60 * MIB


def test_an_idle_server_takes_what_the_memory_budget_reserves() -> None:
    """Not more, and not so much less that requests get too little."""
    with serving(MODELS, "--spare", "--metrics-listen", where := free_address()) as server:
        METRICS[server.address] = where
        until(lambda: spare_is_there(server))
        for process in filter(tries_models, server.family()):
            os.kill(process, signal.SIGKILL)  # it shares memory with a worker; idle, it would end soon
        until(lambda: not any(map(tries_models, server.family())))
        taken = sum(map(proportional, server.family()))
        assert taken < bytes_when_idle(1) < 2.4 * taken


def proportional(process: int) -> int:
    """Proportional bytes: shared memory is divided among the processes; 0 for a process that has ended."""
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0
    return int(text.partition("\nPss:")[2].split()[0]) << 10


def test_memory_that_depends_on_values_is_returned_too(tmp_path: Path) -> None:
    """A value in the request determines the size of an array, which no estimate predicts."""
    write_version(tmp_path, "sized", sized_by_input("Expand", ["x", "n"]))
    lrp = method_pb2.Method(lrp=method_pb2.Lrp(product_rule=method_pb2.PRODUCT_RULE_ALL))

    def sized(elements: int) -> pb.ExplainRequest:
        inputs = [tensor("x", np.ones(1, np.float32)), tensor("n", np.array([elements]))]
        return request("sized", inputs=inputs, method=lrp)

    with serving(tmp_path, "--no-spare", "--max-request-bytes-estimate", str(2 << 30)) as server:
        assert outcome(server, sized(4)) == grpc.StatusCode.OK
        before = server.resident()
        assert outcome(server, sized(100 << 20)) == grpc.StatusCode.OK
        assert settled(server, before + 60 * MIB) < before + 60 * MIB
        with server.channel() as channel, pytest.raises(grpc.RpcError, match="bytes of memory") as error:
            stub(channel).Explain(sized(150 << 20), timeout=120)
        assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_a_request_beyond_the_memory_limit_is_refused_in_advance(tmp_path: Path) -> None:
    """Self-attention over 14,000 steps: the message has 218 KiB, the scores alone take 784 MB."""
    write_version(tmp_path, "attention", attention(width=4))
    with (
        serving(tmp_path, "--no-spare", "--max-request-bytes-estimate", str(500 * MIB)) as server,
        server.channel() as channel,
    ):
        for method in (
            method_pb2.Method(lrp=method_pb2.Lrp()),
            HALF,
            method_pb2.Method(gradient=method_pb2.Gradient()),
        ):
            outcome(server, request("attention", inputs=[tensor("x", np.zeros((1, 20, 4), np.float32))], method=method))
            before, most = server.resident(), 0
            x = np.random.default_rng(0).standard_normal((1, 14_000, 4)).astype(np.float32)
            call = stub(channel).Explain.future(
                request("attention", inputs=[tensor("x", x)], method=method), timeout=120
            )
            while not call.done():
                most = max(most, server.resident())
                time.sleep(0.01)
            assert call.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert "bytes of memory" in call.details()
            assert most < before + 100 * MIB
