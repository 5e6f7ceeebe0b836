# SPDX-License-Identifier: Apache-2.0
"""The models of the cases: small, with fixed weights that the textbook knows too."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.attention_models import made_attention, made_lstm
from tests.attention_models import recurrent_model as attention_over_lstm
from tests.builders import Built, recurrent_model
from tests.diverging_model import diverging_model
from tests.reference.attention import OverLstm
from tests.unrolled_models import unrolled_model

WORDS = ["", "[UNK]", "not", "a", "bad", "film", "the", "plot", "is", "thin", "."]
CLASSES = ["bad", "fair", "good"]
STEPS, LABELS = 6, 4
ATTENDED = 5  # steps of the model `attention`

OPTIONS: dict[str, dict[str, Any]] = {
    "lstm": {"batch_first": True},
    "gru": {"op": "GRU", "batch_first": True, "linear_before_reset": True},
    "rnn": {"op": "RNN", "batch_first": True},
    "deep": {"layers": 2, "direction": "bidirectional", "head": "mean", "batch_first": True},
    "ragged": {"sequence_lens": True, "direction": "bidirectional", "head": "Y_h"},
    "states": {"initial_states": "input", "head": "Y_c"},
    "remembering": {"initial_states": "constant", "batch": 2},
    "series": {"D": 1, "H": 4, "batch_first": True},
    "sampled": {"batch_first": True},
    "expected": {"batch_first": True},
    "forecast": {"op": "GRU", "batch_first": True, "linear_before_reset": True, "classes": 24},
    "routed": {"D": 1, "H": 4, "batch_first": True},
}

# ragged and states: time comes first.
CONFIGS = {
    "lstm": "description: a small LSTM\nmethod: {name: lrp, epsilon: 0.01}\ntarget: {output: logits, index: 2}\n"
    f"classes: {{logits: [{', '.join(CLASSES)}]}}\nfeatures: {{x: [a, b, c, d]}}\nunits: {{x: mm/day}}\n"
    "feature_groups: {x: {outer: [a, d], second: [b]}}\n",
    "rnn": "method: {name: gradient_times_input}\ntarget: {output: logits, index: 1}\n",
    "ragged": "batch_axis: {x: 1, lens: 0, logits: 0}\ntime_axis: {x: 0}\n",
    "states": "batch_axis: {x: 1, initial_h_0: 1, initial_c_0: 1, logits: 0}\ntime_axis: {x: 0}\n",
    "remembering": "batch_axis: {x: 1, logits: 0}\ntime_axis: {x: 0}\n",
    "sampled": "method: {name: occlusion, baseline: background}\n",
    "expected": "method: {name: integrated_gradients, baseline: background(draws=30)}\n",
    "words": "description: words\ntokenizer: {file: tokenizer.json, input: tokens}\n"
    "examples: {tokens: [good film, not a film]}\n",
}


BACKGROUNDS = {
    name: np.random.default_rng(seed).standard_normal((samples, 4, 4)).astype(np.float32)
    for name, seed, samples in (("sampled", 91, 5), ("expected", 92, 3))
}


@dataclass(frozen=True)
class Words:
    """tokens int64 [batch, time], an embedding, then `built`, whose input x is the embedding's output."""

    model: onnx.ModelProto
    embeddings: npt.NDArray[np.float32]
    built: Built


def recurrent(name: str) -> Built:
    seed = 7 + list(OPTIONS).index(name)
    return recurrent_model(np.random.default_rng(seed), **OPTIONS[name])


def double() -> Built:
    """`rnn` as primitives in float64: four steps, with one sum over input and state, as in the textbook."""
    return unrolled_model(recurrent("rnn").network, 4, gemm=True, concat=True, dtype=np.float64, batch_first=True)


def words() -> Words:
    rng = np.random.default_rng(71)
    embeddings = (0.7 * rng.standard_normal((len(WORDS), 4))).astype(np.float32)
    built = recurrent_model(rng, batch_first=True)
    model = onnx.ModelProto()
    model.CopyFrom(built.model)
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(embeddings, "embeddings"))
    graph.node.insert(0, helper.make_node("Gather", ["embeddings", "tokens"], ["x"], "embedding"))
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info("tokens", TensorProto.INT64, ["B", "T"]))
    onnx.checker.check_model(model, full_check=True)
    return Words(model, embeddings, built)


def probabilities() -> Built:
    """`lstm` with a final Softmax; the name of the output is `probability`."""
    built = recurrent("lstm")
    model = onnx.ModelProto()
    model.CopyFrom(built.model)
    model.graph.node.append(helper.make_node("Softmax", ["logits"], ["probability"], "softmax", axis=-1))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["B", len(CLASSES)]))
    onnx.checker.check_model(model, full_check=True)
    return Built(model, built.network, built.dtype, batch_first=True)


def steps() -> Built:
    """`forecast`, whose output `scores` has a row per step and a column per label."""
    built = recurrent("forecast")
    model = onnx.ModelProto()
    model.CopyFrom(built.model)
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.array([-1, STEPS, LABELS]), "shape"))
    graph.node.append(helper.make_node("Reshape", ["logits", "shape"], ["scores"], "reshape"))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["B", STEPS, LABELS]))
    onnx.checker.check_model(model, full_check=True)
    return Built(model, built.network, built.dtype, batch_first=True)


def attention() -> OverLstm:
    """x float32 [batch, 5, 3]: self-attention of two heads over the states of an LSTM."""
    readout = np.random.default_rng(73).standard_normal((4, 3))
    return OverLstm(made_attention(4, 2), made_lstm(3, 4), readout)


def determinants() -> onnx.ModelProto:
    """x float32 [batch, 2, 2]: relevance cannot pass through the operator."""
    nodes = [helper.make_node("Det", ["x"], ["logits"], "determinant")]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2, 2])
    y = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch"])
    return helper.make_model(
        helper.make_graph(nodes, "test", [x], [y]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )


def write(folder: Path) -> None:
    """Writes the repository of models again."""
    shutil.rmtree(folder, ignore_errors=True)
    built = {name: recurrent(name).model for name in OPTIONS}
    built |= {"words": words().model, "probabilities": probabilities().model, "steps": steps().model}
    built |= {"attention": attention_over_lstm(attention(), ATTENDED, np.float32)}
    built |= {"double": double().model, "determinants": determinants(), "diverging": diverging_model()}
    for name, model in built.items():
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "1" / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
        if name in CONFIGS:
            (folder / name / "model.yaml").write_text(CONFIGS[name])
    (folder / "routed" / "2").mkdir()
    (folder / "routed" / "2" / "model.onnx").write_bytes(built["routed"].SerializeToString(deterministic=True))
    for name, samples in BACKGROUNDS.items():
        np.savez(folder / name / "background.npz", x=samples)
    (folder / "words" / "tokenizer.json").write_text(json.dumps(_tokenizer(), indent=1) + "\n")
    # Not served: for an import that has to be refused.
    (folder / "broken").mkdir()
    (folder / "broken" / "truncated.onnx").write_bytes(built["lstm"].SerializeToString(deterministic=True)[:700])


def _tokenizer() -> dict[str, Any]:
    """Words of WORDS by their position, everything else as [UNK]; 0 is for padding."""
    return {
        "version": "1.0",
        **dict.fromkeys(("truncation", "padding", "normalizer", "post_processor", "decoder")),
        "added_tokens": [],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {
            "type": "WordLevel",
            "vocab": {word: number for number, word in enumerate(WORDS) if word},
            "unk_token": "[UNK]",
        },
    }
