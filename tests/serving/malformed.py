# SPDX-License-Identifier: Apache-2.0
"""Generates requests that no honest client sends: damaged bytes, wrong shapes, huge declared sizes, deep nesting."""

from __future__ import annotations

import gzip
import hashlib
import random
from collections.abc import Callable

import numpy as np

from lstm_explain_proto.inference import grpc_service_pb2 as inference
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2 as pb
from lstm_explain_proto.lstm_explain.v1 import method_pb2, model_pb2, tensor_pb2
from tests.serving.calling import F32, STRING, request, sequence, tensor
from tests.serving.models import lstm

EXPLAIN = "/lstm_explain.v1.ExplanationService/Explain"
STREAM = "/lstm_explain.v1.ExplanationService/ExplainStream"
INFER = "/inference.GRPCInferenceService/ModelInfer"
GET = "/lstm_explain.v1.ModelService/GetModel"
IMPORT = "/lstm_explain.v1.ModelService/ImportModel"
DELETE = "/lstm_explain.v1.ModelService/DeleteModel"

# A method, and the bytes of each message to send it.
Call = tuple[str, list[bytes]]
EXTREMES = (-1, 0, 1, 7, 2**31 - 1, 2**31, 2**32, 2**61, 2**62, 2**63 - 1, -(2**63))


def malformed(rng: random.Random) -> Call:
    """A random malformed request. None can change a model that the caller has not imported itself."""
    if rng.random() < 0.03:  # a server takes its time to try out a model
        return _model(rng)
    kind: Callable[[random.Random], Call] = rng.choice(
        [_damaged, _damaged, _shapes, _nested, _huge, _parameters, _noise, _names]
    )
    return kind(rng)


def good_calls() -> list[tuple[str, bytes]]:
    """One valid request per method, to be damaged."""
    method = method_pb2.Method(occlusion=method_pb2.Occlusion(window=2))
    target = pb.Target(indices=[1], output="logits")
    explain = request(method=method, target=target, capture=["x"]).SerializeToString()
    infer = inference.ModelInferRequest(model_name="lstm")
    infer.inputs.add(name="x", datatype="FP32", shape=[2, 7, 4])
    infer.raw_input_contents.append(sequence().tobytes())
    infer.parameters["explain"].string_param = "lrp"
    item = pb.ExplainStreamRequest(id="a", request=request())
    start = model_pb2.ImportModelStart(name="new", size=3, sha256=bytes(32), config_yaml="batch_axis: 0")
    return [
        (EXPLAIN, explain),
        (STREAM, item.SerializeToString()),
        (INFER, infer.SerializeToString()),
        (GET, model_pb2.GetModelRequest(name="lstm", version="1").SerializeToString()),
        (IMPORT, model_pb2.ImportModelRequest(start=start).SerializeToString()),
        (DELETE, model_pb2.DeleteModelRequest(name="nothing", version="1").SerializeToString()),
    ]


GOOD = good_calls()
MODEL = lstm().SerializeToString()
NAMES = ("..", ".", "", "../lstm", "lstm/1", "/etc/passwd", "a\0b", ".staging", "é", "x" * 100_000, "lstm/../lstm")


def _damaged(rng: random.Random) -> Call:
    """Flips bits, and removes, repeats or inserts pieces."""
    method, whole = rng.choice(GOOD)
    return method, [_spoiled(rng, whole)]


def _spoiled(rng: random.Random, whole: bytes) -> bytes:
    data = bytearray(whole)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(5):
            case 0 if data:
                data[at % len(data)] ^= 1 << rng.randrange(8)
            case 1:
                del data[at : at + rng.randrange(1, 40)]
            case 2:
                data[at:at] = rng.randbytes(rng.randrange(1, 20))
            case 3:
                data[at:at] = data[at : at + rng.randrange(1, 40)]
            case _:
                data[at:at] = _varint(rng.choice((2**31, 2**32, 2**63, 2**64 - 1)))
    return bytes(data)


def _model(rng: random.Random) -> Call:
    """Imports a damaged model, perhaps with an unrelated file, or deletes the last one."""
    if rng.random() < 0.5:
        return DELETE, [model_pb2.DeleteModelRequest(name="fuzzed").SerializeToString()]
    data = _spoiled(rng, MODEL)
    start = model_pb2.ImportModelStart(name="fuzzed", version="1", size=len(data), sha256=hashlib.sha256(data).digest())
    messages = [model_pb2.ImportModelRequest(start=start), model_pb2.ImportModelRequest(chunk=data)]
    if rng.random() < 0.5:
        file = model_pb2.ImportModelFile(name=rng.choice(NAMES)[:300], size=2, sha256=hashlib.sha256(b"ab").digest())
        messages += [model_pb2.ImportModelRequest(file=file), model_pb2.ImportModelRequest(chunk=b"ab")]
    return IMPORT, [message.SerializeToString() for message in messages]


