# SPDX-License-Identifier: Apache-2.0
"""Metrics, request ids, traces, retries and draining, as an operations team uses them."""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc
import pytest

import lstm_explain_client
from lstm_explain import __version__
from lstm_explain.serving.server import WARM_UP_WORDS
from lstm_explain_client.connection import PUBLISHED
from lstm_explain_proto.inference import grpc_service_pb2_grpc
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2 as pb
from lstm_explain_proto.lstm_explain.v1 import method_pb2, model_pb2, model_pb2_grpc
from tests.serving.calling import infer, request, sequence, stub, tensor
from tests.serving.models import FEATURES, lstm, write_version
from tests.serving.running import Running, free_address, metrics, serving
from tests.serving.web import EXPLAIN, ask, explanation

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
OVER_HTTP = "5cf92f3577b34da6a3ce929d0e0e4737"
PARENT = "00f067aa0ba902b7"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_version(folder, "lstm", lstm())
    write_version(folder, "heavy", lstm(hidden=64))
    return folder


def test_every_part_of_a_call_is_measured(folder: Path) -> None:
    """The metrics are sums over the workers."""
    address = free_address()
    with serving(folder, "--metrics-listen", address, "--workers", "2") as server, server.channel() as channel:
        for _ in range(3):
            stub(channel).Explain(request(), timeout=20)
        items = [pb.ExplainStreamRequest(id=str(i), request=request("lstm" if i else "none")) for i in range(3)]
        list(stub(channel).ExplainStream(iter(items), timeout=20))
        expected = [infer(), infer("none")]
        list(grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(iter(expected), timeout=20))
        with pytest.raises(grpc.RpcError):
            stub(channel).Explain(request("none"), timeout=20)
        found = metrics(address)
    for part in ("queue", "forward", "backward", "encode"):
        assert found[f"lstm_explain_{part}_seconds_count"] == 6
        assert 0 <= found[f"lstm_explain_{part}_seconds_sum"] < 5
    assert found['lstm_explain_calls_total{code="OK",rpc="Explain"}'] == 3
    assert found['lstm_explain_calls_total{code="NOT_FOUND",rpc="Explain"}'] == 1
    assert found['lstm_explain_stream_items_total{code="OK",rpc="ExplainStream"}'] == 2
    assert found['lstm_explain_stream_items_total{code="NOT_FOUND",rpc="ExplainStream"}'] == 1
    assert found['lstm_explain_stream_items_total{code="OK",rpc="ModelStreamInfer"}'] == 1
    assert found['lstm_explain_stream_items_total{code="NOT_FOUND",rpc="ModelStreamInfer"}'] == 1
    assert found['lstm_explain_call_seconds_count{rpc="Explain"}'] == 4
    assert found["lstm_explain_batch_size_sum"] == 2 * 6
    assert found['lstm_explain_residual_bucket{le="0.0001",method="lrp"}'] == 6
    assert found['lstm_explain_models{state="ready"}'] == 2
    (build,) = (name for name in found if name.startswith("lstm_explain_build_info"))
    assert f'version="{__version__}"' in build
    assert f'onnxruntime="{version("onnxruntime")}"' in build
    assert found["lstm_explain_resident_bytes"] > 60e6
    assert 5 < found["lstm_explain_open_files"] < found["process_max_fds"]
    assert found["lstm_explain_workers_replaced_total"] == 0
    assert found["process_start_time_seconds"] > time.time() - 120


@pytest.fixture(scope="module")
def talkative(folder: Path) -> Iterator[Running]:
    with serving(folder, "--log-format", "json", "--log-level", "debug") as server:
        yield server


def test_every_model_is_warmed_up(talkative: Running) -> None:
    """Otherwise the first caller would wait for one-time work. Warm-up uses each length of text."""
    reported = re.findall(r"model (\S+): warmed up with [1-9]\d* requests", talkative.logged())
    with talkative.channel() as channel:
        listed = model_pb2_grpc.ModelServiceStub(channel).ListModels(model_pb2.ListModelsRequest(), timeout=30)
    ready = {m.name for m in listed.models if m.state == model_pb2.MODEL_STATE_READY}
    assert ready
    assert Counter(reported) == {name: len(WARM_UP_WORDS) for name in ready}


def test_a_request_id_is_returned_and_logged(talkative: Running) -> None:
    with talkative.channel() as channel:
        for sent, expected in (("order-7:a.b_c", "order-7:a.b_c"), ("two words", None), ("x" * 65, None), ('"}', None)):
            _, call = stub(channel).Explain.with_call(request(), metadata=(("x-request-id", sent),), timeout=20)
            (got,) = (value for key, value in call.trailing_metadata() if key == "x-request-id")
            assert got == expected if expected else re.fullmatch("[0-9a-f]{32}", got)
            lines = [json.loads(line) for line in talkative.logged().splitlines()]
            assert any(line.get("request_id") == got and line["rpc"] == "Explain" for line in lines)


