# SPDX-License-Identifier: Apache-2.0
"""Well-formed messages without meaning are never an internal error."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from lstm_explain_proto.inference import grpc_service_pb2 as oip
from lstm_explain_proto.inference import grpc_service_pb2_grpc
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2 as pb
from lstm_explain_proto.lstm_explain.v1 import method_pb2
from tests.serving.calling import infer, request, sequence, stub, tensor, texts
from tests.serving.models import fill
from tests.serving.running import Running, serving

INTEGERS = (0, 1, -1, 2, 127, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63), 10**12)
NUMBERS = (0.0, -1.0, 1e-300, 1e300, float("nan"), float("inf"), -float("inf"), 0.5)
TEXTS = ("", "x", "logits", "tokens", "lstm", "a\0b", "é" * 300, "🦊", "../..", "9" * 5000, "1e999", "nan", "[",
         "[[1],[2,3]]", "none", "true", "-1", "0x10", "1,", ",", "logits:", "logits:1,2,3", "logits:" + "9" * 5000,
         "dense=gamma(1e999)", "first=z_box(,)", "=".join("ab") * 99, "lrp", "occlusion", "shapley_sampling",
         "integrated_gradients")  # fmt: skip
PARAMETERS = ("explain", "explain_target", "explain_contrast", "explain_batch_axis", "explain_pre_activation",
              "explain_product_rule", "explain_epsilon", "explain_stabiliser", "explain_bias_factor", "explain_steps",
              "explain_samples", "explain_noise", "explain_seed", "explain_window", "explain_permutations",
              "explain_baseline", "explain_composite", "explain_over", "explain_span", "explain_nothing")  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder: Path = tmp_path_factory.mktemp("models")
    fill(folder)
    with serving(folder, "--max-samples", "2000", "--max-request-seconds", "20") as server:
        _compile(server)
        yield server


def _compile(server: Running) -> None:
    """Compiles the kernels that the requests may need, so that compilation is not timed."""
    with server.channel() as channel:
        for rule in method_pb2.ProductRule.values():
            stub(channel).Explain(request(method=method_pb2.Method(lrp=method_pb2.Lrp(product_rule=rule))), timeout=600)
        stub(channel).Explain(request(method=method_pb2.Method(gradient=method_pb2.Gradient())), timeout=600)


def explained(draw: random.Random) -> pb.ExplainRequest:
    """A valid request with a few fields, at any depth, set to extreme values."""
    message = draw.choice([request(), request("words", inputs=[texts("tokens", "the plot", "a film")])])
    message.method.MergeFrom(_method(draw))
    message.target.SetInParent()
    if draw.random() < 0.3:
        message.target.weights.CopyFrom(tensor("", np.ones(draw.choice([(3,), (2, 3), (1000,), ()]), np.float32)))
    for _ in range(draw.randint(0, 3)):
        _disturb(message, draw)
    return message


def _method(draw: random.Random) -> Any:
    message = pb.ExplainRequest().method
    getattr(message, draw.choice([f.name for f in message.DESCRIPTOR.fields])).SetInParent()
    return message


def _disturb(message: Any, draw: random.Random) -> None:
    """Sets one field of the message or of a nested one."""
    fields = message.DESCRIPTOR.fields
    if not fields:
        return None
    field = draw.choice([f for f in fields if f.containing_oneof is None or message.HasField(f.name)] or list(fields))
    is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
    if field.message_type is not None and not is_map:
        inside = getattr(message, field.name)
        if field.is_repeated:
            return _disturb(
                inside[draw.randrange(len(inside))] if inside and draw.random() < 0.8 else inside.add(), draw
            )
        inside.SetInParent()
        return _disturb(inside, draw)
    if is_map:
        return None
    values = {
        field.CPPTYPE_STRING: [b"", b"\0" * 7, b"\xff" * 40] if field.type == field.TYPE_BYTES else TEXTS,
        field.CPPTYPE_DOUBLE: NUMBERS,
        field.CPPTYPE_FLOAT: NUMBERS,
        field.CPPTYPE_BOOL: (True, False),
        field.CPPTYPE_ENUM: (0, 1, 2, 3, 99, -1),
    }.get(field.cpp_type, INTEGERS)
    try:
        if field.is_repeated:
            getattr(message, field.name).extend(draw.choices(values, k=draw.choice([1, 2, 3, 40])))
        else:
            setattr(message, field.name, draw.choice(values))
    except (ValueError, TypeError):  # beyond the field's width, or no member of a closed enumeration
        pass


def inferred(draw: random.Random) -> oip.ModelInferRequest:
    message = infer(x=sequence(2, 5))
    for _ in range(draw.randint(1, 3)):
        name = draw.choice(PARAMETERS)
        parameter = message.parameters[name]
        match draw.randrange(4):
            case 0:
                parameter.int64_param = draw.choice(INTEGERS)
            case 1:
                parameter.string_param = draw.choice(TEXTS)
            case 2:
                parameter.bool_param = draw.random() < 0.5
            case 3:
                parameter.Clear()
    if draw.random() < 0.5:
        given = message.inputs[0]
        given.datatype = draw.choice(["FP32", "FP16", "BYTES", "INT64", "BOOL", "", "fp32", "UINT8", "BF16"])
        if draw.random() < 0.5:
            del message.raw_input_contents[:]
            given.contents.fp32_contents.extend(draw.choices(NUMBERS, k=draw.choice([0, 1, 40])))
        if draw.random() < 0.3:
            given.shape[draw.randrange(3)] = draw.choice(INTEGERS)
        if draw.random() < 0.2:
            message.outputs.add(name=draw.choice([*TEXTS, "explained", "ledger:inputs"]))
    return message


def test_no_request_is_an_internal_error(server: Running) -> None:
    draw, codes, wrong = random.Random(20), Counter[str](), []
    with server.channel() as channel:
        calls = [
            (stub(channel).Explain, explained),
            (grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer, inferred),
        ]
        for number in range(600):
            call, made = calls[number % 2]
            message = made(draw)
            try:
                call(message, timeout=20 + 100)  # --max-request-seconds and plenty
                codes["OK"] += 1
            except grpc.RpcError as error:
                codes[error.code().name] += 1
                if error.code().name not in ("INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"):
                    del message.inputs[:]
                    wrong.append((error.code().name, error.details(), str(message)[:1500]))
    assert not wrong
    assert codes["OK"] > 20
    assert codes["INVALID_ARGUMENT"] > 100


@pytest.mark.parametrize("method", ["Check", "Watch"])
def test_invalid_health_requests_are_invalid_arguments(server: Running, method: str) -> None:
    with server.channel() as channel:
        ask = channel.unary_stream(f"/grpc.health.v1.Health/{method}", bytes, bytes)
        with pytest.raises(grpc.RpcError, match="not a valid protobuf message") as raised:
            list(ask(b"\x0a\x02\xff\xff", timeout=20))
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "DecodeError" not in server.logged()
