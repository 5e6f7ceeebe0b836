# SPDX-License-Identifier: Apache-2.0
"""Explain over a socket returns what the engine computes."""

from __future__ import annotations

import re
from pathlib import Path

import grpc
import numpy as np
import pytest

import lstm_explain as lx
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2, method_pb2
from tests.serving.calling import array_of, request, sequence, strings_of, stub, tensor, texts
from tests.serving.models import WORDS


@pytest.fixture(scope="module")
def engine(models_folder: Path) -> lx.Model:
    """The newest version of `lstm`."""
    return lx.load(models_folder / "lstm" / "2" / "model.onnx")


def same(response: explanation_pb2.ExplainResponse, expected: lx.Explanation) -> None:
    """Every array of the answer equals the engine's, bit by bit."""
    for messages, arrays in (
        (response.relevance, expected.relevance),
        (response.outputs, expected.outputs),
        (response.captured, expected.captured),
    ):
        assert [m.name for m in messages] == list(arrays)
        for message, array in zip(messages, arrays.values(), strict=True):
            np.testing.assert_array_equal(array_of(message), array)
    np.testing.assert_array_equal(array_of(response.explained), expected.explained)
    for part in ("inputs", "initial_states", "absorbed", "residual"):
        np.testing.assert_array_equal(array_of(getattr(response.ledger, part)), getattr(expected.ledger, part))
    assert {n.node for n in response.ledger.by_node} == set(expected.ledger.by_node)


def closes(response: explanation_pb2.ExplainResponse) -> None:
    ledger = response.ledger
    parts = sum(array_of(p) for p in (ledger.inputs, ledger.initial_states, ledger.absorbed, ledger.residual))
    explained = array_of(response.explained)
    np.testing.assert_allclose(parts, explained, rtol=1e-6)
    assert np.all(np.abs(array_of(ledger.residual)) <= 1e-4 * np.abs(explained))


def test_defaults_are_filled_in_and_returned(channel: grpc.Channel, engine: lx.Model) -> None:
    response = stub(channel).Explain(request())
    same(response, engine.explain({"x": sequence()}))
    closes(response)
    assert (response.model, response.version) == ("lstm", "2")
    assert response.method.lrp.product_rule == method_pb2.PRODUCT_RULE_ALL
    lrp = response.method.lrp
    assert not lrp.HasField("epsilon")
    assert (lrp.stabiliser, lrp.cell_stabiliser, lrp.layer_stabiliser, lrp.ceiling) == (0.1, 0.0, 0.02, 10.0)
    assert lrp.bias_factor == 0.0
    logits = array_of(response.outputs[0])
    assert list(response.target.indices) == list(logits.argmax(axis=1))
    assert response.target.output == "logits"
    assert response.target.batch_axis == 0


def test_a_version_can_be_chosen(channel: grpc.Channel, models_folder: Path) -> None:
    older = lx.load(models_folder / "lstm" / "1" / "model.onnx")
    response = stub(channel).Explain(request(version="1"))
    same(response, older.explain({"x": sequence()}))
    assert response.version == "1"


@pytest.mark.parametrize("rule", ["all", "half", "prop", "abs"])
def test_lrp_parameters(channel: grpc.Channel, engine: lx.Model, rule: str) -> None:
    number = method_pb2.ProductRule.Value(f"PRODUCT_RULE_{rule.upper()}")
    method = method_pb2.Method(lrp=method_pb2.Lrp(product_rule=number, epsilon=0.05, bias_factor=1.0))
    response = stub(channel).Explain(request(method=method))
    same(response, engine.explain({"x": sequence()}, lx.LRP(rule, 0.05, 1.0)))
    closes(response)
    assert response.method == method


@pytest.mark.parametrize("name", ["gradient", "gradient_times_input"])
def test_other_methods(channel: grpc.Channel, engine: lx.Model, name: str) -> None:
    method = method_pb2.Method()
    getattr(method, name).SetInParent()
    response = stub(channel).Explain(request(method=method))
    same(response, engine.explain({"x": sequence()}, lx.method_from_name(name)))
    assert response.method.WhichOneof("method") == name


