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
    """D inputs per step, H hidden units per direction. fading: see below. exported: spelled as PyTorch exports it."""

    D: int
    H: int
    bidirectional: bool = False
    op: str = "LSTM"
    fading: bool = False
    exported: bool = False

    def __str__(self) -> str:
        more = ", fading" * self.fading + ", exported" * self.exported
        return f"{self.op} {self.D}→{self.H}{' ×2' if self.bidirectional else ''}{more}"


GRID = [Shape(16, 64), Shape(60, 60, True), Shape(32, 128), Shape(64, 256), Shape(64, 512)]
OTHER_CELLS = [Shape(D, H, op=op) for op in ("GRU", "RNN") for D, H in ((16, 64), (32, 128), (64, 256))]
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
FADING = [replace(shape, fading=True) for shape in GRID]
EXPORTED = [replace(shape, exported=True) for shape in GRID[:4]]
# Relevance divides by sums, and over hundreds of steps of a recurrence with weights as a framework draws them it grows
# until it says nothing (half, abs) or overflows (prop). With quieter memory and inputs it stays of the explained
# value's size for 10,000 steps and all methods, and what is timed is an answer. Under "signal takes all" and with
# gradients, what would grow is damped at every step: with normal weights of standard deviation 1 / sqrt(H), relevance
# fades, and after some 200 steps it is below the smallest normal number.
RECURRENT, INPUTS = 0.3, 0.25


def model_of(shape: Shape, classes: int = CLASSES) -> onnx.ModelProto:
    """x [T, B, D] -> y [B, classes]; x [B, T, D] where it is spelled as an export.

    Weights uniform within 1 / sqrt(H), the recurrent ones within RECURRENT of that, or normal with a standard deviation
    of 1 / sqrt(H) where relevance fades.
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
    if shape.exported:
        nodes, more = _exported(shape)
        weights |= more
    else:
        nodes = [
            _recurrent(shape, ["x", "W", "R", "B"], ["", "last"]),
            helper.make_node("Transpose", ["last"], ["batch_first"], perm=[1, 0, 2]),
            helper.make_node("Flatten", ["batch_first"], ["features"]),
        ]
    nodes.append(helper.make_node("Gemm", ["features", "V", "b"], ["y"]))
    extents = ["batch", "time"] if shape.exported else ["time", "batch"]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [*extents, shape.D])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", classes])
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "bench", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _recurrent(shape: Shape, inputs: list[str], outputs: list[str]) -> onnx.NodeProto:
    direction = "bidirectional" if shape.bidirectional else "forward"
    return helper.make_node(shape.op, inputs, outputs, hidden_size=shape.H, direction=direction)


def _exported(shape: Shape) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """Return the nodes up to the dense layer, and further constants: states of zeros for every sample, and the last
    step of a sequence of which the batch comes first.
    """
    directions = 1 + shape.bidirectional
    constants = {
        "first": np.array(0),
        "axis": np.array([0]),
        "directions": np.array([directions]),
        "units": np.array([shape.H]),
        "side_by_side": np.array([0, 0, -1]),
        "end": np.array(-1),
    }
    node = helper.make_node
    return [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "first"], ["batch"]),
        node("Unsqueeze", ["batch", "axis"], ["samples"]),
        node("Concat", ["directions", "samples", "units"], ["extents"], axis=0),
        node("ConstantOfShape", ["extents"], ["zeros"]),
        node("Transpose", ["x"], ["time_first"], perm=[1, 0, 2]),
        _recurrent(shape, ["time_first", "W", "R", "B", "", "zeros", "zeros"], ["states"]),
        node("Transpose", ["states"], ["by_sample"], perm=[0, 2, 1, 3]),
        node("Reshape", ["by_sample", "side_by_side"], ["joined"]),
        node("Transpose", ["joined"], ["batch_first"], perm=[1, 0, 2]),
        node("Gather", ["batch_first", "end"], ["features"], axis=1),
    ], constants


def inputs_of(shape: Shape, steps: int, batch: int) -> np.ndarray:
    """Return normally distributed inputs with a standard deviation of INPUTS, or of 1 where relevance fades."""
    extents = (batch, steps) if shape.exported else (steps, batch)
    normal = np.random.default_rng(1).standard_normal((*extents, shape.D)).astype(np.float32)
    return normal if shape.fading else normal * np.float32(INPUTS)
