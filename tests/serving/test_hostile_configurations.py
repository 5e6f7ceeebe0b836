# SPDX-License-Identifier: Apache-2.0
"""Models whose names, numbers or configuration do not fit into a message are refused, and hide no others."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import onnx
import pytest
from onnx import TensorProto

from lstm_explain_proto.inference import grpc_service_pb2, grpc_service_pb2_grpc
from lstm_explain_proto.lstm_explain.v1 import model_pb2, model_pb2_grpc
from tests.repository.test_model_yaml import HOSTILE
from tests.serving.calling import refusal, request, stub
from tests.serving.models import lstm, write_version
from tests.serving.running import Running, serving
from tests.serving.web import LIST, ask


def renamed(change: Callable[[onnx.ModelProto], None]) -> bytes:
    model = lstm()
    change(model)
    return model.SerializeToString()


def replaced(old: bytes, new: bytes) -> bytes:
    """The model with a text replaced by bytes of the same length, which need not be UTF-8."""
    assert len(old) == len(new)
    data = lstm().SerializeToString()
    assert old in data
    return data.replace(old, new)


def external(**entries: str) -> bytes:
    """A model with an external weight that `entries` locate."""
    model = lstm()
    weight = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    weight.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "weights.bin", **entries}.items():
        weight.external_data.add(key=key, value=value)
    weight.ClearField("raw_data")
    return model.SerializeToString()


FILES = {
    "an output's name is no UTF-8": lambda: replaced(b"logits", b"\xff\xfe\xfdits"),
    "an output's name is a surrogate": lambda: replaced(b"logits", b"\xed\xa0\x80its"),
    "a location with a null byte": lambda: external(location="a\0b"),
    "a location of 5,000 characters": lambda: external(location="a" * 5000),
    "a negative offset": lambda: external(offset="-4"),
    "an offset in letters": lambda: external(offset="x"),
    "a fraction as offset": lambda: external(offset="1e9"),
    "an offset of 6,000 digits": lambda: external(offset="9" * 6000),
    "a negative length": lambda: external(length="-1"),
    "a location above": lambda: external(location="../../secret"),
    "a location that is a folder": lambda: external(location="."),
    "an empty location": lambda: external(location=""),
    "nothing but noise": lambda: bytes(range(256)) * 20,
}
# What YAML and the engine take, and no message can carry.
UNSENDABLE = {
    "a window beyond 32 bits": "method: {name: occlusion, window: 4000000000}",
    "a batch axis beyond 32 bits": "batch_axis: 4000000000",
    "a baseline of words": "method: {name: occlusion, baseline: [a, b, c, d]}",
    "an input that is a number": "method: {name: occlusion, baseline: {1: 0.5}}",
}
# A card that was told when it was loaded, and cannot be any more: no way is known to that, so the server gets one.
FICKLE = """
import os, sys
if "LSTM_EXPLAIN_WORKER" in os.environ:
    from lstm_explain.repository.served_model import ServedModel
    from lstm_explain.serving import wire
    from lstm_explain.serving.wire import inference
    def fickle(describe):
        def describe_or_fail(entry):
            if entry.name == "bad" and isinstance(entry, ServedModel) and os.path.exists({flag!r}):
                raise ValueError("no more")
            return describe(entry)
        return describe_or_fail
    wire.to_summary = fickle(wire.to_summary)
    inference.to_index = fickle(inference.to_index)
