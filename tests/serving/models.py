# SPDX-License-Identifier: Apache-2.0
"""Writes folders of models for the server: valid ones and every kind of invalid one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.builders import recurrent_model

WORDS = ["", "[UNK]", "not", "a", "bad", "film", "the", "plot", "is", "thin", "."]
FEATURES, CLASSES = 4, 3


def write_version(root: Path, name: str, model: onnx.ModelProto, version: int = 1, config: str = "") -> Path:
    """Writes DIR/<name>/<version>/model.onnx and a configuration, if given; returns the model's folder."""
    folder = root / name
    (folder / str(version)).mkdir(parents=True)
    onnx.save(model, str(folder / str(version) / "model.onnx"))
    if config:
        (folder / "model.yaml").write_text(config)
    return folder


def lstm(seed: int = 0, hidden: int = 6, features: int = FEATURES) -> onnx.ModelProto:
    """x float32 [batch, time, features] to logits float32 [batch, CLASSES]; time comes first inside."""
    rng = np.random.default_rng(seed)
    return recurrent_model(rng, D=features, H=hidden, classes=CLASSES, batch_first=True).model


def words() -> onnx.ModelProto:
    """tokens int64 [batch, time] to logits float32 [batch, CLASSES]; an embedding and an LSTM."""
    rng = np.random.default_rng(1)
    D, H = 5, 4

    def constant(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32) * 0.5, name)

    weights = [
        constant("embeddings", len(WORDS), D),
        constant("W", 1, 4 * H, D),
        constant("R", 1, 4 * H, H),
        constant("B", 1, 8 * H),
        constant("dense", H, CLASSES),
        numpy_helper.from_array(np.array([0]), "first"),
    ]
    nodes = [
        helper.make_node("Gather", ["embeddings", "tokens"], ["embedded"], "embedding"),
        helper.make_node("Transpose", ["embedded"], ["time_first"], "time_first", perm=[1, 0, 2]),
        helper.make_node("LSTM", ["time_first", "W", "R", "B"], ["", "last"], "lstm", hidden_size=H),
        helper.make_node("Squeeze", ["last", "first"], ["state"], "state"),
        helper.make_node("MatMul", ["state", "dense"], ["logits"], "dense"),
    ]
    return _model(nodes, weights, ("tokens", TensorProto.INT64, ["batch", "time"]), ["batch", CLASSES])


def without_rule() -> onnx.ModelProto:
    """x float32 [batch, 2, 2] to its determinants: a valid model with an operator that has no rule."""
    nodes = [helper.make_node("Det", ["x"], ["logits"], "determinant")]
    return _model(nodes, [], ("x", TensorProto.FLOAT, ["batch", 2, 2]), ["batch"])


def outside_its_folder() -> onnx.ModelProto:
    """A model with a weight in a file above its folder."""
    model = lstm()
    weight = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    del weight.external_data[:]
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../../secret.bin")
    weight.ClearField("raw_data")
    return model


def write_tokenizer(folder: Path) -> None:
    """Writes a word-level tokenizer over WORDS as `tokenizer.json`."""
    vocabulary = {word: number for number, word in enumerate(WORDS) if word}
    blank = dict.fromkeys(("truncation", "padding", "normalizer", "post_processor", "decoder"))
    tokenizer = {
        "version": "1.0",
        **blank,
        "added_tokens": [],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def fill(root: Path) -> None:
    """Writes valid models (`lstm` in two versions, `bare`, `words`) and invalid ones, each named for its fault."""
    write_version(root, "lstm", lstm(0), 1)
    write_version(root, "lstm", lstm(1), 2)
    onnx.save(lstm(2), str(root / "bare.onnx"))
    named = "features: {x: [rain, wind, sun, snow]}\nfeature_groups: {x: {wet: [rain, snow]}}\n"
    write_version(root, "grouped", lstm(1), 1, named)
    text = "description: four words\ntokenizer: {file: tokenizer.json, input: tokens}\n"
    classes = "classes: {logits: [bad, fair, good]}\nmethod: {name: lrp, epsilon: 0.01}\n"
    write_tokenizer(write_version(root, "words", words(), 1, text + classes))
    write_version(root, "no-rule", without_rule())
    (root / "truncated" / "1").mkdir(parents=True)
    data = lstm().SerializeToString()
    (root / "truncated" / "1" / "model.onnx").write_bytes(data[: len(data) // 2])
    write_version(root, "outside", outside_its_folder())
    (root / "secret.bin").write_bytes(bytes(4096))
    write_version(root, "unknown-key", lstm(), 1, "description: fine\nmethod:\n  name: lrp\ncolour: red\n")
    write_version(root, "..hidden", lstm())  # no name of a model: not served
    write_version(root, "odd", lstm(), 1)
    (root / "odd" / "one").mkdir()  # no version: not served


def _model(
    nodes: list[onnx.NodeProto],
    weights: list[onnx.TensorProto],
    given: tuple[str, int, list[int | str]],
    shape: list[int | str],
) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info(*given)]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)]
    graph = helper.make_graph(nodes, "test", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