def test_occlusion_fill_and_shapley_players(channel: grpc.Channel, engine: lx.Model) -> None:
    method = method_pb2.Method(occlusion=method_pb2.Occlusion(window=2, of=method_pb2.QUANTITY_PROBABILITY))
    response = stub(channel).Explain(request(method=method))
    same(response, engine.explain({"x": sequence()}, lx.Occlusion(window=2, of="probability")))
    method.occlusion.over = method_pb2.PLAYERS_STEPS
    assert response.method == method
    assert not response.standard_error

    players = method_pb2.ShapleySampling(permutations=6, seed=3, over=method_pb2.PLAYERS_FEATURES)
    response = stub(channel).Explain(request(method=method_pb2.Method(shapley_sampling=players)))
    expected = engine.explain({"x": sequence()}, lx.ShapleySampling(permutations=6, seed=3, over="features"))
    same(response, expected)
    players.max_permutations, players.exact_players = 1000, 10  # the defaults
    assert response.method.shapley_sampling == players
    assert [tensor.name for tensor in response.standard_error] == ["x"]
    np.testing.assert_array_equal(array_of(response.standard_error[0]), expected.standard_error["x"])


def test_a_span_is_one_phrase(channel: grpc.Channel, engine: lx.Model) -> None:
    decomposition = method_pb2.ContextualDecomposition(span=method_pb2.Span(start=2, end=5))
    response = stub(channel).Explain(request(method=method_pb2.Method(contextual_decomposition=decomposition)))
    same(response, engine.explain({"x": sequence()}, lx.ContextualDecomposition(span=(2, 5))))
    assert response.method.contextual_decomposition == decomposition


@pytest.mark.parametrize(
    ("span", "problem"),
    [
        (method_pb2.Span(start=2, end=99), "a sample has 7 time steps"),
        (method_pb2.Span(start=3, end=3), r"span is \(3, 3\), expected a pair"),
        (method_pb2.Span(start=-1, end=3), r"span is \(-1, 3\), expected a pair"),
        (method_pb2.Span(end=3), r"span is \(None, 3\), expected a pair"),
        (method_pb2.Span(), r"span is \(None, None\), expected a pair"),
    ],
)
def test_spans_that_are_none(channel: grpc.Channel, span: method_pb2.Span, problem: str) -> None:
    method = method_pb2.Method(contextual_decomposition=method_pb2.ContextualDecomposition(span=span))
    with pytest.raises(grpc.RpcError) as error:
        stub(channel).Explain(request(method=method))
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert re.search(problem, error.value.details())


@pytest.mark.parametrize("over", ["features", "cells"])
def test_occlusion_by_unit(channel: grpc.Channel, engine: lx.Model, over: str) -> None:
    units = method_pb2.Occlusion(over=getattr(method_pb2, f"PLAYERS_{over.upper()}"))
    response = stub(channel).Explain(request(method=method_pb2.Method(occlusion=units)))
    same(response, engine.explain({"x": sequence()}, lx.Occlusion(over=over)))
    assert response.method.occlusion.over == units.over
    units.window = 2
    with pytest.raises(grpc.RpcError) as error:
        stub(channel).Explain(request(method=method_pb2.Method(occlusion=units)))
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "rule", [lx.Epsilon(0.5), lx.Gamma(0.5), lx.ZPlus(), lx.AlphaBeta(2, 1), lx.Flat(), lx.ZBox(-1, 1), lx.WSquare()]
)
def test_composites(channel: grpc.Channel, engine: lx.Model, rule: lx.Rule) -> None:
    message = method_pb2.Lrp()
    chosen = getattr(message.composite.rules["dense"], rule.name)
    chosen.SetInParent()
    for name, value in rule.parameters().items():
        setattr(chosen, name, value)
    message.composite.first.epsilon.epsilon = 0.125
    response = stub(channel).Explain(request(method=method_pb2.Method(lrp=message)))
    same(
        response, engine.explain({"x": sequence()}, lx.LRP(composite=lx.Composite({"dense": rule}, lx.Epsilon(0.125))))
    )
    closes(response)
    assert response.method.lrp.composite == message.composite


