# SPDX-License-Identifier: Apache-2.0
"""Several targets in one request equal as many requests, over every protocol; limits and errors know them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from google.protobuf import json_format

import lstm_explain as lx
from lstm_explain_proto.inference import grpc_service_pb2_grpc
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2 as pb
from lstm_explain_proto.lstm_explain.v1 import method_pb2, tensor_pb2
from tests.graph_builder import GraphBuilder
from tests.serving.calling import array_of, infer, refusal, request, sequence, stub, tensor
from tests.serving.models import lstm, write_version
from tests.serving.running import Running, serving
from tests.serving.web import EXPLAIN, ask, explanation

HALF = method_pb2.Method(lrp=method_pb2.Lrp(product_rule=method_pb2.PRODUCT_RULE_HALF))
OCCLUSION = method_pb2.Method(occlusion=method_pb2.Occlusion())
EVERY = pb.TargetSet(every=pb.Every())
INVALID = grpc.StatusCode.INVALID_ARGUMENT


def scores_per_step() -> onnx.ModelProto:
    """x float32 [batch, steps, 4] to scores [batch, steps, 3]."""
    g = GraphBuilder(np.float32, 17)
    weights = np.random.default_rng(4).normal(size=(4, 3))
    scores = g.op("Tanh", [g.op("MatMul", [g.input("x", ["batch", "steps", 4]), g.constant(weights, "W")])])
    return g.model(scores, ["batch", "steps", 3])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("targets")
    write_version(folder, "lstm", lstm(), 1, "classes: {logits: [bad, fair, good]}\n")
    write_version(folder, "few", lstm(), 1, "limits: {max_targets: 2}\ntarget: {index: 1}\n")
    write_version(folder, "together", lstm(), 1, "batching: {max_batch: 16, max_delay_ms: 50}\n")
    write_version(folder, "steps", scores_per_step())
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    with serving(folder, "--max-targets", "20", "--max-samples", "200") as server:
        yield server


def one(*indices: int, **more: Any) -> pb.TargetSet:
    return pb.TargetSet(target=pb.Target(indices=indices, **more))


def part(message: tensor_pb2.Tensor, number: int) -> tensor_pb2.Tensor:
    """The tensor of one target."""
    array = array_of(message)[number]
    return tensor_pb2.Tensor(name=message.name, dtype=message.dtype, shape=array.shape, data=array.tobytes())


def answer_of(many: pb.ExplainResponse, number: int) -> pb.ExplainResponse:
    """The answer to one target, as a request for it alone would get it."""
    own, ledger = many.targets[number], many.ledger
    return pb.ExplainResponse(
        model=many.model,
        version=many.version,
        outputs=many.outputs,
        explained=part(many.explained, number),
        relevance=[part(t, number) for t in many.relevance],
        captured=[part(t, number) for t in many.captured],
        ledger=pb.Ledger(
            inputs=part(ledger.inputs, number),
            initial_states=part(ledger.initial_states, number),
            absorbed=part(ledger.absorbed, number),
            residual=part(ledger.residual, number),
            by_node=[pb.NodeShare(node=n.node, absorbed=part(n.absorbed, number)) for n in ledger.by_node],
        ),
        method=many.method,
        target=own.target,
        standard_error=[part(t, number) for t in many.standard_error],
        warnings=own.warnings,
        explained_quantity=own.explained_quantity,
        steps_used=own.steps_used,
        captured_axes=many.captured_axes,
    )


@pytest.mark.parametrize(
    "fields",
    [{}, {"method": HALF}, {"method": OCCLUSION}, {"capture": ["logits"]}],
    ids=["lrp", "half", "runs", "capture"],
)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("model", ["lstm", "together"])
def test_every_class_equals_a_request_per_class(
    server: Running, model: str, batch: int, fields: dict[str, Any]
) -> None:
    inputs = [tensor("x", sequence(batch))]
    with server.channel() as channel:
        explain = stub(channel).Explain
        many = explain(request(model, inputs=inputs, targets=[EVERY], **fields), timeout=60)
        assert many.HasField("target") is False
        assert list(many.relevance[0].shape) == [3, batch, 7, 4]
        for number in range(3):
            target = pb.Target(indices=[number])
            alone = explain(request(model, inputs=inputs, target=target, **fields), timeout=60)
            assert answer_of(many, number) == alone


def test_listed_targets_keep_their_order(server: Running) -> None:
    listed = [one(2), one(0, contrast_indices=[1]), pb.TargetSet(), pb.TargetSet(every=pb.Every(entries=[1, -1]))]
    alone = [
        {"target": pb.Target(indices=[2])},
        {"target": pb.Target(indices=[0], contrast_indices=[1])},
        {},  # the model's default
        {"target": pb.Target(indices=[1])},
        {"target": pb.Target(indices=[2])},
    ]
    with server.channel() as channel:
        explain = stub(channel).Explain
        many = explain(request(targets=listed), timeout=60)
        assert len(many.targets) == len(alone)
        for number, fields in enumerate(alone):
            assert answer_of(many, number) == explain(request(**fields), timeout=60)
        default = explain(request("few", targets=[pb.TargetSet()]), timeout=60)
        assert set(default.targets[0].target.indices) == {1}


def test_steps_of_an_output(server: Running) -> None:
    """`indices` of an Every is a position on the other axes."""
    every = pb.Every(axis=0, entries=[0, 6], target=pb.Target(indices=[2]))
    with server.channel() as channel:
        explain = stub(channel).Explain
        many = explain(request("steps", targets=[pb.TargetSet(every=every)]), timeout=60)
        for number, step in enumerate((0, 6)):
            alone = explain(request("steps", target=pb.Target(indices=[step, 2])), timeout=60)
            assert answer_of(many, number) == alone
        largest = explain(request("steps", targets=[pb.TargetSet(every=pb.Every(axis=0))]), timeout=60)
        best = array_of(largest.outputs[0]).argmax(axis=2)
        assert [list(t.target.indices) for t in largest.targets] == [
            [step, best[0, step], step, best[1, step]] for step in range(7)
        ]


def test_streams(server: Running) -> None:
    message = request(targets=[EVERY])
    with server.channel() as channel:
        expected = stub(channel).Explain(message, timeout=60)
        items = [pb.ExplainStreamRequest(id="a", request=message)]
        (answer,) = stub(channel).ExplainStream(iter(items), timeout=60)
    assert answer.response == expected


def test_the_page_explains_several_targets(web_server: Running, page: str) -> None:
    message = request(targets=[EVERY])
    answer = ask(page, EXPLAIN, explanation(message))
    assert answer.status == 200, answer.body
    with web_server.channel() as channel:
        assert json_format.Parse(answer.body, pb.ExplainResponse()) == stub(channel).Explain(message, timeout=20)


def test_the_open_inference_protocol(server: Running) -> None:
    with server.channel() as channel:
        expected = stub(channel).Explain(request(targets=[one(2), one(0), EVERY]), timeout=60)
        asked = infer()
        asked.parameters["explain_targets"].string_param = "good; logits:0; every class"
        found = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(asked, timeout=60)
    arrays = {
        output.name: np.frombuffer(raw, {"FP32": "f4", "FP64": "f8"}[output.datatype]).reshape(output.shape)
        for output, raw in zip(found.outputs, found.raw_output_contents, strict=True)
    }
    np.testing.assert_array_equal(arrays["relevance:x"], array_of(expected.relevance[0]))
    np.testing.assert_array_equal(arrays["explained"], array_of(expected.explained))
    np.testing.assert_array_equal(arrays["logits"], array_of(expected.outputs[0]))
    described = json.loads(found.parameters["targets"].string_param)
    assert [d["indices"] for d in described] == [[[k], [k]] for k in (2, 0, 0, 1, 2)]
    assert [d["output"] for d in described] == ["logits"] * 5
    assert found.parameters["explained_quantity"].string_param == "output"


@pytest.mark.parametrize(
    ("fields", "field", "word"),
    [
        ({"targets": [EVERY], "target": pb.Target()}, "target", "exclude"),
        ({"targets": [one(0), one(5)]}, "targets", "outside"),
        ({"targets": [one(0), one(0, 1, 2)]}, "targets", "one position for each"),
        ({"targets": [one(0), pb.TargetSet(target=pb.Target(output="no"))]}, "targets[1].target.output", "no output"),
        ({"targets": [pb.TargetSet(every=pb.Every(axis=3))]}, "targets", "no axis 3"),
        ({"targets": [one(0)] * 21}, "targets", "21 targets, at most 20"),
        ({"model": "few", "targets": [EVERY]}, "targets", "3 targets, at most 2"),
        ({"targets": [one(0)] * 15, "method": OCCLUSION}, "method", "samples"),  # 15 targets of 2 samples and 7 steps
    ],
)
def test_errors_and_limits(server: Running, fields: dict[str, Any], field: str, word: str) -> None:
    with server.channel() as channel, pytest.raises(grpc.RpcError) as caught:
        stub(channel).Explain(request(**fields), timeout=60)
    found = refusal(caught.value)
    assert found.code == INVALID
    assert word in found.message
    assert found.field.startswith(field)


def test_just_inside_the_limits(server: Running) -> None:
    with server.channel() as channel:
        explain = stub(channel).Explain
        assert len(explain(request(targets=[one(0)] * 20), timeout=60).targets) == 20
        assert len(explain(request("few", targets=[one(0)] * 2), timeout=60).targets) == 2
        assert len(explain(request(targets=[one(0)] * 14, method=OCCLUSION), timeout=60).targets) == 14


@pytest.mark.parametrize("text", ["", "best", "every sample", "0; 9"])
def test_wrong_targets_of_the_open_inference_protocol(server: Running, text: str) -> None:
    asked = infer()
    asked.parameters["explain_targets"].string_param = text
    with server.channel() as channel, pytest.raises(grpc.RpcError) as caught:
        grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(asked, timeout=60)
    assert refusal(caught.value).field == "parameters[explain_targets]"


def test_targets_in_outputs_of_different_batches_are_refused() -> None:
    from lstm_explain.several import joined

    model = lx.load(lstm())
    x = {"x": sequence(2)}
    answers = model.explain_many(x, lx.LRP(), [lx.Target(index=0), lx.Target(index=(0, 0), batch_axis=None)])
    with pytest.raises(lx.TargetError, match=r"number of samples.*\[1, 2\]"):
        joined(answers)
