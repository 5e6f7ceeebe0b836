# SPDX-License-Identifier: Apache-2.0
"""A server that is killed during an import has each version as a whole or not at all when it restarts."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np

from lstm_explain.repository.model_folder import find_sources
from lstm_explain_client import Client
from lstm_explain_proto.lstm_explain.v1 import model_pb2, model_pb2_grpc
from tests.serving.importing import chunk, content, left_over, start
from tests.serving.models import lstm, write_version
from tests.serving.running import Running, serving
from tests.serving.test_import import announce, expected, relevance


def test_kill_9_during_an_import(tmp_path: Path) -> None:
    """After a restart, existing versions are there, and the new one as a whole or not at all."""
    write_version(tmp_path, "base", lstm(0))
    data = content(1, hidden=64)
    model, whole = len(data), len(data) + len(BESIDE)
    # Bytes sent, and seconds from then to the kill: the last ones hit the checks, the renames, the answer.
    kills = [(0, 0.2), (model // 2, 0.2), (model, 0.2), (whole - 1, 0.2), (whole, 0.0), (whole, 0.03), (whole, 0.3)]
    for count, seconds in kills:
        with serving(tmp_path, "--allow-import") as server:
            versions = intact(server, tmp_path, data)
            with server.channel() as channel:
                kill_while_importing(server, channel, data, count, seconds)
        if count < whole:
            assert [s.version for s in find_sources(tmp_path)] == versions
    with serving(tmp_path, "--allow-import") as server, Client(server.address) as client:
        versions = intact(server, tmp_path, data)
        assert client.import_model("base", data).version == str(versions[-1] + 1)


BESIDE = bytes(10_000)  # a second file of the version


def chunks(data: bytes) -> Iterator[model_pb2.ImportModelRequest]:
    return (chunk(data[at : at + 4096]) for at in range(0, len(data), 4096))


def kill_while_importing(server: Running, channel: grpc.Channel, data: bytes, count: int, seconds: float) -> None:
    sent = threading.Event()

    def messages() -> Iterator[model_pb2.ImportModelRequest]:
        yield start(data, name="base")
        yield from chunks(data[:count])
        if count >= len(data):
            yield announce("beside.bin", BESIDE)
            yield from chunks(BESIDE[: count - len(data)])
        sent.set()
        if count < len(data) + len(BESIDE):
            time.sleep(20)

    call = model_pb2_grpc.ModelServiceStub(channel).ImportModel.future(messages())
    assert sent.wait(20)
    time.sleep(seconds)
    server.process.kill()
    server.process.wait()
    call.cancel()


def intact(server: Running, folder: Path, data: bytes) -> list[int]:
    """Checks the versions of `base`: all ready, the first unchanged, the others as imported, and nothing else."""
    assert left_over(folder) == []
    with Client(server.address) as client:
        models = client.models()
        assert {(m.name, m.state) for m in models} == {("base", "ready")}
        versions = [int(m.version) for m in models]
        assert versions == list(range(1, len(versions) + 1))
        np.testing.assert_array_equal(relevance(client, "base", "1"), expected(content(0)))
        for version in versions[1:]:
            np.testing.assert_array_equal(relevance(client, "base", str(version)), expected(data))
    return versions
