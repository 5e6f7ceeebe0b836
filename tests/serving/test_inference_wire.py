# SPDX-License-Identifier: Apache-2.0
"""The Open Inference Protocol with plain messages: typed and raw contents, and compatibility with the protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor import Descriptor
from onnx import TensorProto, helper, numpy_helper

import lstm_explain as lx
from lstm_explain_proto.inference import grpc_service_pb2 as pb
from lstm_explain_proto.inference import grpc_service_pb2_grpc
from tests.serving.calling import refusal, sequence
from tests.serving.models import WORDS, lstm, write_version
from tests.serving.running import serving

INVALID = grpc.StatusCode.INVALID_ARGUMENT
Tensor = pb.ModelInferRequest.InferInputTensor
Contents = pb.InferTensorContents


def stub(channel: grpc.Channel) -> Any:
    return grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)


def request(model: str = "lstm", explain: str = "", **fields: Any) -> pb.ModelInferRequest:
    if "inputs" not in fields:
        x = sequence()
        fields["inputs"] = [
            Tensor(name="x", datatype="FP32", shape=x.shape, contents=Contents(fp32_contents=x.ravel()))
        ]
    message = pb.ModelInferRequest(model_name=model, **fields)
    if explain:
        message.parameters["explain"].string_param = explain
    return message


def test_our_messages_are_a_subset_of_the_protocol() -> None:
    """Every field that we declare has the number, type and label of tritonclient's."""
    theirs = pytest.importorskip("tritonclient.grpc.service_pb2").DESCRIPTOR
    ours = pb.DESCRIPTOR

    def compare(mine: Descriptor, other: Descriptor) -> None:
        for field in mine.fields:
            twin = other.fields_by_name[field.name]
            assert (field.number, field.type, field.is_repeated) == (twin.number, twin.type, twin.is_repeated), (
                field.full_name
            )
            assert (field.containing_oneof is None) == (twin.containing_oneof is None)
            if field.message_type is not None:
                assert field.message_type.full_name == twin.message_type.full_name
        for name, nested in mine.nested_types_by_name.items():
            compare(nested, other.nested_types_by_name[name])

    for name, message in ours.message_types_by_name.items():
        compare(message, theirs.message_types_by_name[name])
    mine, other = (f.services_by_name["GRPCInferenceService"] for f in (ours, theirs))
    for method in mine.methods:
        twin = other.methods_by_name[method.name]
        assert method.input_type.full_name == twin.input_type.full_name
        assert method.output_type.full_name == twin.output_type.full_name
        assert (method.client_streaming, method.server_streaming) == (twin.client_streaming, twin.server_streaming)


def test_typed_requests_get_typed_responses(channel: grpc.Channel, models_folder: Path) -> None:
    expected = lx.load(models_folder / "lstm" / "2" / "model.onnx").explain({"x": sequence()})
    response = stub(channel).ModelInfer(request(explain="lrp", id="7"))
    assert response.id == "7"
    assert not response.raw_output_contents
    fields = {"FP32": ("fp32_contents", "f4"), "FP64": ("fp64_contents", "f8")}
    arrays = {}
    for output in response.outputs:
        field, dtype = fields[output.datatype]
        arrays[output.name] = np.array(getattr(output.contents, field), dtype).reshape(output.shape)
    np.testing.assert_array_equal(arrays["relevance:x"], expected.relevance["x"])
    np.testing.assert_array_equal(arrays["logits"], expected.outputs["logits"])
    np.testing.assert_array_equal(arrays["explained"], expected.explained)


