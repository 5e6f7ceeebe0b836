# SPDX-License-Identifier: Apache-2.0
"""LSTM and GRU in float64 NumPy, forward and LRP-all backward, for a batch of sequences of one length.

Written for this study alone: it shares no code with the engine, and `tests/docs/test_stabiliser_study.py` holds the two
against each other under the absolute stabiliser.

The ceiling bounds the *density* of relevance at the cell, d_t = R_t / c_t, which is what a linear recurrence carries
backwards (docs/stabilisers.md). Its size is n_t = Σ_j |d_t,j| s_j, where s_j is the root mean square of cell j over the
sequence. What comes back along the cell itself never grows (a forget gate is at most 1); what comes back through the
hidden state may, so that part alone is scaled down to what the ceiling leaves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from scripts.stabilisers.rules import Array, Rule


def sigmoid(z: Array) -> Array:
    return 0.5 * (1 + np.tanh(0.5 * z))


class Step(NamedTuple):
    """What one time step keeps, [N, H] each. kept, new: the two terms of the state. reset, recalled: of a
    GRU, the gate and R h + bias, which it scales."""

    before: Array
    kept: Array
    new: Array
    pre: Array
    reset: Array | None = None
    recalled: Array | None = None


class Budget:
    """How much density the hidden path may still bring, per sample."""

    def __init__(self, rule: Rule, tape: list[Step]) -> None:
        self.ceiling = rule.ceiling
        self.growth: list[Array] = []  # n_t over what arrived so far, from the last step to the first
        states = np.stack([step.kept + step.new for step in tape])
        self.scale = np.sqrt((states**2).mean(0))
        self.arrived = np.zeros(len(states[0]))

    def size(self, density: Array) -> Array:
        return (np.abs(density) * self.scale).sum(1)

    def density(self, arriving: Array, carried: Array, hidden: Array, below: Array) -> Array:
        """The density at a state from relevance from above, along the cell and through the hidden state, over `below`,
        the stabilised state.
        """
        self.arrived = self.arrived + self.size(arriving / below)
        if self.ceiling is not None:
            left = self.ceiling * self.arrived - self.size((carried + arriving) / below)
            hidden = hidden * np.clip(left / np.maximum(self.size(hidden / below), 1e-200), 0, 1)[:, None]
        density = (arriving + carried + hidden) / below
        self.growth.append(self.size(density) / np.maximum(self.arrived, 1e-200))
        return density


@dataclass
class LSTM:
    """W [4H, D], R [4H, H], bias [4H] in ONNX's order i, o, f, c."""

    W: Array
    R: Array
    bias: Array
    growth: list[Array] = field(default_factory=list)

    @property
    def units(self) -> int:
        return int(self.R.shape[1])

    def forward(self, x: Array, *, keep: bool = True) -> tuple[Array, list[Step]]:
        """x [N, T, D] to hidden states [N, T, H], and a Step per time step."""
        H, number = self.units, x.dtype
        W, R, bias = (np.asarray(a, number) for a in (self.W, self.R, self.bias))
        h = c = np.zeros((len(x), H), number)
        hidden, tape, from_x = np.empty((*x.shape[:2], H), number), [], x @ W.T + bias
        for t in range(x.shape[1]):
            z = from_x[:, t] + h @ R.T
            gates, cell_input = sigmoid(z[:, : 3 * H]), np.tanh(z[:, 3 * H :])
            kept, new = gates[:, 2 * H :] * c, gates[:, :H] * cell_input
            if keep:
                tape.append(Step(h, kept, new, z[:, 3 * H :]))
            c = kept + new
            h = gates[:, H : 2 * H] * np.tanh(c)
            hidden[:, t] = h
        return hidden, tape

    def backward(self, x: Array, tape: list[Step], arriving: Array, rule: Rule) -> Array:
        """Relevance of x from the relevance that arrives at each hidden state, [N, T, H]."""
        H = self.units
        W, R, bias = self.W[3 * H :], self.R[3 * H :], self.bias[3 * H :]
        out, budget = np.zeros_like(x), Budget(rule, tape)
        terms = np.abs(x) @ np.abs(W).T + np.abs(bias)
        carried = through = np.zeros((len(x), H))
        for t in range(x.shape[1] - 1, -1, -1):
            step = tape[t]
            below = rule.cell(step.kept + step.new, np.abs(step.kept) + np.abs(step.new))
            density = budget.density(arriving[:, t], carried, through, below)
            carried = step.kept * density
            at_sum = step.new * density / rule.pre(step.pre, terms[:, t] + np.abs(step.before) @ np.abs(R).T)
            out[:, t] = x[:, t] * (at_sum @ W)
            through = step.before * (at_sum @ R)
        self.growth = budget.growth
        return out


@dataclass
class GRU:
    """W [3H, D], R [3H, H], both biases [3H], in ONNX's order z, r, h; linear_before_reset = 1."""

    W: Array
    R: Array
    bias: Array
    recurrent_bias: Array
    growth: list[Array] = field(default_factory=list)

    @property
    def units(self) -> int:
        return int(self.R.shape[1])

    def forward(self, x: Array, *, keep: bool = True) -> tuple[Array, list[Step]]:
        H, number = self.units, x.dtype
        W, R, bias, other = (np.asarray(a, number) for a in (self.W, self.R, self.bias, self.recurrent_bias))
        h = np.zeros((len(x), H), number)
        hidden, tape, from_x = np.empty((*x.shape[:2], H), number), [], x @ W.T + bias
        for t in range(x.shape[1]):
            from_h = h @ R.T + other
            update = sigmoid(from_x[:, t, :H] + from_h[:, :H])
            reset = sigmoid(from_x[:, t, H : 2 * H] + from_h[:, H : 2 * H])
            pre = from_x[:, t, 2 * H :] + reset * from_h[:, 2 * H :]
            kept, new = update * h, (1 - update) * np.tanh(pre)
            if keep:
                tape.append(Step(h, kept, new, pre, reset, from_h[:, 2 * H :]))
            h = kept + new
            hidden[:, t] = h
        return hidden, tape

    def backward(self, x: Array, tape: list[Step], arriving: Array, rule: Rule) -> Array:
        """As LSTM.backward. The cell is h itself. R h + bias is a neuron of its own, which the reset gate scales."""
        H = self.units
        W, R = self.W[2 * H :], self.R[2 * H :]
        bias, other = np.abs(self.bias[2 * H :]), np.abs(self.recurrent_bias[2 * H :])
        out, budget = np.zeros_like(x), Budget(rule, tape)
        terms = np.abs(x) @ np.abs(W).T + bias
        carried = through = np.zeros((len(x), H))
        for t in range(x.shape[1] - 1, -1, -1):
            step = tape[t]
            assert step.reset is not None
            assert step.recalled is not None
            below = rule.cell(step.kept + step.new, np.abs(step.kept) + np.abs(step.new))
            density = budget.density(arriving[:, t], carried, through, below)
            carried = step.kept * density
            signal = step.reset * step.recalled
            at_sum = step.new * density / rule.pre(step.pre, terms[:, t] + np.abs(signal))
            at_recalled = signal * at_sum / rule.pre(step.recalled, np.abs(step.before) @ np.abs(R).T + other)
            out[:, t] = x[:, t] * (at_sum @ W)
            through = step.before * (at_recalled @ R)
        self.growth = budget.growth
        return out


Cell = LSTM | GRU
