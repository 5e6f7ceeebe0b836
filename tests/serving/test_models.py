# SPDX-License-Identifier: Apache-2.0
"""ListModels, GetModel, health and reflection, as stock clients see them."""

from __future__ import annotations

from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

import lstm_explain as lx
from lstm_explain_proto.lstm_explain.v1 import model_pb2, model_pb2_grpc, tensor_pb2
from tests.serving.calling import refusal, sequence
from tests.serving.models import WORDS

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def models(channel: grpc.Channel):
    return model_pb2_grpc.ModelServiceStub(channel)


def test_every_version_is_listed_with_its_state(models) -> None:
    listed = {(m.name, m.version): m for m in models.ListModels(model_pb2.ListModelsRequest()).models}
    ready = {key for key, m in listed.items() if m.state == model_pb2.MODEL_STATE_READY}
    ones = ("lstm", "bare", "words", "no-rule", "odd", "grouped")
    assert ready == {("lstm", "2"), *((name, "1") for name in ones)}
    assert listed["words", "1"].description == "four words"
    failed = {key: m.reason for key, m in listed.items() if m.state == model_pb2.MODEL_STATE_FAILED}
    assert failed.keys() == {("truncated", "1"), ("outside", "1"), ("unknown-key", "1")}
    assert "truncated" in failed["truncated", "1"]
    assert "secret.bin" in failed["outside", "1"]
    assert failed["unknown-key", "1"] == "model.yaml:4: colour: unknown key"


def test_a_model_in_detail(models) -> None:
    model = models.GetModel(model_pb2.GetModelRequest(name="words")).model
    assert (model.summary.version, model.lrp_supported) == ("1", True)
    (given,) = model.inputs
    assert (given.name, given.dtype) == ("tokens", tensor_pb2.DATA_TYPE_INT64)
    assert [d.symbol for d in given.shape] == ["batch", "time"]
    (output,) = model.outputs
    assert (output.shape[0].symbol, output.shape[1].size) == ("batch", 3)
    assert list(model.class_names["logits"].values) == ["bad", "fair", "good"]
    assert list(model.text_inputs) == ["tokens"]
    assert model.default_method.lrp.epsilon == 0.01
    assert {n.op_type for n in model.nodes} >= {"Gather", "LSTM", "MatMul"}
    assert all(n.supported and n.rule for n in model.nodes)
    assert len(WORDS) == 11


def test_the_newest_version_is_the_default(models) -> None:
    assert models.GetModel(model_pb2.GetModelRequest(name="lstm")).model.summary.version == "2"
    assert models.GetModel(model_pb2.GetModelRequest(name="lstm", version="1")).model.summary.version == "1"


def test_a_model_without_lrp_names_the_nodes(models) -> None:
    model = models.GetModel(model_pb2.GetModelRequest(name="no-rule")).model
    assert not model.lrp_supported
    assert [(n.name, n.supported) for n in model.nodes] == [("determinant", False)]


def test_a_failed_model_has_a_reason(models) -> None:
    model = models.GetModel(model_pb2.GetModelRequest(name="truncated")).model
    assert model.summary.state == model_pb2.MODEL_STATE_FAILED
    assert model.summary.reason


@pytest.mark.parametrize("fields", [{"name": "nothing"}, {"name": "lstm", "version": "7"}])
def test_unknown_models(models, fields: dict[str, str]) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        models.GetModel(model_pb2.GetModelRequest(**fields))
    assert refusal(raised.value).code == grpc.StatusCode.NOT_FOUND


def test_import_and_delete_are_unimplemented_by_default(models) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        models.ImportModel(iter([model_pb2.ImportModelRequest(chunk=b"x")]))
    assert refusal(raised.value).code == grpc.StatusCode.UNIMPLEMENTED
    with pytest.raises(grpc.RpcError) as raised:
        models.DeleteModel(model_pb2.DeleteModelRequest(name="lstm"))
    assert refusal(raised.value).code == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("service", "status"),
    [
        ("", SERVING),
        ("lstm_explain.v1.ExplanationService", SERVING),
        ("lstm_explain.v1.ModelService", SERVING),
        ("model/lstm", SERVING),
        ("model/truncated", NOT_SERVING),
    ],
)
def test_health(channel: grpc.Channel, service: str, status: int) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    requested = health_pb2.HealthCheckRequest(service=service)
    assert health.Check(requested, timeout=5).status == status
    watch = health.Watch(requested, timeout=5)
    assert next(watch).status == status
    watch.cancel()


def test_health_of_an_unknown_service(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="model/nothing"), timeout=5)
    assert raised.value.code() == grpc.StatusCode.NOT_FOUND


def test_reflection_lists_services_and_gives_their_files(channel: grpc.Channel) -> None:
    reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
    requested = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="lstm_explain.v1.ExplanationService"),
    ]
    listed, file = reflection.ServerReflectionInfo(iter(requested), timeout=5)
    names = {s.name for s in listed.list_services_response.service}
    assert names >= {"lstm_explain.v1.ExplanationService", "lstm_explain.v1.ModelService", "grpc.health.v1.Health"}
    described = descriptor_pb2.FileDescriptorProto.FromString(file.file_descriptor_response.file_descriptor_proto[0])
    assert described.package == "lstm_explain.v1"


def test_a_stock_reflection_client_needs_no_protos(channel: grpc.Channel, models_folder: Path) -> None:
    """gRPC's reflection client builds messages from the server's descriptors."""
    pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    method = pool.FindServiceByName("lstm_explain.v1.ExplanationService").methods_by_name["Explain"]
    request, response = map(message_factory.GetMessageClass, (method.input_type, method.output_type))
    x = sequence()
    requested = request(model="lstm", version="1")
    requested.inputs.add(name="x", dtype="DATA_TYPE_FLOAT32", shape=x.shape, data=x.tobytes())
    call = channel.unary_unary(f"/{method.containing_service.full_name}/{method.name}")
    answer = response.FromString(call(requested.SerializeToString(), timeout=20))
    expected = lx.load(models_folder / "lstm" / "1" / "model.onnx").explain({"x": x}).relevance["x"]
    np.testing.assert_array_equal(np.frombuffer(answer.relevance[0].data, np.float32).reshape(x.shape), expected)
    inference = pool.FindServiceByName("inference.GRPCInferenceService")
    assert {"ModelInfer", "RepositoryModelLoad"} <= set(inference.methods_by_name)