@pytest.mark.parametrize(
    ("parameters", "method"),
    [
        (
            {"explain": "lrp", "explain_composite": "dense=alpha_beta(2, 1); first=epsilon(0.5)"},
            lx.LRP(composite=lx.Composite({"dense": lx.AlphaBeta(2, 1)}, first=lx.Epsilon(0.5))),
        ),
        (
            {"explain": "occlusion", "explain_baseline": "[0, 1, -0.5, 2]"},
            lx.Occlusion(baseline=np.array([0, 1, -0.5, 2])),
        ),
        ({"explain": "occlusion", "explain_of": "probability"}, lx.Occlusion(of="probability")),
        ({"explain": "shapley_sampling", "explain_over": "cells"}, lx.ShapleySampling(over="cells")),
        ({"explain": "contextual_decomposition", "explain_span": "2:5"}, lx.ContextualDecomposition(span=(2, 5))),
        ({"explain": "contextual_decomposition", "explain_span": "[2, 5]"}, lx.ContextualDecomposition(span=(2, 5))),
    ],
)
def test_parameters_with_several_numbers(
    channel: grpc.Channel, models_folder: Path, parameters: dict[str, str], method: lx.Method
) -> None:
    expected = lx.load(models_folder / "lstm" / "2" / "model.onnx").explain({"x": sequence()}, method)
    message = request()
    for key, value in parameters.items():
        message.parameters[key].string_param = value
    arrays = {o.name: o for o in stub(channel).ModelInfer(message).outputs}
    np.testing.assert_array_equal(arrays["relevance:x"].contents.fp32_contents, expected.relevance["x"].ravel())
    errors = {name.partition(":")[2]: o for name, o in arrays.items() if name.startswith("standard_error:")}
    assert set(errors) == set(expected.standard_error)
    for name, error in errors.items():
        np.testing.assert_array_equal(error.contents.fp32_contents, expected.standard_error[name].ravel())


def test_text_as_typed_contents(channel: grpc.Channel) -> None:
    contents = Contents(bytes_contents=[b"the plot is thin", b"not a"])
    inputs = [Tensor(name="tokens", datatype="BYTES", shape=[2], contents=contents)]
    response = stub(channel).ModelInfer(request("words", "lrp", inputs=inputs))
    tokens = next(o for o in response.outputs if o.name == "tokens:tokens")
    assert (tokens.datatype, list(tokens.shape)) == ("BYTES", [2, 4])
    assert list(tokens.contents.bytes_contents) == [b"the", b"plot", b"is", b"thin", b"not", b"a", b"", b""]
    ids = np.array([[WORDS.index(w) for w in ("the", "plot", "is", "thin")], [2, 3, 0, 0]])
    inputs = [Tensor(name="tokens", datatype="INT64", shape=ids.shape, contents=Contents(int64_contents=ids.ravel()))]
    again = stub(channel).ModelInfer(request("words", "lrp", inputs=inputs))
    relevance = [next(o for o in r.outputs if o.name == "relevance:tokens") for r in (response, again)]
    assert relevance[0] == relevance[1]


X = sequence()
RAW = X.tobytes()


def tensor(**fields: Any) -> Tensor:
    return Tensor(**{"name": "x", "datatype": "FP32", "shape": X.shape, **fields})


