# SPDX-License-Identifier: Apache-2.0
"""Unrolls the cells of a network into primitive operators, step by step."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from onnx import numpy_helper

from tests.builders import Built, write_dense
from tests.graph_builder import GraphBuilder
from tests.reference.layer import GATES, Layer
from tests.reference.textbook import (
    Network,
)


def unrolled_model(
    network: Network,
    steps: int,
    *,
    batch_first: bool = False,
    gemm: bool = False,
    fused: bool = True,
    concat: bool = False,
    dtype: npt.DTypeLike = np.float32,
    opset: int = 17,
) -> Built:
    """The same cells with the same weights, unrolled over `steps` into primitives, as scripted cells are exported.

    `gemm`: Gemm with its bias instead of MatMul and Add. `fused`: one product for all gates and a Split, else one per
    gate. `concat`: one product over [x_t, h_{t-1}] instead of two that are added. Only this one is the recurrent node's
    rule to the letter (one epsilon-rule over N = D + H); the others stabilise each partial sum by itself and agree as
    epsilon goes to 0. Only the forward direction, default activations, no peepholes, no clip, no input_forget.
    """
    g = GraphBuilder(dtype, opset)
    D = network.layers[0].W.shape[2]
    x = g.input("x", ["B", steps, D] if batch_first else [steps, "B", D])
    below = [
        g.op("Gather", [x, g.constant(np.array(t, dtype=np.int64), f"t_{t}")], axis=int(batch_first))
        for t in range(steps)
    ]
    rows = g.op("Gather", [g.op("Shape", [x]), g.ints(0 if batch_first else 1)], axis=0)
    cells: list[str] = []
    for k, layer in enumerate(network.layers):
        below, cells = _Unroller(g, layer, k, gemm, fused, concat).run(below, rows)
    seen = _unrolled_head(g, network, below, cells)
    return Built(g.model(write_dense(g, network, seen), ["B", len(network.b)]), network, np.dtype(dtype), batch_first)


def _unrolled_head(g: GraphBuilder, network: Network, hs: list[str], cs: list[str]) -> str:
    if network.head in ("last", "Y_h"):
        return hs[-1]
    if network.head == "Y_c":
        return cs[-1]
    Y = g.op("Concat", [g.unsqueeze(h, 0) for h in hs], axis=0)
    return g.reduce("mean" if network.head == "mean" else "sum", Y, 0, "head")


class _Unroller:
    """Writes one layer's steps. Weights are stored transposed, for x [B, D] @ W [D, M]."""

    def __init__(self, g: GraphBuilder, layer: Layer, k: int, gemm: bool, fused: bool, concat: bool) -> None:
        plain = layer.activations is None and layer.P is None and layer.clip is None and not layer.input_forget
        if not plain or layer.direction != "forward":
            raise ValueError("only plain forward layers can be unrolled")
        self.g, self.layer, self.k = g, layer, k
        self.gemm, self.fused, self.concat = gemm, fused, concat
        self.H, gates = layer.hidden, GATES[layer.op]
        B = np.zeros(2 * gates * self.H) if layer.B is None else layer.B[0]
        self.Wb, self.Rb = np.split(B, 2)

    def run(self, xs: list[str], rows: str) -> tuple[list[str], list[str]]:
        """Names of h_t and c_t for every step (c only for the LSTM)."""
        shape = self.g.op("Concat", [rows, self.g.ints(self.H)], axis=0)
        zero = numpy_helper.from_array(np.zeros(1, dtype=self.g.dtype))
        h = c = self.g.op("ConstantOfShape", [shape], value=zero)
        hs, cs = [], []
        for x in xs:
            if self.layer.op == "LSTM":
                h, c = self.lstm(x, h, c)
            else:
                h = self.gru(x, h) if self.layer.op == "GRU" else self.rnn(x, h)
            hs.append(h)
            cs.append(c)
        return hs, cs

    def linear(self, a: str, W: npt.NDArray[np.float64], b: npt.NDArray[np.float64], name: str) -> str:
        """a W^T + b, W [M, D]."""
        weight, bias = self.g.constant(W.T, f"{name}_W_{self.k}"), self.g.constant(b, f"{name}_b_{self.k}")
        if self.gemm:
            return self.g.op("Gemm", [a, weight, bias])
        return self.g.op("Add", [self.g.op("MatMul", [a, weight]), bias])

    def affine(self, x: str, h: str, rows: slice, name: str) -> str:
        """W x + R h + Wb + Rb for some rows of the stacked gates."""
        W, R = self.layer.W[0, rows], self.layer.R[0, rows]
        Wb, Rb = self.Wb[rows], self.Rb[rows]
        if self.concat:
            joined = self.g.op("Concat", [x, h], axis=1)
            return self.linear(joined, np.hstack([W, R]), Wb + Rb, f"{name}_joined")
        return self.g.op("Add", [self.linear(x, W, Wb, f"{name}_x"), self.linear(h, R, Rb, f"{name}_h")])

    def gates(self, x: str, h: str, letters: str) -> dict[str, str]:
        """Pre-activations of the first gates in storage order."""
        H = self.H
        if self.fused and len(letters) > 1:
            z = self.affine(x, h, slice(0, len(letters) * H), "gates")
            return dict(zip(letters, self.g.split(z, len(letters), H, axis=1), strict=True))
        return {s: self.affine(x, h, slice(j * H, (j + 1) * H), f"gate_{s}") for j, s in enumerate(letters)}

    def lstm(self, x: str, h: str, c: str) -> tuple[str, str]:
        op, z = self.g.op, self.gates(x, h, "iofc")
        i, o, f = (op("Sigmoid", [z[gate]]) for gate in "iof")
        kept, added = op("Mul", [f, c]), op("Mul", [i, op("Tanh", [z["c"]])])
        c = op("Add", [kept, added])
        return op("Mul", [o, op("Tanh", [c])]), c

    def gru(self, x: str, h: str) -> str:
        op, pre, rows = self.g.op, self.gates(x, h, "zr"), slice(2 * self.H, 3 * self.H)
        z, r = op("Sigmoid", [pre["z"]]), op("Sigmoid", [pre["r"]])
        if self.layer.linear_before_reset:
            u = self.linear(h, self.layer.R[0, rows], self.Rb[rows], "candidate_h")
            wx = self.linear(x, self.layer.W[0, rows], self.Wb[rows], "candidate_x")
            n = op("Tanh", [op("Add", [wx, op("Mul", [r, u])])])
        else:
            n = op("Tanh", [self.affine(x, op("Mul", [r, h]), rows, "candidate")])
        one = self.g.constant(np.ones(1), "one")
        return op("Add", [op("Mul", [op("Sub", [one, z]), n]), op("Mul", [z, h])])

    def rnn(self, x: str, h: str) -> str:
        return self.g.op("Tanh", [self.affine(x, h, slice(0, self.H), "hidden")])
