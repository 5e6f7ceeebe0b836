# SPDX-License-Identifier: Apache-2.0
"""Limits of one request, and cancellation of requests that nobody waits for."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import onnx
import pytest

import lstm_explain as lx
from lstm_explain.repository.request_limits import Limits, estimate
from lstm_explain.runner.run_count import runs
from lstm_explain.serving.procfs import resident_bytes
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2 as pb
from lstm_explain_proto.lstm_explain.v1 import method_pb2
from tests import hostile
from tests.graph_builder import GraphBuilder
from tests.serving.calling import Refusal, refusal, request, sequence, stub, tensor
from tests.serving.models import FEATURES, lstm, write_version
from tests.serving.running import Running, free_address, metrics, serving

TIGHT = "limits: {max_batch: 2, max_steps: 8, max_elements: 40, max_samples: 30, max_request_bytes_estimate: 100000}\n"
METRICS = free_address()
WIDE = "limits: {max_batch: 1000000, max_samples: 100000000}\n"


def mixing() -> onnx.ModelProto:
    """x float32 [3, 4] in another order, so that samples cannot be told apart, and only three of them are valid."""
    g = GraphBuilder(np.float32, 17)
    x = g.input("x", [3, 4])
    turned = g.op("MatMul", [g.constant(np.roll(np.eye(3), 1, axis=0), "order"), g.op("Tanh", [x])])
    return g.model(turned, [3, 4])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_version(folder, "lstm", lstm())
    write_version(folder, "tight", lstm(), config=TIGHT)
    write_version(folder, "wide", lstm(), config=WIDE)
    write_version(folder, "heavy", lstm(hidden=64))
    write_version(folder, "mixing", mixing(), config="batch_axis: 0\nlimits: {max_samples: 99}\n")
    write_version(folder, "long", hostile.endless_when_long())
    return folder


@pytest.fixture(scope="module")
def limited(folder: Path) -> Iterator[Running]:
    flags = ("--max-batch", "8", "--max-steps", "4000", "--max-elements", "100000", "--max-samples", "2000000")
    more = ("--max-request-bytes-estimate", "200000000", "--parallel", "1", "--metrics-listen", METRICS)
    with serving(folder, *flags, *more) as server:
        yield server


def refused(server: Running, message: pb.ExplainRequest) -> Refusal | None:
    with server.channel() as channel:
        try:
            stub(channel).Explain(message, timeout=30)
        except grpc.RpcError as error:
            return refusal(error)
    return None


def sized(batch: int, time_steps: int, model: str = "lstm", **fields: object) -> pb.ExplainRequest:
    return request(model, inputs=[tensor("x", sequence(batch, time_steps, features=FEATURES))], **fields)


OCCLUSION = method_pb2.Method(occlusion=method_pb2.Occlusion())


def shapley(permutations: int) -> method_pb2.Method:
    return method_pb2.Method(shapley_sampling=method_pb2.ShapleySampling(permutations=permutations, exact_players=0))


@pytest.mark.parametrize(
    ("good", "bad", "text", "field"),
    [
        (sized(8, 5), sized(9, 5), "9 samples, at most 8", "inputs[0].shape"),
        (sized(1, 4000), sized(1, 4001), "4001 time steps, at most 4000", "inputs[0].shape"),
        (sized(8, 3125), sized(8, 3126), "100032 elements", "inputs"),
        (sized(2, 5, "tight"), sized(3, 1, "tight"), "3 samples, at most 2", "inputs[0].shape"),
        (sized(1, 8, "tight"), sized(1, 9, "tight"), "9 time steps, at most 8", "inputs[0].shape"),
        (sized(2, 5, "tight"), sized(2, 6, "tight"), "48 elements", "inputs"),
        (sized(8, 5, "wide"), sized(9, 5, "wide"), "9 samples, at most 8", "inputs[0].shape"),
        (
            sized(2, 5, "tight", method=OCCLUSION),
            sized(4, 1, "tight", method=OCCLUSION),
            "4 samples",
            "inputs[0].shape",
        ),
        (sized(1, 8, "tight", method=shapley(2)), sized(1, 8, "tight", method=shapley(4)), "on 32 samples", "method"),
    ],
)
def test_a_request_above_a_limit_names_the_limit(
    limited: Running, good: pb.ExplainRequest, bad: pb.ExplainRequest, text: str, field: str
) -> None:
    """INVALID_ARGUMENT, not RESOURCE_EXHAUSTED, since a retry cannot help."""
    assert refused(limited, good) is None
    answer = refused(limited, bad)
    assert answer is not None
    assert answer.code == grpc.StatusCode.INVALID_ARGUMENT
    assert text in answer.message
    assert answer.field.startswith(field)


def test_the_estimated_number_of_runs_is_the_actual_one() -> None:
    model = lx.load(lstm())
    x = {"x": sequence(2, 5)}
    made: list[int] = []
    predict = model._runner.predict

    def counting(inputs, head):
        made.append(inputs["x"].shape[0])
        return predict(inputs, head)

    model._runner.predict = counting
    for method in (lx.Occlusion(), lx.Occlusion(window=2), lx.ShapleySampling(permutations=3, exact_players=0)):
        made.clear()
        model.explain(x, method)
        expected = 2 * runs(model.axes, x, method)
        assert expected - 2 * 3 <= sum(made) <= expected + 2 * 6  # and the input, the baseline and a trial of stacking
    assert runs(model.axes, x, lx.IntegratedGradients(steps=7, max_steps=7)) == 7
    assert runs(model.axes, x, lx.IntegratedGradients(steps=7, max_steps=30)) == 7 + 14 + 30
    assert runs(model.axes, x, lx.SmoothGrad(samples=9)) == 9
    assert runs(model.axes, x, lx.LRP()) == 1


def test_memory_is_limited_by_an_estimate() -> None:
    """tests/test_footprint.py compares the estimate with measurements."""
    model, x = lx.load(lstm(hidden=64)), {"x": sequence(4, 2000)}
    size = estimate(model, x, lx.LRP())
    assert size == pytest.approx(2 * estimate(model, {"x": sequence(4, 1000)}, lx.LRP()), rel=0.05)
    with pytest.raises(lx.InputError, match="bytes of memory"):
        Limits(bytes_estimate=size - 1).check(model, x, lx.LRP())
    Limits(bytes_estimate=size).check(model, x, lx.LRP())


def test_a_models_limits_never_widen_the_servers() -> None:
    assert Limits(3, None, 5).tightened(Limits(4, 2, 1)) == Limits(3, 2, 1)


ENDLESS = shapley(3000)  # some hours of work


def _runs(server: Running) -> int:
    """How many endless runs of the engine have begun and ended."""
    name = 'lstm_explain_engine_seconds_count{method="shapley_sampling",model="heavy"}'
    return int(metrics(METRICS).get(name, 0))


def _until_the_slot_is_taken(channel: grpc.Channel) -> None:
    """Waits until the one slot is taken, so that a further request waits until its deadline."""
    for _ in range(200):
        try:
            stub(channel).Explain(sized(1, 3), timeout=2)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED  # noqa: PT017
            return
    raise AssertionError("the work has not begun")


def _check_that_it_has_ended(server: Running, channel: grpc.Channel, before: int) -> None:
    """Checks that the work has begun, and that its slot is free hours before it would be done."""
    try:
        assert stub(channel).Explain(sized(1, 3), timeout=60).model == "lstm"
    except grpc.RpcError as error:
        raise AssertionError(f"nobody waits for the work any more, and it goes on: {error.details()}") from error
    assert _runs(server) == before + 1


def test_work_stops_soon_after_the_deadline(limited: Running) -> None:
    with limited.channel() as channel:
        before = _runs(limited)
        call = stub(channel).Explain.future(sized(1, 600, "heavy", method=ENDLESS), timeout=6)
        _until_the_slot_is_taken(channel)
        assert call.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        _check_that_it_has_ended(limited, channel, before)


def test_work_stops_when_the_caller_has_gone(limited: Running) -> None:
    with limited.channel() as channel:
        for _ in range(3):
            before = _runs(limited)
            call = stub(channel).Explain.future(sized(1, 600, "heavy", method=ENDLESS), timeout=600)
            _until_the_slot_is_taken(channel)
            call.cancel()
            _check_that_it_has_ended(limited, channel, before)


def test_cancelling_a_stream_cancels_its_items(limited: Running) -> None:
    with limited.channel() as channel:
        items = [
            pb.ExplainStreamRequest(id=str(i), request=sized(1, 300, "heavy", method=ENDLESS, version="1"))
            for i in range(8)
        ]
        before = _runs(limited)
        answers = stub(channel).ExplainStream(iter(items), timeout=600)
        _until_the_slot_is_taken(channel)
        answers.cancel()
        _check_that_it_has_ended(limited, channel, before)


def test_stream_items_leave_room_for_other_calls(folder: Path) -> None:
    """Of four places, the items of all streams together take two."""
    flags = ("--parallel", "1", "--max-concurrent", "4", "--max-streams", "3", "--stream-window", "8")
    with serving(folder, *flags) as server, server.channel() as channel:
        x = tensor("x", sequence(4, 1000, features=FEATURES))

        def items() -> Iterator[pb.ExplainStreamRequest]:
            for i in range(15):
                yield pb.ExplainStreamRequest(id=str(i), request=request("heavy", inputs=[x]))

        counts: list[int] = []

        def consume() -> None:
            counts.append(sum(a.WhichOneof("result") == "response" for a in stub(channel).ExplainStream(items())))

        streams = [threading.Thread(target=consume) for _ in range(3)]
        for thread in streams:
            thread.start()
        for _ in range(5):
            assert stub(channel).Explain(sized(1, 3), timeout=30).model == "lstm"
        for thread in streams:
            thread.join()
    assert counts == [15] * 3  # none was refused: a stream waits


def test_an_invalid_stream_item_gets_its_own_error(limited: Running) -> None:
    good = pb.ExplainStreamRequest(id="good", request=sized(1, 3)).SerializeToString()
    with limited.channel() as channel:
        method = channel.stream_stream(
            "/lstm_explain.v1.ExplanationService/ExplainStream",
            response_deserializer=pb.ExplainStreamResponse.FromString,
        )
        answers = list(method(iter([good, b"\xff\xff\xff", good]), timeout=30))
    assert sorted(a.id for a in answers) == ["", "good", "good"]
    (bad,) = (a for a in answers if not a.id)
    assert bad.error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]


UNSENT = "ExecuteBatchError"  # what gRPC raises where an answer finds its caller gone, and we log


def test_a_caller_that_leaves_during_the_answer_is_not_logged_as_an_error(folder: Path) -> None:
    """gRPC cannot send these answers, a few in ten thousand: callers go on, as patient as answers take, until it has
    happened.
    """
    with serving(folder, "--log-level", "debug") as server:
        codes: Counter[str] = Counter()
        over = threading.Event()

        def caller(seed: int) -> None:
            draw, deadline = random.Random(seed), 0.005
            with server.channel() as channel:
                grpc.channel_ready_future(channel).result(60)
                while not over.is_set():
                    try:
                        stub(channel).Explain(request(), timeout=deadline * draw.uniform(0.8, 1.2))
                        codes["OK"] += 1
                        deadline *= 0.97
                    except grpc.RpcError as error:
                        codes[error.code().name] += 1
                        deadline *= 1.03

        threads = [threading.Thread(target=caller, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + 180
        while UNSENT not in server.logged() and time.monotonic() < end:
            time.sleep(0.5)
        over.set()
        for thread in threads:
            thread.join()
        logged = server.logged()
    assert set(codes) == {"OK", "DEADLINE_EXCEEDED"}
    assert UNSENT in logged, codes
    assert [line for line in logged.splitlines() if " ERROR " in line] == []


def test_a_slow_reader_bounds_the_servers_memory(folder: Path) -> None:
    """The server stops reading while answers are not read, although the caller would send 300 MB."""
    fixed = [("grpc.http2.bdp_probe", 0)]  # else gRPC takes answers ahead, the more the slower the machine is
    with serving(folder, "--parallel", "2") as server, grpc.insecure_channel(server.address, fixed) as channel:
        x = tensor("x", np.zeros((8, 8000, FEATURES), np.float32))  # 1 MB
        sent = [0]

        def items() -> Iterator[pb.ExplainStreamRequest]:
            for i in range(300):
                sent[0] += 1
                yield pb.ExplainStreamRequest(id=str(i), request=request("lstm", inputs=[x]))

        answers = stub(channel).ExplainStream(items(), timeout=120)
        next(answers)
        steady = 0
        while steady < 5:  # until nothing moves for a second
            before = sent[0]
            time.sleep(0.2)
            steady = steady + 1 if sent[0] == before else 0
        assert sent[0] < 60
        assert _resident(server) < 1_000_000_000
        answers.cancel()


def _resident(server: Running) -> int:
    return sum(map(resident_bytes, server.family()))


@pytest.mark.parametrize(("steps", "allowed"), [(11, True), (12, False)])
def test_mixing_models_count_the_batch_squared(limited: Running, *, steps: int, allowed: bool) -> None:
    """The model runs on three samples for each of three, and for each step."""
    inputs = [tensor("x", np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32))]
    for method in (
        method_pb2.Method(integrated_gradients=method_pb2.IntegratedGradients(steps=steps, max_steps=1)),
        method_pb2.Method(smooth_grad=method_pb2.SmoothGrad(samples=steps)),
    ):
        received = refused(limited, request("mixing", inputs=inputs, method=method))
        if allowed:
            assert received is None
        else:
            assert received is not None
            assert (received.code, received.field) == (grpc.StatusCode.INVALID_ARGUMENT, "method")
            assert "on 108 samples, at most 99 are allowed" in received.message


@pytest.mark.parametrize("name", ["lrp", "occlusion"])
def test_measuring_for_the_estimate_counts_towards_the_request(folder: Path, name: str) -> None:
    """The request is short, but large enough that the model is measured at lengths at which it never ends."""
    method = method_pb2.Method()
    getattr(method, name).SetInParent()
    requested = request("long", inputs=[tensor("x", np.ones((4000, 2), np.float32))], method=method)
    with serving(folder, "--max-request-seconds", "2") as server:
        received = refused(server, requested)
        assert received is not None
        assert received.code == grpc.StatusCode.DEADLINE_EXCEEDED
        assert "--max-request-seconds 2" in received.message
        assert server.stop() == 0