BAD = {
    "raw beside typed": (
        {"inputs": [tensor(contents=Contents(fp32_contents=X.ravel()))], "raw_input_contents": [RAW]},
        "inputs[0].contents",
    ),
    "fewer raw than inputs": (
        {"inputs": [tensor(), tensor(name="y")], "raw_input_contents": [RAW]},
        "raw_input_contents",
    ),
    "more raw than inputs": ({"inputs": [tensor()], "raw_input_contents": [RAW, RAW]}, "raw_input_contents"),
    "raw too short": ({"inputs": [tensor()], "raw_input_contents": [RAW[:-1]]}, "raw_input_contents[0]"),
    "raw too long": ({"inputs": [tensor()], "raw_input_contents": [RAW + b"1"]}, "raw_input_contents[0]"),
    "no contents": ({"inputs": [tensor()]}, "inputs[0].contents"),
    "too few elements": ({"inputs": [tensor(contents=Contents(fp32_contents=[1.0]))]}, "inputs[0].contents"),
    "elements of another type": (
        {"inputs": [tensor(contents=Contents(fp64_contents=X.ravel()))]},
        "inputs[0].contents",
    ),
    "FP16 typed": (
        {"inputs": [tensor(datatype="FP16", contents=Contents(fp32_contents=X.ravel()))]},
        "inputs[0].contents",
    ),
    "beyond INT8": (
        {"inputs": [tensor(datatype="INT8", shape=[1], contents=Contents(int_contents=[128]))]},
        "inputs[0].contents",
    ),
    "unheard datatype": ({"inputs": [tensor(datatype="BF16")], "raw_input_contents": [RAW]}, "inputs[0].datatype"),
    "no datatype": ({"inputs": [tensor(datatype="")], "raw_input_contents": [RAW]}, "inputs[0].datatype"),
    "negative extent": ({"inputs": [tensor(shape=[-2, -7, 4])], "raw_input_contents": [RAW]}, "inputs[0].shape"),
    "vast extent": ({"inputs": [tensor(shape=[2**62, 4, 4])], "raw_input_contents": [b""]}, "inputs[0].shape"),
    "length 0": ({"inputs": [tensor(shape=[2, 0, 4])], "raw_input_contents": [b""]}, "inputs[0].shape"),
    "another dtype": (
        {"inputs": [tensor(datatype="INT32", contents=Contents(int_contents=range(56)))]},
        "inputs[0].dtype",
    ),
    "text past its end": (
        {"inputs": [tensor(datatype="BYTES", shape=[1])], "raw_input_contents": [b"\xff\xff\xff\x7fab"]},
        "raw_input_contents[0]",
    ),
    "text not UTF-8": (
        {"inputs": [tensor(datatype="BYTES", shape=[1], contents=Contents(bytes_contents=[b"\xff"]))]},
        "inputs[0].contents",
    ),
    "text for numbers": (
        {"inputs": [tensor(datatype="BYTES", shape=[1], contents=Contents(bytes_contents=[b"hello"]))]},
        "inputs[0]",
    ),
    "no name": ({"inputs": [tensor(name="")], "raw_input_contents": [RAW]}, "inputs[0].name"),
    "unknown output": (
        {"outputs": [pb.ModelInferRequest.InferRequestedOutputTensor(name="y")]},
        "outputs[0].name",
    ),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("explain", ["", "lrp"])
def test_invalid_argument_with_its_field(channel: grpc.Channel, case: str, explain: str) -> None:
    fields, field = BAD[case]
    with pytest.raises(grpc.RpcError) as raised:
        stub(channel).ModelInfer(request(explain=explain, **fields), timeout=10)
    status = refusal(raised.value)
    assert (status.code, status.field) == (INVALID, field), status.message
    assert stub(channel).ModelInfer(request(), timeout=10).model_name == "lstm"


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"explain": "magic"}, "parameters[explain]"),
        ({"explain": "lrp", "explain_epsilon": "-1"}, "parameters[explain_epsilon]"),
        ({"explain": "lrp", "explain_composite": "dense"}, "parameters[explain_composite]"),
        ({"explain": "lrp", "explain_composite": "dense=magic"}, "parameters[explain_composite]"),
        ({"explain": "lrp", "explain_composite": "dense=flat(1)"}, "parameters[explain_composite]"),
        ({"explain": "lrp", "explain_composite": "dense=gamma(-1)"}, "parameters[explain_composite]"),
        ({"explain": "lrp", "explain_composite": "dense=z_box(1)"}, "parameters[explain_composite]"),
        ({"explain": "lrp", "explain_composite": "Covn=flat"}, "parameters[explain_composite]"),
        ({"explain": "occlusion", "explain_baseline": "[1, 2"}, "parameters[explain_baseline]"),
        ({"explain": "occlusion", "explain_baseline": '["a"]'}, "parameters[explain_baseline]"),
        ({"explain": "occlusion", "explain_baseline": "[[1], [1, 2]]"}, "parameters[explain_baseline]"),
        ({"explain": "occlusion", "explain_of": "logits"}, "parameters[explain_of]"),
        ({"explain": "contextual_decomposition", "explain_span": "5:2"}, "parameters[explain_span]"),
        ({"explain": "contextual_decomposition", "explain_span": "2:99"}, "parameters[explain_span]"),
        ({"explain": "contextual_decomposition", "explain_span": "2-5"}, "parameters[explain_span]"),
        ({"explain": "contextual_decomposition", "explain_span": "2"}, "parameters[explain_span]"),
        ({"explain": "lrp", "explain_target": "9"}, "parameters[explain_target]"),
        ({"explain": "lrp", "explain_target": "y:9"}, "parameters[explain_target]"),
        ({"explain": "lrp", "explain_contrast": "9", "explain_target": "0"}, "parameters[explain_contrast]"),
        ({"explain": "lrp", "explain_batch_axis": "first"}, "parameters[explain_batch_axis]"),
        ({"explain": "lrp", "explain_pre_activation": "maybe"}, "parameters[explain_pre_activation]"),
        ({"explain_epsilon": "-1"}, "parameters[explain_epsilon]"),
        ({"explain_steps": "7"}, "parameters[explain_steps]"),
        ({"explain_stabiliser": "0.1,much"}, "parameters[explain_stabiliser]"),
        ({"explain_stabiliser": "0.1,0.1,0.1"}, "parameters[explain_stabiliser]"),
        ({"explain_stabiliser": "-0.1"}, "parameters[explain_stabiliser]"),
        ({"explain_stabiliser": "0.1", "explain_epsilon": "0.1"}, "parameters[explain_stabiliser]"),
    ],
)
def test_wrong_parameters_with_their_field(channel: grpc.Channel, parameters: dict[str, str], field: str) -> None:
    message = request()
    for key, value in parameters.items():
        message.parameters[key].string_param = value
    with pytest.raises(grpc.RpcError) as raised:
        stub(channel).ModelInfer(message, timeout=10)
    status = refusal(raised.value)
    assert (status.code, status.field) == (INVALID, field), status.message


