# SPDX-License-Identifier: Apache-2.0
"""ExplainStream: tagged answers as they are ready, individual errors, bounded reading."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator

import grpc
import numpy as np
import pytest

from lstm_explain.serving import stream
from lstm_explain.serving.scheduling.admission import ConcurrencyLimit, StreamPermits
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2 as pb
from lstm_explain_proto.lstm_explain.v1 import method_pb2
from tests.serving.calling import array_of, request, sequence, stub, tensor


def item(number: int, **fields: object) -> pb.ExplainStreamRequest:
    fields.setdefault("inputs", [tensor("x", sequence(seed=number))])
    return pb.ExplainStreamRequest(id=f"item {number}", request=request(**fields))


def endless(number: int) -> pb.ExplainStreamRequest:
    """A request that takes much longer than any test waits."""
    method = method_pb2.Method(shapley_sampling=method_pb2.ShapleySampling(permutations=9_000))
    return item(number, inputs=[tensor("x", sequence(1, 100))], method=method)


def test_every_request_gets_its_own_answer(channel: grpc.Channel) -> None:
    answers = {a.id: a for a in stub(channel).ExplainStream(item(i) for i in range(40))}
    assert set(answers) == {f"item {i}" for i in range(40)}
    for number in (0, 17, 39):
        alone = stub(channel).Explain(item(number).request)
        relevance = answers[f"item {number}"].response.relevance[0]
        np.testing.assert_array_equal(array_of(relevance), array_of(alone.relevance[0]))


def test_a_bad_item_does_not_end_the_stream(channel: grpc.Channel) -> None:
    bad = {1: {"model": "nothing"}, 3: {"inputs": [tensor("y", sequence())]}, 4: {"version": "9"}}
    answers = {a.id: a for a in stub(channel).ExplainStream(item(i, **bad.get(i, {})) for i in range(6))}
    codes = {number: answers[f"item {number}"].error.code for number in bad}
    assert codes == {
        1: grpc.StatusCode.NOT_FOUND.value[0],
        3: grpc.StatusCode.INVALID_ARGUMENT.value[0],
        4: grpc.StatusCode.NOT_FOUND.value[0],
    }
    assert answers["item 3"].error.field == "inputs[0]"
    assert "nothing" in answers["item 1"].error.message
    assert all(answers[f"item {n}"].WhichOneof("result") == "response" for n in (0, 2, 5))


def test_an_empty_stream_ends(channel: grpc.Channel) -> None:
    assert list(stub(channel).ExplainStream(iter(()))) == []


def test_a_caller_that_leaves_affects_no_other(channel: grpc.Channel) -> None:
    for _ in range(20):
        answers = stub(channel).ExplainStream(item(i) for i in range(100))
        next(answers)
        answers.cancel()
    assert stub(channel).Explain(request(), timeout=10).model == "lstm"


def test_a_stream_whose_deadline_passes_never_ends_as_if_all_were_well(channel: grpc.Channel) -> None:
    """The server notices that a request is out of time at about the moment when gRPC ends the stream."""
    for _ in range(5):
        waiting = [stub(channel).ExplainStream(iter([endless(i)]), timeout=0.1) for i in range(12)]
        for answers in waiting:
            with pytest.raises(grpc.RpcError) as raised:
                list(answers)
            assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


class _Pulls:
    """An endless supply of requests that counts how many were taken."""

    def __init__(self) -> None:
        self.count = 0

    def __iter__(self) -> Iterator[int]:
        while True:
            self.count += 1
            yield self.count


async def _some(requests: Iterable[int]) -> AsyncIterator[int]:
    for number in requests:
        yield number


def test_reading_stops_while_answers_are_not_read() -> None:
    async def taken() -> None:
        pulls, window, before = _Pulls(), 4, len(asyncio.all_tasks())
        busy, at_work = asyncio.Event(), 0

        async def work(number: int, _: stream.Send[int]) -> int:
            nonlocal at_work
            at_work += 1
            if number <= window:
                await busy.wait()
            return number

        answers = stream.answers(_some(pulls), work, window)
        first = asyncio.ensure_future(anext(answers))
        while at_work < window:
            await asyncio.sleep(0)
        for _ in range(20):  # all of the window is at work, whatever else the loop has to do
            await asyncio.sleep(0)
        assert pulls.count <= window + 1
        busy.set()
        await first
        for _ in range(10):
            await anext(answers)
        assert pulls.count <= window + 11
        await answers.aclose()
        assert len(asyncio.all_tasks()) == before

    asyncio.run(asyncio.wait_for(taken(), 10))


def test_an_error_of_the_requests_is_raised_after_the_answers() -> None:
    async def requests() -> AsyncIterator[int]:
        yield 1
        yield 2
        raise ConnectionError("gone")

    async def times_ten(number: int, _: stream.Send[int]) -> int:
        return number * 10

    async def taken() -> None:
        answers = stream.answers(requests(), times_ten, 4)
        assert sorted([await anext(answers), await anext(answers)]) == [10, 20]
        with pytest.raises(ConnectionError):
            await anext(answers)

    asyncio.run(taken())


def test_running_requests_end_with_the_stream_and_release_their_permits() -> None:
    async def taken() -> None:
        permits, never = StreamPermits(ConcurrencyLimit(2, "requests"), 2), asyncio.Event()

        async def work(number: int, _: stream.Send[int]) -> int:
            if number > 1:
                await never.wait()
            return number

        answers = stream.answers(_some(_Pulls()), work, 4, permits=permits)
        assert await anext(answers) == 1
        await answers.aclose()
        await asyncio.wait_for(permits.acquire(), 1)

    asyncio.run(taken())
