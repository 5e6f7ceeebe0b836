# SPDX-License-Identifier: Apache-2.0
"""A caller that leaves a long request frees the slot that it held."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from lstm_explain_proto.lstm_explain.v1 import explanation_pb2 as pb
from lstm_explain_proto.lstm_explain.v1 import method_pb2
from tests.serving.calling import request, sequence, stub, tensor
from tests.serving.models import lstm, write_version
from tests.serving.running import Running, serving

T = 2_000
INPUTS = [tensor("x", sequence(batch=1, time=T))]
# Each would take many minutes.
ENDLESS = {
    "shapley": method_pb2.Method(shapley_sampling=method_pb2.ShapleySampling(permutations=400)),
    "integrated": method_pb2.Method(
        integrated_gradients=method_pb2.IntegratedGradients(steps=10_000, max_steps=10_000)
    ),
    "smooth": method_pb2.Method(smooth_grad=method_pb2.SmoothGrad(samples=10_000)),
    "occlusion": method_pb2.Method(occlusion=method_pb2.Occlusion(over=method_pb2.PLAYERS_CELLS)),
}
WAITS = 60.0  # seconds, on a busy machine; far less than the work takes


@pytest.fixture(scope="module")
def one_slot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder: Path = tmp_path_factory.mktemp("models")
    write_version(folder, "lstm", lstm(hidden=192))
    with serving(folder, "--parallel", "1", "--max-samples", "20000000") as server:
        yield server


@pytest.mark.parametrize("method", ENDLESS)
def test_the_next_request_is_answered(one_slot: Running, method: str) -> None:
    item = pb.ExplainStreamRequest(id="a", request=request(inputs=INPUTS, method=ENDLESS[method]), progress=True)
    with one_slot.channel() as channel:
        answers = stub(channel).ExplainStream(iter([item]))
        first = next(answers)
        assert first.WhichOneof("result") == "progress"
        assert first.progress.done < first.progress.total / 4
        answers.cancel()
        stub(channel).Explain(request(), timeout=WAITS)


def test_a_deadline_frees_the_slot_too(one_slot: Running) -> None:
    with one_slot.channel() as channel:
        with pytest.raises(grpc.RpcError) as raised:
            stub(channel).Explain(request(inputs=INPUTS, method=ENDLESS["integrated"]), timeout=1.0)
        assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        stub(channel).Explain(request(), timeout=WAITS)


def test_a_connection_that_breaks_frees_the_slot_too(one_slot: Running) -> None:
    with one_slot.channel() as channel:
        item = pb.ExplainStreamRequest(id="a", request=request(inputs=INPUTS, method=ENDLESS["shapley"]), progress=True)
        next(stub(channel).ExplainStream(iter([item])))
    with one_slot.channel() as channel:
        stub(channel).Explain(request(), timeout=WAITS)
