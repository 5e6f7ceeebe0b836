# SPDX-License-Identifier: Apache-2.0
"""Small models for structured.py: recurrent nodes with all their operands, and operators that take sizes and counts."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx.parser
from onnx import ModelProto, TensorProto, helper, numpy_helper

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
STEPS, BATCH, WIDTH, HIDDEN = 3, 2, 3, 4

TEXTS = {
    "sizes": """
        <ir_version: 8, opset_import: ["": 18]>
        sizes (float[B, 4] x) => (float[B, N] y)
        <int64[2] twice = {1, 2}, int64[4] pads = {0, 1, 0, 1}, int64[1] from = {1},
         int64[1] to = {7}, int64[1] last = {1},
         int64[2] shape = {3, 1}, int64[2] all = {0, -1}, int64[2] parts = {2, 4},
         int64[1] k = {2}, int64[1] places = {1}> {
            tiled = Tile(x, twice)
            padded = Pad(tiled, pads)
            cut = Slice(padded, from, to, last)
            ones = ConstantOfShape <value = float[1] {1.0}> (shape)
            first, second = Split <axis = 1> (cut, parts)
            flat = Reshape(second, all)
            best, at = TopK <axis = 1> (flat, k)
            chosen = Gather <axis = 1> (flat, places)
            raised = Unsqueeze(chosen, last)
            back = Squeeze(raised, last)
            y = Concat <axis = 1> (first, best, back)
        }""",
    "convolutions": """
        <ir_version: 8, opset_import: ["": 17]>
        convolutions (float[B, 2, 9] x) => (float[B, 2] y)
        <float[2, 1, 3] W = {1, 2, 3, 4, 5, 6}, float[2, 1, 2] V = {1, 2, 3, 4}> {
            c = Conv <group = 2, kernel_shape = [3], pads = [1, 1], strides = [1], dilations = [1]> (x, W)
            m = MaxPool <kernel_shape = [2], strides = [2], pads = [0, 0]> (c)
            t = ConvTranspose <group = 2, kernel_shape = [2], strides = [2]> (m, V)
            a = AveragePool <kernel_shape = [3], pads = [1, 1], count_include_pad = 1> (t)
            p = LpPool <kernel_shape = [2], p = 2> (a)
            y = ReduceMean <axes = [2], keepdims = 0> (p)
        }""",
    "integers": """
        <ir_version: 8, opset_import: ["": 18]>
        integers (float[B, 3] x, int64[3] a, int64[3] b, int32[3] c) => (float[B, 3] y)
        <int64[3] three = {3, -1, 2}, int64[1] axis = {0}, int32[3] small = {-1, 2, 5}> {
            q = Div(a, b)
            r = Mod(q, three)
            d = Div(c, small)
            e = Cast <to = 7> (d)
            f = Mul(r, e)
            g = ReduceSum(f, axis)
            h = Abs(g)
            i = Max(h, three)
            j = Cast <to = 1> (i)
            y = Mul(x, j)
        }""",
    "normalised": """
        <ir_version: 8, opset_import: ["": 17]>
        normalised (float[B, T, 4] x) => (float[B, 4] y)
        <float[4] one = {1, 1, 1, 1}, float[4, 4] W = {1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4}> {
            n = LayerNormalization <axis = -1> (x, one, one)
            keys = Transpose <perm = [0, 2, 1]> (n)
            scores = MatMul(n, keys)
            shares = Softmax <axis = -1> (scores)
            mixed = MatMul(shares, n)
            dense = Gemm <transB = 1> (one, W)
            scaled = Einsum <equation = "btd,d->btd"> (mixed, one)
            y = ReduceMean <axes = [1], keepdims = 0> (scaled)
        }""",
    "quantised": """
        <ir_version: 8, opset_import: ["": 17]>
        quantised (float[B, 4] x) => (float[B, 2] y)
        <uint8[4, 2] W = {1, 2, 3, 4, 5, 6, 7, 8}, uint8 zero = {3}, float step = {0.5}> {
            levels, scale, shift = DynamicQuantizeLinear(x)
            whole = MatMulInteger(levels, W, shift, zero)
            real = Cast <to = 1> (whole)
            out = Mul(real, scale)
            few = QuantizeLinear(out, step, zero)
            y = DequantizeLinear(few, step, zero)
        }""",
    "iterated": """
        <ir_version: 8, opset_import: ["": 17]>
        iterated (float[4, 2] x) => (float[2] y, float[4, 2] steps)
        <float[2] zero = {0, 0}, int64 trips = {3}, bool yes = {1}> {
            h, all = Scan <num_scan_inputs = 1, body = one (float[2] s, float[2] v) => (float[2] n, float[2] w) {
                n = Add(s, v)
                w = Tanh(n)
            }> (zero, x)
            y = Loop <body = two (int64 i, bool c, float[2] t) => (bool d, float[2] u) {
                d = Identity(c)
                u = Sigmoid(t)
            }> (trips, yes, h)
            steps = Identity(all)
        }""",
}


@cache
def built() -> dict[str, bytes]:
    """The models by name; every call returns the same ones."""
    models = {name: onnx.parser.parse_model(text) for name, text in TEXTS.items()}
    models |= {
        f"{op} {direction}": _recurrent(op, direction) for op in GATES for direction in ("reverse", "bidirectional")
    }
    return {name: model.SerializeToString() for name, model in models.items()}


def _recurrent(op: str, direction: str) -> ModelProto:
    rng, dirs = np.random.default_rng(7), 1 + (direction == "bidirectional")
    rows = GATES[op] * HIDDEN
    shapes = {"W": (dirs, rows, WIDTH), "R": (dirs, rows, HIDDEN), "B": (dirs, 2 * rows), "lens": (BATCH,)}
    shapes["initial_h"] = (dirs, BATCH, HIDDEN)
    if op == "LSTM":
        shapes |= {"initial_c": (dirs, BATCH, HIDDEN), "P": (dirs, 3 * HIDDEN)}
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    arrays["lens"] = np.array([STEPS, 2], np.int32)
    node = helper.make_node(
        op, ["x", *shapes], ["Y", "last"], name="cell", hidden_size=HIDDEN, direction=direction, layout=0, clip=5.0
    )
    total = helper.make_node("ReduceSum", ["last", "first_axis"], ["y"], keepdims=0)
    constants = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    constants.append(numpy_helper.from_array(np.array([0]), "first_axis"))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", BATCH, WIDTH])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [BATCH, HIDDEN])
    graph = helper.make_graph([node, total], op, [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
