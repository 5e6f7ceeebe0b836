# SPDX-License-Identifier: Apache-2.0
"""One direction of an ONNX GRU over one sample: forward pass and LRP.

    z = f_act(W_z x_t + R_z h_{t-1} + b_z)                   update gate
    r = f_act(W_r x_t + R_r h_{t-1} + b_r)                   reset gate
    linear_before_reset = 0:  n = g_act(W_h x_t + R_h (r * h_{t-1}) + Rb_h + Wb_h)
    linear_before_reset = 1:  n = g_act(W_h x_t + r * (R_h h_{t-1} + Rb_h) + Wb_h)
    h_t = (1 - z) * n + z * h_{t-1}

h_t is a sum of two gated products, so the LSTM's rules apply (Arras et al. 2019, section 11.2.2: a gate multiplies
a signal).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .activations import Activation
from .common import Array, Ceiling, Rules, lrp_linear, lrp_product, lrp_sum
from .lstm import CellRelevance

GATE_ORDER = "zrh"


@dataclass(frozen=True)
class GruStep:
    """Everything that happened at one time step."""

    x: Array
    h_prev: Array
    c: Array  # a GRU has no cell state: empty
    pre: dict[str, Array]  # pre-activations before clipping, by gate
    z: Array
    r: Array
    n: Array
    u: Array  # R_h h_{t-1} + Rb_h; only linear_before_reset = 1 uses it
    h: Array


@dataclass(frozen=True)
class GruCell:
    """The weights of one direction, cut into gates."""

    W: dict[str, Array]
    R: dict[str, Array]
    Wb: dict[str, Array]
    Rb: dict[str, Array]
    f_act: Activation
    g_act: Activation
    clip: float | None
    linear_before_reset: bool

    @classmethod
    def from_onnx(
        cls,
        W: Array,
        R: Array,
        B: Array | None,
        activations: tuple[Activation, ...],
        clip: float | None = None,
        linear_before_reset: bool = False,
    ) -> GruCell:
        """W [3H, D], R [3H, H], B [6H] = Wb then Rb: one direction's slice of the ONNX tensors."""
        H = R.shape[1]
        B = np.zeros(6 * H) if B is None else B
        f_act, g_act = activations
        return cls(
            W=dict(zip(GATE_ORDER, np.split(W, 3), strict=True)),
            R=dict(zip(GATE_ORDER, np.split(R, 3), strict=True)),
            Wb=dict(zip(GATE_ORDER, np.split(B[: 3 * H], 3), strict=True)),
            Rb=dict(zip(GATE_ORDER, np.split(B[3 * H :], 3), strict=True)),
            f_act=f_act,
            g_act=g_act,
            clip=clip,
            linear_before_reset=linear_before_reset,
        )

    def clipped(self, z: Array) -> Array:
        return z if self.clip is None else np.clip(z, -self.clip, self.clip)

    def step(self, x: Array, h_prev: Array) -> GruStep:
        pre = {gate: self.W[gate] @ x + self.R[gate] @ h_prev + self.Wb[gate] + self.Rb[gate] for gate in "zr"}
        z, r = self.f_act(self.clipped(pre["z"])), self.f_act(self.clipped(pre["r"]))
        u = self.R["h"] @ h_prev + self.Rb["h"]
        if self.linear_before_reset:
            pre["h"] = self.W["h"] @ x + r * u + self.Wb["h"]
        else:
            pre["h"] = self.W["h"] @ x + self.R["h"] @ (r * h_prev) + self.Wb["h"] + self.Rb["h"]
        n = self.g_act(self.clipped(pre["h"]))
        return GruStep(x, h_prev, np.zeros(0), pre, z, r, n, u, (1.0 - z) * n + z * h_prev)

    def forward(self, xs: Array, h: Array, c: Array) -> list[GruStep]:
        """xs [T, D] in the order in which the cell reads it; c exists for the LSTM only and is ignored."""
        steps = []
        for x in xs:
            steps.append(self.step(x, h))
            h = steps[-1].h
        return steps

    def lrp_gate(self, gate: str, step: GruStep, R_z: Array, rules: Rules) -> tuple[Array, Array, float]:
        """The epsilon-rule at the pre-activation of z or r, over x_t and h_{t-1} together: N = D + H."""
        D = len(step.x)
        a, W = np.concatenate([step.x, step.h_prev]), np.hstack([self.W[gate], self.R[gate]])
        b = self.Wb[gate] + self.Rb[gate]
        R_a, absorbed = lrp_linear(
            a, W, b, step.pre[gate], R_z, len(a), rules.added("pre_activations"), rules.bias_factor
        )
        return R_a[:D], R_a[D:], absorbed

    def lrp_candidate_after(self, step: GruStep, R_z: Array, rules: Rules) -> tuple[Array, Array, Array, float]:
        """linear_before_reset = 0: over x and the products r_j h_j (N = D + H), then those products.

        Returns (R_x, R_h_prev, R_r, absorbed).
        """
        D = len(step.x)
        a, W = np.concatenate([step.x, step.r * step.h_prev]), np.hstack([self.W["h"], self.R["h"]])
        b = self.Wb["h"] + self.Rb["h"]
        R_a, absorbed = lrp_linear(
            a, W, b, step.pre["h"], R_z, len(a), rules.added("pre_activations"), rules.bias_factor
        )
        R_r, R_h_prev, lost = lrp_product(step.r, step.h_prev, R_a[D:], rules)
        return R_a[:D], R_h_prev, R_r, absorbed + lost

    def lrp_candidate_before(self, step: GruStep, R_z: Array, rules: Rules) -> tuple[Array, Array, Array, float]:
        """linear_before_reset = 1: over x and the one unit p = r * u (N = D + 1), then p, then u over h (N = H).

        Returns (R_x, R_h_prev, R_r, absorbed).
        """
        D, H = len(step.x), len(step.h_prev)
        a, W = np.concatenate([step.x, step.r * step.u]), np.hstack([self.W["h"], np.eye(H)])
        wired = np.hstack([np.ones((H, D), dtype=np.bool_), np.eye(H, dtype=np.bool_)])
        R_a, absorbed = lrp_linear(
            a,
            W,
            self.Wb["h"],
            step.pre["h"],
            R_z,
            D + 1,
            rules.added("pre_activations"),
            rules.bias_factor,
            wired=wired,
        )
        R_r, R_u, lost_p = lrp_product(step.r, step.u, R_a[D:], rules)
        R_h_prev, lost_u = lrp_linear(
            step.h_prev, self.R["h"], self.Rb["h"], step.u, R_u, H, rules.added("pre_activations"), rules.bias_factor
        )
        return R_a[:D], R_h_prev, R_r, absorbed + lost_p + lost_u

    def lrp_step(self, step: GruStep, R_h: Array, rules: Rules) -> tuple[Array, Array, Array, float]:
        """From the relevance of h_t to that of x_t and h_{t-1} (along the state, and on all other paths), and what was
        absorbed.
        """
        (R_new, R_old), absorbed = lrp_sum([(1.0 - step.z) * step.n, step.z * step.h_prev], step.h, R_h, rules)
        R_one_minus_z, R_n, lost_new = lrp_product(1.0 - step.z, step.n, R_new, rules)
        R_z, R_h_prev, lost_old = lrp_product(step.z, step.h_prev, R_old, rules)
        R_z = R_z + R_one_minus_z  # 1 - z is a function of z alone
        absorbed += lost_new + lost_old

        candidate = self.lrp_candidate_before if self.linear_before_reset else self.lrp_candidate_after
        R_x, from_h, R_r, lost = candidate(step, R_n, rules)
        carried, R_h_prev, absorbed = R_h_prev, from_h, absorbed + lost
        for gate, R_gate in (("z", R_z), ("r", R_r)):
            from_x, from_h, lost = self.lrp_gate(gate, step, R_gate, rules)
            R_x, R_h_prev, absorbed = R_x + from_x, R_h_prev + from_h, absorbed + lost
        return R_x, carried, R_h_prev, absorbed

    def lrp(self, steps: list[GruStep], R_Y: Array, R_h: Array, R_c: Array, rules: Rules) -> CellRelevance:
        """Backward in time. R_Y [T, H] arrives at every h_t, R_h at the final state."""
        R_x = np.zeros((len(steps), next(iter(self.W.values())).shape[1]))
        absorbed, limit = 0.0, Ceiling(rules, [((1.0 - s.z) * s.n, s.z * s.h_prev) for s in steps])
        carried = np.zeros_like(R_h)
        for t in reversed(range(len(steps))):
            carried, R_h, taken = limit(t, R_Y[t], carried, R_h)
            R_x[t], carried, R_h, lost = self.lrp_step(steps[t], carried + R_h + R_Y[t], rules)
            absorbed += lost + taken
        return CellRelevance(R_x, carried + R_h, np.zeros_like(R_h), absorbed)
