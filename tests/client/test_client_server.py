# SPDX-License-Identifier: Apache-2.0
"""Both clients against the real server."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from lstm_explain_client import (
    LRP,
    AsyncClient,
    Client,
    Composite,
    DeadlineExceeded,
    Every,
    ExplainError,
    Gamma,
    InvalidRequest,
    ModelNotFound,
    Request,
    ShapleySampling,
    Target,
    Unimplemented,
)


@pytest.fixture
def client(server):
    with Client(server.address) as client:
        yield client


@pytest.fixture
async def aclient(server):
    async with AsyncClient(server.address) as client:
        yield client


def closes(result) -> bool:
    """Whether the ledger accounts for everything, including the relevance arrays."""
    ledger = result.ledger
    whole = ledger.inputs + ledger.initial_states + ledger.absorbed + ledger.residual
    given = sum(r.reshape(len(result), -1).sum(1) for r in result.relevance.values())
    top = 1e-4 * max(1.0, *(float(np.abs(r).sum()) for r in result.relevance.values()))
    return bool(
        np.allclose(whole, result.explained, atol=top)
        and np.allclose(given, ledger.inputs, atol=top)
        and np.all(np.abs(ledger.residual) < top)
    )


def test_numbers(client, numbers):
    x = {numbers.input: numbers.x}
    result = client.explain("numbers", x, "lrp", target=1, parameters={"epsilon": 1e-3}, timeout=30)
    assert result.relevance[numbers.input].shape == numbers.x.shape
    np.testing.assert_allclose(result.outputs[numbers.output], numbers.y, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(result.explained, numbers.y[:, 1], rtol=1e-4, atol=1e-5)
    assert closes(result)
    assert result.method == LRP("all", 1e-3, 0.0)
    assert result.target.index.tolist() == [1, 1, 1]
    assert (result.model, result.version) == ("numbers", "1")


def test_nested_lists_equal_arrays(client, numbers):
    a = client.explain("numbers", {numbers.input: numbers.x}, target=0)
    b = client.explain("numbers", {numbers.input: numbers.x.tolist()}, target=0)
    assert a.relevance[numbers.input].tobytes() == b.relevance[numbers.input].tobytes()


@pytest.mark.parametrize("rule", ["all", "half", "prop", "abs"])
def test_every_product_rule(client, numbers, rule):
    result = client.explain("numbers", {numbers.input: numbers.x}, method=LRP(product_rule=rule), target=2)
    assert result.method.product_rule == rule
    assert closes(result)


def test_standard_errors_and_composites(client, numbers):
    sampled = client.explain("numbers", {numbers.input: numbers.x}, method=ShapleySampling(permutations=8), target=0)
    assert sampled.standard_error[numbers.input].shape == numbers.x.shape
    assert (sampled.standard_error[numbers.input] >= 0).all()
    assert sampled.method.over == "steps"
    composite = Composite({"Gemm": Gamma(0.5), "MatMul": Gamma(0.5)})
    ruled = client.explain("numbers", {numbers.input: numbers.x}, "lrp", 0, {"composite": composite})
    assert ruled.method.composite == composite
    assert closes(ruled)
    assert not ruled.standard_error


def test_forms_of_target(client, numbers):
    def explained(target):
        return client.explain("numbers", {numbers.input: numbers.x}, target=target).explained

    y = numbers.y
    close = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(explained(None), y.max(1), **close)
    np.testing.assert_allclose(explained([0, 1, 2]), y[[0, 1, 2], [0, 1, 2]], **close)
    np.testing.assert_allclose(explained(Target(index=1, contrast=0)), y[:, 1] - y[:, 0], **close)
    np.testing.assert_allclose(explained({"weights": [1.0, -2.0, 0.5]}), y @ [1, -2, 0.5], **close)


def test_text_and_ids_agree(client, words):
    texts = ["the plot is thin", "the plot is thin not a bad film wow"]  # the model takes 9 words
    result = client.explain("words", {words.input: texts}, target=2)
    assert [[t for t in row if t] for row in result.tokens[words.input].tolist()] == [t.split() for t in texts]
    assert result.relevance[words.input].shape == result.tokens[words.input].shape == (2, 9)
    ids = [[5, 6, 7, 8, 0, 0, 0, 0, 0], [5, 6, 7, 8, 1, 2, 3, 4, 9]]
    again = client.explain("words", {words.input: ids}, target=2)
    assert again.relevance[words.input].tobytes() == result.relevance[words.input].tobytes()
    alone = client.explain("words", {words.input: texts[1]}, target=2).with_names(client.model("words"))
    assert alone.relevance[words.input].shape == (1, 9)
    assert "not: " in alone.to_html()
    assert f"{words.output}[good] = " in alone.to_html()


def test_models(client, words):
    assert {(m.name, m.version, m.state) for m in client.models()} == {
        ("numbers", "1", "ready"),
        ("words", "1", "ready"),
    }
    detail = client.model("words")
    assert detail.inputs[words.input].dtype == "int64"
    assert len(detail.inputs[words.input].shape) == 2
    assert detail.class_names == {words.output: ("bad", "fair", "good")}
    assert detail.text_inputs == (words.input,)
    assert detail.lrp_supported
    assert detail.nodes


def test_axes_and_units(client, numbers, words):
    detail = client.model("numbers")
    assert (detail.batch_axes, detail.time_axes) == ({numbers.input: 0}, {numbers.input: 1})
    assert detail.units == {numbers.input: ("mm", "mm", "°C", "°C", "m/s"), numbers.output: ("m3/s",)}
    result = client.explain("numbers", {numbers.input: numbers.x}, target=0).with_names(detail)
    assert result.batch_axes == {numbers.input: 0}
    page = result.to_html()
    assert "rain (mm)" in page
    assert " m3/s" in page
    assert client.model("words").time_axes == {words.input: 1}


def test_unknown_models(client):
    with pytest.raises(ModelNotFound):
        client.explain("nobody", {"x": [1.0]})
    with pytest.raises(ModelNotFound):
        client.model("nobody")
    with pytest.raises(ModelNotFound):
        client.model("numbers", "77")


def test_wrong_fields_are_named_and_the_next_call_is_answered(client, numbers):
    wrong = [
        ({"inputs": {"nope": numbers.x}}, "inputs"),
        ({"inputs": {numbers.input: numbers.x[0]}}, "inputs[0]"),
        ({"inputs": {numbers.input: numbers.x * np.nan}}, "inputs[0]"),
        ({"target": 17}, "target"),
        ({"target": {"output": "nope"}}, "target.output"),
        ({"method": "lrp", "parameters": {"epsilon": -1.0}}, "method"),
    ]
    for arguments, field in wrong:
        with pytest.raises(InvalidRequest) as caught:
            client.explain(**{"model": "numbers", "inputs": {numbers.input: numbers.x}, **arguments})
        assert caught.value.field.startswith(field), arguments
        assert str(caught.value)
    assert closes(client.explain("numbers", {numbers.input: numbers.x}))


@pytest.fixture
def large(numbers):
    """A batch that takes the server far longer than the deadline below."""
    return {numbers.input: np.tile(numbers.x, (20000, 1, 1))}


def test_a_deadline(client, numbers, large):
    with pytest.raises(DeadlineExceeded):
        client.explain("numbers", large, timeout=0.005)
    assert closes(client.explain("numbers", {numbers.input: numbers.x}))


def test_a_client_has_a_default_deadline(server, large):
    with Client(server.address, timeout=0.005) as hurried, pytest.raises(DeadlineExceeded):
        hurried.explain("numbers", large)


def requests(numbers):
    good = Request("numbers", {numbers.input: numbers.x}, target=1)
    yield good
    yield {"model": "numbers", "inputs": {numbers.input: numbers.x}, "target": 99, "id": "far"}
    yield {"model": "numbers", "inputs": {numbers.input: [[1], [1, 2]]}, "id": "ragged"}
    yield Request("nobody", {numbers.input: numbers.x}, id="nobody")
    yield good


def check_stream(answers, numbers, alone):
    by_id = {answer.id: answer for answer in answers}
    assert set(by_id) == {"0", "far", "ragged", "nobody", "4"}
    for name in ("0", "4"):
        assert by_id[name].get().relevance[numbers.input].tobytes() == alone.relevance[numbers.input].tobytes()
        assert by_id[name].result.inputs[numbers.input].shape == numbers.x.shape
    assert isinstance(by_id["far"].error, InvalidRequest)
    assert by_id["far"].error.field.startswith("target")
    assert by_id["ragged"].error.field == f"inputs.{numbers.input}"
    assert isinstance(by_id["nobody"].error, ModelNotFound)


def test_a_stream(client, numbers):
    alone = client.explain("numbers", {numbers.input: numbers.x}, target=1)
    check_stream(list(client.explain_stream(requests(numbers))), numbers, alone)


TARGETS = [2, 0, Target(index=1, contrast=0), None]


async def test_several_targets(client, aclient, numbers):
    given = {numbers.input: numbers.x}
    expected = [client.explain("numbers", given, target=target) for target in TARGETS]
    for received in (
        client.explain_many("numbers", given, targets=TARGETS),
        await aclient.explain_many("numbers", given, targets=TARGETS),
    ):
        for one, other in zip(received, expected, strict=True):
            assert one.relevance[numbers.input].tobytes() == other.relevance[numbers.input].tobytes()
            assert one.explained.tobytes() == other.explained.tobytes()
    half = client.explain_many("numbers", given, [1], "lrp", {"product_rule": "half"})
    assert half[0].method.product_rule == "half"
    assert client.explain_many("numbers", given, targets=[]) == []


async def test_targets_in_words_are_one_request(client, aclient, numbers, monkeypatch):
    given, sent = {numbers.input: numbers.x}, []
    send = client._explanations.Explain
    monkeypatch.setattr(
        client._explanations, "Explain", lambda message, **k: sent.append(message) or send(message, **k)
    )
    received = client.explain_many("numbers", given, "every class")
    assert len(sent) == 1
    assert [np.ravel(one.target.index).tolist() for one in received] == [[k] * 3 for k in range(3)]
    assert received[0].outputs is received[2].outputs
    for targets in (
        Every(),
        [Every(entries=[1])],
        f"classes 2,0; 1; {numbers.output}:every class",
        f"{numbers.output}:every step",
    ):
        assert await aclient.explain_many("numbers", given, targets)
    some = client.explain_many("numbers", given, ["classes 2,0"])
    assert [one.explained.tolist() for one in some] == [received[2].explained.tolist(), received[0].explained.tolist()]


def test_several_targets_in_a_stream(client, numbers):
    request = Request("numbers", {numbers.input: numbers.x}, targets="every class")
    (answer,) = client.explain_stream([request])
    alone = client.explain_many("numbers", {numbers.input: numbers.x}, "every class")
    for one, other in zip(answer.get_many(), alone, strict=True):
        assert one.relevance[numbers.input].tobytes() == other.relevance[numbers.input].tobytes()
    with pytest.raises(ValueError, match="get_many"):
        answer.get()


@pytest.mark.parametrize("words", ["best", "every sample", "steps one"])
def test_words_that_mean_no_targets(client, numbers, words):
    with pytest.raises(InvalidRequest, match=words):
        client.explain_many("numbers", {numbers.input: numbers.x}, words)


async def test_a_target_that_fails(client, aclient, numbers):
    given = {numbers.input: numbers.x}
    with pytest.raises(InvalidRequest) as caught:
        client.explain_many("numbers", given, targets=[0, 99])
    assert caught.value.field.startswith("target")
    with pytest.raises(InvalidRequest):
        await aclient.explain_many("numbers", given, targets=[0, 99])


def test_a_stream_can_be_left_early(client, numbers):
    def endless():
        while True:
            yield Request("numbers", {numbers.input: numbers.x})

    stream = client.explain_stream(endless())
    assert closes(next(stream).get())
    stream.close()
    assert client.models()


def test_an_error_of_the_requests_ends_the_stream(client, numbers):
    def breaking():
        yield Request("numbers", {numbers.input: numbers.x})
        raise LookupError("the caller's own")

    stream = client.explain_stream(breaking())
    assert closes(next(stream).get())
    with pytest.raises(LookupError, match="the caller's own"):
        next(stream)


async def test_awaited_answers_are_the_same(client, aclient, numbers):
    expected = client.explain("numbers", {numbers.input: numbers.x}, target=1)
    results = await asyncio.gather(
        *(aclient.explain("numbers", {numbers.input: numbers.x}, target=1) for _ in range(8))
    )
    for result in results:
        np.testing.assert_allclose(result.relevance[numbers.input], expected.relevance[numbers.input], atol=1e-6)
    assert [m.name for m in await aclient.models()] == [m.name for m in client.models()]
    assert repr(await aclient.model("words")) == repr(client.model("words"))


async def test_awaited_errors(aclient, numbers, large):
    with pytest.raises(ModelNotFound):
        await aclient.explain("nobody", {"x": [1.0]})
    with pytest.raises(InvalidRequest) as caught:
        await aclient.explain("numbers", {numbers.input: numbers.x}, target=17)
    assert caught.value.field.startswith("target")
    with pytest.raises(DeadlineExceeded):
        await aclient.explain("numbers", large, timeout=0.005)


async def test_cancelling_the_task_cancels_the_call(aclient, numbers, large):
    task = asyncio.create_task(aclient.explain("numbers", large))
    await asyncio.sleep(0)  # until the task waits for the call, which the server will refuse
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closes(await aclient.explain("numbers", {numbers.input: numbers.x}))


@pytest.mark.parametrize("awaited", [False, True])
async def test_an_awaited_stream(client, aclient, numbers, awaited):
    async def slowly():
        for request in requests(numbers):
            await asyncio.sleep(0)
            yield request

    alone = client.explain("numbers", {numbers.input: numbers.x}, target=1)
    source = slowly() if awaited else requests(numbers)
    check_stream([answer async for answer in aclient.explain_stream(source)], numbers, alone)


async def test_imports_are_off_unless_allowed(client, aclient):
    with pytest.raises(ExplainError) as caught:
        client.import_model("mine", b"not a model")
    with pytest.raises(type(caught.value)):
        await aclient.import_model("mine", b"not a model")
    with pytest.raises(ExplainError):
        client.delete_model("numbers")
    assert {m.name for m in client.models()} == {"numbers", "words"}


async def test_an_awaited_import_reports_why_it_ended(aclient):
    """The status is the server's, and not the one that grpc.aio reports in a few calls of a thousand if a message is
    being sent.
    """
    files = {f"{number}.bin": bytes(1000) for number in range(6)}
    for _ in range(1000):
        with pytest.raises(Unimplemented, match="allow-import"):
            await aclient.import_model("mine", bytes(1000), files=files)