def _names(rng: random.Random) -> Call:
    """Names that are paths, or are not valid."""
    name = rng.choice(NAMES)
    match rng.randrange(4):
        case 0:
            return DELETE, [model_pb2.DeleteModelRequest(name=name, version=rng.choice(("", "1"))).SerializeToString()]
        case 1:
            return DELETE, [model_pb2.DeleteModelRequest(name="lstm", version=f"1/{name}").SerializeToString()]
        case 2:
            return GET, [model_pb2.GetModelRequest(name=name).SerializeToString()]
        case _:
            start = model_pb2.ImportModelStart(name=name, size=1, sha256=bytes(32))
            return IMPORT, [model_pb2.ImportModelRequest(start=start).SerializeToString()]


def _shapes(rng: random.Random) -> Call:
    """Shapes that do not match the data."""
    shape = [rng.choice(EXTREMES) for _ in range(rng.randrange(0, 8))]
    kept = [extent for extent in shape if -(2**63) <= extent < 2**63]
    data = rng.randbytes(rng.choice((0, 1, 4, 224, 4096)))
    if rng.random() < 0.3:
        infer = inference.ModelInferRequest(model_name="lstm")
        infer.inputs.add(name="x", datatype=rng.choice(("FP32", "BYTES", "INT64", "FP16", "", "FP33")), shape=kept)
        infer.raw_input_contents.append(data)
        return INFER, [infer.SerializeToString()]
    dtype = rng.choice((F32, STRING, tensor_pb2.DATA_TYPE_BOOL, tensor_pb2.DATA_TYPE_INT64, 99))
    one = tensor_pb2.Tensor(name="x", dtype=dtype, shape=kept, data=data)
    return EXPLAIN, [request(rng.choice(("lstm", "words")), inputs=[one] * rng.choice((1, 1, 2))).SerializeToString()]


def _nested(rng: random.Random) -> Call:
    """Deeply nested groups: unknown fields that protobuf still has to parse."""
    depth = rng.choice((50, 99, 101, 1000, 100_000))
    field = rng.choice((1, 3, 15, 1000))
    begin, end = _varint(field << 3 | 3), _varint(field << 3 | 4)
    if rng.random() < 0.5:
        return EXPLAIN, [begin * depth + end * depth]
    data = b""
    for _ in range(min(depth, 1000)):
        data = _varint(field << 3 | 2) + _varint(len(data)) + data
    return rng.choice((EXPLAIN, INFER, GET)), [data]


def _huge(rng: random.Random) -> Call:
    """Declared lengths far beyond the data."""
    match rng.randrange(4):
        case 0:
            return EXPLAIN, [_varint(3 << 3 | 2) + _varint(rng.choice((2**31 - 1, 2**31, 2**62))) + b"x" * 50]
        case 1:
            length = rng.choice((2**32 - 1, 2**31, 1000)).to_bytes(4, "little")
            text = tensor_pb2.Tensor(name="tokens", dtype=STRING, shape=[1], data=length + b"short")
            return EXPLAIN, [request("words", inputs=[text]).SerializeToString()]
        case 2:
            words = ("not a bad film " * rng.choice((1, 1000, 4_000))).encode()
            data = len(words).to_bytes(4, "little") + words
            text = tensor_pb2.Tensor(name="tokens", dtype=STRING, shape=[1], data=data)
            return EXPLAIN, [request("words", inputs=[text]).SerializeToString()]
        case _:
            start = model_pb2.ImportModelStart(name="a" * rng.choice((1, 200, 100_000)), size=rng.choice(EXTREMES))
            return IMPORT, [model_pb2.ImportModelRequest(start=start).SerializeToString()]


def _parameters(rng: random.Random) -> Call:
    """Valid tensors with nonsensical methods and targets, or with far too much work."""
    number = max(-(2**31), min(2**31 - 1, rng.choice(EXTREMES)))
    real = rng.choice((float("nan"), float("inf"), -1.0, 1e308, 5e-324))
    method = rng.choice(
        (
            method_pb2.Method(lrp=method_pb2.Lrp(epsilon=real, product_rule=rng.randrange(0, 9))),
            method_pb2.Method(lrp=method_pb2.Lrp(bias_factor=real)),
            method_pb2.Method(integrated_gradients=method_pb2.IntegratedGradients(steps=number)),
            method_pb2.Method(smooth_grad=method_pb2.SmoothGrad(samples=number, noise=real)),
            method_pb2.Method(occlusion=method_pb2.Occlusion(window=number)),
            method_pb2.Method(shapley_sampling=method_pb2.ShapleySampling(permutations=number)),
        )
    )
    target = pb.Target(indices=[rng.choice(EXTREMES) for _ in range(rng.randrange(0, 5))], batch_axis=number)
    x = sequence()
    x.reshape(-1)[rng.randrange(x.size)] = rng.choice((np.nan, np.inf, 3e38, 0))
    fields = {"method": method, "target": target, "capture": [rng.choice(("x", "", "no such", "\0" * 9))]}
    chosen = {key: value for key, value in fields.items() if rng.random() < 0.7}
    return EXPLAIN, [request(inputs=[tensor("x", x)], **chosen).SerializeToString()]


def _noise(rng: random.Random) -> Call:
    """Random bytes."""
    method, whole = rng.choice(GOOD)
    return method, [rng.choice((rng.randbytes(rng.randrange(0, 3000)), gzip.compress(whole), b"\0" * 5000, b""))]


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])
