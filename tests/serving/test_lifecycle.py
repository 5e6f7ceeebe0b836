# SPDX-License-Identifier: Apache-2.0
"""Models are loaded, unloaded and changed while the server answers."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import lstm_explain as lx
from lstm_explain.repository.served_model import memory_of
from lstm_explain_client import Client
from lstm_explain_proto.inference import grpc_service_pb2 as pb
from lstm_explain_proto.inference import grpc_service_pb2_grpc
from lstm_explain_proto.lstm_explain.v1 import model_pb2, model_pb2_grpc
from tests.serving.calling import array_of, refusal, request, sequence, stub, tensor
from tests.serving.models import lstm, write_version
from tests.serving.running import Running, serving

READY, FAILED, UNLOADED = (
    model_pb2.MODEL_STATE_READY,
    model_pb2.MODEL_STATE_FAILED,
    model_pb2.MODEL_STATE_UNLOADED,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return with_two_models(tmp_path)


def with_two_models(folder: Path) -> Path:
    write_version(folder, "a", lstm(0))
    write_version(folder, "b", lstm(1))
    return folder


@pytest.fixture
def server(folder: Path) -> Iterator[Running]:
    with serving(folder) as server:
        yield server


@pytest.fixture
def channel(server: Running) -> Iterator[grpc.Channel]:
    with server.channel() as channel:
        yield channel


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    """To one server, for tests that leave its models as they were."""
    with serving(with_two_models(tmp_path_factory.mktemp("shared"))) as server, server.channel() as channel:
        yield channel


def inference(channel: grpc.Channel) -> Any:
    return grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)


def load(channel: grpc.Channel, name: str) -> None:
    inference(channel).RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name=name), timeout=30)


def unload(channel: grpc.Channel, name: str) -> None:
    inference(channel).RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name=name), timeout=30)


def listed(channel: grpc.Channel) -> dict[tuple[str, str], model_pb2.ModelSummary]:
    models = model_pb2_grpc.ModelServiceStub(channel).ListModels(model_pb2.ListModelsRequest()).models
    return {(m.name, m.version): m for m in models}


def relevance(channel: grpc.Channel, name: str, version: str = "") -> np.ndarray:
    return array_of(stub(channel).Explain(request(name, version=version), timeout=30).relevance[0])


def expected(seed: int) -> np.ndarray:
    return lx.load(lstm(seed)).explain({"x": sequence()}).relevance["x"]


def until(true: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)


def replace(folder: Path, name: str, content: bytes, version: int = 1) -> None:
    """Replaces a file as an operator would: by renaming a new one."""
    file = folder / name / str(version) / "model.onnx"
    background = file.with_suffix(".new")
    background.write_bytes(content)
    background.rename(file)


def test_unload_and_load(shared: grpc.Channel) -> None:
    unload(shared, "a")
    assert listed(shared)["a", "1"].state == UNLOADED
    with pytest.raises(grpc.RpcError) as raised:
        relevance(shared, "a")
    status = refusal(raised.value)
    assert (status.code, status.message) == (grpc.StatusCode.FAILED_PRECONDITION, "model 'a' version 1 is unloaded")
    assert not inference(shared).ModelReady(pb.ModelReadyRequest(name="a")).ready
    (index,) = [m for m in inference(shared).RepositoryIndex(pb.RepositoryIndexRequest()).models if m.name == "a"]
    assert (index.state, index.reason) == ("UNAVAILABLE", "unloaded")
    assert [m.name for m in inference(shared).RepositoryIndex(pb.RepositoryIndexRequest(ready=True)).models] == ["b"]
    assert health(shared, "model/a") == health_pb2.HealthCheckResponse.NOT_SERVING
    np.testing.assert_array_equal(relevance(shared, "b"), expected(1))
    load(shared, "a")
    np.testing.assert_array_equal(relevance(shared, "a"), expected(0))
    assert health(shared, "model/a") == health_pb2.HealthCheckResponse.SERVING


def test_a_watcher_is_notified_after_another_one_has_left(shared: grpc.Channel) -> None:
    serving, gone = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    requested = health_pb2.HealthCheckRequest(service="model/b")
    first, second = (health_pb2_grpc.HealthStub(shared).Watch(requested, timeout=20) for _ in range(2))
    assert [next(first).status, next(second).status] == [serving, serving]
    first.cancel()
    unload(shared, "b")
    assert next(second).status == gone
    load(shared, "b")
    assert next(second).status == serving
    second.cancel()


def test_watchers_are_notified_of_the_end_and_do_not_delay_it(folder: Path) -> None:
    grace = 60
    with serving(folder, "--grace-period", str(grace)) as server, server.channel() as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=grace)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        assert server.stop() == 0  # within the 30 seconds that are given to a process here
        assert [refused.status for refused in watch] == [health_pb2.HealthCheckResponse.NOT_SERVING]


def health(channel: grpc.Channel, service: str) -> int:
    requested = health_pb2.HealthCheckRequest(service=service)
    return health_pb2_grpc.HealthStub(channel).Check(requested, timeout=5).status


def test_load_finds_new_and_changed_versions(channel: grpc.Channel, folder: Path) -> None:
    write_version(folder, "a", lstm(5), 2)
    replace(folder, "a", lstm(6).SerializeToString())
    write_version(folder, "c", lstm(7))
    np.testing.assert_array_equal(relevance(channel, "a"), expected(0))  # not before it is told to
    load(channel, "a")
    load(channel, "c")
    np.testing.assert_array_equal(relevance(channel, "a"), expected(5))
    np.testing.assert_array_equal(relevance(channel, "a", "1"), expected(6))
    np.testing.assert_array_equal(relevance(channel, "c"), expected(7))


def test_a_failed_load_keeps_the_older_version_and_reports_the_reason(channel: grpc.Channel, folder: Path) -> None:
    replace(folder, "a", b"not a model")
    write_version(folder, "a", lstm(3), 2, "colour: red\n")
    with pytest.raises(grpc.RpcError) as raised:
        load(channel, "a")
    status = refusal(raised.value)
    assert status.code == grpc.StatusCode.FAILED_PRECONDITION
    assert "version 2 failed to load: model.yaml:1: colour: unknown key" in status.message
    assert str(folder) not in status.message
    entries = listed(channel)
    assert (entries["a", "1"].state, entries["a", "2"].state) == (READY, FAILED)
    assert entries["a", "1"].reason
    np.testing.assert_array_equal(relevance(channel, "a"), expected(0))
    np.testing.assert_array_equal(relevance(channel, "b"), expected(1))
    (folder / "a" / "model.yaml").unlink()
    replace(folder, "a", lstm(4).SerializeToString())
    load(channel, "a")
    assert {entry.reason for entry in listed(channel).values()} == {""}
    np.testing.assert_array_equal(relevance(channel, "a", "1"), expected(4))


@pytest.mark.parametrize("name", ["nothing", "", "../a", "a/1", "..", ".", "a\0", "/etc", "a\n"])
def test_loading_and_unloading_an_unknown_model_is_not_found(shared: grpc.Channel, name: str) -> None:
    for call in (load, unload):
        with pytest.raises(grpc.RpcError) as raised:
            call(shared, name)
        status = refusal(raised.value)
        assert (status.code, status.message) == (grpc.StatusCode.NOT_FOUND, f"there is no model {name!r}")


def test_a_model_removed_from_the_folder(channel: grpc.Channel, folder: Path) -> None:
    (folder / "a").rename(folder / ".a")
    with pytest.raises(grpc.RpcError) as raised:
        load(channel, "a")
    assert raised.value.code() == grpc.StatusCode.NOT_FOUND
    assert ("a", "1") not in listed(channel)


def test_parameters_of_a_load_are_refused(shared: grpc.Channel) -> None:
    message = pb.RepositoryModelLoadRequest(model_name="a")
    message.parameters["config"].string_param = "{}"
    with pytest.raises(grpc.RpcError) as raised:
        inference(shared).RepositoryModelLoad(message)
    assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_a_request_keeps_the_version_that_it_began_with(tmp_path: Path) -> None:
    write_version(tmp_path, "a", lstm(0, hidden=96))
    x = sequence(8, 3000)
    slow = request("a", inputs=[tensor("x", x)])
    with serving(tmp_path, "--parallel", "1") as server, server.channel() as channel:
        calls = [stub(channel).Explain.future(slow) for _ in range(3)]
        time.sleep(0.3)
        replace(tmp_path, "a", lstm(1, hidden=96).SerializeToString())
        load(channel, "a")
        np.testing.assert_array_equal(relevance(channel, "a"), expected_of(lstm(1, hidden=96), sequence()))
        before = expected_of(lstm(0, hidden=96), x)
        for call in calls:
            np.testing.assert_array_equal(array_of(call.result(timeout=60).relevance[0]), before)


def expected_of(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    return lx.load(model).explain({"x": x}).relevance["x"]


def test_polling(folder: Path) -> None:
    with serving(folder, "--poll-seconds", "0.1") as server, server.channel() as channel:
        write_version(folder, "c", lstm(2))
        until(lambda: ("c", "1") in listed(channel))
        np.testing.assert_array_equal(relevance(channel, "c"), expected(2))
        replace(folder, "c", b"broken")
        until(lambda: listed(channel)["c", "1"].reason != "")
        np.testing.assert_array_equal(relevance(channel, "c"), expected(2))
        replace(folder, "c", lstm(3).SerializeToString())
        until(lambda: listed(channel)["c", "1"].reason == "")
        np.testing.assert_array_equal(relevance(channel, "c"), expected(3))
        unload(channel, "b")
        (folder / "a").rename(folder / ".a")
        until(lambda: ("a", "1") not in listed(channel))
        assert listed(channel)["b", "1"].state == UNLOADED  # polling does not undo what somebody asked for


def test_least_recently_used_models_are_evicted_and_reloaded(tmp_path: Path) -> None:
    for number, name in enumerate("abcd"):
        write_version(tmp_path, name, lstm(number))
    size = (tmp_path / "a" / "1" / "model.onnx").stat().st_size
    two = str(2 * memory_of(size) + 10)
    with serving(tmp_path, "--max-loaded-bytes", two) as server, server.channel() as channel:
        assert {m.state for m in listed(channel).values()} == {READY}
        for number, name in list(enumerate("abcd")) * 3:
            np.testing.assert_array_equal(relevance(channel, name), expected(number))
        detail = model_pb2_grpc.ModelServiceStub(channel).GetModel(model_pb2.GetModelRequest(name="a")).model
        assert detail.inputs[0].name == "x"
        log = server.logged()
        assert log.count("model a version 1 is evicted from memory") == 4  # at the start, and after each of its turns

        wrong: list[str] = []

        def caller(offset: int) -> None:
            for turn in range(8):
                number = (turn * 3 + offset) % 4
                if not np.array_equal(relevance(channel, "abcd"[number]), expected(number)):
                    wrong.append("abcd"[number])

        threads = [threading.Thread(target=caller, args=(offset,)) for offset in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


def test_models_that_are_too_large(folder: Path) -> None:
    sizes = {}
    for name, hidden in (("large", 64), ("larger", 96)):
        write_version(folder, name, lstm(2, hidden=hidden))
        sizes[name] = (folder / name / "1" / "model.onnx").stat().st_size
    most, memory = sizes["larger"] - 1, memory_of(sizes["large"]) - 1
    flags = ("--max-model-bytes", str(most), "--max-loaded-bytes", str(memory))
    with serving(folder, *flags) as server, server.channel() as channel:
        entries = listed(channel)
        assert {entries[name, "1"].state for name in sizes} == {FAILED}
        assert f"{most + 1} bytes, more than --max-model-bytes allows ({most})" in entries["larger", "1"].reason
        assert f"more than --max-loaded-bytes allows ({memory})" in entries["large", "1"].reason
        assert entries["a", "1"].state == READY


def test_all_processes_follow_a_load_or_unload(folder: Path) -> None:
    """Every channel reaches one of the processes, so twelve channels reach all of them."""
    data = lstm(9).SerializeToString()
    with serving(folder, "--workers", "2", "--allow-import") as server, ExitStack() as stack:
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [stack.enter_context(grpc.insecure_channel(server.address, options)) for _ in range(12)]
        client = stack.enter_context(Client(server.address))
        client.import_model("c", data)
        for channel in channels:  # at once: who does not know the model looks for news
            assert inference(channel).ModelReady(pb.ModelReadyRequest(name="c")).ready
            np.testing.assert_array_equal(relevance(channel, "c"), expected(9))
        unload(channels[0], "a")
        until(lambda: all(listed(channel)["a", "1"].state == UNLOADED for channel in channels))
        load(channels[1], "a")
        until(lambda: all(listed(channel)["a", "1"].state == READY for channel in channels))
        unload(channels[2], "b")
        client.delete_model("c")
        until(lambda: all(("c", "1") not in listed(channel) for channel in channels))
        workers = server.workers()
        os.kill(workers[0], signal.SIGKILL)
        until(lambda: len(server.workers()) == 2 and len(set(server.workers()) - set(workers)) == 1)
        fresh = [stack.enter_context(grpc.insecure_channel(server.address, options)) for _ in range(12)]
        until(lambda: all(listed(channel)["b", "1"].state == UNLOADED for channel in fresh))  # the new one knows
