# SPDX-License-Identifier: Apache-2.0
"""One direction of an ONNX LSTM over one sample: forward pass and LRP.

    z_i = W_i x_t + R_i h_{t-1} + P_i * c_{t-1} + b_i        i = f_act(z_i)      input gate
    z_f = W_f x_t + R_f h_{t-1} + P_f * c_{t-1} + b_f        f = f_act(z_f)      forget gate
    z_c = W_c x_t + R_c h_{t-1} + b_c                        g = g_act(z_c)      candidate
    c_t = f * c_{t-1} + i * g
    z_o = W_o x_t + R_o h_{t-1} + P_o * c_t + b_o            o = f_act(z_o)      output gate, sees the new cell
    h_t = o * h_act(c_t)

(Arras et al. 2019, section 11.2, equation of the LSTM; the ONNX operator adds P, clip and input_forget.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .activations import Activation
from .common import Array, Ceiling, Rules, lrp_linear, lrp_product, lrp_sum

GATE_ORDER = "iofc"  # rows of W, R and of both halves of B
PEEPHOLE_ORDER = "iof"


@dataclass(frozen=True)
class LstmStep:
    """Everything that happened at one time step."""

    x: Array
    h_prev: Array
    c_prev: Array
    z: dict[str, Array]  # pre-activations before clipping, by gate
    i: Array
    o: Array
    f: Array
    g: Array
    c: Array
    squashed: Array  # h_act(c)
    h: Array


@dataclass(frozen=True)
class CellRelevance:
    """Relevance of one sample's sequence and initial states, and what the cell absorbed on the way."""

    x: Array  # [T, D]
    initial_h: Array
    initial_c: Array  # zeros for cells without one
    absorbed: float


