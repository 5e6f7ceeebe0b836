# SPDX-License-Identifier: Apache-2.0
"""Oversized texts and endless tokenizers against the real server."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lstm_explain_proto.inference import grpc_service_pb2, grpc_service_pb2_grpc
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2 as pb
from tests.serving.calling import refusal, request, strings_of, stub, texts
from tests.serving.models import words, write_tokenizer, write_version
from tests.serving.running import Running, serving
from tests.serving.web import EXPLAIN, ask, explanation

SENTIMENT = Path(__file__).parents[2] / "models" / "sentiment"
COMMAS = "," * 8_000_000
TEXT = "tokenizer: {file: tokenizer.json, input: tokens}\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(SENTIMENT, folder / "sentiment")
    write_tokenizer(write_version(folder, "words", words(), config=TEXT))
    tight = "limits: {max_characters: 30, max_steps: 5}\n"
    write_tokenizer(write_version(folder, "tight", words(), config=TEXT + tight))
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    with serving(folder, "--web", "127.0.0.1:0") as server:
        yield server


def inferred(model: str, *values: str, raw: bool = False) -> grpc_service_pb2.ModelInferRequest:
    message = grpc_service_pb2.ModelInferRequest(model_name=model)
    given = message.inputs.add(name="tokens", datatype="BYTES", shape=[len(values)])
    if raw:
        message.raw_input_contents.append(texts("", *values).data)
    else:
        given.contents.bytes_contents.extend(v.encode() for v in values)
    return message


def refusals(server: Running, model: str, *values: str) -> list[tuple[str, str]]:
    """Code and message of a refusal, or "OK", in every protocol."""
    answers = []

    def call_once(call: Any, message: Any) -> None:
        try:
            call(message, timeout=60)
            answers.append(("OK", ""))
        except grpc.RpcError as error:
            refused = refusal(error)
            answers.append((refused.code.name, refused.message))

    explained = pb.ExplainRequest(model=model, inputs=[texts("tokens", *values)])
    with server.channel() as channel:
        infer = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
        call_once(stub(channel).Explain, explained)
        call_once(infer.ModelInfer, inferred(model, *values))
        call_once(infer.ModelInfer, inferred(model, *values, raw=True))
        (item,) = stub(channel).ExplainStream(iter([pb.ExplainStreamRequest(id="1", request=explained)]), timeout=60)
        code = grpc.StatusCode.OK if item.HasField("response") else grpc.StatusCode.INVALID_ARGUMENT
        assert code == grpc.StatusCode.OK or item.error.code == code.value[0]
        answers.append((code.name, item.error.message))
    page = ask(server.page(), EXPLAIN, explanation(explained))
    answers.append(("OK", "") if page.status == 200 else ("INVALID_ARGUMENT", page.json()["message"]))
    assert page.status in (200, 400)
    return answers


def test_megabytes_of_text_are_refused_before_tokenisation(server: Running) -> None:
    before = peak(server)
    for code, message in refusals(server, "sentiment", COMMAS):
        assert code == "INVALID_ARGUMENT"
        assert "8000000 characters of text, at most 262144 are allowed" in message
    assert peak(server) - before < 400_000_000  # five messages of 8 MB and 11 MB, where tokens took 3.8 GB
    for code, message in refusals(server, "sentiment", *["a, b"] * 60_000):
        assert code == "INVALID_ARGUMENT"
        assert "samples, at most 4096" in message
    for code, _ in refusals(server, "sentiment", *["a" * 100] * 3000):
        assert code == "INVALID_ARGUMENT"
    assert peak(server) - before < 400_000_000


def test_millions_of_empty_texts_are_refused_unread(server: Running) -> None:
    for code, message in refusals(server, "words", *[""] * 1_100_000)[:4]:  # above what the page takes as JSON
        assert code == "INVALID_ARGUMENT"
        known = ("1100000 strings in one tensor, at most 1048576", "more than 65536 fields")  # in data, or as fields
        assert any(reason in message for reason in known)


def test_a_long_text_is_answered(server: Running) -> None:
    sentence = "the plot is thin . " * 5300
    with server.channel() as channel:
        message = request("words", inputs=[texts("tokens", sentence)])
        message.method.gradient.SetInParent()
        answer = stub(channel).Explain(message, timeout=120)
    assert len(sentence) > 100_000
    assert strings_of(answer.tokens[0]) == [sentence.split()]


def test_a_models_own_limits_on_text_hold(server: Running) -> None:
    for code, message in refusals(server, "tight", "the plot", "is thin, and long"):
        assert (code, message) == ("OK", "")
    for code, message in refusals(server, "tight", "the plot is", " " * 20):
        assert code == "INVALID_ARGUMENT"
        assert "31 characters of text, at most 30" in message
    for code, message in refusals(server, "tight", "a b a b a b"):
        assert code == "INVALID_ARGUMENT"
        assert "6 tokens (time steps), at most 5" in message


def test_an_endless_tokenizer_fails_to_load_and_delays_nothing(tmp_path: Path) -> None:
    write_tokenizer(write_version(tmp_path, "words", words(), config=TEXT))
    for name, change in {
        "backtracking": {"pre_tokenizer": pattern("(a+)+$")},
        "stride": {"truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 4}},
    }.items():
        own = write_version(tmp_path, name, words(), config=TEXT)
        write_tokenizer(own)
        written = json.loads((own / "tokenizer.json").read_text())
        (own / "tokenizer.json").write_text(json.dumps({**written, **change}))
    with serving(tmp_path) as server, server.channel() as channel:
        assert stub(channel).Explain(request("words", inputs=[texts("tokens", "the plot")]), timeout=30)
        for name in ("backtracking", "stride"):
            with pytest.raises(grpc.RpcError) as raised:
                stub(channel).Explain(request(name, inputs=[texts("tokens", "the plot")]), timeout=30)
            assert refusal(raised.value).code == grpc.StatusCode.FAILED_PRECONDITION
            assert "model.yaml:1: tokenizer.file: tokenizer.json: " in refusal(raised.value).message


def test_a_text_that_is_slow_to_tokenise_fails_alone(tmp_path: Path) -> None:
    """Its expression passes the probes on loading. Health and the next text are answered meanwhile."""
    own = write_version(tmp_path, "words", words(), config=TEXT)
    write_tokenizer(own)
    written = json.loads((own / "tokenizer.json").read_text())
    (own / "tokenizer.json").write_text(json.dumps({**written, "pre_tokenizer": pattern("q(z+)+q")}))
    hostile = request("words", inputs=[texts("tokens", "q" + "z" * 400)])
    with serving(tmp_path) as server, server.channel() as channel:
        for _ in range(3):
            with pytest.raises(grpc.RpcError) as raised:
                stub(channel).Explain(hostile, timeout=60)
            assert refusal(raised.value).code == grpc.StatusCode.INVALID_ARGUMENT
            assert refusal(raised.value).field == "inputs[0]"
            assert "text 0 cannot be tokenised" in refusal(raised.value).message
            check = health_pb2_grpc.HealthStub(channel).Check
            assert check(health_pb2.HealthCheckRequest(), timeout=30).status == health_pb2.HealthCheckResponse.SERVING
        assert stub(channel).Explain(request("words", inputs=[texts("tokens", "the plot")]), timeout=30)
        assert " ERROR " not in server.logged()


def pattern(expression: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}


def peak(server: Running) -> int:
    """The peak of resident bytes so far, of all processes that serve."""
    found = [re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{w}/status").read_text()) for w in server.workers()]
    assert found
    return sum(int(match[1]) * 1024 for match in found if match is not None)