@pytest.mark.parametrize("shape", [(), (4,), (1, 1, 4), (7, 4), (2, 7, 4)])
def test_baselines_broadcast(channel: grpc.Channel, engine: lx.Model, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(5).standard_normal(shape).astype(np.float32)
    method = method_pb2.Method(occlusion=method_pb2.Occlusion(baseline=[tensor("x", array)]))
    same(stub(channel).Explain(request(method=method)), engine.explain({"x": sequence()}, lx.Occlusion(baseline=array)))


@pytest.mark.parametrize(
    ("message", "target", "indices"),
    [
        ({"indices": [2]}, lx.Target(index=2), [2, 2]),
        ({"indices": [2, 0]}, lx.Target(index=np.array([2, 0])), [2, 0]),
        ({"indices": [1], "contrast_indices": [0]}, lx.Target(index=1, contrast=0), [1, 1]),
        ({"output": "logits"}, lx.Target(output="logits"), None),
        (
            {"weights": tensor("", np.array([1.0, -2.0, 0.5], np.float32))},
            lx.Target(weights=np.array([1.0, -2.0, 0.5], np.float32)),
            None,
        ),
    ],
)
def test_targets(
    channel: grpc.Channel, engine: lx.Model, message: dict, target: lx.Target, indices: list[int] | None
) -> None:
    response = stub(channel).Explain(request(target=explanation_pb2.Target(**message)))
    same(response, engine.explain({"x": sequence()}, target=target))
    closes(response)
    if indices is not None:
        assert list(response.target.indices) == indices


def test_inner_values_are_captured(channel: grpc.Channel, engine: lx.Model) -> None:
    name = next(n.output[0] for n in _nodes(engine) if n.op_type == "LSTM")
    response = stub(channel).Explain(request(capture=[name]))
    same(response, engine.explain({"x": sequence()}, capture=[name]))
    assert [c.name for c in response.captured] == [name]


def _nodes(engine: lx.Model) -> list:
    from tests.serving.models import lstm

    return list(lstm(1).graph.node)


def test_text_comes_back_as_tokens_with_relevance(channel: grpc.Channel, models_folder: Path) -> None:
    sent = texts("tokens", "the plot is thin", "not wonderful .")
    response = stub(channel).Explain(request("words", inputs=[sent]))
    assert strings_of(response.tokens[0]) == [["the", "plot", "is", "thin"], ["not", "wonderful", ".", ""]]
    assert response.tokens[0].name == "tokens"
    ids = np.array([[WORDS.index(w) for w in ("the", "plot", "is", "thin")], [2, 1, 10, 0]])
    words = lx.load(models_folder / "words" / "1" / "model.onnx")
    same(response, words.explain({"tokens": ids}, lx.LRP(epsilon=0.01)))  # the model's own default
    closes(response)


def test_ids_instead_of_text(channel: grpc.Channel) -> None:
    ids = np.array([[2, 3, 4, 5]])
    response = stub(channel).Explain(request("words", inputs=[tensor("tokens", ids)]))
    assert array_of(response.relevance[0]).shape == ids.shape
    assert not response.tokens


def test_a_bare_file_is_version_1(channel: grpc.Channel) -> None:
    assert stub(channel).Explain(request("bare")).version == "1"


def test_the_callers_request_id_is_returned(channel: grpc.Channel) -> None:
    _, call = stub(channel).Explain.with_call(request(), metadata=(("x-request-id", "mine-1"),))
    assert dict(call.trailing_metadata())["x-request-id"] == "mine-1"
    _, call = stub(channel).Explain.with_call(request(), metadata=(("x-request-id", "not fit for a log"),))
    assert len(dict(call.trailing_metadata())["x-request-id"]) == 32
