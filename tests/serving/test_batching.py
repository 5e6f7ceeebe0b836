# SPDX-License-Identifier: Apache-2.0
"""Requests that run as a batch get the answers that each would get alone, and fail alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

import lstm_explain as lx
from lstm_explain.repository.latency import LatencyEstimate
from lstm_explain_proto.inference import grpc_service_pb2, grpc_service_pb2_grpc
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2, method_pb2, tensor_pb2
from tests.builders import recurrent_model
from tests.serving.batching_server import Served, at_once, served
from tests.serving.calling import array_of, refusal, request, sequence, stub, tensor, texts
from tests.serving.models import WORDS, lstm, words, write_tokenizer, write_version

CLOSE = 1e-6  # of the largest number of an answer
BATCHING = "batching: {max_batch: 16, max_delay_ms: 100}\n"  # the delay makes sure of company
OCCLUSION = method_pb2.Method(occlusion=method_pb2.Occlusion(window=2))
HALF = method_pb2.Method(lrp=method_pb2.Lrp(product_rule=method_pb2.PRODUCT_RULE_HALF))
METHODS: dict[str, tuple[method_pb2.Method, lx.Method]] = {
    "occlusion": (OCCLUSION, lx.Occlusion(window=2)),
    "lrp half": (HALF, lx.LRP("half")),
    "lrp all": (method_pb2.Method(lrp=method_pb2.Lrp()), lx.LRP()),
    "gradient times input": (
        method_pb2.Method(gradient_times_input=method_pb2.GradientTimesInput()),
        lx.GradientTimesInput(),
    ),
    "integrated gradients": (
        method_pb2.Method(integrated_gradients=method_pb2.IntegratedGradients(steps=5)),
        lx.IntegratedGradients(steps=5),
    ),
    "shapley": (
        method_pb2.Method(shapley_sampling=method_pb2.ShapleySampling(permutations=2)),
        lx.ShapleySampling(permutations=2),
    ),
}


def lengths_model(seed: int = 0) -> Any:
    """x [time, batch, 4] and lens [batch] to logits [batch, 3]."""
    return recurrent_model(np.random.default_rng(seed), D=4, H=5, classes=3, sequence_lens=True, head="Y_h").model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("batching")
    write_version(folder, "lstm", lstm(), 1, BATCHING)
    write_version(folder, "lengths", lengths_model(), 1, BATCHING.replace("}", ", padding: {x: 0}}"))
    text = "tokenizer: {file: tokenizer.json, input: tokens}\n"
    write_tokenizer(write_version(folder, "words", words(), 1, text + BATCHING))
    write_version(folder, "alone", lstm())
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Served]:
    with served(folder) as server:
        yield server


@pytest.fixture(scope="module")
def engine() -> lx.Model:
    return lx.load(lstm())


def check(response: explanation_pb2.ExplainResponse, expected: lx.Explanation, name: str = "x") -> None:
    """Compares every part of an answer with the engine's."""
    assert not isinstance(response, Exception), response
    pairs = [
        *((array_of(t), expected.relevance[t.name]) for t in response.relevance),
        *((array_of(t), expected.outputs[t.name]) for t in response.outputs),
        *((array_of(t), expected.standard_error[t.name]) for t in response.standard_error),
        (array_of(response.explained), expected.explained),
    ]
    scale = np.abs(expected.explained).max()
    for part in ("inputs", "initial_states", "absorbed"):
        received, due = array_of(getattr(response.ledger, part)), getattr(expected.ledger, part)
        np.testing.assert_allclose(received, due, rtol=CLOSE, atol=CLOSE * scale)
    assert {share.node for share in response.ledger.by_node} == set(expected.ledger.by_node)
    assert len(response.relevance) == len(expected.relevance)
    for received, due in pairs:
        assert received.shape == due.shape
        assert received.dtype == due.dtype
        np.testing.assert_allclose(
            received, due, rtol=CLOSE, atol=CLOSE * np.abs(due[np.isfinite(due)]).max(initial=0.0)
        )
    assert list(response.target.indices) == np.asarray(expected.target.index).reshape(-1).tolist()


