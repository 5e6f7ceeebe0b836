# SPDX-License-Identifier: Apache-2.0
"""Arguments become the messages of the protos."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json

import numpy as np
import pytest
from google.protobuf import text_format

from lstm_explain_client import (
    LRP,
    AlphaBeta,
    AsyncClient,
    Client,
    Composite,
    ContextualDecomposition,
    Epsilon,
    Flat,
    Gamma,
    Gradient,
    Groups,
    IntegratedGradients,
    InvalidRequest,
    Request,
    Retry,
    SmoothGrad,
    Span,
    Target,
    ZBox,
    ZPlus,
    methods,
    wire,
)
from lstm_explain_client.connection import PUBLISHED, TLS, Connection
from lstm_explain_client.target import from_wire_target
from lstm_explain_client.wire_groups import to_wire_groups
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2


def message(**arguments):
    request = Request(**{"model": "m", "inputs": {}, **arguments})
    return request.message(request.arrays())


def parsed(text: str) -> explanation_pb2.ExplainRequest:
    return text_format.Parse(text, explanation_pb2.ExplainRequest())


def test_the_call_of_the_contract():
    sent = message(model="sentiment", inputs={"tokens": [[1, 2]]}, method="lrp", target=3, parameters={"epsilon": 1e-3})
    assert sent == parsed(
        'model: "sentiment" '
        'inputs { name: "tokens" dtype: DATA_TYPE_INT64 shape: [1, 2] '
        r'data: "\001\000\000\000\000\000\000\000\002\000\000\000\000\000\000\000" } '
        "target { indices: 3 } method { lrp { epsilon: 0.001 } }"
    )


def test_parameters_without_a_method_are_sent_as_text():
    sent = message(parameters={"epsilon": 1e-3, "steps": np.int64(7), "baseline": np.eye(2), "product_rule": "half"})
    texts = {"epsilon": "0.001", "steps": "7", "baseline": "[[1.0, 0.0], [0.0, 1.0]]", "product_rule": "half"}
    assert (dict(sent.parameters), sent.HasField("method")) == (texts, False)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (None, ""),
        (3, "target { indices: 3 }"),
        (np.int32(3), "target { indices: 3 }"),
        ((1, 2), "target { indices: [1, 2] }"),
        ([1, 2, 0], "target { indices: [1, 2, 0] }"),
        (np.array([[1, 2], [3, 4]]), "target { indices: [1, 2, 3, 4] }"),
        ({"output": "y", "index": 1, "contrast": 0}, 'target { output: "y" indices: 1 contrast_indices: 0 }'),
        (Target(index=0, batch_axis=1), "target { indices: 0 batch_axis: 1 }"),
        (Target(batch_axis=0), "target { batch_axis: 0 }"),
        (Target(index=-1, batch_axis=None), "target { indices: -1 no_batch_axis: true }"),
        (Target(pre_activation=False), "target { pre_activation: false }"),
        (
            {"weights": [1.0]},
            r'target { weights { dtype: DATA_TYPE_FLOAT32 shape: 1 data: "\000\000\200\077" } }',
        ),
    ],
)
def test_every_form_of_target(target, expected):
    assert message(target=target) == parsed(f'model: "m" {expected}')


@pytest.mark.parametrize(
    ("method", "parameters", "expected"),
    [
        (None, None, ""),
        ("lrp", None, "method { lrp { } }"),
        ("lrp", {"product_rule": "half"}, "method { lrp { product_rule: PRODUCT_RULE_HALF } }"),
        (LRP(epsilon=0, bias_factor=1), None, "method { lrp { epsilon: 0 bias_factor: 1 } }"),
        ("gradient", None, "method { gradient { } }"),
        ("gradient_times_input", {}, "method { gradient_times_input { } }"),
        (
            IntegratedGradients(steps=8, baseline={"x": np.zeros(1, bool)}),
            None,
            r'method { integrated_gradients { steps: 8 baseline { name: "x" dtype: 6 shape: 1 data: "\000" } } }',
        ),
        ("integrated_gradients", {"max_steps": 9}, "method { integrated_gradients { max_steps: 9 } }"),
        (
            "smooth_grad",
            {"samples": 3, "noise": 0.5, "seed": 7},
            "method { smooth_grad { samples:3 noise:0.5 seed:7 }}",
        ),
        ("occlusion", {"window": 2}, "method { occlusion { window: 2 } }"),
        ("occlusion", {"of": "probability"}, "method { occlusion { of: QUANTITY_PROBABILITY } }"),
        ("shapley_sampling", {"permutations": 4}, "method { shapley_sampling { permutations: 4 } }"),
        ("shapley_sampling", {"over": "cells"}, "method { shapley_sampling { over: PLAYERS_CELLS } }"),
        (
            "lrp",
            {"composite": Composite({"Conv": Gamma(0.5), "fc": Flat()}, first=ZBox(-1, 1))},
            (
                "method { lrp { composite { rules { key: 'Conv' value { gamma { gamma: 0.5 } } } "
                "rules { key: 'fc' value { flat { } } } first { z_box { low: -1 high: 1 } } } } }"
            ),
        ),
        ("contextual_decomposition", None, "method { contextual_decomposition { } }"),
        (
            "contextual_decomposition",
            {"span": Span(0, 5)},
            "method { contextual_decomposition { span { start: 0 end: 5 } } }",
        ),
    ],
)
def test_every_method(method, parameters, expected):
    assert message(method=method, parameters=parameters) == parsed(f'model: "m" {expected}')


def test_without_a_method_none_is_sent():
    assert not message().HasField("method")
    assert not wire.Stream().encode({"model": "m", "inputs": {}}).request.HasField("method")
    for client in (Client, AsyncClient):
        assert inspect.signature(client.explain).parameters["method"].default is None


def test_every_method_of_the_wire_has_a_type():
    fields = methods.method_pb2.Method.DESCRIPTOR.oneofs_by_name["method"].fields
    assert set(methods.METHODS) == {field.name for field in fields}
    for field in fields:
        parameters = {f.name for f in dataclasses.fields(methods.METHODS[field.name])}
        assert parameters == {parameter.name for parameter in field.message_type.fields}


@pytest.mark.parametrize(
    "method",
    [
        LRP("prop", 0.5, 0.25),
        LRP(composite=Composite({"dense": AlphaBeta(3, 2), "a/b": ZPlus()}, Epsilon())),
        SmoothGrad(1, 0.5, 3),
        ContextualDecomposition(Span(0, 5)),
        Gradient(),
    ],
)
def test_methods_survive_the_round_trip(method):
    assert methods.from_wire_method(methods.to_wire_method(method)) == method


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"method": "lrpp"}, "method"),
        ({"method": "lrp", "parameters": {"eps": 1}}, "method.eps"),
        ({"method": "lrp", "parameters": {"product_rule": "both"}}, "method.product_rule"),
        ({"method": "lrp", "parameters": {"epsilon": "small"}}, "method.epsilon"),
        ({"method": "lrp", "parameters": {"composite": {"dense": Flat()}}}, "method.composite"),
        ({"method": "lrp", "parameters": {"composite": Composite({"dense": "flat"})}}, "method.composite"),
        ({"method": "lrp", "parameters": {"composite": Composite({"dense": Gamma("much")})}}, "method.composite"),
        ({"method": "contextual_decomposition", "parameters": {"span": (0, 5)}}, "method.span"),
        ({"method": "contextual_decomposition", "parameters": {"span": Span(0, 1 << 40)}}, "method.span"),
        ({"method": "occlusion", "parameters": {"of": "logits"}}, "method.of"),
        ({"method": LRP(), "parameters": {"epsilon": 1}}, "parameters"),
        ({"parameters": {"composite": Composite({"dense": Flat()})}}, "parameters[composite]"),
        ({"method": "occlusion", "parameters": {"baseline": [0.0]}}, "method.baseline"),
        ({"target": 1.5}, "target.index"),
        ({"target": True}, "target.index"),
        ({"target": "first"}, "target.index"),
        ({"target": {"idx": 1}}, "target.idx"),
        ({"target": Target(index=1, weights=[1.0])}, "target.weights"),
        ({"inputs": [1.0]}, "inputs"),
        ({"inputs": {"x": [[1], [1, 2]]}}, "inputs.x"),
        ({"model": ""}, "model"),
        ({"capture": "node"}, "capture"),
    ],
)
def test_wrong_arguments_name_the_field(wrong, field):
    with pytest.raises(InvalidRequest) as caught:
        message(**wrong)
    assert caught.value.field == field


def test_the_target_of_an_answer_has_one_position_per_sample():
    assert from_wire_target(explanation_pb2.Target(indices=[1, 2, 0]), 3).index.tolist() == [1, 2, 0]
    assert from_wire_target(explanation_pb2.Target(indices=[1, 2, 3, 4]), 2).index.tolist() == [[1, 2], [3, 4]]
    assert from_wire_target(explanation_pb2.Target(indices=[1]), 0).index == 1


def test_stream_requests_that_cannot_be_built_are_answered():
    stream = wire.Stream()
    assert stream.encode({"model": "m", "inputs": {}}).id == "0"
    assert stream.encode({"model": "m", "inputs": {"x": [[1], [1, 2]]}}) is None
    assert stream.encode({"model": "m"}) is None
    assert stream.encode({"model": "m", "inputs": {}, "modle": 1}) is None
    assert stream.encode(Request("m", {}, id="mine")).id == "mine"
    assert stream.encode(Request("m", {}, id="mine")) is None
    answers = list(stream.take_failed())
    assert [(a.id, a.error.field) for a in answers] == [
        ("1", "inputs.x"),
        ("2", "inputs"),
        ("3", "modle"),
        ("mine", "id"),
    ]
    with pytest.raises(InvalidRequest):
        answers[0].get()


@pytest.mark.parametrize("size", [0, 1, wire.CHUNK, 2 * wire.CHUNK + 5])
def test_an_import_carries_the_whole_file(tmp_path, size):
    content = np.random.default_rng(0).bytes(size)
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    for source in (path, str(path), content):
        parts = list(wire.import_messages(wire.import_plan("m", source, None, "batch_axis: 0", ())))
        assert parts[0].start.sha256 == hashlib.sha256(content).digest()
        assert (parts[0].start.name, parts[0].start.version, parts[0].start.size) == ("m", "", size)
        assert b"".join(part.chunk for part in parts[1:]) == content


def test_retries_are_a_service_config():
    options = dict(Connection("host:1", retry=Retry(attempts=3, max_backoff=1)).options())
    (config,) = json.loads(options["grpc.service_config"])["methodConfig"]
    assert config["retryPolicy"] == {
        "maxAttempts": 3,
        "initialBackoff": "0.1s",
        "maxBackoff": "1s",
        "backoffMultiplier": 2.0,
        "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED"],
    }
    assert {"Explain", "ListModels", "GetModel"} <= {name["method"] for name in config["name"]}
    assert not {"ImportModel", "DeleteModel", "RepositoryModelLoad"} & {name["method"] for name in config["name"]}
    assert dict(Connection("host:1", retry=None).options())["grpc.enable_retries"] == 0


def test_the_default_retry_is_the_published_one():
    assert json.loads(Retry().service_config()) == PUBLISHED
    # The C core of gRPC 1.51 takes a ratio without a decimal point for thousandths, so that retries run out.
    assert '"tokenRatio": 1.0' in Retry().service_config()


@pytest.mark.parametrize(
    "address", ["example.org:1", "127.0.0.1.example:1", "127.example:1", "localhost.example:1", "10.0.0.1:1"]
)
def test_a_token_does_not_leave_the_machine_unencrypted(address: str):
    with pytest.raises(ValueError, match="unencrypted"):
        Connection(address, token="secret")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.8.9.10:1", "[::1]:1", "localhost:1", "unix:/tmp/socket"])
def test_a_token_may_stay_on_the_machine(address: str):
    assert Connection(address, token="secret").metadata() == (("authorization", "Bearer secret"),)


def test_a_token_goes_where_the_caller_says():
    assert Connection("example.org:1", tls=True, token=lambda: "fresh").metadata()[0][1] == "Bearer fresh"
    assert Connection("example.org:1", token="secret", plaintext_token=True).metadata()


def test_mutual_tls_needs_both_halves():
    with pytest.raises(ValueError, match="both"):
        TLS(certificate=b"pem")


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ("window=3", "mapping"),
        (Groups(window=3, features=["rain"]), "expected a dict from the name of a group to its features"),
        (Groups(change_points=3), "segments"),
        (Groups(features={"wet": 5}), "not iterable"),
    ],
)
def test_groups_of_the_wrong_type_are_refused(groups: object, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said) as refused:
        to_wire_groups(groups)
    assert refused.value.field.startswith("groups")
