# SPDX-License-Identifier: Apache-2.0
"""Warnings and the explained quantity reach the caller in every protocol."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

import lstm_explain as lx
from lstm_explain_proto.inference import grpc_service_pb2_grpc
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2 as pb
from lstm_explain_proto.lstm_explain.v1 import method_pb2
from tests.diverging_model import CALM, CANCELLING, diverging_model
from tests.serving.calling import array_of, infer, refusal, request, stub, tensor
from tests.serving.models import write_version
from tests.serving.running import Running, serving
from tests.serving.web import EXPLAIN, ask, explanation

HALF = method_pb2.Method(lrp=method_pb2.Lrp(product_rule=method_pb2.PRODUCT_RULE_HALF))
BOTH = np.array([CANCELLING, CALM], np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_version(folder, "diverging", diverging_model())
    write_version(folder, "likely", diverging_model("Softmax"))
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    with serving(folder, "--web", "127.0.0.1:0") as server:
        yield server


@pytest.fixture(scope="module")
def channel(server: Running) -> Iterator[grpc.Channel]:
    with server.channel() as channel:
        yield channel


def request_for(x: np.ndarray, model: str = "diverging", **fields: Any) -> pb.ExplainRequest:
    return request(model, inputs=[tensor("x", x)], target=pb.Target(indices=[0]), **{"method": HALF, **fields})


def warnings_of(folder: Path, x: np.ndarray) -> list[str]:
    """The warnings of the engine."""
    model = lx.load(folder / "diverging" / "1" / "model.onnx")
    return list(model.explain({"x": x}, lx.LRP("half"), lx.Target(index=0)).warnings)


def test_warnings_depend_on_the_input(folder: Path) -> None:
    (warning,) = warnings_of(folder, BOTH[:1])
    assert "diverges" in warning
    assert warnings_of(folder, BOTH[1:]) == []


@pytest.mark.parametrize("rows", [slice(0, 1), slice(1, 2), slice(0, 2)], ids=["diverging", "calm", "both"])
def test_warnings_of_every_call(channel: grpc.Channel, folder: Path, rows: slice) -> None:
    x, inference = BOTH[rows], grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
    expected = warnings_of(folder, x)
    for _ in range(4):  # the short way of repeated requests too
        assert list(stub(channel).Explain(request_for(x)).warnings) == expected
    (item,) = stub(channel).ExplainStream(iter([pb.ExplainStreamRequest(id="a", request=request_for(x))]))
    assert list(item.response.warnings) == expected
    message = infer("diverging", x)
    message.parameters["explain_product_rule"].string_param = "half"
    message.parameters["explain_target"].int64_param = 0
    alone = inference.ModelInfer(message)
    (streamed,) = inference.ModelStreamInfer(iter([message]))
    for answer in (alone, streamed.infer_response):
        assert json.loads(answer.parameters["warnings"].string_param) == expected
        assert answer.parameters["explained_quantity"].string_param == "output"


@pytest.mark.parametrize("row", [0, 1], ids=["diverging", "calm"])
def test_warnings_over_http(server: Running, folder: Path, row: int) -> None:
    x = BOTH[row : row + 1]
    answer = ask(server.page(), EXPLAIN, explanation(request_for(x))).json()
    assert answer.get("warnings", []) == warnings_of(folder, x)
    assert answer["explainedQuantity"] == "output"


def test_a_prediction_has_no_warnings_and_no_explained_quantity(channel: grpc.Channel) -> None:
    message = infer("diverging", BOTH)
    del message.parameters["explain"]
    assert not grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(message).parameters


def test_the_value_before_an_activation_is_named_so(channel: grpc.Channel) -> None:
    calm = BOTH[1:]
    answer = stub(channel).Explain(request_for(calm, "likely"))
    assert answer.explained_quantity == "logit"
    np.testing.assert_allclose(array_of(answer.explained), [5.0], rtol=1e-3)  # 100 (0.02 + 0.03)
    gradient = {"method": method_pb2.Method(gradient=method_pb2.Gradient())}
    message = request_for(calm, "likely", **gradient)
    message.target.pre_activation = False
    assert stub(channel).Explain(message).explained_quantity == "output"
    assert stub(channel).Explain(request_for(calm, "diverging")).explained_quantity == "output"


def test_lrp_of_the_probability_itself_is_refused(channel: grpc.Channel) -> None:
    message = request_for(BOTH[1:], "likely")
    message.target.pre_activation = False
    inference = infer("likely", BOTH[1:])
    inference.parameters["explain_pre_activation"].string_param = "false"
    stubs = stub(channel).Explain, grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
    fields = "target.pre_activation", "parameters[explain_pre_activation]"
    for call, sent, field in zip(stubs, (message, inference), fields, strict=True):
        with pytest.raises(grpc.RpcError) as refused:
            call(sent)
        status = refusal(refused.value)
        assert (status.code, status.field) == (grpc.StatusCode.INVALID_ARGUMENT, field)
        assert "before the activation" in status.message