@pytest.mark.parametrize("name", METHODS)
def test_mixed_requests_get_the_engines_own_answers(server: Served, engine: lx.Model, name: str) -> None:
    """Batches of one to three samples, two lengths, targets per sample, per request and the default; three times, for
    the first batch of a kind is computed both ways."""
    message, method = METHODS[name]
    before = server.request_batching()
    for turn in range(3):
        requests, expected = [], []
        for i in range(12):
            x = sequence(1 + i % 3, (5, 8)[i % 2], seed=100 * turn + i)
            indices = ([], [i % 3], [(i + b) % 3 for b in range(len(x))])[i // 4]
            requests.append(request(inputs=[tensor("x", x)], method=message))
            requests[-1].target.indices.extend(indices)
            index = None if not indices else indices[0] if len(indices) == 1 else np.array(indices)
            expected.append(engine.explain({"x": x}, method, lx.Target(index=index)))
        for response, due in zip(at_once(server, requests), expected, strict=True):
            check(response, due)
    if name in ("occlusion", "shapley", "lrp half"):  # whatever the engine's sums are like, these are the same bits
        runs, request_batching = (after - b for after, b in zip(server.request_batching(), before, strict=True))
        assert runs
        assert request_batching >= 2 * runs


def test_answers_that_come_with_warnings_run_together(server: Served, engine: lx.Model) -> None:
    """A warning belongs to its sample, so a batch with one need not run again."""
    method, message = lx.LRP("prop", epsilon=1e-6), method_pb2.Lrp(product_rule=method_pb2.PRODUCT_RULE_PROP)
    message.epsilon = 1e-6
    inputs = [sequence(1, 8, seed) for seed in range(8)]
    expected = [engine.explain({"x": x}, method) for x in inputs]
    assert any(e.warnings for e in expected)
    requests = [request(inputs=[tensor("x", x)], method=method_pb2.Method(lrp=message)) for x in inputs]
    at_once(server, requests)  # the trial
    before = server.request_batching()
    for response, due in zip(at_once(server, requests), expected, strict=True):
        check(response, due)
    assert server.request_batching()[0] > before[0]


def test_sequences_of_different_length_run_together(server: Served) -> None:
    engine = lx.load(lengths_model())
    for turn in range(3):
        requests, expected = [], []
        for i in range(8):
            time_steps, batch = 4 + i % 4, 1 + i % 2
            x = np.random.default_rng(8 * turn + i).standard_normal((time_steps, batch, 4)).astype(np.float32)
            lens = np.array([time_steps, 2][:batch], np.int32)
            lengths = tensor_pb2.Tensor(name="lens", dtype="DATA_TYPE_INT32", shape=[batch], data=lens.tobytes())
            requests.append(request("lengths", inputs=[tensor("x", x), lengths], method=HALF))
            expected.append(engine.explain({"x": x, "lens": lens}, lx.LRP("half")))
        before = server.request_batching()
        for response, due in zip(at_once(server, requests), expected, strict=True):
            check(response, due)
    assert server.request_batching()[0] > before[0]


def test_sentences_of_equal_length_keep_their_own_tokens(server: Served) -> None:
    engine = lx.load(words())
    sentences = ["a bad film", "the plot is", "not a film", "is thin ."]
    for _ in range(2):
        answers = at_once(server, [request("words", inputs=[texts("tokens", s)], method=OCCLUSION) for s in sentences])
        for sentence, answer in zip(sentences, answers, strict=True):
            ids = np.array([[WORDS.index(word) for word in sentence.split()]])
            check(answer, engine.explain({"tokens": ids}, lx.Occlusion(window=2)), "tokens")
            assert answer.tokens[0].shape == [1, 3]
            assert sentence.split()[0].encode() in answer.tokens[0].data


def test_an_invalid_request_fails_alone(server: Served, engine: lx.Model) -> None:
    inputs = [sequence(1, 6, seed) for seed in range(8)]
    good = [request(inputs=[tensor("x", x)], method=OCCLUSION) for x in inputs]
    for message in good:
        message.target.indices.append(1)
    at_once(server, good)  # the trial
    for bad, field in (
        (explanation_pb2.Target(indices=[7]), "target.indices"),  # is only found out with the outputs at hand
        (explanation_pb2.Target(indices=[1]), "inputs[0].shape"),
    ):
        wrong = request(inputs=[tensor("x", inputs[0])], method=OCCLUSION, target=bad)
        if field.startswith("inputs"):
            wrong.inputs[0].CopyFrom(tensor("x", sequence(1, 6, features=3)))
        answers = at_once(server, [*good[:4], wrong, *good[4:]])
        status = refusal(answers.pop(4))
        assert (status.code, status.field) == (grpc.StatusCode.INVALID_ARGUMENT, field)
        for x, answer in zip(inputs, answers, strict=True):
            check(answer, engine.explain({"x": x}, lx.Occlusion(window=2), lx.Target(index=1)))


def test_cancelled_and_late_requests_leave_the_others_alone(server: Served, engine: lx.Model) -> None:
    inputs = [sequence(1, 6, seed) for seed in range(8)]
    message = [request(inputs=[tensor("x", x)], method=OCCLUSION) for x in inputs]
    at_once(server, message)
    with server.running.channel() as channel:
        explain = stub(channel).Explain
        explain(message[0])  # connected
        leader = explain.future(message[0])
        time.sleep(0.02)
        others = [explain.future(m) for m in message[1:6]]
        late = explain.future(message[6], timeout=0.03)
        gone = explain.future(message[7])
        time.sleep(0.02)
        leader.cancel()  # the thread that leads goes on for those who follow
        gone.cancel()
        for x, call in zip(inputs[1:6], others, strict=True):
            check(call.result(timeout=30), engine.explain({"x": x}, lx.Occlusion(window=2)))
        assert late.exception().code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert "Traceback" not in server.running.logged()


def test_one_deadline_does_not_end_a_batch(tmp_path: Path) -> None:
    write_version(tmp_path, "lstm", lstm(hidden=48), 1, BATCHING)
    engine = lx.load(lstm(hidden=48))
    small, large = [sequence(1, 6, s) for s in range(2)], [sequence(1, 700, s) for s in range(3)]
    with served(tmp_path) as server, server.running.channel() as channel:
        explain = stub(channel).Explain
        at_once(server, [request(inputs=[tensor("x", x)], method=OCCLUSION) for x in small])
        start = time.monotonic()
        calls = [
            explain.future(request(inputs=[tensor("x", x)], method=OCCLUSION), timeout=0.15 if i == 0 else 60)
            for i, x in enumerate(large)
        ]
        assert calls[0].exception().code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert time.monotonic() - start < 5
        for x, call in zip(large[1:], calls[1:], strict=True):
            check(call.result(), engine.explain({"x": x}, lx.Occlusion(window=2)))


def test_stream_items_and_inference_protocol_requests_are_batched(server: Served, engine: lx.Model) -> None:
    inputs = [sequence(1, 6, seed) for seed in range(12)]
    message = [request(inputs=[tensor("x", x)], method=OCCLUSION) for x in inputs]
    at_once(server, message)
    before = server.request_batching()
    items = [explanation_pb2.ExplainStreamRequest(id=str(i), request=m) for i, m in enumerate(message[:6])]
    with server.running.channel() as channel, ThreadPoolExecutor(12) as pool:
        infer = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
        others = [pool.submit(infer, _inference(x)) for x in inputs[6:]]
        for answer in stub(channel).ExplainStream(iter(items)):
            check(answer.response, engine.explain({"x": inputs[int(answer.id)]}, lx.Occlusion(window=2)))
        for x, call in zip(inputs[6:], others, strict=True):
            response = call.result()
            at = [o.name for o in response.outputs].index("relevance:x")
            expected = engine.explain({"x": x}, lx.Occlusion(window=2)).relevance["x"]
            received = np.frombuffer(response.raw_output_contents[at], np.float32).reshape(expected.shape)
            np.testing.assert_allclose(received, expected, rtol=CLOSE, atol=CLOSE * np.abs(expected).max())
    runs, request_batching = (after - b for after, b in zip(server.request_batching(), before, strict=True))
    assert request_batching > 3 * runs  # of both kinds, or there would be two of them at least


def _inference(x: np.ndarray) -> grpc_service_pb2.ModelInferRequest:
    given = grpc_service_pb2.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=x.shape)
    message = grpc_service_pb2.ModelInferRequest(model_name="lstm", inputs=[given], raw_input_contents=[x.tobytes()])
    message.parameters["explain"].string_param = "occlusion"
    message.parameters["explain_window"].int64_param = 2
    return message


