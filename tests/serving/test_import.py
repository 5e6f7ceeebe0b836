# SPDX-License-Identifier: Apache-2.0
"""ImportModel and DeleteModel: accepted and refused imports."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest

import lstm_explain as lx
from lstm_explain_client import AlreadyExists, AsyncClient, Client, ModelNotFound, Unimplemented
from lstm_explain_proto.lstm_explain.v1 import model_pb2, model_pb2_grpc
from tests.serving.calling import refusal, sequence
from tests.serving.importing import chunk, content, left_over, start, wait_until_clean
from tests.serving.models import WORDS, lstm, outside_its_folder, without_rule, words, write_tokenizer, write_version
from tests.serving.running import Running, serving

INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imports")
    write_version(folder, "base", lstm(0), 1, "description: the first\n")
    onnx.save(lstm(1), str(folder / "bare.onnx"))
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    with serving(folder, "--allow-import", "--max-model-bytes", "300000") as server:
        yield server


@pytest.fixture
def client(server: Running) -> Iterator[Client]:
    with Client(server.address) as client:
        yield client


@pytest.fixture(autouse=True)
def nothing_is_left_over(folder: Path) -> Iterator[None]:
    yield
    assert left_over(folder) == []


def relevance(client: Client, name: str, version: str = "") -> np.ndarray:
    return client.explain(name, {"x": sequence()}, version=version).relevance["x"]


def expected(data: bytes) -> np.ndarray:
    return lx.load(data).explain({"x": sequence()}).relevance["x"]


def test_an_imported_model_answers_and_survives_a_restart(client: Client, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.onnx"
    file.write_bytes(content(3))
    detail = client.import_model("mine", file, config="description: from afar\nfeatures: {x: [a, b, c, d]}\n")
    assert (detail.name, detail.version, detail.state) == ("mine", "1", "ready")
    assert (detail.description, detail.feature_names["x"]) == ("from afar", ("a", "b", "c", "d"))
    np.testing.assert_array_equal(relevance(client, "mine"), expected(content(3)))
    assert client.import_model("mine", content(4)).version == "2"
    np.testing.assert_array_equal(relevance(client, "mine"), expected(content(4)))
    np.testing.assert_array_equal(relevance(client, "mine", "1"), expected(content(3)))
    with serving(folder) as other, Client(other.address) as again:
        np.testing.assert_array_equal(relevance(again, "mine"), expected(content(4)))
        assert again.model("mine", "1").description == "from afar"
    client.delete_model("mine", "1")
    assert [m.version for m in client.models() if m.name == "mine"] == ["2"]
    client.delete_model("mine")
    with pytest.raises(ModelNotFound):
        relevance(client, "mine")
    assert not (folder / "mine").exists()


async def test_import_with_the_asynchronous_client(server: Running, client: Client) -> None:
    async with AsyncClient(server.address) as awaited:
        detail = await awaited.import_model("awaited", content(5), version="7")
        assert detail.version == "7"
        np.testing.assert_array_equal(relevance(client, "awaited"), expected(content(5)))
        await awaited.delete_model("awaited", "7")
        assert all(m.name != "awaited" for m in await awaited.models())


def in_parts(folder: Path) -> tuple[Path, Path]:
    """A model as exporters write large ones: the graph, and the weights in a separate file."""
    onnx.save_model(
        lstm(7), str(folder / "model.onnx"), save_as_external_data=True, location="model.onnx.data", size_threshold=0
    )
    return folder / "model.onnx", folder / "model.onnx.data"


def test_weights_in_a_separate_file(client: Client, folder: Path, tmp_path: Path) -> None:
    model, weights = in_parts(tmp_path)
    client.import_model("apart", model, files=[weights])
    np.testing.assert_array_equal(relevance(client, "apart"), expected(content(7)))
    with serving(folder) as other, Client(other.address) as again:
        np.testing.assert_array_equal(relevance(again, "apart"), expected(content(7)))
    client.delete_model("apart")
    assert not (folder / "apart").exists()


async def test_a_model_with_its_tokenizer(server: Running, client: Client, folder: Path, tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    config = "tokenizer: {file: tokenizer.json, input: tokens}\n"
    data, tokenizer = words().SerializeToString(), tmp_path / "tokenizer.json"
    client.import_model("said", data, config=config, files={"tokenizer.json": tokenizer.read_bytes()})
    async with AsyncClient(server.address) as awaited:
        assert (await awaited.import_model("said", data, config=config, files=[tokenizer])).version == "2"
    ids = np.array([[WORDS.index(word) for word in ("not", "a", "bad", "film")]])
    for version in ("1", "2"):
        result = client.explain("said", {"tokens": "not a bad film"}, version=version)
        np.testing.assert_array_equal(
            result.relevance["tokens"], lx.load(words()).explain({"tokens": ids}).relevance["tokens"]
        )
    with serving(folder) as other, Client(other.address) as again:
        assert again.model("said", "1").text_inputs == ("tokens",)
    client.delete_model("said")


def test_an_existing_version_is_refused(client: Client) -> None:
    with pytest.raises(AlreadyExists):
        client.import_model("base", content(1), version="1")
    with pytest.raises(AlreadyExists):
        client.import_model("bare", content(1), version="1")
    np.testing.assert_array_equal(relevance(client, "base"), expected(content(0)))


def test_a_new_version_of_a_bare_file(client: Client, folder: Path) -> None:
    assert client.import_model("bare", content(6)).version == "2"
    np.testing.assert_array_equal(relevance(client, "bare"), expected(content(6)))
    client.delete_model("bare", "2")
    np.testing.assert_array_equal(relevance(client, "bare"), expected(content(1)))
    assert (folder / "bare.onnx").exists()
    client.delete_model("bare")
    assert not (folder / "bare.onnx").exists()


def test_a_version_without_configuration_uses_its_models(client: Client) -> None:
    assert client.import_model("base", content(2)).description == "the first"
    client.delete_model("base", "2")


def test_a_model_that_only_lrp_cannot_explain_is_accepted(client: Client) -> None:
    detail = client.import_model("no-rule", without_rule().SerializeToString())
    assert not detail.lrp_supported
    client.delete_model("no-rule")


GOOD = content(0)
BAD = {
    "no start": ([chunk(GOOD)], "start", "start"),
    "nothing": ([], "start", "start"),
    "an empty message": ([model_pb2.ImportModelRequest()], "start", "start"),
    "two starts": ([start(GOOD), start(GOOD)], "chunk", "chunk"),
    "too short": ([start(GOOD), chunk(GOOD[:-1])], "chunk", f"{len(GOOD) - 1} of the announced {len(GOOD)} bytes"),
    "too long": ([start(GOOD), chunk(GOOD), chunk(b"1")], "chunk", "more than the announced"),
    "no bytes": ([start(GOOD, size=0)], "start.size", "0 bytes"),
    "negative size": ([start(GOOD, size=-1)], "start.size", "-1 bytes"),
    "beyond the limit": ([start(GOOD, size=300_001)], "start.size", "--max-model-bytes"),
    "another SHA-256": ([start(GOOD, sha256=bytes(32)), chunk(GOOD)], "start.sha256", "not the announced one"),
    "no SHA-256": ([start(GOOD, sha256=b"")], "start.sha256", "32 bytes"),
    "no model": ([start(b"hello"), chunk(b"hello")], "chunk", ""),
    "half a model": ([start(GOOD[:500]), chunk(GOOD[:500])], "chunk", ""),
    "unknown key": ([start(GOOD, config_yaml="colour: red"), chunk(GOOD)], "start.config_yaml", "model.yaml:1: colour"),
    "not YAML": ([start(GOOD, config_yaml="[a"), chunk(GOOD)], "start.config_yaml", "not YAML"),
    "tokenizer elsewhere": (
        [start(GOOD, config_yaml="tokenizer: {file: ../base/model.yaml, input: x}"), chunk(GOOD)],
        "start.config_yaml",
        "in the model's folder",
    ),
    **{
        f"name {name!r}": ([start(GOOD, name=name), chunk(GOOD)], "start.name", "name")
        for name in ("", ".", "..", "../up", "a/b", "/etc/x", ".staging", "a\0b", "a\nb", "é", "x" * 129, "-x")
    },
    **{
        f"version {version!r}": ([start(GOOD, version=version), chunk(GOOD)], "start.version", "version")
        for version in ("0", "-1", "01", "one", "../2", "1/2", "9" * 19)
    },
}


def announce(name: str, data: bytes, **fields: Any) -> model_pb2.ImportModelRequest:
    values = {"name": name, "sha256": hashlib.sha256(data).digest(), "size": len(data), **fields}
    return model_pb2.ImportModelRequest(file=model_pb2.ImportModelFile(**values))


WHOLE = [start(GOOD), chunk(GOOD)]
BAD_FILES = {
    "a file before its model": ([announce("w", b"12")], "start", "start"),
    "a file before the model's end": ([start(GOOD), chunk(GOOD[:-1]), announce("w", b"12")], "chunk", "announced"),
    "a short file": ([*WHOLE, announce("w", b"12"), chunk(b"1")], "chunk", "1 of the announced 2 bytes"),
    "a long file": ([*WHOLE, announce("w", b"12"), chunk(b"123")], "chunk", "more than the announced 2 bytes"),
    "another file": ([*WHOLE, announce("w", b"12"), chunk(b"34")], "file.sha256", "not the announced one"),
    "a file without SHA-256": ([*WHOLE, announce("w", b"12", sha256=b"")], "file.sha256", "32 bytes"),
    "a file without bytes": ([*WHOLE, announce("w", b"")], "file.size", "0 bytes"),
    "files beyond the limit": ([*WHOLE, announce("w", b"1", size=300_000)], "file.size", "--max-model-bytes"),
    "a file twice": ([*WHOLE, *[announce("w", b"1"), chunk(b"1")] * 2], "file.name", "was already sent"),
    "the model twice": ([*WHOLE, announce("model.onnx", b"1")], "file.name", "was already sent"),
    "a config as a file": ([*WHOLE, announce("model.yaml", b"1")], "file.name", "config_yaml"),
    "very many files": (
        [*WHOLE, *(m for i in range(1000) for m in (announce(f"w{i}", b"1"), chunk(b"1")))],
        "file.name",
        "at most 1000",
    ),
    **{
        f"file {name!r}": ([*WHOLE, announce(name, b"1"), chunk(b"1")], "file.name", "is not a valid file name")
        for name in ("", ".", "..", "../up", "a/b", "/etc/x", ".hidden", "a\\b", "a\0b", "a\nb", "é" * 128)
    },
}
BAD |= BAD_FILES


def outside() -> list[model_pb2.ImportModelRequest]:
    data = outside_its_folder().SerializeToString()
    return [start(data), chunk(data)]


@pytest.mark.parametrize("case", [*BAD, "external data"])
def test_invalid_imports_are_refused(server: Running, folder: Path, case: str) -> None:
    messages, field, part = (outside(), "chunk", "secret.bin") if case == "external data" else BAD[case]
    before = sorted(str(p) for p in folder.rglob("*"))
    with server.channel() as channel, pytest.raises(grpc.RpcError) as raised:
        model_pb2_grpc.ModelServiceStub(channel).ImportModel(iter(messages), timeout=20)
    refused = refusal(raised.value)
    assert (refused.code, refused.field) == (INVALID, field), refused.message
    assert part in refused.message
    assert str(folder) not in str(refused.status)
    assert ".staging" not in refused.message or "'.staging'" in refused.message
    assert sorted(str(p) for p in folder.rglob("*")) == before


def test_invalid_protobuf_is_refused(server: Running) -> None:
    with server.channel() as channel:
        call = channel.stream_unary("/lstm_explain.v1.ModelService/ImportModel")
        with pytest.raises(grpc.RpcError) as raised:
            call(iter([start(GOOD).SerializeToString(), b"\xff\xff"]), timeout=10)
    assert refusal(raised.value).code == INVALID


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("nothing", ""),
        ("base", "9"),
        ("base", "../1"),
        ("..", ""),
        (".", ""),
        ("", ""),
        (".staging", ""),
        ("base/1", ""),
    ],
)
def test_deleting_a_missing_version_is_not_found(client: Client, folder: Path, name: str, version: str) -> None:
    before = sorted(folder.rglob("*"))
    with pytest.raises(ModelNotFound):
        client.delete_model(name, version)
    assert sorted(folder.rglob("*")) == before


def test_an_import_that_is_cancelled_leaves_nothing_behind(server: Running, folder: Path) -> None:
    data = content(1, hidden=64)

    def slowly() -> Iterator[model_pb2.ImportModelRequest]:
        yield start(data, name="left")
        yield chunk(data[:1000])
        time.sleep(30)

    with server.channel() as channel:
        call = model_pb2_grpc.ModelServiceStub(channel).ImportModel.future(slowly())
        time.sleep(0.5)
        assert len(left_over(folder)) == 1
        call.cancel()
        wait_until_clean(folder)
    assert not (folder / "left").exists()


def test_an_import_without_messages_times_out(tmp_path: Path) -> None:
    data = content(1)

    def silent() -> Iterator[model_pb2.ImportModelRequest]:
        yield start(data)
        yield chunk(data[:100])
        time.sleep(20)

    with serving(tmp_path, "--allow-import", "--import-patience", "0.3") as server, server.channel() as channel:
        stub = model_pb2_grpc.ModelServiceStub(channel)
        calls = [stub.ImportModel.future(silent()) for _ in range(2)]  # as many as are let in
        assert {call.exception(timeout=10).code() for call in calls} == {grpc.StatusCode.CANCELLED}
        wait_until_clean(tmp_path)
        with Client(server.address) as client:
            assert client.import_model("next", data).version == "1"
        assert left_over(tmp_path) == []


def test_two_imports_of_one_name_at_once(server: Running, client: Client) -> None:
    def add(seed: int) -> str:
        with Client(server.address) as own:
            return own.import_model("twins", content(seed)).version

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(add, (1, 2))) == ["1", "2"]
    client.delete_model("twins")


def test_imports_are_off_by_default(folder: Path) -> None:
    with serving(folder) as server, Client(server.address) as client:
        for call in (lambda: client.import_model("x", GOOD), lambda: client.delete_model("base")):
            with pytest.raises(Unimplemented):
                call()
        assert "base" in {m.name for m in client.models()}


def test_a_read_only_folder_is_an_error(tmp_path: Path) -> None:
    write_version(tmp_path, "a", lstm(0))
    (tmp_path / ".staging").write_text("in the way")
    problem = "cannot import models, since their folder cannot be written to"
    with pytest.raises(AssertionError, match=problem), serving(tmp_path, "--allow-import"):
        pass
