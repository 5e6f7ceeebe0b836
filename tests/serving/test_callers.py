# SPDX-License-Identifier: Apache-2.0
"""Tokens that expire, are for some models, or have quotas, on every face of a server with two workers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc
import pytest

from lstm_explain_proto.inference import grpc_service_pb2, grpc_service_pb2_grpc
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2, model_pb2, model_pb2_grpc
from tests.serving.calling import request, stub
from tests.serving.faces import FACES, Outcome, attempt, bearer, explain, stream, unary
from tests.serving.importing import chunk, content, start
from tests.serving.models import lstm, write_version
from tests.serving.running import Running, free_address, metrics, serving

REQUESTS, COST_OF_ONE = 5, 14  # a minute's quota; two samples of seven steps, once
METRICS = free_address()
FILE = "tokens:\n" + "".join(
    f"  - {{name: {name}, token: {name}-0123456789abcdef, roles: [explain, manage]{rest}}}\n"
    for name, rest in {
        "free": "",
        "expired": ', expires: "2020-01-31T00:00:00Z"',
        "valid": ', expires: "2120-01-31T00:00:00+01:00"',
        "others": ', models: [other, "an*"]',
        **{f"few-{face}": f", quota: {{requests_per_minute: {REQUESTS}}}" for face in FACES},
        "few-shared": f", quota: {{requests_per_minute: {REQUESTS}}}",
        "cheap": ", quota: {cost_per_minute: 20}",
        "narrow": ", quota: {streams: 1}",
        "leaving": "",
    }.items()
)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokens") / "tokens.yaml"
    path.write_text(FILE)
    return path


@pytest.fixture(scope="module")
def server(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("models")
    for name in ("lstm", "other", "another"):
        write_version(folder, name, lstm())
    flags = ("--tokens", str(tokens), "--web", "127.0.0.1:0", "--allow-import", "--metrics-listen", METRICS)
    with serving(folder, *flags, "--workers", "2") as server:
        yield server


def token(name: str) -> tuple[tuple[str, str], ...]:
    return bearer(f"{name}-0123456789abcdef")


def is_refused(face: str, outcome: Outcome, code: str) -> bool:
    return outcome.code == ("ERROR" if face == "ModelStreamInfer" else code)


@pytest.mark.parametrize("face", FACES)
def test_an_expired_token_is_refused(server: Running, face: str) -> None:
    outcome = FACES[face](server, token("expired"))
    assert outcome.code == "UNAUTHENTICATED"
    assert outcome.message == "the token 'expired' has expired on 2020-01-31T00:00:00Z"
    assert FACES[face](server, token("valid")).code == "OK"


@pytest.mark.parametrize("face", FACES)
def test_a_token_for_other_models_is_refused(server: Running, face: str) -> None:
    outcome = FACES[face](server, token("others"))
    assert is_refused(face, outcome, "PERMISSION_DENIED")
    assert outcome.message == "the token 'others' may not use model 'lstm'"
    assert FACES[face](server, token("others"), "absent").message == "the token 'others' may not use model 'absent'"
    for model in ("other", "another"):
        assert FACES[face](server, token("others"), model).code == "OK"
    assert FACES[face](server, token("free")).code == "OK"


@pytest.mark.parametrize("face", FACES)
def test_a_token_over_its_quota_is_refused_with_a_time_to_wait(server: Running, face: str) -> None:
    """Each call has a connection of its own, so both workers answer some of them."""
    began = time.monotonic()
    outcomes = [FACES[face](server, token(f"few-{face}")) for _ in range(3 * REQUESTS)]
    drained = int((time.monotonic() - began) / 60 * REQUESTS)
    answered = [outcome.code == "OK" for outcome in outcomes]
    assert REQUESTS <= sum(answered) <= REQUESTS + drained
    assert all(answered[:REQUESTS])
    refused = outcomes[-1]
    assert is_refused(face, refused, "RESOURCE_EXHAUSTED")
    assert f"the token 'few-{face}' may make {REQUESTS} requests per minute; try again in " in refused.message
    if face in ("Explain", "ModelInfer", "page"):  # a stream goes on, so it has no status
        assert refused.retry is not None
        assert 0 < refused.retry <= 60 / REQUESTS
    if face == "page":
        assert refused.headers is not None
        assert int(refused.headers["retry-after"]) - 1 < refused.retry <= int(refused.headers["retry-after"])
    if face == "Explain":
        assert refused.headers is not None
        assert refused.headers["grpc-retry-pushback-ms"] == "-1"
    assert FACES[face](server, token("free")).code == "OK"


def test_all_faces_count_toward_one_quota(server: Running) -> None:
    outcomes = [call(server, token("few-shared")).code for call in FACES.values()]
    assert outcomes == ["OK"] * REQUESTS == ["OK"] * len(FACES)
    assert unary(server, token("few-shared")).code == "RESOURCE_EXHAUSTED"


def test_cost_is_counted_in_steps_of_the_model(server: Running) -> None:
    """20 a minute are left after 14, and not after 28."""
    assert [unary(server, token("cheap")).code for _ in range(2)] == ["OK"] * 2
    refused = unary(server, token("cheap"))
    assert refused.code == "RESOURCE_EXHAUSTED"
    assert f"cost of 20 per minute; this request costs {COST_OF_ONE}" in refused.message
    assert refused.retry == pytest.approx((2 * COST_OF_ONE - 20) / 20 * 60, abs=5)
    assert "cost of 20" in stream(server, token("cheap")).message
    assert unary(server, token("free")).code == "OK"


class OpenStream:
    """A stream on a connection of its own, which stays open."""

    def __init__(self, server: Running, metadata: Any) -> None:
        self.channel = grpc.insecure_channel(server.address, options=[("grpc.use_local_subchannel_pool", 1)])
        self.requests: SimpleQueue[Any] = SimpleQueue()
        self.answers = stub(self.channel).ExplainStream(iter(self.requests.get, None), metadata=metadata, timeout=60)

    def ask(self) -> Any:
        self.requests.put(explanation_pb2.ExplainStreamRequest(id="1", request=request()))
        return next(self.answers)

    def close(self) -> None:
        self.requests.put(None)
        list(self.answers)
        self.channel.close()


def test_a_token_has_as_many_open_streams_as_its_quota_says(server: Running) -> None:
    first = OpenStream(server, token("narrow"))
    assert first.ask().response.version == "1"
    for call in (FACES["ExplainStream"], FACES["ModelStreamInfer"]):
        for _ in range(8):  # on both workers
            refused = call(server, token("narrow"))
            assert refused.code == "RESOURCE_EXHAUSTED"
            assert refused.message == "the token 'narrow' may have 1 open streams; try again in 1 seconds"
            assert refused.retry == 1.0
    assert unary(server, token("narrow")).code == "OK"
    assert stream(server, token("free")).code == "OK"
    first.close()
    assert stream(server, token("narrow")).code == "OK"


def test_the_streams_of_a_worker_that_crashed_do_not_count(server: Running) -> None:
    first = OpenStream(server, token("narrow"))
    first.ask()
    for worker in server.workers():
        os.kill(worker, signal.SIGKILL)
    with pytest.raises(grpc.RpcError):
        first.ask()
    first.channel.close()
    end = time.monotonic() + 60
    while (outcome := stream(server, token("narrow"))).code == "UNAVAILABLE" and time.monotonic() < end:
        time.sleep(0.1)
    assert outcome.code == "OK"


def test_a_token_that_is_withdrawn_ends_with_its_next_request(server: Running, tokens: Path) -> None:
    opened = OpenStream(server, token("leaving"))
    assert opened.ask().response.version == "1"
    fresh = tokens.with_suffix(".new")
    fresh.write_text("\n".join(line for line in FILE.splitlines() if "leaving" not in line))
    os.replace(fresh, tokens)
    time.sleep(0.3)
    assert opened.ask().error.message == "the token 'leaving' has been withdrawn"
    opened.close()
    assert unary(server, token("leaving")).code == "UNAUTHENTICATED"
    assert unary(server, token("free")).code == "OK"


def test_lists_and_changes_know_the_models_of_a_token(server: Running) -> None:
    mine, data = token("others"), content(3)
    with server.channel() as channel:
        models = model_pb2_grpc.ModelServiceStub(channel)
        inference = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
        listed = models.ListModels(model_pb2.ListModelsRequest(), metadata=mine, timeout=20)
        assert [model.name for model in listed.models] == ["another", "other"]
        indexed = inference.RepositoryIndex(grpc_service_pb2.RepositoryIndexRequest(), metadata=mine, timeout=20)
        assert [model.name for model in indexed.models] == ["another", "other"]
        calls: dict[Any, Any] = {
            models.GetModel: model_pb2.GetModelRequest(name="lstm"),
            models.DeleteModel: model_pb2.DeleteModelRequest(name="lstm"),
            models.ImportModel: iter([start(data, name="lstm"), chunk(data)]),
            inference.ModelReady: grpc_service_pb2.ModelReadyRequest(name="lstm"),
            inference.ModelMetadata: grpc_service_pb2.ModelMetadataRequest(name="lstm"),
            inference.RepositoryModelLoad: grpc_service_pb2.RepositoryModelLoadRequest(model_name="lstm"),
            inference.RepositoryModelUnload: grpc_service_pb2.RepositoryModelUnloadRequest(model_name="lstm"),
        }
        for call, message in calls.items():
            outcome = attempt(call, message, mine)
            assert (outcome.code, outcome.message) == (
                "PERMISSION_DENIED",
                "the token 'others' may not use model 'lstm'",
            )
        assert models.GetModel(model_pb2.GetModelRequest(name="other"), metadata=mine, timeout=20).model.nodes
        assert explain(channel, token("free")).code == "OK"
    with server.channel() as channel:
        models = model_pb2_grpc.ModelServiceStub(channel)
        assert attempt(models.ListModels, model_pb2.ListModelsRequest(), token("expired")).code == "UNAUTHENTICATED"


def test_refusals_are_counted_by_their_reason(server: Running) -> None:
    found = metrics(METRICS)
    for why in ("expired", "model", "requests", "cost", "streams"):
        assert found[f'lstm_explain_refusals_total{{why="{why}"}}'] > 0
    assert not any("few" in name for name in found)