def test_every_request_is_answered_correctly_while_its_model_reloads(folder: Path, engine: lx.Model) -> None:
    inputs = [sequence(1 + s % 2, 6, s) for s in range(8)]
    expected = [engine.explain({"x": x}, lx.Occlusion(window=2)) for x in inputs]
    with served(folder) as server, server.running.channel() as channel, ThreadPoolExecutor(9) as pool:
        reload = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).RepositoryModelLoad

        def caller(number: int) -> int:
            for turn in range(25):
                i = (number + turn) % len(inputs)
                answer = stub(channel).Explain(request(inputs=[tensor("x", inputs[i])], method=OCCLUSION), timeout=60)
                check(answer, expected[i])
            return 25

        calls = [pool.submit(caller, number) for number in range(8)]
        reloads = 0
        while not all(call.done() for call in calls):
            reload(grpc_service_pb2.RepositoryModelLoadRequest(model_name="lstm"), timeout=60)
            reloads += 1
            time.sleep(0.5)  # time for more than the first batch of a version, which is run one by one too
        assert sum(call.result() for call in calls) == 200
        assert reloads
        assert server.request_batching()[0]


def test_without_the_setting_every_request_runs_alone(server: Served, engine: lx.Model) -> None:
    before = server.request_batching()
    inputs = [sequence(1, 6, seed) for seed in range(8)]
    for x, answer in zip(
        inputs,
        at_once(server, [request("alone", inputs=[tensor("x", x)], method=OCCLUSION) for x in inputs]),
        strict=True,
    ):
        check(answer, engine.explain({"x": x}, lx.Occlusion(window=2)))
    assert server.request_batching() == before