"""


def messages(data: bytes, config: str) -> Iterator[model_pb2.ImportModelRequest]:
    start = model_pb2.ImportModelStart(
        name="foreign", sha256=hashlib.sha256(data).digest(), size=len(data), config_yaml=config
    )
    yield model_pb2.ImportModelRequest(start=start)
    yield model_pb2.ImportModelRequest(chunk=data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_version(folder, "lstm", lstm())
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    with serving(folder, "--allow-import", "--web", "127.0.0.1:0") as server:
        yield server


def refused(server: Running, data: bytes, config: str = "") -> tuple[grpc.StatusCode, str]:
    with server.channel() as channel, pytest.raises(grpc.RpcError) as raised:
        model_pb2_grpc.ModelServiceStub(channel).ImportModel(messages(data, config), timeout=120)
    status = refusal(raised.value)
    return status.code, status.message


def listed(server: Running) -> dict[str, tuple[int, str]]:
    """State and reason by name, after checking that all lists agree."""
    with server.channel() as channel:
        found = model_pb2_grpc.ModelServiceStub(channel).ListModels(model_pb2.ListModelsRequest(), timeout=30).models
        index = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).RepositoryIndex(
            grpc_service_pb2.RepositoryIndexRequest(), timeout=30
        )
        assert stub(channel).Explain(request(), timeout=30).model == "lstm"
    page = ask(server.page(), LIST)
    assert page.status == 200
    assert [m["name"] for m in page.json()["models"]] == [m.name for m in index.models] == [m.name for m in found]
    return {m.name: (m.state, m.reason) for m in found}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_configuration_is_an_invalid_argument(server: Running, folder: Path, case: str) -> None:
    try:
        HOSTILE[case].encode()
    except UnicodeEncodeError:
        pytest.skip("no message can carry it")
    code, message = refused(server, lstm().SerializeToString(), HOSTILE[case])
    assert code == grpc.StatusCode.INVALID_ARGUMENT, message
    assert message.startswith("model.yaml:")
    assert not (folder / "foreign").exists()


@pytest.mark.parametrize("case", FILES)
def test_a_hostile_file_is_an_invalid_argument(server: Running, folder: Path, case: str) -> None:
    code, message = refused(server, FILES[case]())
    assert code == grpc.StatusCode.INVALID_ARGUMENT, message
    assert not (folder / "foreign").exists()
    assert list(listed(server)) == ["lstm"]


@pytest.mark.parametrize("case", UNSENDABLE)
def test_a_model_that_cannot_be_described_is_an_invalid_argument(server: Running, folder: Path, case: str) -> None:
    code, message = refused(server, lstm().SerializeToString(), UNSENDABLE[case])
    assert code == grpc.StatusCode.INVALID_ARGUMENT, message
    assert "cannot be described in a message" in message or "which no message can hold" in message
    assert not (folder / "foreign").exists()
    assert list(listed(server)) == ["lstm"]


def test_names_of_a_megabyte_are_listed(server: Running) -> None:
    model = lstm()
    for node in model.graph.node:
        node.name = node.name + "n" * 1_000_000
    model.doc_string = "d" * 1_000_000
    with server.channel() as channel:
        service = model_pb2_grpc.ModelServiceStub(channel)
        service.ImportModel(messages(model.SerializeToString(), ""), timeout=120)
        assert service.GetModel(model_pb2.GetModelRequest(name="foreign"), timeout=60).model.nodes
        assert set(listed(server)) == {"lstm", "foreign"}
        service.DeleteModel(model_pb2.DeleteModelRequest(name="foreign"), timeout=30)
    assert list(listed(server)) == ["lstm"]


def test_models_that_cannot_be_described_do_not_hide_the_others(tmp_path: Path) -> None:
    """An older version of the server may have stored them there."""
    write_version(tmp_path, "lstm", lstm())
    for i, (_, text) in enumerate(sorted(HOSTILE.items())):
        if len(text) < 10_000:
            (write_version(tmp_path, f"yaml-{i:02d}", lstm()) / "model.yaml").write_bytes(text.encode())
    for i, (_, data) in enumerate(sorted(FILES.items())):
        version = tmp_path / f"file-{i:02d}" / "1"
        version.mkdir(parents=True)
        (version / "model.onnx").write_bytes(data())
    for i, text in enumerate(UNSENDABLE.values()):
        write_version(tmp_path, f"card-{i:02d}", lstm(), config=text)
    with serving(tmp_path, "--web", "127.0.0.1:0") as server:
        models = listed(server)
        assert models.pop("lstm") == (model_pb2.MODEL_STATE_READY, "")
        assert len(models) > 50
        for name, (state, reason) in models.items():
            assert state == model_pb2.MODEL_STATE_FAILED, name
            assert reason, name
            assert "unexpected" not in reason, (name, reason)


def test_an_entry_that_can_no_longer_be_described_hides_no_other(tmp_path: Path) -> None:
    folder, flag = tmp_path / "models", tmp_path / "flag"
    for name in ("bad", "lstm"):
        write_version(folder, name, lstm())
    (tmp_path / "sitecustomize.py").write_text(FICKLE.format(flag=str(flag)))
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with serving(folder, "--web", "127.0.0.1:0", PYTHONPATH=paths) as server:
        assert {state for state, _ in listed(server).values()} == {model_pb2.MODEL_STATE_READY}
        flag.touch()
        models = listed(server)
        assert models["lstm"] == (model_pb2.MODEL_STATE_READY, "")
        assert models["bad"] == (model_pb2.MODEL_STATE_FAILED, "cannot be described: unexpected ValueError")
