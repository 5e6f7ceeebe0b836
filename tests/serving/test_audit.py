# SPDX-License-Identifier: Apache-2.0
"""The audit log of a real server: who had what explained by which version, and who changed the models."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_explain_proto.inference import grpc_service_pb2, grpc_service_pb2_grpc
from lstm_explain_proto.lstm_explain.v1 import model_pb2, model_pb2_grpc
from tests.serving.calling import infer, request, sequence, stub
from tests.serving.certificates import Authority, Files, secure_channel
from tests.serving.faces import FACES, attempt, bearer, explain
from tests.serving.importing import chunk, content, start
from tests.serving.models import lstm, write_version
from tests.serving.running import Running, command, free_address, metrics, serving

READER, MANAGER, BOTH = "reader-0123456789ab", "manager-0123456789a", "both-0123456789abcd"
TOKENS = f"{READER} explain the dashboard\n{MANAGER} manage the pipeline\n{BOTH} explain,manage both\n"
METRICS = free_address()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_version(folder, "lstm", lstm())
    return folder


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audit") / "audit.jsonl"


@pytest.fixture(scope="module")
def server(folder: Path, log: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text(TOKENS)
    flags = ("--tokens", str(tokens), "--audit", str(log), "--allow-import", "--web", "127.0.0.1:0")
    with serving(folder, *flags, "--workers", "2", "--metrics-listen", METRICS) as server:
        yield server


def lines_of(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def new_lines(log: Path, before: int) -> list[dict[str, Any]]:
    return lines_of(log)[before:]


def digest_of(folder: Path, model: str = "lstm", version: int = 1) -> str:
    """As `sha256sum model.onnx | sha256sum` computes it."""
    digest = hashlib.sha256((folder / model / str(version) / "model.onnx").read_bytes()).hexdigest()
    return hashlib.sha256(f"{digest}  model.onnx\n".encode()).hexdigest()


@pytest.mark.parametrize("face", FACES)
def test_every_explanation_has_a_line(server: Running, folder: Path, log: Path, face: str) -> None:
    before = len(lines_of(log))
    metadata = (*bearer(READER), ("x-request-id", f"mine-{face}"))
    assert FACES[face](server, metadata).code == "OK"
    (line,) = new_lines(log, before)
    assert line["rpc"] == (face if face != "page" else "Explain")
    assert (line["event"], line["status"], line["caller"]) == ("explain", "OK", "the dashboard")
    assert (line["model"], line["version"], line["digest"]) == ("lstm", "1", digest_of(folder))
    assert line["request_id"] == f"mine-{face}"
    assert line["method"].startswith("lrp, ")
    assert line["target"].startswith("logits:")
    assert line["milliseconds"] > 0
    assert line["face"] == ("page" if face == "page" else "grpc")
    assert line["peer"].startswith("page:127.0.0.1:" if face == "page" else "ipv4:127.0.0.1:")
    assert line.get("item") == {"ExplainStream": "item-1", "ModelStreamInfer": "item-2"}.get(face)
    assert "inputs" not in line
    assert READER not in json.dumps(line)


@pytest.mark.parametrize("face", FACES)
def test_a_failed_request_has_a_line_with_its_status(server: Running, log: Path, face: str) -> None:
    before = len(lines_of(log))
    assert FACES[face](server, bearer(READER), "absent").code in ("NOT_FOUND", "ERROR")
    (line,) = new_lines(log, before)
    assert (line["status"], line["model"], line["caller"]) == ("NOT_FOUND", "absent", "the dashboard")
    assert "absent" in line["error"]


def test_the_target_is_the_one_that_was_explained(server: Running, log: Path) -> None:
    before = len(lines_of(log))
    with server.channel() as channel:
        for text in ("2", "logits:1", "every class"):
            message = infer()
            message.parameters["explain_targets"].string_param = text
            message.parameters["explain"].string_param = "gradient"
            grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(message, metadata=bearer(READER))
        sent = request()
        sent.target.indices[:] = [2]
        sent.target.contrast_indices[:] = [0]
        stub(channel).Explain(sent, metadata=bearer(READER))
    found = [line["target"] for line in new_lines(log, before)]
    assert found == ["logits:2", "logits:1", "logits:0; logits:1; logits:2", "logits:2 minus logits:0"]
    assert new_lines(log, before)[0]["method"] == "gradient"


def test_a_prediction_has_a_line_of_its_own_kind(server: Running, log: Path) -> None:
    before, message = len(lines_of(log)), infer()
    del message.parameters["explain"]
    with server.channel() as channel:
        grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(message, metadata=bearer(READER))
    (line,) = new_lines(log, before)
    assert (line["event"], line["status"]) == ("predict", "OK")
    assert "method" not in line


def test_every_change_of_the_models_has_a_line(server: Running, folder: Path, log: Path) -> None:
    before, data = len(lines_of(log)), content(7)
    with server.channel() as channel:
        models, inference = model_pb2_grpc.ModelServiceStub(channel), grpc_service_pb2_grpc.GRPCInferenceServiceStub
        repository = inference(channel)
        models.ImportModel(iter([start(data), chunk(data)]), metadata=bearer(MANAGER), timeout=60)
        digest = digest_of(folder, "new")
        named = {"model_name": "new"}
        repository.RepositoryModelUnload(
            grpc_service_pb2.RepositoryModelUnloadRequest(**named), metadata=bearer(MANAGER)
        )
        repository.RepositoryModelLoad(grpc_service_pb2.RepositoryModelLoadRequest(**named), metadata=bearer(MANAGER))
        models.DeleteModel(model_pb2.DeleteModelRequest(name="new", version="1"), metadata=bearer(BOTH), timeout=60)
        missing = attempt(models.DeleteModel, model_pb2.DeleteModelRequest(name="new"), bearer(BOTH))
        models.ListModels(model_pb2.ListModelsRequest(), metadata=bearer(READER))
    lines = new_lines(log, before)
    assert [line["event"] for line in lines] == ["import", "unload", "load", "delete", "delete"]
    assert [line["caller"] for line in lines] == ["the pipeline"] * 3 + ["both"] * 2
    assert {line["model"] for line in lines} == {"new"}
    assert [line["status"] for line in lines] == ["OK"] * 4 + [missing.code]
    assert (lines[0]["version"], lines[0]["digest"]) == ("1", digest)
    assert lines[3]["version"] == "1"


def test_refused_calls_name_the_token_that_was_refused(server: Running, log: Path) -> None:
    before = len(lines_of(log))
    with server.channel() as channel:
        models = model_pb2_grpc.ModelServiceStub(channel)
        delete = model_pb2.DeleteModelRequest(name="lstm")
        denied = attempt(models.DeleteModel, delete, bearer(READER))
        unknown = attempt(models.ListModels, model_pb2.ListModelsRequest(), bearer("guess-0123456789abc"))
        assert explain(channel, bearer(MANAGER)).code == "PERMISSION_DENIED"
    assert (denied.code, unknown.code) == ("PERMISSION_DENIED", "UNAUTHENTICATED")
    assert "'the dashboard'" in denied.message
    lines = new_lines(log, before)
    assert [(line["rpc"], line["status"], line["caller"]) for line in lines] == [
        ("DeleteModel", "PERMISSION_DENIED", "the dashboard"),
        ("ListModels", "UNAUTHENTICATED", ""),
        ("Explain", "PERMISSION_DENIED", "the pipeline"),
    ]
    assert "guess" not in json.dumps(lines)


def test_no_answer_is_without_its_line_under_load(server: Running, log: Path) -> None:
    """Two workers write to the file at once, and it is renamed meanwhile, as a log rotation does."""
    before, kept = len(lines_of(log)), log.read_text()
    rotated, answered = log.with_suffix(".1"), Counter[str]()

    def call(worker: int) -> None:
        with server.channel() as channel:
            for number in range(50):
                name = f"load-{worker}-{number}"
                assert explain(channel, (*bearer(READER), ("x-request-id", name))).code == "OK"
                answered[name] += 1

    threads = [threading.Thread(target=call, args=(worker,)) for worker in range(6)]
    for thread in threads:
        thread.start()
    os.replace(log, rotated)
    for thread in threads:
        thread.join()
    try:
        lines = [*lines_of(rotated)[before:], *lines_of(log)]
        assert Counter(line["request_id"] for line in lines) == answered
        assert len(answered) == 300
        assert log.stat().st_size
    finally:
        log.write_text(kept)
    found = metrics(METRICS)
    assert found['lstm_explain_audit_lines_total{outcome="written"}'] >= 300
    assert found["lstm_explain_audit_waiting"] == 0


def test_inputs_appear_where_they_are_asked_for(folder: Path, tmp_path: Path) -> None:
    log, x = tmp_path / "log", sequence(seed=3)
    with serving(folder, "--audit", str(log), "--audit-inputs") as server, server.channel() as channel:
        grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(infer(x=x))
    (line,) = lines_of(log)
    given = line["inputs"]["x"]
    assert np.array_equal(
        np.frombuffer(base64.b64decode(given["data"]), given["dtype"]).reshape(given["shape"]), x
    )  # fmt: skip


@pytest.mark.parametrize("where", ["stdout", "stderr"])
def test_lines_can_go_to_stdout_and_stderr(folder: Path, where: str) -> None:
    with serving(folder, "--audit", where, "--log-format", "json") as server:
        with server.channel() as channel:
            assert [explain(channel).code for _ in range(3)] == ["OK"] * 3
        out, err = Path(server.out.name).read_text(), server.logged()
    lines = {"stdout": out, "stderr": err}[where].splitlines()
    assert sum(json.loads(line).get("event") == "explain" for line in lines) == 3
    assert '"event"' not in {"stdout": err, "stderr": out}[where]


def test_a_server_whose_audit_log_cannot_be_written_serves_and_says_so(folder: Path, tmp_path: Path) -> None:
    inside, address = tmp_path / "gone", free_address()
    inside.mkdir()
    flags = ("--audit", str(inside / "log"), "--metrics-listen", address)
    with serving(folder, *flags) as server, server.channel() as channel:
        assert explain(channel).code == "OK"
        os.rename(inside, tmp_path / "elsewhere")
        time.sleep(0.3)
        assert [explain(channel).code for _ in range(5)] == ["OK"] * 5
        assert metrics(address)["lstm_explain_audit_waiting"] == 5
        assert server.logged().count("the audit log cannot be written: No such file") == 1
        inside.mkdir()
        assert server.stop() == 0
    assert len(lines_of(inside / "log")) == 5


def test_a_client_is_named_by_the_subject_of_its_certificate(folder: Path, tmp_path: Path) -> None:
    authority, clients, log = Authority("server"), Authority("clients"), tmp_path / "log"
    files = Files(tmp_path)
    files.write(authority.sign("localhost"), clients)
    with (
        serving(folder, *files.flags, *files.client_flags, "--audit", str(log)) as server,
        secure_channel(server.address, authority.certificate, clients.sign("billing")) as channel,
    ):
        assert explain(channel).code == "OK"
    (line,) = lines_of(log)
    assert line["subject"] == "CN=billing"
    assert line["caller"] == ""


def test_a_file_that_cannot_be_written_is_refused_at_the_start(folder: Path, tmp_path: Path) -> None:
    for flags, problem in (
        (["--audit", str(tmp_path / "absent" / "log")], "--audit: cannot write to"),
        (["--audit-inputs"], "--audit-inputs needs --audit with a file"),
    ):
        done = subprocess.run(
            command("serve", "--models", str(folder), *flags), capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode != 0
        assert problem in done.stderr
