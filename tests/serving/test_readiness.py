# SPDX-License-Identifier: Apache-2.0
"""Health, ServerReady and the list of models report what can be answered, and which files are misplaced."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import onnx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lstm_explain.serving.models.readiness import parse_required_models
from lstm_explain_client import Client
from lstm_explain_proto.inference import grpc_service_pb2, grpc_service_pb2_grpc
from lstm_explain_proto.lstm_explain.v1 import model_pb2, model_pb2_grpc
from tests.serving.models import lstm, write_version
from tests.serving.running import Running, serving

SERVICES = ("", "lstm_explain.v1.ExplanationService", "inference.GRPCInferenceService")


def able(server: Running) -> bool:
    """Whether the server is ready, after checking that health and ServerReady agree and that it is alive."""
    with server.channel() as channel:
        health = health_pb2_grpc.HealthStub(channel)

        def serves(service: str) -> bool:
            status = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=10).status
            return bool(status == health_pb2.HealthCheckResponse.SERVING)

        assert serves("live")
        stub = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert stub.ServerLive(grpc_service_pb2.ServerLiveRequest(), timeout=10).live
        ready = bool(stub.ServerReady(grpc_service_pb2.ServerReadyRequest(), timeout=10).ready)
        assert [serves(service) for service in SERVICES] == [ready] * len(SERVICES)
        return ready


def becomes(expected: bool, server: Running) -> bool:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            if able(server) is expected:
                return True
        except AssertionError:  # between two looks it has changed
            pass
        time.sleep(0.1)
    return False


def listed(server: Running) -> dict[tuple[str, str], Any]:
    with server.channel() as channel:
        models = model_pb2_grpc.ModelServiceStub(channel).ListModels(model_pb2.ListModelsRequest(), timeout=10).models
    return {(m.name, m.version): m for m in models}


def _truncated(folder: Path) -> None:
    write_version(folder, "broken", lstm())
    path = folder / "broken" / "1" / "model.onnx"
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize("fill", [lambda folder: None, _truncated])
def test_a_server_without_a_ready_model_is_alive_and_not_ready(fill: Callable[[Path], None], tmp_path: Path) -> None:
    fill(tmp_path)
    with serving(tmp_path, "--poll-seconds", "0.2") as server:
        assert not able(server)
        assert "not ready: 0 models are ready, 1 required" in server.logged()
        write_version(tmp_path, "late", lstm())
        assert becomes(True, server)
        shutil.rmtree(tmp_path / "late")
        assert becomes(False, server)


def test_an_import_makes_the_server_ready_and_a_deletion_unready(tmp_path: Path) -> None:
    onnx.save(lstm(), str(model := tmp_path / "source"))
    (folder := tmp_path / "models").mkdir()
    with serving(folder, "--allow-import") as server, Client(server.address) as client:
        assert not able(server)
        client.import_model("mine", str(model))
        assert becomes(True, server)
        with server.channel() as channel:
            stub = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
            stub.RepositoryModelUnload(grpc_service_pb2.RepositoryModelUnloadRequest(model_name="mine"), timeout=10)
            assert becomes(False, server)
            stub.RepositoryModelLoad(grpc_service_pb2.RepositoryModelLoadRequest(model_name="mine"), timeout=60)
            assert becomes(True, server)
            model_pb2_grpc.ModelServiceStub(channel).DeleteModel(model_pb2.DeleteModelRequest(name="mine"), timeout=10)
        assert becomes(False, server)


@pytest.mark.parametrize("required", ["2", "here,elsewhere"])
def test_a_setting_defines_what_is_required(required: str, tmp_path: Path) -> None:
    write_version(tmp_path, "here", lstm())
    with serving(tmp_path, "--require-models", required, "--poll-seconds", "0.2") as server:
        assert not able(server)
        write_version(tmp_path, "elsewhere", lstm())
        assert becomes(True, server)


def test_a_server_of_which_nothing_is_required_is_ready_without_a_model(tmp_path: Path) -> None:
    with serving(tmp_path, "--require-models", "0") as server:
        assert able(server)
        assert "no model: expected <model>/1/model.onnx or <model>.onnx" in server.logged()


@pytest.mark.parametrize("text", ["", "-1", "a,,b", "a b", "../x", "1.5e"])
def test_invalid_required_models_are_refused(text: str) -> None:
    if text == "1.5e":  # a name
        assert parse_required_models(text).names == {"1.5e"}
        return
    with pytest.raises(ValueError, match="neither a number of models nor a model's name"):
        parse_required_models(text)


def test_misplaced_models_are_reported(tmp_path: Path) -> None:
    data = lstm().SerializeToString()
    for path in (
        "good/1/model.onnx", "good/v2/model.onnx", "flat/model.onnx", "named/v1/model.onnx", "zero/0/model.onnx",
        "capital/1/model.ONNX", "other/2/net.onnx", "group/deep/1/model.onnx", "bad name/1/model.onnx", "upper.ONNX",
        "notes/readme.txt", ".hidden/1/model.onnx", "..data/model.onnx", "both.onnx", "good/.old/model.onnx",
    ):  # fmt: skip
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"some text" if path.endswith("txt") else data)
    for folder in ("nothing", "nothing-yet/3", "both"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "card").mkdir()
    (tmp_path / "card" / "model.yaml").write_text("description: fine\n")
    expected = {
        ("flat", ""): "expected flat/1/model.onnx, found 'flat/model.onnx'",
        ("named", ""): "expected named/1/model.onnx, found 'named/v1/model.onnx'",
        ("zero", ""): "expected zero/1/model.onnx, found 'zero/0/model.onnx'",
        ("capital", "1"): "expected capital/1/model.onnx, found 'capital/1/model.ONNX'",
        ("other", "2"): "expected other/2/model.onnx, found 'other/2/net.onnx'",
        ("group", ""): "expected group/1/model.onnx, found 'group/deep/1/model.onnx'",
        ("upper", ""): "'upper.ONNX' is not served: expected upper.onnx",
        ("nothing", ""): "expected nothing/1/model.onnx, but the folder has no model",
        ("nothing-yet", "3"): "expected nothing-yet/3/model.onnx, but the folder has no model",
        ("card", ""): "expected card/1/model.onnx, but the folder has no model",
    }
    with serving(tmp_path, "--poll-seconds", "0.2") as server:
        entries, log = listed(server), server.logged()
        assert set(entries) == {*expected, ("good", "1"), ("both", "1")}
        for key, reason in expected.items():
            assert entries[key].state == model_pb2.MODEL_STATE_FAILED
            assert reason in entries[key].reason
            assert reason in log
        assert "'good/v2/model.onnx' is not served" in log
        assert "folder 'bad name' is not served" in log
        for silent in ("notes", ".hidden", "..data", ".old"):
            assert silent not in log
        with server.channel() as channel:
            stub = model_pb2_grpc.ModelServiceStub(channel)
            detail = stub.GetModel(model_pb2.GetModelRequest(name="flat"), timeout=10).model
            assert detail.summary.state == model_pb2.MODEL_STATE_FAILED
            inference = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
            with pytest.raises(grpc.RpcError) as refused:
                inference.ModelInfer(grpc_service_pb2.ModelInferRequest(model_name="flat"), timeout=10)
            assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
            assert "expected flat/1/model.onnx" in refused.value.details()
        (tmp_path / "flat" / "1").mkdir()
        (tmp_path / "flat" / "model.onnx").rename(tmp_path / "flat" / "1" / "model.onnx")
        end = time.monotonic() + 60
        while ("flat", "1") not in (entries := listed(server)) and time.monotonic() < end:
            time.sleep(0.1)
        assert ("flat", "") not in entries
        time.sleep(0.5)
        assert server.logged().count("expected named/1/model.onnx") == 1