@dataclass(frozen=True)
class LstmCell:
    """The weights of one direction, cut into gates."""

    W: dict[str, Array]
    R: dict[str, Array]
    b: dict[str, Array]  # Wb + Rb
    P: dict[str, Array] | None
    f_act: Activation
    g_act: Activation
    h_act: Activation
    clip: float | None
    input_forget: bool

    @classmethod
    def from_onnx(
        cls,
        W: Array,
        R: Array,
        B: Array | None,
        P: Array | None,
        activations: tuple[Activation, ...],
        clip: float | None = None,
        input_forget: bool = False,
    ) -> LstmCell:
        """W [4H, D], R [4H, H], B [8H] = Wb then Rb, P [3H]: one direction's slice of the ONNX tensors."""
        H = R.shape[1]
        B = np.zeros(8 * H) if B is None else B
        b = B[: 4 * H] + B[4 * H :]
        f_act, g_act, h_act = activations
        return cls(
            W=dict(zip(GATE_ORDER, np.split(W, 4), strict=True)),
            R=dict(zip(GATE_ORDER, np.split(R, 4), strict=True)),
            b=dict(zip(GATE_ORDER, np.split(b, 4), strict=True)),
            P=None if P is None else dict(zip(PEEPHOLE_ORDER, np.split(P, 3), strict=True)),
            f_act=f_act,
            g_act=g_act,
            h_act=h_act,
            clip=clip,
            input_forget=input_forget,
        )

    def pre_activation(self, gate: str, x: Array, h_prev: Array, c: Array) -> Array:
        """z of one gate; c is the cell that the gate's peephole reads."""
        z = self.W[gate] @ x + self.R[gate] @ h_prev + self.b[gate]
        if self.P is not None and gate in self.P:
            z = z + self.P[gate] * c
        return z

    def clipped(self, z: Array) -> Array:
        return z if self.clip is None else np.clip(z, -self.clip, self.clip)

    def step(self, x: Array, h_prev: Array, c_prev: Array) -> LstmStep:
        z = {gate: self.pre_activation(gate, x, h_prev, c_prev) for gate in "ifc"}
        i = self.f_act(self.clipped(z["i"]))
        f = 1.0 - i if self.input_forget else self.f_act(self.clipped(z["f"]))
        g = self.g_act(self.clipped(z["c"]))
        c = f * c_prev + i * g
        z["o"] = self.pre_activation("o", x, h_prev, c)
        o = self.f_act(self.clipped(z["o"]))
        squashed = self.h_act(c)
        return LstmStep(x, h_prev, c_prev, z, i, o, f, g, c, squashed, o * squashed)

    def forward(self, xs: Array, h: Array, c: Array) -> list[LstmStep]:
        """xs [T, D] in the order in which the cell reads it."""
        steps = []
        for x in xs:
            steps.append(self.step(x, h, c))
            h, c = steps[-1].h, steps[-1].c
        return steps

    def lrp_gate(self, gate: str, step: LstmStep, c: Array, R_z: Array, rules: Rules) -> tuple[list[Array], float]:
        """The epsilon-rule at one pre-activation, over x_t, h_{t-1} and, with a peephole, the cell: N = D + H (+ 1).

        Returns [R_x, R_h_prev, R_c] and what was absorbed.
        """
        D, H = len(step.x), len(step.h_prev)
        a, W, N = np.concatenate([step.x, step.h_prev]), np.hstack([self.W[gate], self.R[gate]]), D + H
        wired = np.ones((H, N), dtype=np.bool_)
        if self.P is not None and gate in self.P:
            a, W, N = np.concatenate([a, c]), np.hstack([W, np.diag(self.P[gate])]), N + 1
            wired = np.hstack([wired, np.eye(H, dtype=np.bool_)])  # a peephole feeds its own cell only
        R_a, absorbed = lrp_linear(
            a, W, self.b[gate], step.z[gate], R_z, N, rules.added("pre_activations"), rules.bias_factor, wired=wired
        )
        R_c = R_a[D + H :] if len(R_a) > D + H else np.zeros(H)
        return [R_a[:D], R_a[D : D + H], R_c], absorbed

    def lrp_step(self, step: LstmStep, R_h: Array, R_c: Array, rules: Rules) -> tuple[Array, Array, Array, float]:
        """From the relevance of h_t and c_t to that of x_t, h_{t-1}, c_{t-1}, and what was absorbed.

        Activations pass relevance through unchanged (Arras et al. 2017, section 3.2), and so does the clip.
        """
        R_x, R_h_prev, R_c_prev = np.zeros_like(step.x), np.zeros_like(step.h_prev), np.zeros_like(step.c_prev)

        R_o, R_squashed, absorbed = lrp_product(step.o, step.squashed, R_h, rules)
        (from_x, from_h, from_c), lost = self.lrp_gate("o", step, step.c, R_o, rules)
        R_x, R_h_prev, absorbed = R_x + from_x, R_h_prev + from_h, absorbed + lost
        R_c = R_c + R_squashed + from_c  # the output peephole looks at the new cell

        kept, added = step.f * step.c_prev, step.i * step.g
        (R_kept, R_added), lost = lrp_sum([kept, added], step.c, R_c, rules)
        absorbed += lost
        R_f, from_signal, lost = lrp_product(step.f, step.c_prev, R_kept, rules)
        R_c_prev, absorbed = R_c_prev + from_signal, absorbed + lost
        R_i, R_g, lost = lrp_product(step.i, step.g, R_added, rules)
        absorbed += lost
        if self.input_forget:  # f = 1 - i has no pre-activation of its own
            R_i, R_f = R_i + R_f, np.zeros_like(R_f)

        for gate, R_z in (("i", R_i), ("f", R_f), ("c", R_g)):
            (from_x, from_h, from_c), lost = self.lrp_gate(gate, step, step.c_prev, R_z, rules)
            R_x, R_h_prev, R_c_prev = R_x + from_x, R_h_prev + from_h, R_c_prev + from_c
            absorbed += lost
        return R_x, R_h_prev, R_c_prev, absorbed

    def lrp(self, steps: list[LstmStep], R_Y: Array, R_h: Array, R_c: Array, rules: Rules) -> CellRelevance:
        """Backward in time. R_Y [T, H] arrives at every h_t, R_h and R_c at the final states."""
        R_x = np.zeros((len(steps), next(iter(self.W.values())).shape[1]))
        absorbed, limit = 0.0, Ceiling(rules, [(s.f * s.c_prev, s.i * s.g) for s in steps])
        for t in reversed(range(len(steps))):
            R_c, R_h, taken = limit(t, R_Y[t], R_c, R_h)
            R_x[t], R_h, R_c, lost = self.lrp_step(steps[t], R_h + R_Y[t], R_c, rules)
            absorbed += lost + taken
        return CellRelevance(R_x, R_h, R_c, absorbed)
