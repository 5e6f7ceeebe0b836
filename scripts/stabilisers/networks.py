# SPDX-License-Identifier: Apache-2.0
"""The networks of the study: recurrent layers, one or two directions each, and a linear readout of the final states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from scripts.stabilisers.cells import GRU, LSTM, Cell, Step
from scripts.stabilisers.rules import Array, Rule

CHUNK = 256  # sequences that a prediction runs at once


@dataclass
class Run:
    """One forward pass. x [N, T, D]: what the first layer reads. last: final states. y [N, outputs]."""

    x: Array
    inputs: list[Array]
    tapes: list[list[list[Step]]]
    last: Array
    y: Array


@dataclass
class Network:
    """prepare: what the file's inputs become before the first recurrent layer (embedding, normalisation)."""

    layers: Sequence[Sequence[Cell]]
    weight: Array
    bias: Array
    scale: float = 1.0
    prepare: Callable[[Array], Array] = np.asarray

    def run(self, raw: Array) -> Run:
        """In float64, with everything that `relevance` looks at."""
        return self._run(np.asarray(self.prepare(raw), np.float64), keep=True)

    def predict(self, raw: Array) -> Array:
        """Outputs [N, outputs], in float32 arithmetic."""
        parts = [
            self._run(np.asarray(self.prepare(raw[i : i + CHUNK]), np.float32), keep=False).y
            for i in range(0, len(raw), CHUNK)
        ]
        return np.concatenate(parts).astype(np.float64) * self.scale

    def relevance(self, run: Run, index: Array, rule: Rule) -> tuple[Array, Array]:
        """Relevance of run.x for output index[n] of sample n, and the explained values [N], in units of the output."""
        rows = np.arange(len(run.x))
        y, terms = run.y[rows, index], self.weight[index] * run.last
        total = np.abs(terms).sum(1) + np.abs(self.bias[index])
        shares = terms * (y / rule.dense(y, total))[:, None]
        H = self.layers[-1][0].units
        arriving = np.zeros((*run.x.shape[:2], shares.shape[1]))
        arriving[:, -1, :H] = shares[:, :H]
        arriving[:, 0, H:] += shares[:, H:]
        for cells, x, tapes in zip(self.layers[::-1], run.inputs[::-1], run.tapes[::-1], strict=True):
            parts = np.split(arriving, len(cells), axis=2)
            arriving = np.sum(
                [
                    _turned(cell.backward(_turned(x, d), tape, _turned(part, d), rule), d)
                    for d, (cell, tape, part) in enumerate(zip(cells, tapes, parts, strict=True))
                ],
                axis=0,
            )
        return arriving * self.scale, y * self.scale

    def growth(self) -> list[Array]:
        """Of the last `relevance`: per cell, the density's size over what arrived, [T, N] from the last step back."""
        return [np.array(cell.growth) for cells in self.layers for cell in cells]

    def _run(self, x: Array, *, keep: bool) -> Run:
        inputs, tapes, value = [], [], x
        for cells in self.layers:
            passes = [cell.forward(_turned(value, d), keep=keep) for d, cell in enumerate(cells)]
            inputs.append(value)
            tapes.append([tape for _, tape in passes])
            value = np.concatenate([_turned(hidden, d) for d, (hidden, _) in enumerate(passes)], axis=2)
        H = self.layers[-1][0].units
        last = np.concatenate([value[:, -1, :H], value[:, 0, H:]], axis=1)
        return Run(x, inputs, tapes, last, last @ self.weight.T.astype(x.dtype) + self.bias.astype(x.dtype))


def _turned(x: Array, direction: int) -> Array:
    return x[:, ::-1] if direction else x


# --- where they come from ----------------------------------------------------------------------------------------


def from_onnx(path: Path) -> Network:
    """A file with one LSTM whose final states a Gemm reads; scaling and embedding are read off its initialisers."""
    graph = onnx.load(path).graph
    weights = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in graph.initializer}
    W, R, B = (weights[name] for name in next(n for n in graph.node if n.op_type == "LSTM").input[1:4])
    H = R.shape[2]
    cells = [LSTM(W[d], R[d], B[d, : 4 * H] + B[d, 4 * H :]) for d in range(len(W))]
    readout = next(name for name in ("classifier.weight", "output.weight", "o.weight") if name in weights)
    bias = weights.get(readout.replace("weight", "bias"), np.zeros(len(weights[readout])))
    scale = float(weights.get("output_scale", 1.0))
    return Network([cells], weights[readout], bias, scale, _preparation(weights))


def _preparation(weights: dict[str, Array]) -> Callable[[Array], Array]:
    if "embedding.weight" in weights:
        return lambda ids: weights["embedding.weight"][ids]
    if "input_scale" in weights:
        return lambda x: x / weights["input_scale"]
    if "n.m" in weights:
        return lambda x: (x - weights["n.m"]) / weights["n.d"]
    return np.asarray


def from_npz(path: Path) -> Network:
    """A network of `training/known_cells.py`: torch's parameters by name."""
    found = dict(np.load(path))
    layers: list[list[Cell]] = []
    while f"r.weight_ih_l{len(layers)}" in found:
        ends = [end for end in ("", "_reverse") if f"r.weight_ih_l{len(layers)}{end}" in found]
        layers.append([_cell(*(found[f"r.{n}_l{len(layers)}{e}"].astype(np.float64) for n in NAMES)) for e in ends])
    return Network(layers, found["o.weight"].astype(np.float64), found["o.bias"].astype(np.float64))


NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def _cell(W: Array, R: Array, bias: Array, recurrent_bias: Array) -> Cell:
    """torch orders gates r, z, n and i, f, g, o."""
    if len(R) == 3 * R.shape[1]:
        return GRU(*(_ordered(a, (1, 0, 2)) for a in (W, R, bias, recurrent_bias)))
    return LSTM(*(_ordered(a, (0, 3, 1, 2)) for a in (W, R, bias + recurrent_bias)))


def _ordered(array: Array, order: Sequence[int]) -> Array:
    blocks = np.split(array, len(order))
    return np.concatenate([blocks[k] for k in order])
