# SPDX-License-Identifier: Apache-2.0
"""Models whose memory grows in different ways, for the tests of its estimate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.builders import recurrent_model
from tests.recurrent_kinds import Sizes, recurrent_kind
from tests.reference.layer import Op

DISCHARGE = Path(__file__).parents[1] / "models" / "discharge" / "1" / "model.onnx"
CLASSES = 3


def _weights(*shape: int) -> np.ndarray:
    return (np.random.default_rng(len(shape)).standard_normal(shape) * 0.2).astype(np.float32)


def _model(
    nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], features: int | None, kind: int = TensorProto.FLOAT
) -> onnx.ModelProto:
    """x [batch, time, features] to y [batch, CLASSES]."""
    shape = ["batch", "time"] + ([] if features is None else [features])
    given = [helper.make_tensor_value_info("x", kind, shape)]
    made = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", CLASSES])]
    graph = helper.make_graph(nodes, "g", given, made, [numpy_helper.from_array(a, n) for n, a in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _node(op: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(","), output.split(","), name=f"make_{output.strip(',')}", **attributes)


def _lstm(source: str, features: int, hidden: int) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """An LSTM from a sequence with time first to y."""
    nodes = [
        _node("LSTM", f"{source},W,R,B", ",last", hidden_size=hidden),
        _node("Squeeze", "last,first", "state"),
        _node("MatMul", "state,dense", "y"),
    ]
    sizes = {"W": (1, 4 * hidden, features), "R": (1, 4 * hidden, hidden), "B": (1, 8 * hidden)}
    constants = {name: _weights(*shape) for name, shape in sizes.items()}
    return nodes, constants | {"first": np.array([0]), "dense": _weights(hidden, CLASSES)}


def recurrent(
    op: Op = "LSTM", hidden: int = 64, features: int = 8, layers: int = 1, both: bool = False
) -> onnx.ModelProto:
    rng, direction = np.random.default_rng(0), "bidirectional" if both else "forward"
    built = recurrent_model(
        rng, op=op, D=features, H=hidden, classes=CLASSES, batch_first=True, layers=layers, direction=direction
    )
    return built.model


def attention(width: int = 16) -> onnx.ModelProto:
    """Self-attention: arrays of time × time."""
    nodes = [
        *(_node("MatMul", f"x,{w}", v) for w, v in (("wq", "q"), ("wk", "k"), ("wv", "v"))),
        _node("Transpose", "k", "kt", perm=[0, 2, 1]),
        _node("MatMul", "q,kt", "scores"),
        _node("Softmax", "scores", "shares", axis=-1),
        _node("MatMul", "shares,v", "mixed"),
        _node("ReduceMean", "mixed", "mean", axes=[1], keepdims=0),
        _node("MatMul", "mean,wo", "y"),
    ]
    constants = {name: _weights(width, width) for name in ("wq", "wk", "wv")} | {"wo": _weights(width, CLASSES)}
    return _model(nodes, constants, width)


def gated(features: int = 8, width: int = 128) -> onnx.ModelProto:
    """Every step through dense layers and a gate, without a recurrent node."""
    nodes = [
        _node("MatMul", "x,first", "a"),
        _node("Tanh", "a", "b"),
        _node("MatMul", "b,second", "c"),
        _node("Relu", "c", "d"),
        _node("MatMul", "x,gate", "g"),
        _node("Sigmoid", "g", "h"),
        _node("Mul", "d,h", "product"),
        _node("ReduceMean", "product", "mean", axes=[1], keepdims=0),
        _node("MatMul", "mean,last", "y"),
    ]
    sizes = {"first": (features, width), "second": (width, width), "gate": (features, width), "last": (width, CLASSES)}
    return _model(nodes, {name: _weights(*shape) for name, shape in sizes.items()}, features)


def convolved(features: int = 8, channels: int = 32, hidden: int = 32) -> onnx.ModelProto:
    nodes, constants = _lstm("sequence", channels, hidden)
    before = [
        _node("Transpose", "x", "xt", perm=[0, 2, 1]),
        _node("Conv", "xt,kernel,bias", "c", kernel_shape=[5]),
        _node("Relu", "c", "r"),
        _node("Transpose", "r", "sequence", perm=[2, 0, 1]),
    ]
    constants |= {"kernel": _weights(channels, features, 5), "bias": _weights(channels)}
    return _model([*before, *nodes], constants, features)


def words(width: int = 32, hidden: int = 48) -> onnx.ModelProto:
    """x int64 [batch, time]."""
    nodes, constants = _lstm("sequence", width, hidden)
    before = [_node("Gather", "vectors,x", "v"), _node("Transpose", "v", "sequence", perm=[1, 0, 2])]
    return _model([*before, *nodes], constants | {"vectors": _weights(500, width)}, None, TensorProto.INT64)


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "discharge": lambda: onnx.load(str(DISCHARGE)),
    "lstm": recurrent,
    "narrow": lambda: recurrent(hidden=16, features=4),
    "wide": lambda: recurrent(hidden=16, features=200),
    "gru": lambda: recurrent("GRU"),
    "rnn": lambda: recurrent("RNN"),
    "two": lambda: recurrent(hidden=32, layers=2, both=True),
    "attention": attention,
    "gated": gated,
    "convolved": convolved,
    "words": words,
    "scanned": lambda: recurrent_kind("selective_scan", "scan", "time", sizes=Sizes(64, 64, 16)),
}
