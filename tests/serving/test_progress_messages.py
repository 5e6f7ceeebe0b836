# SPDX-License-Identifier: Apache-2.0
"""Progress over the wire: for requests of a stream that ask for it, and never after their answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from queue import Queue
from typing import Any

import grpc
import numpy as np
import pytest

from lstm_explain.serving import stream
from lstm_explain.serving.progress_messages import SECONDS_BETWEEN
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2 as pb
from lstm_explain_proto.lstm_explain.v1 import method_pb2
from tests.serving.calling import array_of, request, sequence, stub, tensor

T = 100
INPUTS = [tensor("x", sequence(batch=1, time=T))]
LONGER = [tensor("x", sequence(batch=1, time=10 * T))]
# They take a second or more, and the tests look at no more of that than they need.
SHAPLEY = method_pb2.Method(shapley_sampling=method_pb2.ShapleySampling(permutations=100))
ENDLESS: dict[str, tuple[method_pb2.Method, int]] = {
    "shapley": (method_pb2.Method(shapley_sampling=method_pb2.ShapleySampling(permutations=9_000)), 9_000 * T),
    "integrated": (
        method_pb2.Method(integrated_gradients=method_pb2.IntegratedGradients(steps=9_000, max_steps=9_000)),
        9_000,
    ),
}


def item(name: str, **fields: Any) -> pb.ExplainStreamRequest:
    return pb.ExplainStreamRequest(id=name, progress=True, request=request(inputs=INPUTS, **fields))


@pytest.mark.parametrize("name", ["shapley", "integrated"])
def test_progress_of_a_long_request(channel: grpc.Channel, name: str) -> None:
    """The machine may be so fast, or this process so slow, that the answer comes before the fourth message."""
    method, total = ENDLESS[name]
    began = time.monotonic()
    inputs = LONGER if name == "integrated" else INPUTS  # it is as fast as a tenth of the Shapley values
    long = pb.ExplainStreamRequest(id="long", progress=True, request=request(inputs=inputs, method=method))
    answers = stub(channel).ExplainStream(iter([long]))
    four = [answer for answer, _ in zip(answers, range(4), strict=False)]
    seconds = time.monotonic() - began
    answers.cancel()
    assert {a.id for a in four} == {"long"}
    seen = [a.progress for a in four if a.WhichOneof("result") == "progress"]
    assert seen, four
    done = [p.done for p in seen]
    assert done == sorted(done)
    assert 0 < done[0] <= done[-1] <= total
    assert {p.total for p in seen} == {total}
    assert seconds >= (len(seen) - 1) * SECONDS_BETWEEN  # at most ten a second


def test_the_answer_is_the_last_message_and_the_same(channel: grpc.Channel) -> None:
    messages = list(stub(channel).ExplainStream(iter([item("a", method=SHAPLEY), item("b", method=SHAPLEY)])))
    alone = stub(channel).Explain(request(inputs=INPUTS, method=SHAPLEY))
    for name in "ab":
        own = [m for m in messages if m.id == name]
        assert [m.WhichOneof("result") for m in own] == ["progress"] * (len(own) - 1) + ["response"]
        assert all(0 <= m.progress.done <= m.progress.total for m in own[:-1])
        np.testing.assert_array_equal(array_of(own[-1].response.relevance[0]), array_of(alone.relevance[0]))


def test_an_error_is_the_last_message(channel: grpc.Channel) -> None:
    (only,) = stub(channel).ExplainStream(iter([item("bad", method=SHAPLEY, version="9")]))
    assert only.error.code == grpc.StatusCode.NOT_FOUND.value[0]


def test_none_unless_asked_for_and_none_for_one_pass(channel: grpc.Channel) -> None:
    silent = pb.ExplainStreamRequest(id="silent", request=request(inputs=INPUTS, method=SHAPLEY))
    messages = list(stub(channel).ExplainStream(iter([silent, item("lrp")])))
    assert sorted((m.id, m.WhichOneof("result")) for m in messages) == [("lrp", "response"), ("silent", "response")]


def test_several_targets_are_one_count(channel: grpc.Channel) -> None:
    targets = [pb.TargetSet(target=pb.Target(indices=[i])) for i in range(3)]
    method = method_pb2.Method(shapley_sampling=method_pb2.ShapleySampling(permutations=3_000))
    answers = stub(channel).ExplainStream(iter([item("three", method=method, targets=targets)]))
    first = next(answers)
    answers.cancel()
    assert first.progress.total == 3 * 3_000 * T


def test_other_requests_of_the_stream_are_answered_meanwhile(channel: grpc.Channel) -> None:
    """And their answers are not counted as those of the long request."""
    requests: Queue[pb.ExplainStreamRequest | None] = Queue()
    requests.put(item("long", method=ENDLESS["shapley"][0]))
    answers: Iterator[Any] = stub(channel).ExplainStream(iter(requests.get, None))
    assert next(answers).WhichOneof("result") == "progress"
    for number in range(50):  # more than are read ahead
        requests.put(item(str(number)))
        while (message := next(answers)).id == "long":
            assert message.WhichOneof("result") == "progress"
        assert (message.id, message.WhichOneof("result")) == (str(number), "response")
    answers.cancel()


def test_a_caller_that_does_not_read_gets_the_newest() -> None:
    """Messages that wait to be written replace each other, and the answer ends them."""

    async def one() -> AsyncIterator[int]:
        yield 0

    async def taken() -> None:
        go, sends = asyncio.Event(), []

        async def work(_: int, send: stream.Send[str]) -> str:
            sends.append(send)
            for number in range(1000):
                send(f"early {number}")
            await go.wait()
            return "answer"

        answers = stream.answers(one(), work, 4)
        assert await anext(answers) == "early 999"
        go.set()
        assert await anext(answers) == "answer"
        sends[0]("too late")
        with pytest.raises(StopAsyncIteration):
            await anext(answers)

    asyncio.run(asyncio.wait_for(taken(), 10))
