# SPDX-License-Identifier: Apache-2.0
"""Files that would make native code read out of bounds, trap, or run for minutes are refused without side effects."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

import lstm_explain_client as client
from lstm_explain_proto.inference import grpc_service_pb2 as pb
from lstm_explain_proto.inference import grpc_service_pb2_grpc
from lstm_explain_proto.lstm_explain.v1 import model_pb2, model_pb2_grpc
from tests.graph.test_integer_division import WAYS, dividing, expected
from tests.graph.test_model_size import chain
from tests.graph.test_recurrent_operands import GATES, model, recurrent, right_shapes
from tests.serving.calling import request, stub
from tests.serving.models import lstm, write_version
from tests.serving.running import Running, serving

SECONDS = 90
LEAST = {np.int32: -(2**31), np.int64: -(2**63)}


def lying() -> dict[str, onnx.ModelProto]:
    """Recurrent nodes with an operand that is smaller or larger than the operator's definition requires."""
    found = {}
    for op in GATES:
        right = right_shapes(op)
        for operand in [name for name in ("W", "R", "B", "P", "initial_h") if name in right]:
            for how, factor in (("short", 0.5), ("long", 3)):
                shape = [*right[operand][:-2], *(max(1, int(n * factor)) for n in right[operand][-2:])]
                found[f"{op}-{operand}-{how}"] = model(recurrent(op, right | {operand: shape}))
    return found


LYING = lying()


def listed(server: Running) -> dict[str, tuple[int, str]]:
    with server.channel() as channel:
        models = model_pb2_grpc.ModelServiceStub(channel).ListModels(model_pb2.ListModelsRequest(), timeout=10).models
    return {m.name: (m.state, m.reason) for m in models}


def alive(server: Running, processes: list[int]) -> bool:
    """Checks that the same processes serve and answer."""
    with server.channel() as channel:
        return stub(channel).Explain(request("good"), timeout=30).model == "good" and server.workers() == processes


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder: Path = tmp_path_factory.mktemp("models")
    write_version(folder, "good", lstm())
    for dtype in LEAST:
        write_version(folder, f"div-{np.dtype(dtype)}", dividing("Div", dtype, [0] * 2, [0] * 2))
    with serving(folder, "--allow-import") as server:
        yield server


def refusal(server: Running, data: bytes) -> str:
    with client.Client(server.address) as own, pytest.raises(client.InvalidRequest) as raised:
        own.import_model("foreign", data, timeout=SECONDS)
    return str(raised.value)


@pytest.mark.parametrize("name", LYING)
def test_an_import_with_a_mismatched_operand_is_refused(server: Running, name: str) -> None:
    before = server.workers()
    assert f"{name.split('-')[1]} has shape" in refusal(server, LYING[name].SerializeToString())
    assert alive(server, before)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_mismatched_operands_in_the_folder_fail_to_load(tmp_path: Path, workers: str) -> None:
    """At startup, and found while polling."""
    names = sorted(LYING)
    write_version(tmp_path, "good", lstm())
    for name in names[::2]:
        write_version(tmp_path, name, LYING[name])
    with serving(tmp_path, "--poll-seconds", "0.2", "--workers", workers) as server:
        before = server.workers()
        for name in names[1::2]:
            write_version(tmp_path, name, LYING[name])
        end = time.monotonic() + SECONDS
        while len(listed(server)) <= len(names):
            assert time.monotonic() < end, "they were not found"
            assert alive(server, before), (before, server.workers(), server.logged())
            time.sleep(0.1)
        models = listed(server)
        assert models.pop("good") == (model_pb2.MODEL_STATE_READY, "")
        assert {state for state, _ in models.values()} == {model_pb2.MODEL_STATE_FAILED}
        assert all(f"{name.split('-')[1]} has shape" in reason for name, (_, reason) in models.items())
        assert alive(server, before)
        assert server.stop() == 0


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", LEAST)
def test_the_smallest_integer_over_minus_one_in_a_file(server: Running, way: str, dtype: type) -> None:
    """Constant folding would compute it on loading."""
    before = server.workers()
    with client.Client(server.address) as own:
        own.import_model("folded", dividing(way, dtype, [LEAST[dtype]] * 2, [-1] * 2, "ab").SerializeToString())
        own.delete_model("folded")
    assert alive(server, before)


@pytest.mark.parametrize("dtype", LEAST)
def test_the_smallest_integer_over_minus_one_in_a_request(server: Running, dtype: type) -> None:
    before, kind = server.workers(), np.dtype(dtype)
    given, divisors = [LEAST[dtype], 7], [-1, -1]
    message = pb.ModelInferRequest(model_name=f"div-{kind}")
    for name, array in (
        ("x", np.ones((1, 2), np.float32)),
        ("a", np.array(given, kind)),
        ("b", np.array(divisors, kind)),
    ):
        datatype = {"f": "FP32", "i": f"INT{kind.itemsize * 8}"}[array.dtype.kind]
        message.inputs.add(name=name, datatype=datatype, shape=array.shape)
        message.raw_input_contents.append(array.tobytes())
    with server.channel() as channel:
        answer = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(message, timeout=30)
    (at,) = [i for i, output in enumerate(answer.outputs) if output.name == "q"]
    assert np.frombuffer(answer.raw_output_contents[at], kind).tolist() == expected(
        "Div", given, divisors, kind.itemsize * 8
    )
    assert alive(server, before)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: chain(100_000), "100000 nodes, at most"),
        (lambda: chain(100_000, "Add", more="c{}"), "nodes, at most"),
        (lambda: chain(5_000, name="same"), "same"),
    ],
    ids=["nodes", "constants", "one name"],
)
def test_models_that_would_take_minutes_to_read_are_refused_at_once(
    server: Running, build: object, message: str
) -> None:
    """Quadratic work over so many nodes would take minutes, longer than a trial may."""
    data = build().SerializeToString()
    assert message in refusal(server, data)
    assert alive(server, server.workers())
