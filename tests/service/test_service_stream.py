"""ExplainStream: tagged answers as they are ready, each failure its own, bounded reading."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from lstm_explain.service import stream
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2 as pb
from tests.service.calling import array_of, request, sequence, stub, tensor


def item(number: int, **fields: object) -> pb.ExplainStreamRequest:
    fields.setdefault("inputs", [tensor("x", sequence(seed=number))])
    return pb.ExplainStreamRequest(id=f"item {number}", request=request(**fields))


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


def test_a_caller_that_leaves_disturbs_nobody(channel: grpc.Channel) -> None:
    for _ in range(20):
        answers = stub(channel).ExplainStream(item(i) for i in range(100))
        next(answers)
        answers.cancel()
    assert stub(channel).Explain(request(), timeout=10).model == "lstm"


class _Pulls:
    """An endless supply of requests that counts how many were taken."""

    def __init__(self) -> None:
        self.count = 0

    def __iter__(self) -> Iterator[int]:
        while True:
            self.count += 1
            yield self.count


def test_reading_stops_where_answers_are_not_taken() -> None:
    pulls, window = _Pulls(), 4
    busy = threading.Barrier(window + 1)

    def work(number: int) -> int:
        if number <= window:
            busy.wait(timeout=10)
        return number

    with ThreadPoolExecutor(window) as pool:
        answers = stream.answers(iter(pulls), work, pool, window)
        taker = threading.Thread(target=lambda: next(answers))
        taker.start()
        busy.wait(timeout=10)  # all of the window is at work
        taker.join(timeout=10)
        assert pulls.count <= window + 1
        for _ in range(10):
            next(answers)
        assert pulls.count <= window + 11
        answers.close()


def test_what_breaks_the_requests_is_raised_after_the_answers() -> None:
    def requests() -> Iterator[int]:
        yield 1
        yield 2
        raise ConnectionError("gone")

    with ThreadPoolExecutor(2) as pool:
        answers = stream.answers(requests(), lambda n: n * 10, pool, 4)
        assert sorted((next(answers), next(answers))) == [10, 20]
        with pytest.raises(ConnectionError):
            next(answers)
