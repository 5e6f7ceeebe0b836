# SPDX-License-Identifier: Apache-2.0
"""Groups of entries over a socket: what the engine computes, the groups of model.yaml, limits and refusals."""

from __future__ import annotations

from pathlib import Path

import grpc
import numpy as np
import pytest

import lstm_explain as lx
import lstm_explain_client as client
from lstm_explain_proto.inference import grpc_service_pb2_grpc
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2 as pb
from lstm_explain_proto.lstm_explain.v1 import method_pb2
from tests.serving.calling import infer, refusal, request, sequence, stub, tensor
from tests.serving.running import Running

WINDOWS = lx.Groups(window=3)


@pytest.fixture(scope="module")
def engine(models_folder: Path) -> lx.Model:
    return lx.load(models_folder / "grouped")


@pytest.mark.parametrize("method", [lx.LRP(), lx.ShapleySampling(4), lx.Occlusion()], ids=lambda method: method.name)
def test_groups_are_the_engines(running: Running, engine: lx.Model, method: lx.Method) -> None:
    groups = lx.Groups(window=3, features=True)
    expected = engine.explain({"x": sequence()}, method, groups=groups)
    with client.Client(running.address) as calls:
        received = calls.explain("grouped", {"x": sequence()}, method.name, parameters=_sent(method), groups=groups)
    ours, theirs = received.groups["x"], expected.groups["x"]
    assert ours.names[0].tolist()[:2] == ["steps 0-2, wet", "steps 0-2, other features"]
    np.testing.assert_array_equal(ours.names, theirs.names)
    np.testing.assert_array_equal(ours.steps, theirs.steps)
    np.testing.assert_array_equal(ours.relevance, theirs.relevance)
    assert (ours.standard_error is None) == (theirs.standard_error is None) == (method.name != "shapley_sampling")
    frame = received.group_frame()
    assert len(frame) == ours.relevance.size
    assert frame.relevance.sum() == pytest.approx(ours.relevance.sum())


def _sent(method: lx.Method) -> dict[str, object]:
    return {"permutations": 4} if method.name == "shapley_sampling" else {}


def test_groups_of_several_targets(running: Running, engine: lx.Model) -> None:
    expected = engine.explain_many({"x": sequence()}, lx.LRP(), "every class", groups=WINDOWS)
    with client.Client(running.address) as calls:
        received = calls.explain_many("grouped", {"x": sequence()}, "every class", groups={"window": 3})
    for ours, theirs in zip(received, expected, strict=True):
        np.testing.assert_array_equal(ours.groups["x"].relevance, theirs.groups["x"].relevance)


def test_words_of_texts(running: Running) -> None:
    with client.Client(running.address) as calls:
        received = calls.explain("words", {"tokens": ["the plot is thin", "not bad"]}, groups=client.Groups(words=True))
    own = received.groups["tokens"]
    assert own.names.tolist() == [["the", "plot", "is", "thin"], ["not", "bad", "(padding)", ""]]
    np.testing.assert_allclose(own.relevance.sum(axis=1), received.relevance["tokens"].sum(axis=1), atol=1e-6)


def test_the_open_inference_protocol_has_groups(channel: grpc.Channel, engine: lx.Model) -> None:
    message = infer("grouped")
    message.parameters["explain_groups"].string_param = "window=3; features.pair=rain,2"
    response = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(message)
    names = [output.name for output in response.outputs]
    raw = response.raw_output_contents[names.index("group_relevance:x")]
    groups = lx.Groups(window=3, features={"pair": ["rain", 2]})
    expected = engine.explain({"x": sequence()}, lx.LRP(), groups=groups).groups["x"]
    np.testing.assert_array_equal(np.frombuffer(raw, np.float64).reshape(expected.relevance.shape), expected.relevance)
    assert "group_names:x" in names


def test_limits_count_groups_as_players(running: Running, channel: grpc.Channel) -> None:
    """1,000 steps in windows of 100 are 10 players, so 1,024 runs; single steps would be 2,000,000."""
    sampled = method_pb2.ShapleySampling(permutations=2000)
    inputs = [tensor("x", sequence(batch=1, time=1000))]
    fields = {"inputs": inputs, "method": method_pb2.Method(shapley_sampling=sampled)}
    with pytest.raises(grpc.RpcError, match="on 2000000 samples, at most 1000000 are allowed"):
        stub(channel).Explain(request(**fields))
    response = stub(channel).Explain(request(groups=pb.Groups(window=100), **fields))
    assert response.method.shapley_sampling.over == method_pb2.PLAYERS_GROUPS
    assert not np.frombuffer(response.groups.standard_error[0].data).any()


@pytest.mark.parametrize(
    ("groups", "field"),
    [
        (pb.Groups(), "groups"),
        (pb.Groups(window=-1), "groups.window"),
        (pb.Groups(words=True), "groups.words"),
        (pb.Groups(model_features=True), "groups.model_features"),
        (pb.Groups(features=[pb.FeatureGroup(name="a", features=["9"])]), "groups.features"),
        (pb.Groups(features=[pb.FeatureGroup(name="a", features=["1"])] * 2), "groups.features[1].name"),
        (pb.Groups(change_points=pb.ChangePoints(penalty=float("nan"))), "groups.change_points.penalty"),
    ],
)
def test_bad_groups_name_their_field(channel: grpc.Channel, groups: pb.Groups, field: str) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        stub(channel).Explain(request(groups=groups))
    assert refusal(refused.value).code is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal(refused.value).field == field
