# SPDX-License-Identifier: Apache-2.0
"""ExplainStream over real HTTP: the messages of gRPC in Connect's envelopes, as they come."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from google.protobuf import json_format

from lstm_explain_proto.lstm_explain.v1 import explanation_pb2 as pb
from lstm_explain_proto.lstm_explain.v1 import method_pb2
from tests.serving.calling import request, sequence, stub, tensor
from tests.serving.running import Running
from tests.serving.web import EXPLAIN, MOST, ask, explanation, refused

STREAM = "/lstm_explain.v1.ExplanationService/ExplainStream"
PROTO, JSON = {"content-type": "application/connect+proto"}, {"content-type": "application/connect+json"}
END = 2


def long_one(permutations: int = 9_000) -> pb.ExplainRequest:
    method = method_pb2.Method(shapley_sampling=method_pb2.ShapleySampling(permutations=permutations))
    return request(inputs=[tensor("x", sequence(1, 100))], method=method)


def item(name: str, message: pb.ExplainRequest, *, progress: bool = True) -> pb.ExplainStreamRequest:
    return pb.ExplainStreamRequest(id=name, request=message, progress=progress)


def envelope(message: bytes, flags: int = 0) -> bytes:
    return bytes([flags]) + len(message).to_bytes(4, "big") + message


def as_json(*items: pb.ExplainStreamRequest) -> bytes:
    return b"".join(envelope(json_format.MessageToJson(one).encode()) for one in items)


def read(body: Any) -> Iterator[tuple[int, bytes]]:
    """The flags and the bytes of every message of a response, as it comes."""
    while head := body.read(5):
        yield head[0], body.read(int.from_bytes(head[1:], "big"))


@contextmanager
def opened(page: str, body: bytes, headers: dict[str, str]) -> Iterator[http.client.HTTPResponse]:
    where = urlsplit(page)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=30)
    connection.request("POST", STREAM, body, headers)
    try:
        yield connection.getresponse()
    finally:
        connection.close()


@pytest.mark.parametrize("headers", [JSON, PROTO], ids=["json", "proto"])
def test_answers_equal_those_of_grpc(web_server: Running, page: str, headers: dict[str, str]) -> None:
    items = [
        item("a", request()),
        item("bad", request("nowhere")),
        item("b", request(inputs=[tensor("x", sequence(1))])),
    ]
    body = as_json(*items) if headers is JSON else b"".join(envelope(i.SerializeToString()) for i in items)
    with opened(page, body, {**headers, "x-request-id": "mine-9"}) as response:
        assert (response.status, response.headers["content-type"]) == (200, headers["content-type"])
        *answers, (flags, last) = read(response)
    kind = pb.ExplainStreamResponse
    found = {
        m.id: m for m in (json_format.Parse(m, kind()) if headers is JSON else kind.FromString(m) for _, m in answers)
    }
    with web_server.channel() as channel:
        expected = {m.id: m for m in stub(channel).ExplainStream(iter(items), timeout=20)}
    assert found == expected
    assert set(found) == {"a", "b", "bad"}
    assert flags == END
    assert json.loads(last) == {"metadata": {"x-request-id": ["mine-9"]}}


def test_progress_comes_before_the_answer(page: str) -> None:
    with opened(page, as_json(item("long", long_one(300))), JSON) as response:
        *messages, answer, (flags, _) = read(response)
    told = [json.loads(message) for _, message in messages]
    assert told
    assert {(m["id"], m["progress"]["total"]) for m in told} == {("long", str(300 * 100))}
    assert "response" in json.loads(answer[1])
    assert flags == END


def test_a_disconnected_client_stops_the_work(web_server: Running, page: str) -> None:
    """There is one slot, so the next request would have to wait for abandoned work, which takes a minute."""
    with opened(page, as_json(item("long", long_one())), JSON) as response:
        assert b"progress" in next(read(response))[1]
    assert ask(page, EXPLAIN, explanation(request()), {"connect-timeout-ms": "20000"}).status == 200
    end = time.monotonic() + 10
    while "ExplainStream CANCELLED" not in web_server.logged():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_deadline_ends_the_stream_with_an_error(page: str) -> None:
    with opened(page, as_json(item("long", long_one())), {**JSON, "connect-timeout-ms": "300"}) as response:
        assert response.status == 200
        *_, (flags, last) = read(response)
    assert flags == END
    assert json.loads(last)["error"]["code"] == "deadline_exceeded"


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (envelope(b"{}")[:-1], "not complete"),
        (b"\0\0", "not complete"),
        (envelope(b"{}", flags=1), "flags 1"),
        (envelope(b"[]"), "not valid JSON"),
        (envelope(b'{"request": 7}'), "not valid JSON"),
    ],
)
def test_what_is_no_stream_is_refused(page: str, body: bytes, part: str) -> None:
    answer = ask(page, STREAM, body, JSON)
    assert (answer.status, refused(answer)) == (400, "invalid_argument")
    assert part in answer.json()["message"]


def test_other_encodings_and_large_bodies_are_refused(page: str) -> None:
    assert ask(page, STREAM, b"{}", {"content-type": "application/json"}).status == 415
    assert ask(page, STREAM, as_json(item("a", request())), {**JSON, "content-encoding": "gzip"}).status == 415
    large = ask(page, STREAM, bytes(MOST + 1), PROTO)
    assert (large.status, refused(large)) == (413, "resource_exhausted")
    assert ask(page, STREAM, None, method="GET").status in (404, 405)


def test_an_empty_stream_ends(page: str) -> None:
    with opened(page, b"", PROTO) as response:
        ((flags, last),) = read(response)
    assert flags == END
    assert "error" not in json.loads(last)
