# SPDX-License-Identifier: Apache-2.0
"""Workers that crash, stop or hang, as their callers see them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lstm_explain.serving.errors import DOMAIN
from lstm_explain_client.connection import PUBLISHED
from lstm_explain_proto.inference import grpc_service_pb2, grpc_service_pb2_grpc
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2 as pb
from lstm_explain_proto.lstm_explain.v1 import method_pb2, model_pb2, model_pb2_grpc
from tests.serving.calling import refusal, request, sequence, stub, tensor
from tests.serving.crashing import OUT, SEGFAULT, SITECUSTOMIZE, STANDSTILL, fatal
from tests.serving.models import FEATURES, lstm, write_version
from tests.serving.running import Running, command, free_address, metrics, serving

RETRIES: list[tuple[str, Any]] = [
    ("grpc.service_config", json.dumps(PUBLISHED)),
    ("grpc.enable_retries", 1),
    ("grpc.use_local_subchannel_pool", 1),
]
SECONDS = 90


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_version(folder, "good", lstm(1))
    write_version(folder, "other", lstm(2))
    write_version(folder, "bad", lstm(3))
    return folder


@pytest.fixture
def crashing(tmp_path: Path) -> dict[str, str]:
    """The environment of a server whose workers can be made to crash."""
    (tmp_path / "sitecustomize.py").write_text(SITECUSTOMIZE)
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)


class Calls:
    """Callers with the published retry policy, which call repeatedly until they are stopped."""

    def __init__(self, server: Running, count: int, model: str = "good") -> None:
        self._address, self._model = server.address, model
        self._stop = threading.Event()
        self.results: list[list[bytes | grpc.RpcError]] = [[] for _ in range(count)]
        self._threads = [threading.Thread(target=self._call, args=(results,)) for results in self.results]
        for thread in self._threads:
            thread.start()

    def _call(self, results: list[bytes | grpc.RpcError]) -> None:
        message = request(self._model, inputs=[tensor("x", sequence(1, 20, features=FEATURES))])
        with grpc.insecure_channel(self._address, options=RETRIES) as channel:
            while not self._stop.is_set():
                try:
                    results.append(stub(channel).Explain(message, timeout=SECONDS).relevance[0].data)
                except grpc.RpcError as error:
                    results.append(error)

    def wait_for_more(self) -> None:
        """Waits until every caller has had three more answers."""
        before = list(map(len, self.results))
        until(lambda: all(len(now) >= then + 3 for now, then in zip(self.results, before, strict=True)))

    def stop(self) -> None:
        """Stops the callers, and checks that every answer was right."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        assert [r for results in self.results for r in results if not isinstance(r, bytes)] == []
        assert len({r for results in self.results for r in results}) == 1


@contextmanager
def calling(server: Running, count: int = 8, model: str = "good") -> Iterator[Calls]:
    calls = Calls(server, count, model)
    try:
        calls.wait_for_more()
        yield calls
        calls.wait_for_more()
    finally:
        calls.stop()


def spare_is_there(server: Running) -> bool:
    return metric(server, "lstm_explain_workers_spare") == 1


def metric(server: Running, name: str) -> float:
    return metrics(METRICS[server.address])[name]


METRICS: dict[str, str] = {}


@contextmanager
def guarded(folder: Path, *flags: str, **environment: str) -> Iterator[Running]:
    """A server whose spare worker is ready too."""
    address = free_address()
    with serving(folder, "--spare", "--metrics-listen", address, *flags, **environment) as server:
        METRICS[server.address] = address
        until(lambda: spare_is_there(server))
        yield server


def explain(server: Running, message: pb.ExplainRequest, timeout: float = SECONDS) -> Any:
    with grpc.insecure_channel(server.address, options=RETRIES) as channel:
        return stub(channel).Explain(message, timeout=timeout)


def refused(server: Running, message: pb.ExplainRequest) -> Any:
    with pytest.raises(grpc.RpcError) as raised:
        explain(server, message)
    return refusal(raised.value)


def listed(server: Running) -> dict[str, model_pb2.ModelSummary]:
    with server.channel() as channel:
        models = model_pb2_grpc.ModelServiceStub(channel).ListModels(model_pb2.ListModelsRequest(), timeout=20).models
    return {model.name: model for model in models}


