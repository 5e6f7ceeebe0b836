# SPDX-License-Identifier: Apache-2.0
"""Drift of served relevance from a reference: on the real server, with two workers, through every face."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import lstm_explain as lx
import lstm_explain_client
from lstm_explain.repository.drift_reference import files_digest, reference_of, reference_text
from lstm_explain.repository.model_folder import find_model
from lstm_explain.repository.relevance_shares import shares
from lstm_explain.repository.served_model import load_served
from lstm_explain_proto.inference import grpc_service_pb2_grpc
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2 as pb
from lstm_explain_proto.lstm_explain.v1 import method_pb2
from tests.serving.calling import infer, request, stub, tensor
from tests.serving.models import FEATURES, lstm, write_version
from tests.serving.running import Running, free_address, metrics, serving

STEPS, CALLERS = 12, 4
DRIFT, SAMPLES = "lstm_explain_relevance_drift", "lstm_explain_relevance_drift_samples_total"


def standard(rows: int, seed: int, shift: float = 0.0) -> np.ndarray:
    """Sequences of features with mean 0 and standard deviation 1, the first of them shifted."""
    x = np.random.default_rng(seed).standard_normal((rows, STEPS, FEATURES)).astype("f4")
    x[:, :, 0] += shift
    return x


def write_reference(folder: Path, method: lx.Method | None = None) -> None:
    """Writes the reference of version 1 from 4,000 rows."""
    served = load_served(find_model(folder / "1"))
    method = method or served.default_method
    found = served.model.explain({"x": standard(4000, 1)}, method, served.default_target).relevance["x"]
    reference = reference_of(
        (shares({"x": row}, {"x": 0}) for row in found),
        files_digest(served.card.file_digests),
        method,
        served.default_target,
        "logits",
    )
    (folder / "1" / "drift.json").write_text(reference_text(reference))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_reference(write_version(tmp_path, "lstm", lstm()))
    return tmp_path


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models with and without references, and with those that cannot be used."""
    root = tmp_path_factory.mktemp("models")
    write_reference(write_version(root, "lstm", lstm()))
    write_reference(write_version(root, "gradients", lstm()), lx.GradientTimesInput())
    changed = write_version(root, "changed", lstm())
    write_reference(changed)
    (changed / "1" / "model.onnx").write_bytes(lstm(seed=5).SerializeToString())
    broken = write_version(root, "broken", lstm())
    (broken / "1" / "drift.json").write_text('{"format": 1, "rows": "many"}')
    return root


def send(server: Running, calls: Iterable[pb.ExplainRequest]) -> None:
    """Sends the requests over connections of several callers, which the workers share."""
    calls = list(calls)

    def caller(own: list[pb.ExplainRequest]) -> None:
        with server.channel() as channel:
            for call in own:
                stub(channel).Explain(call, timeout=60)

    with ThreadPoolExecutor(CALLERS) as pool:
        list(pool.map(caller, [calls[i::CALLERS] for i in range(CALLERS)]))


def requests_of(x: np.ndarray, **fields: object) -> Iterable[pb.ExplainRequest]:
    return (request(inputs=[tensor("x", row[np.newaxis])], **fields) for row in x)


def of(name: str, model: str = "lstm") -> str:
    return f'{name}{{model="{model}",version="1"}}'


def test_planted_drift_raises_the_metric(root: Path) -> None:
    """A feature that is shifted by one standard deviation shows within 1,000 requests, and none before."""
    address = free_address()
    with serving(root, "--metrics-listen", address, "--workers", "2") as server:
        send(server, requests_of(standard(600, 2)))
        before = metrics(address)
        assert 590 <= before[of(SAMPLES)] <= 600  # a worker does not wait for the other one for long
        assert before[of(DRIFT)] < 1
        assert "relevance drifts" not in server.logged()
        send(server, requests_of(standard(800, 3, shift=1.0)))
        after = metrics(address)
        assert 1380 <= after[of(SAMPLES)] <= 1400
        assert after[of(DRIFT)] > 1
        lines = server.logged()
    told = r"model lstm version 1: relevance drifts: .* of 'x' has [\d.e-]+ % of it, in the reference [\d.e-]+ %"
    assert len(re.findall(told, lines)) == lines.count("relevance drifts") == 1


@pytest.fixture(scope="module")
def measured(models: Path) -> Iterable[tuple[Running, Callable[[str], float]]]:
    address = free_address()
    with serving(models, "--metrics-listen", address, "--allow-import") as server:
        yield server, lambda model: metrics(address).get(of(SAMPLES, model), 0.0)


def test_requests_through_every_face_count(measured: tuple[Running, Callable[[str], float]]) -> None:
    server, samples = measured
    before = samples("lstm")
    with server.channel() as channel:
        items = [pb.ExplainStreamRequest(id=str(i), request=request()) for i in range(3)]
        list(stub(channel).ExplainStream(iter(items), timeout=20))
        inference = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
        inference.ModelInfer(infer(), timeout=20)
        list(inference.ModelStreamInfer(iter([infer(), infer()]), timeout=20))
    assert samples("lstm") - before == 6


def test_only_what_can_be_compared_counts(measured: tuple[Running, Callable[[str], float]]) -> None:
    server, samples = measured
    gradient = method_pb2.Method(gradient_times_input=method_pb2.GradientTimesInput())
    same = method_pb2.Method(lrp=method_pb2.Lrp())
    state = next(o for n in lstm().graph.node if n.op_type == "LSTM" for o in n.output if o)
    target, several = pb.Target(indices=[1]), [pb.TargetSet(target=pb.Target(indices=[1]))]
    counted = {
        "the defaults": (request(), 1),
        "the default method by name, the default target": (request(method=same, target=pb.Target()), 1),
        "another method": (request(method=gradient), 0),
        "another target": (request(target=target), 0),
        "several targets": (request(targets=several), 0),
        "a condition": (request(condition="explained > -1e9"), 0),
        "some of the relevance": (request(through=[pb.Through(value=state, units=[0])]), 0),
    }
    for what, (call, count) in counted.items():
        before = samples("lstm")
        send(server, [call])
        assert samples("lstm") - before == count, what
    send(server, [request("changed"), request("gradients")])
    assert [samples(name) for name in ("changed", "gradients")] == [0, 0]
    send(server, [request("gradients", method=gradient)])
    assert samples("gradients") == 1
    lines = server.logged()
    assert "model changed version 1: drift.json belongs to other files; drift is not measured" in lines
    assert "model gradients version 1: its reference for drift is by another method" in lines
    assert "model broken version 1 failed to load: drift.json: files: Field required" in lines


def test_a_reference_is_imported_and_goes_with_its_version(
    measured: tuple[Running, Callable[[str], float]], models: Path
) -> None:
    server, samples = measured
    folder = models / "lstm" / "1"
    with lstm_explain_client.Client(server.address) as client:
        client.import_model("brought", folder / "model.onnx", files=[folder / "drift.json"])
        send(server, [request("brought"), request("brought")])
        assert samples("brought") == 2
        client.delete_model("brought")
    assert samples("brought") == 0
    assert samples("lstm") > 0
