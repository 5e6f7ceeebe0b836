# SPDX-License-Identifier: Apache-2.0
"""Units that relevance passes through, over both services, in their errors and in the audit log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

import lstm_explain_client as lxc
from lstm_explain_proto.inference import grpc_service_pb2, grpc_service_pb2_grpc
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2 as pb
from tests.serving.calling import infer, refusal, request, sequence, stub
from tests.serving.models import lstm, write_version
from tests.serving.running import Running, serving

X = sequence()
MODEL = lstm()
(NODE,) = (n.name for n in MODEL.graph.node if n.op_type == "LSTM")
VALUE = next(o for n in MODEL.graph.node if n.op_type == "LSTM" for o in n.output if o)


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audit") / "audit.jsonl"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, audit: Path) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("models")
    write_version(root, "lstm", MODEL)
    with serving(root, "--audit", str(audit)) as server:
        yield server


def asked(**parameters: str | int) -> grpc_service_pb2.ModelInferRequest:
    message = infer(x=X)
    message.parameters["explain_epsilon"].string_param = "0.001"
    for name, value in parameters.items():
        message.parameters[name].MergeFrom(
            grpc_service_pb2.InferParameter(**{"string_param" if isinstance(value, str) else "int64_param": value})
        )
    return message


def answered(server: Running, message: grpc_service_pb2.ModelInferRequest) -> np.ndarray[Any, Any]:
    with server.channel() as channel:
        answer = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(message)
    place = [output.name for output in answer.outputs].index("relevance:x")
    return np.frombuffer(answer.raw_output_contents[place], np.float32).reshape(X.shape)


def test_parts_of_the_units_add_up_over_the_open_inference_protocol(server: Running) -> None:
    """LRP is linear in the relevance that is handed down, so a partition of the units makes up the whole."""
    whole = answered(server, asked())
    parts = [answered(server, asked(explain_through=f"{VALUE}={units}")) for units in ("0,3", " 1 , 2 ", "5,4")]
    assert all(np.abs(part - whole).max() > 1e-3 for part in parts)
    np.testing.assert_allclose(sum(parts), whole, atol=2e-6)


def test_both_services_answer_alike(server: Running) -> None:
    through = {f"{NODE}.cell": [1, 4], f"{NODE}.hidden": [1, 2]}
    with lxc.Client(server.address) as client:
        ours = client.explain("lstm", {"x": X}, "lrp", parameters={"epsilon": 1e-3}, through=through).relevance["x"]
    theirs = answered(server, asked(explain_through=f"{NODE}.cell=1,4; {NODE}.hidden=1,2;"))
    np.testing.assert_array_equal(ours, theirs)
    assert np.abs(ours).max() > 0


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"explain_through": 3}, "explain_through must be text, not 3"),
        ({"explain_through": "cell"}, "'cell' is not NAME=UNIT,UNIT, such as lstm.cell=72,86"),
        ({"explain_through": f"{VALUE}=1,b"}, f"'{VALUE}=1,b' is not NAME=UNIT,UNIT"),
        ({"explain_through": f"{VALUE}=-1"}, "is not NAME=UNIT,UNIT"),
        ({"explain_through": f"{VALUE}={'9' * 5000}"}, "is not NAME=UNIT,UNIT"),
        ({"explain_through": f"{VALUE}=1; {VALUE}=2"}, f"'{VALUE}' occurs twice"),
        ({"explain_through": f"{VALUE}=6"}, f"'{VALUE}' has the units 0 to 5, not 6"),
        ({"explain_through": "nowhere=1"}, f"no value 'nowhere' .*; expected an inner value .*'{NODE}.cell'"),
        ({"explain_through": "x=1"}, "'x' is an input, expected a value inside the model"),
        ({"explain_through": f"{VALUE}=1", "explain_condition": "explained > 0"}, "through and a condition exclude"),
    ],
)
def test_units_that_make_no_sense_name_the_parameter(
    server: Running, parameters: dict[str, str | int], problem: str
) -> None:
    with pytest.raises(grpc.RpcError, match=problem) as refused:
        answered(server, asked(**parameters))
    found = refusal(refused.value)
    assert (found.code, found.field) == (grpc.StatusCode.INVALID_ARGUMENT, "parameters[explain_through]")


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("explain_groups", "days", "'days' is none of window=24"),
        ("explain_groups", "features.a=9", "no feature '9', expected a position below 4"),
        ("explain_groups", 3, "explain_groups must be text, not 3"),
        ("explain_condition", "now", "condition is 'now', expected"),
    ],
)
def test_the_parameters_beside_it_are_named_too(server: Running, name: str, value: str | int, problem: str) -> None:
    with pytest.raises(grpc.RpcError, match=problem) as refused:
        answered(server, asked(**{name: value}))
    assert refusal(refused.value).field == f"parameters[{name}]"


def test_a_value_that_is_named_twice_is_refused(server: Running) -> None:
    """Only one of the two conditions would hold."""
    twice = [pb.Through(value=VALUE, units=[0]), pb.Through(value=VALUE, units=[1])]
    with server.channel() as channel, pytest.raises(grpc.RpcError) as refused:
        stub(channel).Explain(request(through=twice))
    found = refusal(refused.value)
    assert (found.code, found.field) == (grpc.StatusCode.INVALID_ARGUMENT, "through[1].value")
    assert f"'{VALUE}' occurs twice" in found.message


def test_the_audit_log_says_what_was_asked_for(server: Running, audit: Path) -> None:
    cuts = lxc.ChangePoints(segments=3, penalty=2.5)
    features = {"x": {"wet": [0, 2]}}
    with lxc.Client(server.address) as client:
        client.explain("lstm", {"x": X}, through={VALUE: [0, 5], f"{NODE}.cell": [1]})
        client.explain("lstm", {"x": X}, groups=lxc.Groups(window=2))
        client.explain("lstm", {"x": X}, groups=lxc.Groups(change_points=cuts, features=features))
        client.explain("lstm", {"x": X})
    lines = [json.loads(line) for line in audit.read_text().splitlines()][-4:]
    assert [line.get("through") for line in lines] == [f"{VALUE}=0,5; {NODE}.cell=1", None, None, None]
    groups = [None, "window=2", "change_points=3 with penalty 2.5; features.x.wet=0,2", None]
    assert [line.get("groups") for line in lines] == groups