@pytest.mark.parametrize("how", [signal.SIGSEGV, signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM])
def test_callers_do_not_notice_the_end_of_the_only_worker(folder: Path, how: signal.Signals) -> None:
    with guarded(folder, "--worker-patience", "3") as server:
        (first,) = server.workers()
        with calling(server):
            os.kill(first, how)
            until(lambda: len(server.workers()) == 1 and first not in server.workers())
        until(lambda: spare_is_there(server))
        assert metric(server, "lstm_explain_workers_replaced_total") == 1
        assert metric(server, "lstm_explain_models_quarantined") == 0
        assert server.stop() == 0


def test_a_manual_kill_blames_no_model(folder: Path) -> None:
    with guarded(folder) as server, calling(server):
        for _ in range(3):
            (worker,) = server.workers()
            os.kill(worker, signal.SIGKILL)
            until(lambda: len(server.workers()) == 1 and server.workers() != [worker] and spare_is_there(server))  # noqa: B023
        assert "was running when a worker crashed" not in server.logged()


def test_open_streams_end_with_unavailable(folder: Path) -> None:
    with guarded(folder) as server, server.channel() as channel:
        going = threading.Event()

        def items() -> Iterator[pb.ExplainStreamRequest]:
            yield pb.ExplainStreamRequest(id="1", request=request("good"))
            going.wait(SECONDS)

        answers = stub(channel).ExplainStream(items(), timeout=SECONDS)
        assert next(answers).id == "1"
        os.kill(server.workers()[0], signal.SIGSEGV)
        with pytest.raises(grpc.RpcError) as raised:
            next(answers)
        going.set()
        assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
        assert explain(server, request("good")).model == "good"


@pytest.mark.parametrize("how", [SEGFAULT, OUT, STANDSTILL])
def test_a_model_that_crashes_two_workers_is_quarantined(folder: Path, crashing: dict[str, str], how: float) -> None:
    """Its callers get an error; those of other models notice nothing, although the call is retried."""
    with guarded(folder, "--worker-patience", "3", **crashing) as server:
        with calling(server, 4):
            failure = refused(server, fatal("bad", how))
            assert failure.code == grpc.StatusCode.FAILED_PRECONDITION
            assert failure.message.startswith("model 'bad' version 1 is in quarantine: 2 worker processes crashed")
            info = failure.detail(error_details_pb2.ErrorInfo)
            assert (info.domain, info.reason) == (DOMAIN, "MODEL_QUARANTINED")
        assert refused(server, request("bad")).code == grpc.StatusCode.FAILED_PRECONDITION  # whatever is asked of it
        until(lambda: listed(server)["bad"].state == model_pb2.MODEL_STATE_FAILED)
        assert listed(server)["bad"].reason.startswith("in quarantine")
        assert {listed(server)[name].state for name in ("good", "other")} == {model_pb2.MODEL_STATE_READY}
        with server.channel() as channel:
            requested = health_pb2.HealthCheckRequest(service="model/bad")
            health = health_pb2_grpc.HealthStub(channel).Check(requested, timeout=20)
            assert health.status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert metric(server, "lstm_explain_models_quarantined") == 1
        assert metric(server, "lstm_explain_workers_replaced_total") == 2


def test_quarantine_ends_when_a_caller_loads_the_model_or_its_files_change(
    tmp_path: Path, crashing: dict[str, str]
) -> None:
    folder = tmp_path / "models"
    write_version(folder, "good", lstm(1))
    write_version(folder, "bad", lstm(3))
    with guarded(folder, "--workers", "2", "--poll-seconds", "0.2", **crashing) as server:

        def is_served() -> bool:
            """Eight times in a row: a worker that has just started learns a moment later what is out of quarantine."""
            try:
                return all(explain(server, request("bad")).model == "bad" for _ in range(8))
            except grpc.RpcError:
                return False

        refused(server, fatal("bad", SEGFAULT))
        until(lambda: len(server.workers()) == 2)
        with server.channel() as channel:
            inference = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
            inference.RepositoryModelLoad(grpc_service_pb2.RepositoryModelLoadRequest(model_name="bad"), timeout=60)
        until(lambda: metric(server, "lstm_explain_models_quarantined") == 0)
        until(is_served)
        until(lambda: spare_is_there(server))
        assert refused(server, fatal("bad", SEGFAULT)).message.startswith("model 'bad' version 1 is in quarantine")
        (folder / "bad" / "1" / "model.onnx").write_bytes(lstm(4).SerializeToString())
        until(lambda: metric(server, "lstm_explain_models_quarantined") == 0)
        until(is_served)


