# SPDX-License-Identifier: Apache-2.0
"""A request for the model's default method, or with parameters alone, starts from the parameters in model.yaml."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

import lstm_explain as lx
from lstm_explain_client import LRP, Client, ExplainError, InvalidRequest
from lstm_explain_proto.inference import grpc_service_pb2_grpc
from lstm_explain_proto.lstm_explain.v1 import method_pb2
from tests.serving.calling import array_of, infer, refusal, request, sequence, stub
from tests.serving.models import lstm, write_version
from tests.serving.running import Running, serving

ABSOLUTE = "{name: lrp, product_rule: half, epsilon: 0.05, bias_factor: 0.5}"
RELATIVE = "{name: lrp, stabiliser: [0.2, 0.03], ceiling: 3, bias_factor: 0.5}"
RANDOM = "{name: shapley_sampling, permutations: 3, seed: 5}"
HALF = method_pb2.PRODUCT_RULE_HALF
Parameters = dict[str, Any]
# The model, what the request sets, and the method that it asks for.
CASES: list[tuple[str, Parameters, lx.Method]] = [
    ("absolute", {}, lx.LRP("half", 0.05, 0.5)),
    ("absolute", {"epsilon": 0.01}, lx.LRP("half", 0.01, 0.5)),
    ("absolute", {"product_rule": "all", "bias_factor": 0.0}, lx.LRP("all", 0.05, 0.0)),
    ("absolute", {"stabiliser": 0.2}, lx.LRP("half", None, 0.5, stabiliser=0.2)),
    ("absolute", {"ceiling": 2.0}, lx.LRP("half", None, 0.5, ceiling=2.0)),
    ("relative", {}, lx.LRP("all", None, 0.5, stabiliser=(0.2, 0.03), ceiling=3)),
    ("relative", {"cell_stabiliser": 0.3}, lx.LRP("all", None, 0.5, stabiliser=(0.2, 0.3), ceiling=3)),
    ("relative", {"epsilon": 0.01}, lx.LRP("all", 0.01, 0.5)),
    ("random", {"permutations": 4}, lx.ShapleySampling(4, 5)),
]
by_case = pytest.mark.parametrize(("model", "given", "method"), CASES)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder: Path = tmp_path_factory.mktemp("models")
    for name, text in {"absolute": ABSOLUTE, "relative": RELATIVE, "random": RANDOM}.items():
        write_version(folder, name, lstm(), config=f"method: {text}\n")
    with serving(folder) as server:
        yield server


@pytest.fixture(scope="module")
def channel(server: Running) -> Iterator[grpc.Channel]:
    with server.channel() as channel:
        yield channel


def expected(method: lx.Method) -> np.ndarray:
    return lx.load(lstm()).explain({"x": sequence()}, method).relevance["x"]


@by_case
def test_explain(channel: grpc.Channel, model: str, given: Parameters, method: lx.Method) -> None:
    words = {**given, "product_rule": "PRODUCT_RULE_ALL"} if "product_rule" in given else given
    message = method_pb2.Method(**{method.name: words})
    named = stub(channel).Explain(request(model, method=message), timeout=60)
    alone = stub(channel).Explain(request(model, parameters={k: str(v) for k, v in given.items()}), timeout=60)
    for response in (named, alone):
        np.testing.assert_array_equal(array_of(response.relevance[0]), expected(method))


@by_case
def test_model_infer(channel: grpc.Channel, model: str, given: Parameters, method: lx.Method) -> None:
    infers = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
    for names_method in (True, False):
        message = infer(model)
        del message.parameters["explain"]
        if names_method or not given:
            message.parameters["explain"].string_param = method.name
        for key, value in given.items():
            message.parameters[f"explain_{key}"].string_param = str(value)
        response = infers.ModelInfer(message, timeout=60)
        place = [output.name for output in response.outputs].index("relevance:x")
        found = np.frombuffer(response.raw_output_contents[place], np.float32).reshape(sequence().shape)
        np.testing.assert_array_equal(found, expected(method))


def test_model_infer_takes_a_pair_of_stabilisers(channel: grpc.Channel) -> None:
    message = infer("absolute")
    message.parameters["explain_stabiliser"].string_param = "0.1,0.01"
    response = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(message, timeout=60)
    place = [output.name for output in response.outputs].index("relevance:x")
    found = np.frombuffer(response.raw_output_contents[place], np.float32).reshape(sequence().shape)
    np.testing.assert_array_equal(found, expected(lx.LRP("half", None, 0.5, stabiliser=(0.1, 0.01))))


@by_case
def test_the_python_client(server: Running, model: str, given: Parameters, method: lx.Method) -> None:
    with Client(server.address) as client:
        for name in (method.name, None):
            result = client.explain(model, {"x": sequence()}, method=name, parameters=given)
            np.testing.assert_array_equal(result.relevance["x"], expected(method))


def test_another_method_starts_from_its_own_defaults(channel: grpc.Channel) -> None:
    response = stub(channel).Explain(
        request("random", method=method_pb2.Method(lrp={"product_rule": HALF})), timeout=60
    )
    np.testing.assert_array_equal(array_of(response.relevance[0]), expected(lx.LRP("half")))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"parameters": {"epsilon": "much"}}, "parameters[epsilon]"),
        ({"parameters": {"stabiliser": "0.1,much"}}, "parameters[stabiliser]"),
        ({"parameters": {"steps": "7"}}, "parameters[steps]"),
        ({"parameters": {"epsilon": "0.1"}, "method": {"lrp": {}}}, "parameters"),
        ({"method": {"lrp": {"epsilon": 0.1, "ceiling": 2.0}}}, "method.lrp.ceiling"),
    ],
)
def test_errors_name_the_field(channel: grpc.Channel, fields: Parameters, field: str) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        stub(channel).Explain(request("absolute", **fields), timeout=10)
    assert refusal(raised.value).field == field


def test_the_client_refuses_a_parameter_that_has_no_text(server: Running) -> None:
    with Client(server.address) as client, pytest.raises(InvalidRequest, match="name the method"):
        client.explain("absolute", {"x": sequence()}, parameters={"composite": LRP()})
    with Client(server.address) as client, pytest.raises(ExplainError) as raised:
        client.explain("absolute", {"x": sequence()}, parameters={"epsilon": -1.0})
    assert raised.value.field == "parameters[epsilon]"
