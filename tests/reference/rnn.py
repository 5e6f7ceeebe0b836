# SPDX-License-Identifier: Apache-2.0
"""One direction of an ONNX RNN over one sample: h_t = f_act(W x_t + R h_{t-1} + b), forward pass and LRP."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .activations import Activation
from .common import Array, Ceiling, Rules, lrp_linear
from .lstm import CellRelevance


@dataclass(frozen=True)
class RnnStep:
    """Everything that happened at one time step."""

    x: Array
    h_prev: Array
    c: Array  # an RNN has no cell state: empty
    z: Array  # before clipping
    h: Array


@dataclass(frozen=True)
class RnnCell:
    """The weights of one direction."""

    W: Array
    R: Array
    b: Array  # Wb + Rb
    f_act: Activation
    clip: float | None

    @classmethod
    def from_onnx(
        cls, W: Array, R: Array, B: Array | None, activations: tuple[Activation, ...], clip: float | None = None
    ) -> RnnCell:
        """W [H, D], R [H, H], B [2H] = Wb then Rb: one direction's slice of the ONNX tensors."""
        H = R.shape[1]
        (f_act,) = activations
        b = np.zeros(H) if B is None else B[:H] + B[H:]
        return cls(W, R, b, f_act, clip)

    def step(self, x: Array, h_prev: Array) -> RnnStep:
        z = self.W @ x + self.R @ h_prev + self.b
        clipped = z if self.clip is None else np.clip(z, -self.clip, self.clip)
        return RnnStep(x, h_prev, np.zeros(0), z, self.f_act(clipped))

    def forward(self, xs: Array, h: Array, c: Array) -> list[RnnStep]:
        """xs [T, D] in the order in which the cell reads it; c exists for the LSTM only and is ignored."""
        steps = []
        for x in xs:
            steps.append(self.step(x, h))
            h = steps[-1].h
        return steps

    def lrp(self, steps: list[RnnStep], R_Y: Array, R_h: Array, R_c: Array, rules: Rules) -> CellRelevance:
        """Backward in time: the activation passes relevance unchanged, then the epsilon-rule applies over x_t and
        h_{t-1} (N = D + H).
        """
        D = self.W.shape[1]
        R_x = np.zeros((len(steps), D))
        absorbed, limit, nothing = 0.0, Ceiling(rules, [(s.h,) for s in steps]), np.zeros_like(R_h)
        for t in reversed(range(len(steps))):
            _, R_h, taken = limit(t, R_Y[t], nothing, R_h)
            a, W = np.concatenate([steps[t].x, steps[t].h_prev]), np.hstack([self.W, self.R])
            R_z = R_h + R_Y[t]
            R_a, lost = lrp_linear(
                a, W, self.b, steps[t].z, R_z, len(a), rules.added("pre_activations"), rules.bias_factor
            )
            R_x[t], R_h = R_a[:D], R_a[D:]
            absorbed += lost + taken
        return CellRelevance(R_x, R_h, np.zeros_like(R_h), absorbed)
