# SPDX-License-Identifier: Apache-2.0
"""Measures of outputs over the wire equal the engine's, also among several targets and by every protocol."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest

import lstm_explain as lx
from lstm_explain_client import Client, InvalidRequest, Measure, Target
from lstm_explain_proto.inference import grpc_service_pb2_grpc
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2 as pb
from tests.serving.calling import array_of, infer, refusal, request, sequence, stub
from tests.serving.models import lstm
from tests.serving.running import Running

X = sequence()
REFERENCE = np.array([0.5, -1.0, 0.25], np.float32)
TARGETS: list[tuple[Target, lx.Target | str]] = [
    (
        Target(measure=Measure("mean_squared_error", REFERENCE)),
        lx.Target(measure=lx.Measure("mean_squared_error", REFERENCE)),
    ),
    (Target(measure="l2_norm"), "l2_norm"),
    (Target(index=1, measure="log_probability"), "log_probability(1)"),
    (Target(measure=Measure("probability")), "probability"),
]


@pytest.fixture(scope="module")
def engine(models_folder: Any) -> lx.Model:
    return lx.load(models_folder / "lstm" / "2" / "model.onnx")


@pytest.mark.parametrize(("asked", "target"), TARGETS)
def test_the_client_gets_the_engines_answer(
    running: Running, engine: lx.Model, asked: Target, target: lx.Target | str
) -> None:
    with Client(running.address) as client:
        found = client.explain("lstm", {"x": X}, "lrp", asked)
    expected = engine.explain({"x": X}, "lrp", target)
    np.testing.assert_array_equal(found.relevance["x"], expected.relevance["x"])
    np.testing.assert_array_equal(found.ledger.absorbed, expected.ledger.absorbed)
    assert found.explained_quantity == expected.explained_quantity
    assert found.target is not None
    assert isinstance(found.target.measure, Measure)
    assert found.target.measure.kind == expected.explained_quantity
    assert list(found.outputs) == ["logits"]


def test_measures_among_several_targets(running: Running, engine: lx.Model) -> None:
    with Client(running.address) as client:
        found = client.explain_many("lstm", {"x": X}, [Target(measure="l1_norm"), 2], "lrp")
    assert [one.explained_quantity for one in found] == ["l1_norm", "output"]
    for one, target in zip(found, ("l1_norm", 2), strict=True):
        np.testing.assert_array_equal(one.relevance["x"], engine.explain({"x": X}, "lrp", target).relevance["x"])


def test_the_open_inference_protocol(channel: grpc.Channel, engine: lx.Model) -> None:
    asked = infer(x=X)
    asked.parameters["explain_target"].string_param = "log_probability(1)"
    found = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(asked, timeout=60)
    assert found.parameters["explained_quantity"].string_param == "log_probability"
    at = [output.name for output in found.outputs].index("relevance:x")
    relevance = np.frombuffer(found.raw_output_contents[at], "f4").reshape(X.shape)
    np.testing.assert_array_equal(relevance, engine.explain({"x": X}, "lrp", "log_probability(1)").relevance["x"])


def test_the_explained_value_is_that_of_the_outputs(channel: grpc.Channel) -> None:
    target = pb.Target(measure=pb.Measure(kind=pb.MEASURE_KIND_L2_NORM))
    found = stub(channel).Explain(request(target=target), timeout=60)
    outputs = array_of(found.outputs[0]).astype(np.float64)
    np.testing.assert_allclose(array_of(found.explained), np.sqrt((outputs**2).sum(axis=1)), rtol=1e-6)


@pytest.mark.parametrize(
    ("measure", "field", "word"),
    [
        (pb.Measure(), "target.measure.kind", "unspecified"),
        (pb.Measure(kind=99), "target.measure.kind", "99"),
        (pb.Measure(kind=pb.MEASURE_KIND_MEAN_SQUARED_ERROR), "target.measure.reference", "needs a reference"),
        (pb.Measure(kind=pb.MEASURE_KIND_MEAN_SQUARED_ERROR, input="y"), "target.measure.reference", "'y'"),
        (pb.Measure(kind=pb.MEASURE_KIND_L2_NORM, input="x"), "target.measure.reference", "no reference"),
        (pb.Measure(kind=pb.MEASURE_KIND_L2_NORM, ahead=-1), "target.measure.ahead", "-1"),
    ],
)
def test_wrong_measures(channel: grpc.Channel, measure: pb.Measure, field: str, word: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub(channel).Explain(request(target=pb.Target(measure=measure)), timeout=60)
    found = refusal(caught.value)
    assert found.code == grpc.StatusCode.INVALID_ARGUMENT
    assert found.field == field
    assert word in found.message


def test_a_measure_that_the_client_does_not_know(running: Running) -> None:
    with Client(running.address) as client, pytest.raises(InvalidRequest, match="variance"):
        client.explain("lstm", {"x": X}, target={"measure": "variance"})


def test_a_measure_cannot_be_compiled() -> None:
    with pytest.raises(lx.TargetError, match="measure"):
        lx.compile(lx.load(lstm()), target=lx.Target(measure=lx.Measure("l2_norm")))
