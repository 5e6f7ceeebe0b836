# SPDX-License-Identifier: Apache-2.0
"""The models of the grid: one recurrent layer and a dense head, with random weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASSES = 5


@dataclass(frozen=True)
class Shape:
    """D inputs per step, H hidden units per direction. fading: see below."""

    D: int
    H: int
    bidirectional: bool = False
    op: str = "LSTM"
    fading: bool = False

    def __str__(self) -> str:
        fading = ", fading" if self.fading else ""
        return f"{self.op} {self.D}→{self.H}{' ×2' if self.bidirectional else ''}{fading}"


GRID = [Shape(16, 64), Shape(60, 60, True), Shape(32, 128), Shape(64, 256), Shape(64, 512)]
OTHER_CELLS = [Shape(D, H, op=op) for op in ("GRU", "RNN") for D, H in ((16, 64), (32, 128), (64, 256))]
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
FADING = [replace(shape, fading=True) for shape in GRID]
# Relevance divides by sums, and over hundreds of steps of a recurrence with weights as a framework draws them it grows
# until it says nothing (half, abs) or overflows (prop). With quieter memory and inputs it stays of the explained
# value's size for 10,000 steps and all methods, and what is timed is an answer. Under "signal takes all" and with
# gradients, what would grow is damped at every step: with normal weights of standard deviation 1 / sqrt(H), relevance
# fades, and after some 200 steps it is below the smallest normal number.
RECURRENT, INPUTS = 0.3, 0.25


def model_of(shape: Shape, classes: int = CLASSES) -> onnx.ModelProto:
    """x [T, B, D] -> y [B, classes]. Weights uniform within 1 / sqrt(H), the recurrent ones within RECURRENT of that,
    or normal with a standard deviation of 1 / sqrt(H) where relevance fades.
    """
    rng = np.random.default_rng(0)
    directions, rows = 1 + shape.bidirectional, GATES[shape.op] * shape.H

    def draw(*extent: int) -> np.ndarray:
        return rng.uniform(-1, 1, extent).astype(np.float32) * np.float32(shape.H**-0.5)

    def recurrent() -> np.ndarray:
        if shape.fading:
            normal = rng.standard_normal((directions, rows, shape.H)).astype(np.float32)
            return normal * np.float32(shape.H**-0.5)
        return draw(directions, rows, shape.H) * np.float32(RECURRENT)

    weights = {
        "W": draw(directions, rows, shape.D),
        "R": recurrent(),
        "B": draw(directions, 2 * rows),
        "V": draw(directions * shape.H, classes),
        "b": draw(classes),
    }
    direction = "bidirectional" if shape.bidirectional else "forward"
    nodes = [
        helper.make_node(shape.op, ["x", "W", "R", "B"], ["", "last"], hidden_size=shape.H, direction=direction),
        helper.make_node("Transpose", ["last"], ["batch_first"], perm=[1, 0, 2]),
        helper.make_node("Flatten", ["batch_first"], ["features"]),
        helper.make_node("Gemm", ["features", "V", "b"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["time", "batch", shape.D])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", classes])
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "bench", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def inputs_of(shape: Shape, steps: int, batch: int) -> np.ndarray:
    """Return normally distributed inputs with a standard deviation of INPUTS, or of 1 where relevance fades."""
    normal = np.random.default_rng(1).standard_normal((steps, batch, shape.D)).astype(np.float32)
    return normal if shape.fading else normal * np.float32(INPUTS)
