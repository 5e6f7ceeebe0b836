# SPDX-License-Identifier: Apache-2.0
"""A whole recurrent ONNX node: directions, batch, sequence lengths and initial states around one cell.

Time first, as ONNX has it (layout 0): x [T, B, D], Y [T, dirs, B, H], Y_h and Y_c [dirs, B, H].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from .activations import Activation, parse_activations
from .common import Array, Rules
from .gru import GruCell
from .lstm import CellRelevance, LstmCell
from .rnn import RnnCell

Op = Literal["LSTM", "GRU", "RNN"]
Direction = Literal["forward", "reverse", "bidirectional"]
Lengths = npt.NDArray[np.integer[Any]]

GATES: dict[str, int] = {"LSTM": 4, "GRU": 3, "RNN": 1}
DEFAULT_ACTIVATIONS: dict[str, tuple[str, ...]] = {
    "LSTM": ("Sigmoid", "Tanh", "Tanh"),
    "GRU": ("Sigmoid", "Tanh"),
    "RNN": ("Tanh",),
}


class Cell(Protocol):
    """The interface of the three cells: steps with .h and .c, and a backward pass through them."""

    def forward(self, xs: Array, h: Array, c: Array) -> list[Any]: ...

    def lrp(self, steps: list[Any], R_Y: Array, R_h: Array, R_c: Array, rules: Rules) -> CellRelevance: ...


@dataclass(frozen=True)
class Layer:
    """The attributes and weights of one node, in ONNX layout."""

    op: Op
    W: Array  # [dirs, gates * H, D]
    R: Array  # [dirs, gates * H, H]
    B: Array | None = None  # [dirs, 2 * gates * H], Wb then Rb
    P: Array | None = None  # [dirs, 3 * H], LSTM only
    direction: Direction = "forward"
    activations: tuple[Activation, ...] | None = None  # of all directions one after another; None: the defaults
    clip: float | None = None
    input_forget: bool = False  # LSTM only
    linear_before_reset: bool = False  # GRU only

    @property
    def dirs(self) -> int:
        return len(self.W)

    @property
    def hidden(self) -> int:
        return int(self.R.shape[2])

    def reads_backward(self, d: int) -> bool:
        return self.direction == "reverse" or d == 1

    def cell(self, d: int) -> Cell:
        """The cell of one direction."""
        defaults = DEFAULT_ACTIVATIONS[self.op]
        every = self.activations or parse_activations(defaults * self.dirs)
        own = every[d * len(defaults) : (d + 1) * len(defaults)]
        B = None if self.B is None else self.B[d]
        if self.op == "LSTM":
            P = None if self.P is None else self.P[d]
            return LstmCell.from_onnx(self.W[d], self.R[d], B, P, own, self.clip, self.input_forget)
        if self.op == "GRU":
            return GruCell.from_onnx(self.W[d], self.R[d], B, own, self.clip, self.linear_before_reset)
        return RnnCell.from_onnx(self.W[d], self.R[d], B, own, self.clip)


@dataclass(frozen=True)
class LayerOutputs:
    Y: Array
    Y_h: Array
    Y_c: Array  # zeros unless LSTM


@dataclass(frozen=True)
class LayerRelevance:
    """Relevance at the node's inputs; `absorbed` [B] is the relevance of bias, stabiliser and padding."""

    x: Array
    initial_h: Array
    initial_c: Array
    absorbed: Array


def reading_order(layer: Layer, d: int, length: int) -> list[int]:
    """The time steps in the order in which direction d reads them: "reverse" reverses within the length."""
    steps = list(range(length))
    return steps[::-1] if layer.reads_backward(d) else steps


def _run_one(
    layer: Layer, d: int, x: Array, length: int, initial_h: Array | None, initial_c: Array | None, b: int
) -> list[Any]:
    """The steps of one sample in one direction."""
    h = np.zeros(layer.hidden) if initial_h is None else np.asarray(initial_h[d, b], dtype=np.float64)
    c = np.zeros(layer.hidden) if initial_c is None else np.asarray(initial_c[d, b], dtype=np.float64)
    return layer.cell(d).forward(x[reading_order(layer, d, length), b], h, c)


def layer_forward(
    layer: Layer,
    x: Array,
    lens: Lengths | None = None,
    initial_h: Array | None = None,
    initial_c: Array | None = None,
) -> LayerOutputs:
    """Past a sample's length Y is 0; Y_h and Y_c are the states at the length, and 0 for an empty sequence.

    (The specification is silent on empty sequences; zero states are what ONNX Runtime returns.)
    """
    x = np.asarray(x, dtype=np.float64)
    T, batch, _ = x.shape
    Y = np.zeros((T, layer.dirs, batch, layer.hidden))
    Y_h, Y_c = np.zeros(Y.shape[1:]), np.zeros(Y.shape[1:])
    for b in range(batch):
        length = T if lens is None else int(lens[b])
        for d in range(layer.dirs):
            steps = _run_one(layer, d, x, length, initial_h, initial_c, b)
            for t, step in zip(reading_order(layer, d, length), steps, strict=True):
                Y[t, d, b] = step.h
            if steps:
                Y_h[d, b] = steps[-1].h
            if steps and layer.op == "LSTM":
                Y_c[d, b] = steps[-1].c
    return LayerOutputs(Y, Y_h, Y_c)


def layer_lrp(
    layer: Layer,
    x: Array,
    rules: Rules,
    R_Y: Array | None = None,
    R_Y_h: Array | None = None,
    R_Y_c: Array | None = None,
    lens: Lengths | None = None,
    initial_h: Array | None = None,
    initial_c: Array | None = None,
) -> LayerRelevance:
    """Relevance arriving at any of the three outputs, sent back to x and the initial states.

    What arrives where no computation took place (Y past the length, the states of an empty sequence: constant zeros)
    counts as absorbed, because no input can receive it. It is only ever non-zero with bias_factor > 0.
    """
    x = np.asarray(x, dtype=np.float64)
    T, batch, _ = x.shape
    state_shape = (layer.dirs, batch, layer.hidden)
    R_Y = np.zeros((T, *state_shape)) if R_Y is None else R_Y
    R_Y_h = np.zeros(state_shape) if R_Y_h is None else R_Y_h
    R_Y_c = np.zeros(state_shape) if R_Y_c is None else R_Y_c
    result = LayerRelevance(np.zeros_like(x), np.zeros(state_shape), np.zeros(state_shape), np.zeros(batch))
    for b in range(batch):
        length = T if lens is None else int(lens[b])
        for d in range(layer.dirs):
            result.absorbed[b] += R_Y[length:, d, b].sum()
            if length == 0:
                result.absorbed[b] += R_Y_h[d, b].sum() + R_Y_c[d, b].sum()
                continue
            order = reading_order(layer, d, length)
            steps = _run_one(layer, d, x, length, initial_h, initial_c, b)
            R = layer.cell(d).lrp(steps, R_Y[order, d, b], R_Y_h[d, b], R_Y_c[d, b], rules)
            for t, R_x in zip(order, R.x, strict=True):
                result.x[t, b] += R_x
            result.initial_h[d, b], result.initial_c[d, b] = R.initial_h, R.initial_c
            result.absorbed[b] += R.absorbed
    return result
