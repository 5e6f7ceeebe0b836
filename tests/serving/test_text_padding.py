# SPDX-License-Identifier: Apache-2.0
"""Texts of different lengths in one request are explained as if each had come alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lstm_explain_proto.lstm_explain.v1 import method_pb2
from tests.serving.calling import array_of, request, stub, texts
from tests.serving.models import words, write_tokenizer, write_version
from tests.serving.running import Running, serving

OCCLUSION = method_pb2.Method(occlusion=method_pb2.Occlusion(window=3))
LONG, SHORT = "a film of quiet power that never once raises its voice .", "film"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(Path(__file__).resolve().parents[2] / "models" / "sentiment", folder / "sentiment")
    config = "tokenizer: {file: tokenizer.json, input: tokens}\n"
    write_tokenizer(write_version(folder, "words", words(), 1, config))  # takes padding for words
    with serving(folder) as running:
        yield running


def test_a_short_text_in_a_batch_with_a_long_one(server: Running) -> None:
    with server.channel() as channel:
        explain = stub(channel).Explain
        both = explain(request("sentiment", inputs=[texts("tokens", LONG, SHORT)], method=OCCLUSION))
        alone = explain(request("sentiment", inputs=[texts("tokens", SHORT)], method=OCCLUSION))
    expected, received = array_of(alone.relevance[0]), array_of(both.relevance[0])
    assert expected.shape == (1, 1)
    np.testing.assert_allclose(received[1, :1], expected[0], rtol=1e-5)
    assert (received[1, 1:] == 0).all()
    assert not any("padding of shorter sequences" in warning for warning in both.warnings)


def test_a_model_that_reads_padding_as_words_is_reported(server: Running) -> None:
    with server.channel() as channel:
        sent = [texts("tokens", "the plot is thin", "wonderful")]
        answer = stub(channel).Explain(request("words", inputs=sent, method=OCCLUSION))
    assert any("padding of shorter sequences" in warning for warning in answer.warnings)
