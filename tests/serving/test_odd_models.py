# SPDX-License-Identifier: Apache-2.0
"""Valid models with unusual output types and shapes are served, or refused with a reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lstm_explain_proto.inference import grpc_service_pb2 as oip
from lstm_explain_proto.inference import grpc_service_pb2_grpc
from lstm_explain_proto.lstm_explain.v1 import method_pb2, model_pb2, model_pb2_grpc
from tests.serving.calling import infer, request, stub, tensor
from tests.serving.models import write_version
from tests.serving.running import Running, serving

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
METHODS = [field.name for field in method_pb2.Method.DESCRIPTOR.oneofs[0].fields]
ALLOWED = {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION}
SECOND = ("INT8", "UINT8", "INT16", "UINT16", "UINT32", "UINT64", "FLOAT8E4M3FN")


def model(*nodes: onnx.NodeProto, second: int | None = None, **constants: np.ndarray) -> onnx.ModelProto:
    """x float32 [batch, 3] to y, and perhaps to z of the type `second`."""
    shapes = [("y", FLOAT), *([("z", second)] if second is not None else [])]
    outputs = [helper.make_tensor_value_info(name, kind, None) for name, kind in shapes]
    weights = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    given = helper.make_tensor_value_info("x", FLOAT, ["batch", 3])
    graph = helper.make_graph(list(nodes), "odd", [given], outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


NODE, INTS, ZERO = helper.make_node, np.array([1]), np.zeros((), np.float32)
ODD = {
    "another-batch": model(NODE("Concat", ["x", "x"], ["y"], axis=0)),
    "batch-of-one": model(NODE("ReduceMax", ["x"], ["y"])),
    "constant": model(NODE("Neg", ["x"], ["z"]), second=FLOAT, y=np.ones((2, 3), np.float32)),
    "folded-batch": model(NODE("Reshape", ["x", "shape"], ["y"]), shape=np.array([-1, 1])),
    "samples-last": model(NODE("Transpose", ["x"], ["y"])),
    "as-many-as-positive": model(
        NODE("Greater", ["x", "zero"], ["chosen"]), NODE("Compress", ["x", "chosen"], ["y"]), zero=ZERO
    ),
    "where-not-zero": model(NODE("NonZero", ["x"], ["at"]), NODE("Cast", ["at"], ["y"], to=FLOAT)),
    "all-different": model(NODE("Unique", ["x"], ["y"])),
    "largest-of-none": model(
        NODE("Slice", ["x", "one", "one", "one"], ["none"]),
        NODE("ReduceMax", ["none", "one"], ["largest"]),
        NODE("Add", ["x", "largest"], ["y"]),
        one=INTS,
    ),
}
TYPES = {
    name.lower(): model(
        NODE("Neg", ["x"], ["y"]),
        NODE("Abs", ["x"], ["size"]),
        NODE("Cast", ["size"], ["z"], to=getattr(TensorProto, name)),
        second=getattr(TensorProto, name),
    )
    for name in SECOND
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder: Path = tmp_path_factory.mktemp("models")
    for name, proto in (ODD | TYPES).items():
        write_version(folder, name, proto)
    with serving(folder, "--no-spare") as server:
        yield server


def rows(batch: int) -> np.ndarray:
    return np.random.default_rng(batch).uniform(-5, 5, (batch, 3)).astype(np.float32)


@pytest.mark.parametrize("name", ODD)
def test_unexplainable_models_are_no_internal_error(server: Running, name: str) -> None:
    with server.channel() as channel:
        for method in METHODS:
            for batch in (1, 2, 3):
                requested = request(name, inputs=[tensor("x", rows(batch))], method=method_pb2.Method(**{method: {}}))
                call = stub(channel).Explain.future(requested, timeout=60)
                assert call.code() in ALLOWED, (method, batch, call.details())


@pytest.mark.parametrize("name", TYPES)
def test_outputs_of_unsupported_types_are_widened(server: Running, name: str) -> None:
    """In both protocols, for explanations and predictions, as the description says."""
    x = np.array([[1, 2, 3], [0, 4, 5]], np.float32)
    with server.channel() as channel:
        inference = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
        described = inference.ModelMetadata(oip.ModelMetadataRequest(name=name), timeout=10).outputs[1].datatype
        requested = infer(name, x)
        for _ in range(2):  # a prediction the second time
            z = inference.ModelInfer(requested, timeout=60)
            at = next(i for i, output in enumerate(z.outputs) if output.name == "z")
            assert z.outputs[at].datatype == described
            kind = {"FP32": "f4"}.get(described, described.lower())
            assert (np.frombuffer(z.raw_output_contents[at], kind).reshape(2, 3) == x).all()
            requested.parameters.clear()
        detail = model_pb2_grpc.ModelServiceStub(channel).GetModel(model_pb2.GetModelRequest(name=name), timeout=10)
        z = stub(channel).Explain(request(name, inputs=[tensor("x", x)]), timeout=60).outputs[1]
        assert detail.model.outputs[1].dtype == z.dtype
        assert (np.frombuffer(z.data, {1: "f4", 4: "i4", 5: "i8"}[z.dtype]).reshape(2, 3) == x).all()


def test_an_independent_input_gets_no_relevance(server: Running) -> None:
    """The output is a constant of two rows, and has more samples than the input."""
    with server.channel() as channel:
        for method in ("lrp", "gradient", "integrated_gradients", "smooth_grad", "occlusion", "shapley_sampling"):
            requested = request("constant", inputs=[tensor("x", rows(1))], method=method_pb2.Method(**{method: {}}))
            answer = stub(channel).Explain(requested, timeout=60)
            assert not any(answer.relevance[0].data), method