def test_a_batch_respects_its_limits(tmp_path: Path) -> None:
    """The model limits samples, and the server limits memory."""
    write_version(tmp_path, "few", lstm(), 1, BATCHING + "limits: {max_batch: 2}\n")
    write_version(tmp_path, "small", lstm(), 1, BATCHING + "limits: {max_elements: 60}\n")
    with served(tmp_path) as server:
        for name in ("few", "small"):  # of 24 elements each: two in a batch
            message = [request(name, inputs=[tensor("x", sequence(1, 6, s))], method=OCCLUSION) for s in range(8)]
            for _ in range(2):
                assert not any(isinstance(answer, Exception) for answer in at_once(server, message))
        runs, request_batching = server.request_batching()
        assert runs
        assert request_batching == 2 * runs


def test_without_a_delay_requests_that_wait_for_a_slot_are_batched(tmp_path: Path, engine: lx.Model) -> None:
    write_version(tmp_path, "lstm", lstm(), 1, "batching: {max_batch: 16}\n")
    inputs = [sequence(1, 600, seed) for seed in range(12)]
    message = method_pb2.Method(shapley_sampling=method_pb2.ShapleySampling(permutations=1))
    with served(tmp_path) as server:
        for _ in range(3):
            requests = [request(inputs=[tensor("x", x)], method=message) for x in inputs]
            for x, answer in zip(inputs, at_once(server, requests), strict=True):
                check(answer, engine.explain({"x": x}, lx.ShapleySampling(permutations=1)))
        assert server.request_batching()[0]


def test_latency_is_estimated_per_product_rule() -> None:
    """LRP-all takes half the time of the others, whose runs would be mistaken for short ones."""
    latency = LatencyEstimate()
    latency.record(lx.LRP(), 10, 1.0)
    latency.record(lx.LRP(epsilon=0.1), 10, 0.5)
    assert latency.seconds(lx.LRP(), 20) == 1.0
    assert latency.seconds(lx.LRP("half"), 20) == np.inf
    assert latency.seconds(None, 20) == np.inf
