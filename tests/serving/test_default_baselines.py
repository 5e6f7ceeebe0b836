# SPDX-License-Identifier: Apache-2.0
"""Every notation of a baseline in model.yaml loads, is described, and is used in explanations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

import lstm_explain as lx
from lstm_explain_proto.lstm_explain.v1 import model_pb2, model_pb2_grpc
from tests.serving.calling import array_of, request, sequence, stub
from tests.serving.models import lstm, write_version
from tests.serving.running import serving

ROW = [1.0, 0.0, -0.5, 2.0]
# By the model's name: what stands in its model.yaml, and the engine's baseline.
WRITTEN = {
    "number": ("0.5", 0.5),
    "whole": ("2", 2),
    "row": (f"{ROW}", np.array(ROW)),
    "text": (f'"{ROW}"', np.array(ROW)),
    "by-input": (f"{{x: {ROW}}}", {"x": np.array(ROW)}),
    "number-by-input": ("{x: 0.5}", {"x": 0.5}),
}


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    folder: Path = tmp_path_factory.mktemp("models")
    for name, (text, _) in WRITTEN.items():
        write_version(folder, name, lstm(), config=f"method: {{name: occlusion, baseline: {text}}}\n")
    with serving(folder) as server, server.channel() as channel:
        yield channel


@pytest.mark.parametrize("name", WRITTEN)
def test_a_default_baseline_is_described_and_used(channel: grpc.Channel, name: str) -> None:
    expected = lx.load(lstm()).explain({"x": sequence()}, lx.Occlusion(baseline=WRITTEN[name][1])).relevance["x"]
    by_default = stub(channel).Explain(request(name), timeout=60)
    np.testing.assert_array_equal(array_of(by_default.relevance[0]), expected)
    detail = model_pb2_grpc.ModelServiceStub(channel).GetModel(model_pb2.GetModelRequest(name=name), timeout=30).model
    assert detail.summary.state == model_pb2.MODEL_STATE_READY
    assert [tensor.name for tensor in detail.default_method.occlusion.baseline] == ["x"]
    as_told = stub(channel).Explain(request(name, method=detail.default_method), timeout=60)
    np.testing.assert_array_equal(array_of(as_told.relevance[0]), expected)
