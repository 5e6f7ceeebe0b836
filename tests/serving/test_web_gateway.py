# SPDX-License-Identifier: Apache-2.0
"""The page's JSON calls over real HTTP give the responses and errors of gRPC, and invalid ones are refused."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest
from google.protobuf import json_format

from lstm_explain.serving.web.connect import HTTP_STATUS
from lstm_explain.serving.web.gateway import CALLS
from lstm_explain.serving.web.http_calls import MAX_ELEMENTS
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2 as pb
from lstm_explain_proto.lstm_explain.v1 import method_pb2, model_pb2, model_pb2_grpc, operation_pb2
from tests.serving.calling import refusal, request, sequence, stub, tensor, texts
from tests.serving.running import Running
from tests.serving.web import EXPLAIN, GET, JSON, LIST, MOST, ask, explanation, refused

ROOT = Path(__file__).resolve().parents[2]


# The same as over gRPC


@pytest.mark.parametrize(
    "message",
    [
        request(),
        request(target=pb.Target(indices=[1], contrast_indices=[2]), capture=["logits"]),
        request(method=method_pb2.Method(occlusion=method_pb2.Occlusion(window=2))),
        request("words", inputs=[texts("tokens", "not a bad film, ça va")]),
    ],
)
def test_responses_equal_those_of_grpc(web_server: Running, page: str, message: pb.ExplainRequest) -> None:
    answer = ask(page, EXPLAIN, explanation(message))
    assert answer.status == 200, answer.body
    with web_server.channel() as channel:
        expected = stub(channel).Explain(message, timeout=20)
    assert json_format.Parse(answer.body, pb.ExplainResponse()) == expected
    raw = ask(page, EXPLAIN, message.SerializeToString(), {"content-type": "application/proto"})
    assert pb.ExplainResponse.FromString(raw.body) == expected


def test_models_equal_those_of_grpc(web_server: Running, page: str) -> None:
    with web_server.channel() as channel:
        models = model_pb2_grpc.ModelServiceStub(channel)
        listed, described = models.ListModels(model_pb2.ListModelsRequest()), {}
        for model in listed.models:
            described[model.name] = models.GetModel(model_pb2.GetModelRequest(name=model.name, version=model.version))
    assert json_format.Parse(ask(page, LIST).body, model_pb2.ListModelsResponse()) == listed
    for name, expected in described.items():
        body = json.dumps({"name": name}).encode()
        assert json_format.Parse(ask(page, GET, body).body, model_pb2.GetModelResponse()) == expected


@pytest.mark.parametrize(
    "message",
    [
        request("nowhere"),
        request(inputs=[tensor("x", sequence(features=5))]),
        request(inputs=[tensor("y", sequence())]),
        request(target=pb.Target(output="none")),
        request(method=method_pb2.Method(lrp=method_pb2.Lrp(epsilon=-1))),
        request(
            "det", inputs=[tensor("x", sequence(1, 2, features=2))], method=method_pb2.Method(lrp=method_pb2.Lrp())
        ),
        pb.ExplainRequest(),
    ],
)
def test_errors_equal_those_of_grpc(web_server: Running, page: str, message: pb.ExplainRequest) -> None:
    answer = ask(page, EXPLAIN, explanation(message), {"x-request-id": "mine-7"})
    with web_server.channel() as channel, pytest.raises(grpc.RpcError) as raised:
        stub(channel).Explain(message, timeout=20)
    expected = refusal(raised.value)
    assert refused(answer) == expected.code.name.lower()
    assert answer.status == HTTP_STATUS[expected.code.name]
    assert answer.json()["message"] == expected.message
    assert answer.field() == expected.field
    assert answer.headers["x-request-id"] == "mine-7"


def test_a_third_party_connect_client_works_unchanged(web_server: Running, page: str) -> None:
    """buf curl uses Connect, with the schema from proto/."""

    def curl(service: str, data: str, *flags: str) -> subprocess.CompletedProcess[str]:
        arguments = ["curl", "--schema", "proto", "--protocol", "connect", "--http2-prior-knowledge=false", *flags]
        target = f"{page}lstm_explain.v1.{service}"
        program = Path(sys.executable).with_name("buf")
        return subprocess.run(
            [program, *arguments, "--data", data, target], cwd=ROOT, capture_output=True, text=True, timeout=60
        )

    listed = curl("ModelService/ListModels", "{}")
    assert "lstm" in {model["name"] for model in json.loads(listed.stdout)["models"]}, listed.stderr
    body = explanation(request()).decode()
    reported = json.loads(curl("ExplanationService/Explain", body).stdout)
    assert json_format.ParseDict(reported, pb.ExplainResponse()).outputs[0].shape == [2, 3]
    missing = curl("ExplanationService/Explain", '{"model": "nowhere"}')
    assert missing.returncode != 0
    assert "not_found" in missing.stderr
    assert "there is no model 'nowhere'" in missing.stderr


def test_calls_appear_in_the_metrics(web_server: Running, page: str) -> None:
    def count() -> float:
        text = (
            urllib.request.urlopen(f"http://127.0.0.1:{_metrics_port(web_server, page)}/metrics", timeout=5)
            .read()
            .decode()
        )
        lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return float(lines.get('lstm_explain_calls_total{code="OK",rpc="Explain"}', 0))

    before = count()
    ask(page, EXPLAIN, explanation(request()))
    assert count() == before + 1


# What becomes no call


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not valid JSON for lstm_explain.v1.ExplainRequest"),
        (b"{", "not valid JSON for lstm_explain.v1.ExplainRequest"),
        (b"[]", "not valid JSON for lstm_explain.v1.ExplainRequest"),
        (b"\xff\xfe", "not valid JSON for lstm_explain.v1.ExplainRequest"),
        (b'{"model": 3}', "model"),
        (b'{"modle": "lstm"}', "modle"),
        (b'{"target": {"indices": ["1e99"]}}', "indices"),
        (b'{"inputs": ' + b"[" * 100_000, "recursion"),
        (b'{"target": {"indices": [' + b"0," * (MAX_ELEMENTS + 1) + b"0]}}", "elements"),
    ],
)
def test_invalid_json_is_refused(page: str, body: bytes, message: str) -> None:
    answer = ask(page, EXPLAIN, body)
    assert (answer.status, refused(answer)) == (400, "invalid_argument")
    assert message in answer.json()["message"]


@pytest.mark.parametrize("lie", [False, True])
def test_a_body_that_is_too_large_is_refused(page: str, lie: bool) -> None:
    body = explanation(request(inputs=[tensor("x", sequence(20, 1000))]))
    assert len(body) > MOST
    if not lie:
        answer = ask(page, EXPLAIN, body)
        assert (answer.status, refused(answer)) == (413, "resource_exhausted")
        return
    # In pieces, without saying how many there will be.
    where = urlsplit(page)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=20)
    pieces = (b" " * 10_000 for _ in range(1000))
    try:
        connection.request("POST", EXPLAIN, pieces, {**JSON, "transfer-encoding": "chunked"}, encode_chunked=True)
        assert connection.getresponse().status == 413
    except (BrokenPipeError, ConnectionResetError):
        pass  # we were hung up on, before we had sent it all
    finally:
        connection.close()
    assert ask(page, LIST).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": ""},
        {"content-encoding": "gzip"},
    ],
)
def test_other_encodings_are_refused(page: str, headers: dict[str, str]) -> None:
    """Including those that a form of another site can send."""
    assert ask(page, LIST, b"{}", headers).status == 415


def test_a_deadline_is_enforced(page: str) -> None:
    answer = ask(page, EXPLAIN, explanation(long_one()), {"connect-timeout-ms": "50"})
    assert (answer.status, refused(answer)) == (504, "deadline_exceeded")
    assert ask(page, LIST, b"{}", {"connect-timeout-ms": "soon"}).status == 400


def test_an_operation_is_started_and_fetched(page: str) -> None:
    def call(method: str, body: object) -> dict[str, Any]:
        answer = ask(page, f"/lstm_explain.v1.OperationService/{method}", json.dumps(body).encode())
        assert answer.status == 200, answer.body
        return dict(answer.json())

    message = request(method=method_pb2.Method(gradient=method_pb2.Gradient()))
    direct = ask(page, EXPLAIN, explanation(message)).json()
    started = call("StartExplain", {"request": json.loads(explanation(message))})["operation"]
    ended = call("WaitOperation", {"name": started["name"]})["operation"]
    assert ended["state"] == "OPERATION_STATE_SUCCEEDED"
    assert ended["response"] == direct
    assert started["name"] in {one["name"] for one in call("ListOperations", {})["operations"]}
    assert (
        call("CancelOperation", {"name": started["name"]}) == call("DeleteOperation", {"name": started["name"]}) == {}
    )
    gone = ask(page, "/lstm_explain.v1.OperationService/GetOperation", json.dumps({"name": started["name"]}).encode())
    assert (gone.status, refused(gone)) == (404, "not_found")


def test_calls_that_change_models_are_not_offered(page: str) -> None:
    for path in ("ModelService/ImportModel", "ModelService/DeleteModel", "ModelService/RouteModel", "X/Y"):
        assert ask(page, f"/lstm_explain.v1.{path}").status in (404, 405)
    assert ask(page, EXPLAIN, None, method="GET").status in (404, 405)
    operations = {method.name for method in operation_pb2.DESCRIPTOR.services_by_name["OperationService"].methods}
    assert {call.method for call in CALLS} == {"ListModels", "GetModel", "Explain", *operations}


def long_one() -> pb.ExplainRequest:
    method = method_pb2.Method(shapley_sampling=method_pb2.ShapleySampling(permutations=60))
    return request("heavy", inputs=[tensor("x", sequence(1, 600))], method=method)


def test_a_disconnected_client_stops_the_work(web_server: Running, page: str) -> None:
    """There is one slot, so the next request would have to wait for abandoned work."""
    where = urlsplit(page)
    ask(page, EXPLAIN, explanation(request("heavy")))  # compiled by now
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=20)
    connection.request("POST", EXPLAIN, explanation(long_one()), JSON)
    time.sleep(0.4)
    connection.close()
    start = time.monotonic()
    assert ask(page, EXPLAIN, explanation(request())).status == 200
    assert time.monotonic() - start < 3
    while "Explain CANCELLED" not in web_server.logged():
        assert time.monotonic() - start < 10
        time.sleep(0.05)


def _metrics_port(server: Running, page: str) -> int:
    """The third port that the process listens on."""
    known = {int(server.address.rsplit(":", 1)[1]), urlsplit(page).port}
    inodes = {os.readlink(fd) for fd in Path(f"/proc/{server.process.pid}/fd").iterdir() if fd.is_symlink()}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ports = {int(r[1].split(":")[1], 16) for r in rows if r[3] == "0A" and f"socket:[{r[9]}]" in inodes}
    (port,) = ports - known
    return port
