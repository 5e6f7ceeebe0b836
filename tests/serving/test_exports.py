# SPDX-License-Identifier: Apache-2.0
"""Networks of public bug reports, whose relevance was absurd without a warning or depended on the exporter."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from lstm_explain_proto.lstm_explain.v1 import explanation_pb2 as pb
from lstm_explain_proto.lstm_explain.v1 import method_pb2
from tests.serving.calling import array_of, request, stub, tensor
from tests.serving.running import serving

HERE = Path(__file__).parents[1] / "exports"
EXPLAINED = {"ltc": 0, "ealstm": 0, "bilstm_crf": 2}  # index of the output
EXPORTS = ("legacy", "dynamo")
RULES = {
    "default": method_pb2.Lrp(),
    "all": method_pb2.Lrp(product_rule=method_pb2.PRODUCT_RULE_ALL, epsilon=1e-3),
}
MUCH, FAR_TOO_MUCH = 10, 100  # times the explained value; the warning itself has a floor under that


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    folder: Path = tmp_path_factory.mktemp("models")
    for name in EXPLAINED:
        for export in EXPORTS:
            version = folder / f"{name}-{export}" / "1"
            version.mkdir(parents=True)
            shutil.copy(HERE / name / f"model.{export}.onnx", version / "model.onnx")
    with serving(folder) as server, server.channel() as channel:
        yield channel


def answer(channel: grpc.Channel, name: str, export: str, rule: method_pb2.Lrp, row: int) -> pb.ExplainResponse:
    with np.load(HERE / name / "input.npz") as stored:
        inputs = [tensor(key, array[[row]]) for key, array in stored.items()]
    target = pb.Target(indices=[EXPLAINED[name]])
    requested = request(f"{name}-{export}", inputs=inputs, method=method_pb2.Method(lrp=rule), target=target)
    return stub(channel).Explain(requested, timeout=60)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("export", EXPORTS)
@pytest.mark.parametrize("name", EXPLAINED)
def test_relevance_is_proportionate_or_comes_with_a_warning(
    channel: grpc.Channel, name: str, export: str, rule: str
) -> None:
    for row in range(2):
        received = answer(channel, name, export, RULES[rule], row)
        explained = float(array_of(received.explained)[0])
        largest = max(float(np.abs(array_of(r)).max()) for r in received.relevance)
        assert received.warnings or largest <= MUCH * abs(explained)
        diverges = any(warning.startswith("relevance diverges") for warning in received.warnings)
        assert diverges or largest <= FAR_TOO_MUCH * abs(explained)


def test_two_exports_of_one_network_agree(channel: grpc.Channel) -> None:
    """The legacy exporter fuses a part of the pre-activations into a Gemm, which must not change relevance."""
    for row in range(2):
        legacy, dynamo = (answer(channel, "ealstm", export, RULES["all"], row) for export in EXPORTS)
        for one, other in zip(legacy.relevance, dynamo.relevance, strict=True):
            expected = array_of(one)
            np.testing.assert_allclose(array_of(other), expected, atol=1e-4 * np.abs(expected).max())
