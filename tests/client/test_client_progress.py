# SPDX-License-Identifier: Apache-2.0
"""The Python clients report the progress of long requests to a function, or draw a bar."""

from __future__ import annotations

import numpy as np
import pytest

from lstm_explain_client import AsyncClient, Client, InvalidRequest, Request
from tests.client.conftest import Case, Server

PERMUTATIONS = 5_000  # half a second or more: the first report comes after a tenth of it
LONG = {"method": "shapley_sampling", "parameters": {"permutations": PERMUTATIONS, "exact_players": 0}}


class Seen(list[tuple[int, int]]):
    """Reports, and whether they are in order."""

    def __call__(self, done: int, total: int) -> None:
        self.append((done, total))

    def check(self, total: int) -> None:
        assert self
        done = [counts[0] for counts in self]
        assert done == sorted(done)
        assert 0 < done[-1] <= total
        assert all(0 <= some <= all_ for some, all_ in self)
        assert self[0][1] == total


@pytest.fixture
def client(server: Server):
    with Client(server.address) as client:
        yield client


def runs(numbers: Case) -> int:
    return PERMUTATIONS * numbers.x.shape[1]


def test_a_function_hears_of_the_progress(client: Client, numbers: Case) -> None:
    seen, given = Seen(), {numbers.input: numbers.x}
    result = client.explain("numbers", given, **LONG, target=1, progress=seen)
    seen.check(runs(numbers))
    alone = client.explain("numbers", given, **LONG, target=1)
    assert result.relevance[numbers.input].tobytes() == alone.relevance[numbers.input].tobytes()
    assert result.inputs[numbers.input].shape == numbers.x.shape


def test_several_targets(client: Client, numbers: Case) -> None:
    seen = Seen()
    results = client.explain_many("numbers", {numbers.input: numbers.x}, [0, 2], **LONG, progress=seen)
    seen.check(2 * runs(numbers))
    assert [np.ravel(one.target.index).tolist() for one in results] == [[0] * 3, [2] * 3]
    assert client.explain_many("numbers", {numbers.input: numbers.x}, [], progress=seen) == []


async def test_the_same_from_asyncio(server: Server, numbers: Case) -> None:
    given = {numbers.input: numbers.x}
    async with AsyncClient(server.address) as client:
        seen = Seen()
        result = await client.explain("numbers", given, **LONG, progress=seen)
        seen.check(runs(numbers))
        assert result.relevance[numbers.input].shape == numbers.x.shape
        seen = Seen()
        await client.explain_many("numbers", given, [0, 1], **LONG, progress=seen)
        seen.check(2 * runs(numbers))


def test_each_request_of_a_stream_has_its_own(client: Client, numbers: Case) -> None:
    given, seen, other = {numbers.input: numbers.x}, Seen(), Seen()
    requests = [
        Request("numbers", given, **LONG, id="a", progress=seen),
        Request("numbers", given, **LONG, id="silent"),
        Request("numbers", given, id="lrp", progress=other),
    ]
    answers = list(client.explain_stream(requests))
    assert sorted(answer.id for answer in answers) == ["a", "lrp", "silent"]
    assert all(answer.get() for answer in answers)
    seen.check(runs(numbers))
    assert other == []


def test_what_the_function_raises_ends_the_call(client: Client, numbers: Case) -> None:
    def enough(done: int, total: int) -> None:
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        client.explain("numbers", {numbers.input: numbers.x}, **LONG, progress=enough)
    assert client.explain("numbers", {numbers.input: numbers.x}).warnings is not None


def test_errors_are_the_same(client: Client, numbers: Case) -> None:
    for wrong, field in (({"target": 17}, "target"), ({"inputs": {"nope": numbers.x}}, "inputs")):
        arguments = {"model": "numbers", "inputs": {numbers.input: numbers.x}, **wrong}
        with pytest.raises(InvalidRequest) as caught:
            client.explain(**arguments, progress=Seen())
        assert caught.value.field.startswith(field)
    with pytest.raises(InvalidRequest, match="'yes'; expected True or a function"):
        client.explain("numbers", {numbers.input: numbers.x}, progress="yes")


def test_a_bar_on_a_terminal_and_silence_elsewhere(
    client: Client, numbers: Case, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {numbers.input: numbers.x}
    client.explain("numbers", given, **LONG, progress=True)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes stderr for a terminal
    client.explain("numbers", given, **LONG, progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "numbers, shapley_sampling" in shown.err
    assert f"/{runs(numbers)}" in shown.err