class _Collector:
    """An OTLP collector on a real port."""

    def __init__(self) -> None:
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

        self.spans: list[Any] = []
        collector = self

        class Servicer(trace_service_pb2_grpc.TraceServiceServicer):
            def Export(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
                for resource in request.resource_spans:
                    collector.service = resource.resource.attributes
                    collector.spans += [span for scope in resource.scope_spans for span in scope.spans]
                return trace_service_pb2.ExportTraceServiceResponse()

        self.service: Any = ()
        self.server = grpc.server(ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Servicer(), self.server)
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()


@pytest.fixture
def collector() -> Iterator[_Collector]:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.grpc")
    collector = _Collector()
    yield collector
    collector.server.stop(0)


def test_traces_carry_the_callers_context(folder: Path, collector: _Collector) -> None:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.port}"}
    flags = ("--traces", "--log-format", "json", "--web", "127.0.0.1:0")
    with serving(folder, *flags, **environment) as server, server.channel() as channel:
        ask(server.page(), EXPLAIN, explanation(request()), {"traceparent": f"00-{OVER_HTTP}-{PARENT}-01"})
        metadata = (("traceparent", f"00-{TRACE}-{PARENT}-01"), ("x-request-id", "mine"))
        stub(channel).Explain(request(), metadata=metadata, timeout=20)
        items = [pb.ExplainStreamRequest(id=str(i), request=request()) for i in range(2)]
        list(stub(channel).ExplainStream(iter(items), timeout=20))
        both = iter([infer(), infer("none")])
        list(grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(both, timeout=20))
        with pytest.raises(grpc.RpcError):
            stub(channel).Explain(request("none"), metadata=metadata, timeout=20)
        assert server.stop() == 0
        assert TRACE in server.logged()
    assert [
        s.parent_span_id.hex() for s in collector.spans if s.trace_id.hex() == OVER_HTTP and s.name == "Explain"
    ] == [PARENT]
    mine = [span for span in collector.spans if span.trace_id.hex() == TRACE]
    good, bad = sorted((s for s in mine if s.name == "Explain"), key=lambda s: s.start_time_unix_nano)
    assert good.parent_span_id.hex() == bad.parent_span_id.hex() == PARENT
    children = [s for s in mine if s.parent_span_id == good.span_id]
    assert [s.name for s in sorted(children, key=lambda s: s.start_time_unix_nano)] == [
        "queue",
        "forward",
        "backward",
        "encode",
    ]
    for child in children:
        assert good.start_time_unix_nano <= child.start_time_unix_nano <= child.end_time_unix_nano
        assert child.end_time_unix_nano <= good.end_time_unix_nano
    attributes = {a.key: a.value.string_value for a in good.attributes}
    assert (attributes["model"], attributes["method"], attributes["request_id"]) == ("lstm/1", "lrp", "mine")
    assert bad.status.code == 2  # STATUS_CODE_ERROR
    (stream,) = (s for s in collector.spans if s.name == "ExplainStream")
    parts = [s for s in collector.spans if s.name == "item" and s.parent_span_id == stream.span_id]
    assert len(parts) == 2
    (stream,) = (s for s in collector.spans if s.name == "ModelStreamInfer")
    ended = [s.status.code for s in collector.spans if s.name == "item" and s.parent_span_id == stream.span_id]
    assert sorted(ended) == [0, 2]
    assert all(any(s.parent_span_id == item.span_id and s.name == "forward" for s in collector.spans) for item in parts)
    assert [a.value.string_value for a in collector.service if a.key == "service.name"] == ["lstm-explain"]


