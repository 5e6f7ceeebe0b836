# SPDX-License-Identifier: Apache-2.0
"""Models of public bug reports on a real server: the engine's warnings and errors reach every caller."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from lstm_explain_proto.lstm_explain.v1 import explanation_pb2 as pb
from lstm_explain_proto.lstm_explain.v1 import method_pb2, model_pb2, model_pb2_grpc
from tests import cases
from tests.serving.calling import array_of, refusal, request, stub, tensor
from tests.serving.running import serving

REPLACING = {
    "integrated_gradients": method_pb2.Method(integrated_gradients=method_pb2.IntegratedGradients(steps=8)),
    "occlusion": method_pb2.Method(occlusion=method_pb2.Occlusion()),
    "shapley_sampling": method_pb2.Method(shapley_sampling=method_pb2.ShapleySampling(permutations=4)),
}


def served(name: str) -> str:
    """The name of the model on the server."""
    return name.replace("/", "-")


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    folder: Path = tmp_path_factory.mktemp("models")
    for name in cases.names():
        case, _, export = name.partition("/")
        version = folder / served(name) / "1"
        version.mkdir(parents=True)
        shutil.copy(cases.HERE / case / f"model.{export}.onnx", version / "model.onnx")
    with serving(folder) as server, server.channel() as channel:
        yield channel


def request_to(name: str, inputs: dict[str, np.ndarray], method: method_pb2.Method) -> pb.ExplainRequest:
    tensors = [tensor(i, array) for i, array in inputs.items()]
    return request(served(name), inputs=tensors, method=method, target=pb.Target(indices=[0]))


MASKED = [name for name in cases.names() if name.startswith("manual_bidir_flip")]


@pytest.mark.parametrize("method", REPLACING)
@pytest.mark.parametrize("name", MASKED)
def test_a_baseline_that_the_model_cannot_process_is_named(channel: grpc.Channel, name: str, method: str) -> None:
    """The model divides by a mask, here of zeros: the error names the input and the parameter to set."""
    inputs = cases.load(name).inputs
    with pytest.raises(grpc.RpcError) as raised:
        stub(channel).Explain(request_to(name, inputs, REPLACING[method]), timeout=60)
    status = refusal(raised.value)
    assert status.code == grpc.StatusCode.INVALID_ARGUMENT
    assert status.field == f"method.{method}.baseline"
    assert "input 'mask' is replaced by the baseline of zeros" in status.message
    assert "'mask': …" in status.message
    chosen = method_pb2.Method.FromString(REPLACING[method].SerializeToString())
    getattr(chosen, method).baseline.append(tensor("mask", inputs["mask"]))
    answer = stub(channel).Explain(request_to(name, inputs, chosen), timeout=60)
    relevance = {r.name: array_of(r) for r in answer.relevance}
    assert relevance["x"].any()
    assert not relevance["mask"].any()
    assert bool(answer.steps_used) == (method == "integrated_gradients")
    assert all(np.isfinite(array).all() for array in relevance.values())


@pytest.mark.parametrize("name", [name for name in cases.names() if name.startswith("lstmp_icefall")])
def test_time_of_a_hand_written_loop(channel: grpc.Channel, name: str) -> None:
    """Time comes first. Occlusion replaces steps, and the features of a step share its effect."""
    detail = model_pb2_grpc.ModelServiceStub(channel).GetModel(model_pb2.GetModelRequest(name=served(name))).model
    assert (dict(detail.batch_axes), dict(detail.time_axes)) == ({"x": 1}, {"x": 0})
    answer = stub(channel).Explain(request_to(name, cases.load(name).inputs, REPLACING["occlusion"]), timeout=60)
    relevance = array_of(answer.relevance[0])  # [time, batch, features]
    np.testing.assert_array_equal(relevance, np.broadcast_to(relevance[:, :, :1], relevance.shape))
    assert len(np.unique(relevance[:, 0, 0])) > len(relevance) / 2


COMPANY = {
    "integrated_gradients": REPLACING["integrated_gradients"],
    "smooth_grad": method_pb2.Method(smooth_grad=method_pb2.SmoothGrad(samples=3)),
}


@pytest.mark.parametrize("method", COMPANY)
@pytest.mark.parametrize("name", ["han/legacy", "han/dynamo", "packed_bilstm_sorted/legacy"])
def test_a_samples_answer_does_not_depend_on_its_batch(channel: grpc.Channel, name: str, method: str) -> None:
    """Even if a graph sorts samples or folds words into the batch, answer and ledger are those of the single sample."""
    inputs = cases.load(name).inputs
    whole = stub(channel).Explain(request_to(name, inputs, COMPANY[method]), timeout=60)
    for row in range(3):
        own = {i: array[[row]] for i, array in inputs.items()}
        alone = stub(channel).Explain(request_to(name, own, COMPANY[method]), timeout=60)
        for there, received in zip(whole.relevance, alone.relevance, strict=True):
            expected = array_of(received)[0]
            np.testing.assert_allclose(array_of(there)[row], expected, atol=1e-5 * np.abs(expected).max(initial=1e-30))
        spread = sum(np.abs(array_of(r)).sum() for r in alone.relevance)
        found = array_of(whole.ledger.inputs)[row]
        assert abs(found - array_of(alone.ledger.inputs)[0]) <= 1e-5 * spread
        assert abs(found - sum(array_of(r)[row].astype(np.float64).sum() for r in whole.relevance)) <= 1e-5 * spread