def test_a_model_that_ran_at_the_same_time_is_cleared(folder: Path, crashing: dict[str, str]) -> None:
    """Both run when the first worker crashes; after that they run in turns."""
    with guarded(folder, "--parallel", "4", **crashing) as server:
        method = method_pb2.Method(shapley_sampling=method_pb2.ShapleySampling(permutations=100))
        x = tensor("x", sequence(1, 60, features=FEATURES))
        with grpc.insecure_channel(server.address, options=RETRIES) as channel:
            long = stub(channel).Explain.future(request("other", inputs=[x], method=method), timeout=SECONDS)
            until(lambda: metric(server, "lstm_explain_calls_at_work") == 1)
            assert refused(server, fatal("bad", SEGFAULT)).code == grpc.StatusCode.FAILED_PRECONDITION
            assert long.result().model == "other"
        assert "model other version 1 was running when a worker crashed" in server.logged()
        assert metric(server, "lstm_explain_models_quarantined") == 1
        assert explain(server, request("other")).model == "other"


def test_a_worker_is_replaced_without_a_spare(folder: Path, crashing: dict[str, str]) -> None:
    with serving(folder, "--no-spare", **crashing) as server:
        (worker,) = server.workers()
        with pytest.raises(grpc.RpcError), server.channel() as channel:
            stub(channel).Explain(fatal("bad", SEGFAULT), timeout=SECONDS)
        with server.channel() as channel:
            assert stub(channel).Explain(request("good"), timeout=SECONDS, wait_for_ready=True).model == "good"
        assert server.workers() != [worker]


def test_sigterm_works_while_a_worker_is_stopped(folder: Path, crashing: dict[str, str]) -> None:
    """Long before the missing heartbeat would be noticed, and within the grace period."""
    address = free_address()
    flags = ("--grace-period", "1", "--worker-patience", "600", "--metrics-listen", address)
    with serving(folder, *flags, **crashing) as server:
        with server.channel() as channel:
            call = stub(channel).Explain.future(fatal("bad", STANDSTILL), timeout=SECONDS)
            until(lambda: metrics(address)["lstm_explain_calls_at_work"] == 1)
            family = server.family()
            assert server.stop() == 0  # waits for half a minute at most
            with pytest.raises(grpc.RpcError):
                call.result()
        until(lambda: not any(Path(f"/proc/{process}").exists() for process in family))


def test_workers_end_with_their_parent_even_if_stopped(folder: Path, crashing: dict[str, str]) -> None:
    with guarded(folder, **crashing) as server, server.channel() as channel:
        call = stub(channel).Explain.future(fatal("bad", STANDSTILL), timeout=SECONDS)
        until(lambda: metric(server, "lstm_explain_calls_at_work") == 1)
        family = server.family()
        assert len(family) >= 3
        server.process.kill()
        server.process.wait()
        until(lambda: not any(Path(f"/proc/{process}").exists() for process in family))
        call.cancel()


def test_the_parent_imports_neither_the_engine_nor_grpc(folder: Path) -> None:
    with serving(folder) as server:
        mapped = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "python" in mapped
    for library in ("cygrpc", "onnxruntime", "numpy", "numba", "llvmlite", "google/_upb"):
        assert library not in mapped


def test_a_port_is_shared_with_another_server_only_if_both_want_it(folder: Path) -> None:
    with serving(folder) as server:
        arguments = command("serve", "--models", str(folder), "--listen", server.address)
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1
        assert f"cannot listen on {server.address}" in done.stderr
    with serving(folder, "--reuse-port") as first, serving(folder, "--reuse-port", "--listen", first.address) as second:
        assert second.address == first.address