def steady(server: Running, clients: int, options: list[tuple[str, Any]], stop: threading.Event) -> list[list[Any]]:
    """Clients that call repeatedly until `stop`; returns the outcome of each call."""
    results: list[list[Any]] = [[] for _ in range(clients)]

    def caller(number: int) -> None:
        x = sequence(2, 20, number, FEATURES)
        with grpc.insecure_channel(
            server.address, options=[*options, ("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            while not stop.is_set():
                try:
                    answer = stub(channel).Explain(request(inputs=[tensor("x", x)]), timeout=30)
                    results[number].append(answer.relevance[0].data)
                except grpc.RpcError as error:
                    results[number].append(error)
                    if error.code() == grpc.StatusCode.UNAVAILABLE:
                        time.sleep(0.01)

    threads = [threading.Thread(target=caller, args=(number,), daemon=True) for number in range(clients)]
    for thread in threads:
        thread.start()
    steady.threads = threads  # type: ignore[attr-defined]
    return results


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_under_load_loses_no_accepted_call(folder: Path, workers: str) -> None:
    """Refused calls have never begun: they carry no request id, and have a code that allows a retry.

    CANCELLED is gRPC's own word for calls that came as it shut down (grpc/grpc issue 41785).
    """
    stop = threading.Event()
    flags = ("--log-format", "json", "--log-level", "debug", "--workers", workers)
    with serving(folder, *flags) as server:
        results = steady(server, 16, [("grpc.enable_retries", 0)], stop)
        time.sleep(1.5)
        assert server.stop() == 0
        time.sleep(0.3)
        stop.set()
        for thread in steady.threads:  # type: ignore[attr-defined]
            thread.join()
        lines = [json.loads(line) for line in server.logged().splitlines()]
    answered = sum(isinstance(r, bytes) for client in results for r in client)
    errors = [r for client in results for r in client if not isinstance(r, bytes)]
    assert answered > 50
    assert {error.code() for error in errors} <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert not any("x-request-id" in dict(error.trailing_metadata() or ()) for error in errors)
    calls = [line for line in lines if line.get("rpc") == "Explain"]
    assert {line["code"] for line in calls} == {"OK"}
    assert len(calls) == answered  # whatever the server worked on reached its caller


def test_sigterm_is_handled_in_any_thread(folder: Path) -> None:
    """The kernel may deliver it to any thread while the main one sleeps."""
    with serving(folder, "--metrics-listen", "127.0.0.1:0") as server:
        main = server.process.pid
        others = [int(task.name) for task in Path(f"/proc/{main}/task").iterdir() if task.name != str(main)]
        assert ctypes.CDLL(None).tgkill(main, others[0], signal.SIGTERM) == 0
        assert server.process.wait(timeout=20) == 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_clients_with_the_published_config_do_not_notice_a_workers_end(folder: Path, how: signal.Signals) -> None:
    stop = threading.Event()
    options = [("grpc.service_config", json.dumps(PUBLISHED)), ("grpc.enable_retries", 1)]
    with serving(folder, "--workers", "2") as server:
        results = steady(server, 8, options, stop)
        for _ in range(3):
            time.sleep(1)
            workers = server.workers()
            os.kill(workers[0], how)
            end = time.monotonic() + 60
            while not _both_serve(server, set(workers)) and time.monotonic() < end:
                time.sleep(0.2)
        time.sleep(1)
        stop.set()
        for thread in steady.threads:  # type: ignore[attr-defined]
            thread.join()
    for client in results:
        assert [r for r in client if not isinstance(r, bytes)] == []
        assert len(client) > 20
        assert len(set(client)) == 1  # each the right answer, the same every time


def _both_serve(server: Running, others: set[int]) -> bool:
    """Whether two workers serve, one of them new."""
    workers = server.workers()
    return len(workers) == 2 and bool(set(workers) - others)


def test_the_python_client_reads_the_published_config() -> None:
    source = Path(__file__).resolve().parents[2] / "proto" / "lstm_explain" / "v1" / "service_config.json"
    assert json.loads(source.read_text()) == PUBLISHED
    assert json.loads(lstm_explain_client.Retry().service_config()) == PUBLISHED


def test_calls_are_accepted_during_the_drain_delay(folder: Path) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with serving(folder, "--drain-delay", "1.5") as server, server.channel() as channel:
        stub(channel).Explain(request(), timeout=20)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert health.status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert stub(channel).Explain(request(), timeout=5).model == "lstm"
        assert server.process.wait(timeout=20) == 0


def test_an_old_connection_is_replaced_without_loss(folder: Path) -> None:
    stop = threading.Event()
    with serving(folder, "--max-connection-age", "0.5") as server:  # a call may cross the goodbye on its way
        results = steady(server, 4, [("grpc.service_config", json.dumps(PUBLISHED))], stop)
        time.sleep(3)
        stop.set()
        for thread in steady.threads:  # type: ignore[attr-defined]
            thread.join()
    assert [r for client in results for r in client if not isinstance(r, bytes)] == []


def test_heavy_work_does_not_delay_health(folder: Path) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    method = method_pb2.Method(shapley_sampling=method_pb2.ShapleySampling(permutations=20))
    x = tensor("x", sequence(1, 400, features=FEATURES))
    with serving(folder, "--parallel", "2") as server, server.channel() as channel:
        busy = [stub(channel).Explain.future(request("heavy", inputs=[x], method=method)) for _ in range(6)]
        slowest = 0.0
        for _ in range(10):
            start = time.monotonic()
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
            slowest = max(slowest, time.monotonic() - start)
        for call in busy:
            call.cancel()
    assert slowest < 1
