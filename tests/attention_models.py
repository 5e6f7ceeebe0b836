# SPDX-License-Identifier: Apache-2.0
"""Writes self-attention as exporters do (MatMul, Einsum, Mul and ReduceSum, ONNX's Attention), by itself, over an LSTM
and behind a selective scan.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from tests.graph_builder import GraphBuilder
from tests.reference.attention import OverLstm, SelfAttention
from tests.reference.layer import Layer

AnyArray = npt.NDArray[Any]
FORMS = ("matmul", "einsum", "mul", "attention")


def made_attention(width: int, heads: int, mask: AnyArray | None = None, seed: int = 0) -> SelfAttention:
    rng = np.random.default_rng(seed)
    weights = {name: rng.normal(0, 1.5 / math.sqrt(width), (width, width)) for name in "QKVO"}
    weights |= {name: rng.normal(0, 0.3, width) for name in "qkvo"}
    return SelfAttention(weights, heads, mask)


def causal(steps: int, hidden: float = -np.inf) -> AnyArray:
    return np.where(np.triu(np.ones((steps, steps), bool), 1), hidden, 0.0)


def add_attention(g: GraphBuilder, x: str, own: SelfAttention, steps: int, form: str, tag: str = "") -> str:
    """Adds the nodes over x [batch, steps, width], and returns the name of what they compute. The Softmax is named
    `{tag}softmax`, unless ONNX's function has it.
    """
    width = len(own.weights["Q"])
    d = width // own.heads

    def projected(name: str, value: str) -> str:
        W, b = g.constant(own.weights[name], f"{tag}W_{name}"), g.constant(own.weights[name.lower()], f"{tag}b_{name}")
        return g.op("Add", [g.op("MatMul", [value, W]), b], f"{tag}{name}")

    def split(name: str) -> str:
        """[batch, heads, steps, d]"""
        parts = g.op("Reshape", [projected(name, x), g.ints(0, 0, own.heads, d)])
        return g.op("Transpose", [parts], perm=[0, 2, 1, 3])

    if form == "attention":
        given = [projected(name, x) for name in "QKV"] + ([] if own.mask is None else [g.constant(own.mask, "mask")])
        mixed = g.op("Attention", given, f"{tag}attention", q_num_heads=own.heads, kv_num_heads=own.heads)
        return projected("O", mixed)
    q, k, v = (split(name) for name in "QKV")
    if form == "matmul":
        scores = g.op("MatMul", [q, g.op("Transpose", [k], perm=[0, 1, 3, 2])], f"{tag}scores")
    elif form == "einsum":
        scores = g.op("Einsum", [q, k], f"{tag}scores", equation="bhqd,bhkd->bhqk")
    else:
        pairs = g.op("Mul", [g.unsqueeze(q, 3), g.unsqueeze(k, 2)], f"{tag}scores")
        scores = g.reduce("sum", pairs, 4, f"{tag}summed")
    scores = g.op("Div", [scores, g.constant(np.array(math.sqrt(d)), f"{tag}root")])
    if own.mask is not None:
        scores = g.op("Add", [scores, g.constant(own.mask, "mask")])
    weights = g.op("Softmax", [scores], f"{tag}softmax", axis=-1)
    if form == "matmul":
        mixed = g.op("MatMul", [weights, v], f"{tag}weighed")
    elif form == "einsum":
        mixed = g.op("Einsum", [weights, v], f"{tag}weighed", equation="bhqk,bhkd->bhqd")
    else:
        weighed = g.op("Mul", [g.unsqueeze(weights, 4), g.unsqueeze(v, 2)], f"{tag}weighed")
        mixed = g.reduce("sum", weighed, 3, f"{tag}mixed")
    joined = g.op("Reshape", [g.op("Transpose", [mixed], perm=[0, 2, 1, 3]), g.ints(0, 0, width)])
    return projected("O", joined)


def attention_model(
    own: SelfAttention, steps: int, form: str = "matmul", dtype: npt.DTypeLike = np.float64
) -> onnx.ModelProto:
    """x [batch, steps, width] to y [batch, steps, width]"""
    g = GraphBuilder(dtype, 23 if form == "attention" else 17)
    width = len(own.weights["Q"])
    x = g.input("x", ["batch", steps, width])
    return g.model(add_attention(g, x, own, steps, form), ["batch", steps, width])


def made_lstm(features: int, hidden: int, seed: int = 1) -> Layer:
    rng = np.random.default_rng(seed)
    shapes = {"W": (1, 4 * hidden, features), "R": (1, 4 * hidden, hidden), "B": (1, 8 * hidden)}
    return Layer("LSTM", **{name: rng.normal(0, 1.2, shape) for name, shape in shapes.items()})


def add_lstm(g: GraphBuilder, x: str, layer: Layer) -> str:
    """Adds the layer over x [batch, steps, features], and returns the name of [batch, steps, hidden]."""
    assert layer.B is not None
    weights = [g.constant(a, f"lstm_{name}") for name, a in (("W", layer.W), ("R", layer.R), ("B", layer.B))]
    Y = g.ops("LSTM", [g.op("Transpose", [x], perm=[1, 0, 2]), *weights], 3, "lstm", hidden_size=layer.hidden)[0]
    return g.op("Transpose", [g.squeeze(Y, 1)], perm=[1, 0, 2])


def recurrent_model(own: OverLstm, steps: int, dtype: npt.DTypeLike = np.float64) -> onnx.ModelProto:
    """An LSTM, self-attention over its states, and a linear readout of the mean, as a temporal fusion transformer has
    them without its gates.
    """
    g = GraphBuilder(dtype, 17)
    x = g.input("x", ["batch", steps, own.layer.W.shape[2]])
    mixed = add_attention(g, add_lstm(g, x, own.layer), own.attention, steps, "matmul")
    pooled = g.reduce("mean", mixed, 1, "pooled")
    head = g.constant(own.readout, "head")
    return g.model(g.op("MatMul", [pooled, head], "readout"), ["batch", own.readout.shape[1]])


def hybrid_model(own: SelfAttention, steps: int, dtype: npt.DTypeLike = np.float32, seed: int = 2) -> onnx.ModelProto:
    """A selective scan, then self-attention with a residual connection, as Jamba's layers alternate. The scan is a
    linear recurrence with input-dependent step size, B and C, and one state per feature.
    """
    rng = np.random.default_rng(seed)
    width = len(own.weights["Q"])
    body = GraphBuilder(dtype, 17)
    kept = body.op("Mul", ["decay_t", "state"], "kept")
    state = body.op("Add", [kept, "write_t"], "next")
    shown = body.op("Mul", [state, "read_t"], "shown")
    element = onnx.TensorProto.FLOAT if np.dtype(dtype) == np.float32 else onnx.TensorProto.DOUBLE
    ins = [onnx.helper.make_tensor_value_info(n, element, None) for n in ("state", "decay_t", "write_t", "read_t")]
    outs = [onnx.helper.make_tensor_value_info(n, element, None) for n in (state, shown)]
    inner = onnx.helper.make_graph(body.nodes, "body", ins, outs)

    g = GraphBuilder(dtype, 17)
    x = g.input("x", ["batch", steps, width])

    def dense(value: str, name: str) -> str:
        W = g.constant(rng.normal(0, 1 / math.sqrt(width), (width, width)), f"W_{name}")
        return g.op("MatMul", [value, W], f"dense_{name}")

    shifted = g.op("Add", [g.op("Exp", [dense(x, "delta")]), g.constant(np.array(1.0), "one")])
    step_size = g.op("Log", [shifted], "step_size")  # ONNX Runtime has no Softplus in float64
    decay = g.op("Exp", [g.op("Neg", [step_size])], "decay")
    write = g.op("Mul", [step_size, g.op("Mul", [dense(x, "B"), x])], "write")
    read = dense(x, "C")
    zero = g.op("Mul", [g.op("ReduceSum", [x, g.ints(1)], keepdims=0), g.constant(np.array(0.0), "nothing")], "zero")
    kw = {"num_scan_inputs": 3, "scan_input_axes": [1, 1, 1], "scan_output_axes": [1]}
    scanned = g.ops("Scan", [zero, decay, write, read], 2, "scan", body=inner, **kw)[1]
    gated = g.op("Mul", [scanned, g.op("Sigmoid", [dense(x, "gate")], "sigmoid")], "gated")
    mixed = add_attention(g, gated, own, steps, "matmul")
    y = g.op("Add", [gated, mixed], "residual")
    last = g.op("Gather", [y, g.constant(np.array(steps - 1), "last")], axis=1)
    return g.model(last, ["batch", width])