@pytest.mark.parametrize("name", ["nothing", "", "../lstm", "lstm/2", "/etc/passwd", "..", "l\0stm", "secret.bin"])
def test_unknown_models(channel: grpc.Channel, name: str) -> None:
    for call in (
        lambda: stub(channel).ModelInfer(request(name)),
        lambda: stub(channel).ModelMetadata(pb.ModelMetadataRequest(name=name)),
    ):
        with pytest.raises(grpc.RpcError) as raised:
            call()
        assert raised.value.code() == grpc.StatusCode.NOT_FOUND


def test_half_precision_is_sent_as_raw_contents(tmp_path: Path) -> None:
    nodes = [helper.make_node("Tanh", ["x"], ["y"], "tanh")]
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT16, ["batch", 2]) for n in ("x", "y")]
    graph = helper.make_graph(nodes, "half", infos[:1], infos[1:])
    opset = [helper.make_opsetid("", 17)]
    write_version(tmp_path, "half", helper.make_model(graph, opset_imports=opset, ir_version=8))
    x = np.array([[0.5, -1.0]], np.float16)
    with serving(tmp_path) as server, server.channel() as channel:
        inputs = [Tensor(name="x", datatype="FP16", shape=[1, 2])]
        response = stub(channel).ModelInfer(request("half", inputs=inputs, raw_input_contents=[x.tobytes()]))
        assert (response.outputs[0].datatype, len(response.raw_output_contents)) == ("FP16", 1)
        y = np.frombuffer(response.raw_output_contents[0], np.float16)
        np.testing.assert_allclose(y, np.tanh(x[0]), rtol=2e-3)


def test_reflection_describes_the_protocol(channel: grpc.Channel) -> None:
    from google.protobuf import descriptor_pb2
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    requested = reflection_pb2.ServerReflectionRequest(file_containing_symbol="inference.GRPCInferenceService")
    reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
    (answer,) = reflection.ServerReflectionInfo(iter([requested]), timeout=5)
    file = descriptor_pb2.FileDescriptorProto.FromString(answer.file_descriptor_response.file_descriptor_proto[0])
    assert file.package == "inference"


def test_a_prediction_in_double_precision(tmp_path: Path) -> None:
    """ONNX Runtime has no LSTM in float64, but our kernels do."""
    model = lstm()
    for weight in model.graph.initializer:
        if weight.data_type == TensorProto.FLOAT:
            weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float64), weight.name))
    for info in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        info.type.tensor_type.elem_type = TensorProto.DOUBLE
    write_version(tmp_path, "double", model)
    x = sequence().astype(np.float64)
    given = Tensor(name="x", datatype="FP64", shape=x.shape)
    with serving(tmp_path) as server, server.channel() as channel:
        response = stub(channel).ModelInfer(request("double", inputs=[given], raw_input_contents=[x.tobytes()]))
    logits = np.frombuffer(response.raw_output_contents[0], np.float64).reshape(response.outputs[0].shape)
    np.testing.assert_allclose(logits, lx.load(lstm()).predict({"x": sequence()})["logits"], rtol=1e-4, atol=1e-6)
