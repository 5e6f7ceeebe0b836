# SPDX-License-Identifier: Apache-2.0
"""The default version of a model and its canary: chosen, changed and rolled back while the model is served."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

import lstm_explain as lx
import lstm_explain_client
from lstm_explain.serving.observability.metrics import MAX_VERSIONS, Metrics
from tests.serving.calling import array_of, request, sequence, stub
from tests.serving.faces import FACES, explain
from tests.serving.models import lstm, write_version
from tests.serving.running import Running, free_address, metrics, serving

METRICS = free_address()
SECONDS_TO_FOLLOW = 0.5  # of the other worker


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in ("lstm", "pinned"):
        write_version(
            folder, name, lstm(0), 1, "default_version: 1\ncanary: {version: 2}\n" if name == "pinned" else ""
        )
        write_version(folder, name, lstm(1), 2)
    return folder


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audit") / "log"


@pytest.fixture(scope="module")
def server(folder: Path, log: Path) -> Iterator[Running]:
    flags = ("--workers", "2", "--allow-import", "--audit", str(log), "--metrics-listen", METRICS)
    with serving(folder, *flags, "--web", "127.0.0.1:0") as server:
        yield server


@pytest.fixture
def client(server: Running) -> Iterator[lstm_explain_client.Client]:
    with lstm_explain_client.Client(server.address) as client:
        yield client


class Callers:
    """Explain in several threads until the context ends; each answer by request id: when it came, and what it says."""

    def __init__(self, server: Running) -> None:
        self._server = server
        self._ended = threading.Event()
        self.answers: dict[str, tuple[float, Any]] = {}
        self.errors: list[grpc.RpcError] = []
        self._threads = [threading.Thread(target=self._call, args=(number,)) for number in range(4)]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, count: int) -> None:
        """Waits for this many more answers."""
        end, target = time.monotonic() + 60, len(self.answers) + count
        while len(self.answers) < target:
            assert time.monotonic() < end
            time.sleep(0.02)

    def _call(self, number: int) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(self._server.address, options=options) as channel:
            call, turn = stub(channel).Explain, 0
            while not self._ended.is_set():
                name, turn = f"canary-{number}-{turn}", turn + 1
                began = time.monotonic()
                try:
                    answer = call(request(), metadata=(("x-request-id", name),), timeout=20)
                except grpc.RpcError as error:
                    self.errors.append(error)
                else:
                    self.answers[name] = began, answer


def test_a_canary_under_load_is_promoted_and_rolled_back(
    server: Running, client: lstm_explain_client.Client, folder: Path, log: Path
) -> None:
    times = {}
    client.route_model("lstm", "1")
    time.sleep(SECONDS_TO_FOLLOW)
    with Callers(server) as callers:
        callers.wait_for(100)
        assert client.route_model("lstm", "1", "2", 0.1).canary_share == 0.1
        time.sleep(SECONDS_TO_FOLLOW)
        times["canary"] = time.monotonic()
        callers.wait_for(600)
        times["promote"] = time.monotonic()
        assert client.route_model("lstm", "2").previous_version == "1"
        time.sleep(SECONDS_TO_FOLLOW)
        times["promoted"] = time.monotonic()
        callers.wait_for(100)
        times["rollback"] = time.monotonic()
        assert client.roll_back_model("lstm").default_version == "1"
        time.sleep(SECONDS_TO_FOLLOW)
        times["rolled back"] = time.monotonic()
        callers.wait_for(100)
    assert callers.errors == []

    def versions(begin: str, end: str | None) -> list[str]:
        last = times[end] if end else float("inf")
        return [a.version for began, a in callers.answers.values() if times[begin] <= began < last]

    during = versions("canary", "promote")
    share = during.count("2") / len(during)
    assert len(during) >= 500
    assert abs(share - 0.1) < 4 * (0.1 * 0.9 / len(during)) ** 0.5
    assert set(versions("promoted", "rollback")) == {"2"}
    assert set(versions("rolled back", None)) == {"1"}

    lines = {line["request_id"]: line for line in map(json.loads, log.read_text().splitlines())}
    digests = {model.version: model.digest for model in client.models() if model.name == "lstm"}
    assert digests["1"] != digests["2"]
    own = {}
    for version in ("1", "2"):
        model = lx.load(folder / "lstm" / version / "model.onnx")
        own[version] = model.explain({"x": sequence()}).relevance["x"]
    for name, (_, answer) in callers.answers.items():
        assert lines[name]["version"] == answer.version
        assert lines[name]["digest"] == digests[answer.version]
        assert np.allclose(array_of(answer.relevance[0]), own[answer.version], rtol=1e-4, atol=1e-6)
    changes = [json.loads(line) for line in log.read_text().splitlines()]
    changes = [(line["event"], line["change"]) for line in changes if "change" in line]
    assert changes == [
        ("route", "default 1"),
        ("route", "default 1, canary 2 at 0.1"),
        ("route", "default 2"),
        ("rollback", "default 1"),
    ]
    counted = metrics(METRICS)
    for version in ("1", "2"):
        labels = f'{{code="OK",model="lstm",version="{version}"}}'
        expected = sum(answer.version == version for _, answer in callers.answers.values())
        assert counted[f"lstm_explain_version_requests_total{labels}"] >= expected > 0


@pytest.mark.parametrize("face", FACES)
def test_a_header_chooses_the_canary_on_every_face(server: Running, face: str) -> None:
    assert FACES[face](server, (), "pinned").version == "1"
    assert FACES[face](server, (("x-canary", "true"),), "pinned").version == "2"
    assert FACES[face](server, (("x-canary", "false"),), "pinned").version == "1"
    assert FACES[face](server, (("x-canary", "true"),), "pinned", "1").version == "1"


def test_one_request_id_always_gets_the_same_version(server: Running, client: lstm_explain_client.Client) -> None:
    client.route_model("lstm", "1", "2", 0.5)
    time.sleep(SECONDS_TO_FOLLOW)
    found = {}
    for name in map(str, range(12)):
        answers = set()
        for _ in range(3):
            with server.channel() as channel:
                answers.add(explain(channel, (("x-request-id", name),)).version)
        (found[name],) = answers
    assert set(found.values()) == {"1", "2"}


def test_descriptions_say_which_version_answers(client: lstm_explain_client.Client) -> None:
    client.route_model("lstm", "1", "2", 0.25)
    time.sleep(SECONDS_TO_FOLLOW)
    listed = {m.version: m for m in client.models() if m.name == "lstm"}
    assert (listed["1"].is_default, listed["1"].canary_share) == (True, 0.0)
    assert (listed["2"].is_default, listed["2"].canary_share) == (False, 0.25)
    assert client.model("lstm").version == "1"
    assert client.model("lstm", "2").digest == listed["2"].digest
    assert client.roll_back_model("lstm").canary_version == ""


@pytest.mark.parametrize(
    ("route", "problem"),
    [
        (("absent", "1"), "there is no model 'absent'"),
        (("lstm", "7"), "has no version '7'"),
        (("lstm", "1", "7", 0.5), "has no version '7'"),
        (("lstm", "1", "1", 0.5), "version 1 is the default version"),
        (("lstm", "1", "2", 1.5), "the share is 1.5"),
        (("lstm", "1", "2", float("nan")), "the share is nan"),
        (("lstm", "1", "", 0.5), "a share needs a canary_version"),
    ],
)
def test_a_wrong_route_changes_nothing(client: lstm_explain_client.Client, route: Any, problem: str) -> None:
    client.route_model("lstm", "1")
    with pytest.raises(lstm_explain_client.ExplainError, match=problem):
        client.route_model(*route)
    time.sleep(SECONDS_TO_FOLLOW)
    assert client.model("lstm").version == "1"


def test_a_route_outlives_the_server_and_reaches_replicas_that_poll(tmp_path: Path) -> None:
    write_version(tmp_path, "lstm", lstm(0), 1)
    write_version(tmp_path, "lstm", lstm(1), 2)
    with serving(tmp_path, "--poll-seconds", "0.2") as replica, replica.channel() as other:
        with serving(tmp_path, "--allow-import") as server, server.channel() as channel:
            assert explain(channel).version == "2"
            with lstm_explain_client.Client(server.address) as client:
                client.route_model("lstm", "1")
            assert explain(channel).version == "1"
        end = time.monotonic() + 30
        while explain(other).version != "1":
            assert time.monotonic() < end
            time.sleep(0.1)
        (tmp_path / "lstm" / "route.yaml").unlink()
        while explain(other).version != "2":
            assert time.monotonic() < end, replica.logged()
            time.sleep(0.1)
        (tmp_path / "lstm" / "route.yaml").write_text("default_version: one\n")
        while "route.yaml: default_version" not in replica.logged():
            assert time.monotonic() < end
            time.sleep(0.1)
        assert explain(other).version == "2"
        (tmp_path / "lstm" / "route.yaml").write_text("default_version: 3\n")
        while (outcome := explain(other)).code == "OK":
            assert time.monotonic() < end
            time.sleep(0.1)
        assert outcome.message == "the default version 3 of model 'lstm' does not exist"


def test_metrics_distinguish_a_bounded_number_of_versions() -> None:
    registry = CollectorRegistry()
    counted = Metrics(registry)
    for version in range(MAX_VERSIONS + 50):
        counted.answered("m", str(version), "OK", 0.001)
        counted.ran(f"model {version}", "lrp", 0.001)
    samples = [s for f in registry.collect() if f.name == "lstm_explain_version_requests" for s in f.samples]
    totals = {s.labels["version"]: s.value for s in samples if s.name.endswith("_total")}
    assert len(totals) == MAX_VERSIONS + 1
    assert totals["other"] == 50
    samples = [s for f in registry.collect() if f.name == "lstm_explain_engine_seconds" for s in f.samples]
    runs = {s.labels["model"]: s.value for s in samples if s.name.endswith("_count")}
    assert len(runs) == MAX_VERSIONS + 1
    assert runs["other"] == 50


def test_the_configuration_of_one_version_chooses_no_version(tmp_path: Path) -> None:
    write_version(tmp_path, "good", lstm(0))
    own = write_version(tmp_path, "bad", lstm(0)) / "1" / "model.yaml"
    own.write_text("default_version: 1\n")
    with serving(tmp_path) as server, lstm_explain_client.Client(server.address) as client:
        reason = client.model("bad").reason
    assert "model.yaml:1: default_version: belongs in the model.yaml of the model's folder" in reason
