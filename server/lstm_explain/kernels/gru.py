"""The time loops of the GRU. Conventions as in lstm.py; gate order is ONNX's: z, r, h.

Per step (the ONNX operator GRU, "after" being linear_before_reset = 0, "before" 1):
    z, r = s(x W + h_prev R + b),  u = h_prev R_h + Rb_h,
    n = tanh(x W_h + Wb_h + (r * u, or (r * h_prev) R_h + Rb_h)),  h = (1 - z) n + z h_prev.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from lstm_explain.kernels.scalar import FAST, activate, add_product, multiply_by_slope, settle, share


@nb.njit(**FAST)
def forward(pre, Rt_zr, Rt_h, Rb_h, h0, lens, reverse, before, codes, params, clip, gates, inner, hidden):
    """Runs the recurrence.

    pre [T, B, 3H]: input part of the pre-activations with their biases; Rb_h [H] is left to `inner` under "before".
    Rt_zr [H, 2H], Rt_h [H, H]. Completes pre, fills gates [T, B, 3H], hidden [T, B, H] and inner [T, B, H]: u under
    "before", r * h_prev under "after".
    """
    _, B, H3 = pre.shape
    H = H3 // 3
    one = pre.dtype.type(1)
    for b in range(B):
        for s in range(lens[b]):
            t = lens[b] - 1 - s if reverse else s
            h = h0[b] if s == 0 else hidden[t + 1 if reverse else t - 1, b]
            acc, act, u = pre[t, b], gates[t, b], inner[t, b]
            add_product(h, Rt_zr, acc[: 2 * H])
            activate(codes[0], params[0, 0], params[0, 1], clip, acc[: 2 * H], act[: 2 * H])
            if before:
                for j in range(H):
                    u[j] = Rb_h[j]
                add_product(h, Rt_h, u)
                for j in range(H):
                    acc[2 * H + j] += act[H + j] * u[j]
            else:
                for j in range(H):
                    u[j] = act[H + j] * h[j]
                add_product(u, Rt_h, acc[2 * H :])
            activate(codes[1], params[1, 0], params[1, 1], clip, acc[2 * H :], act[2 * H :])
            for j in range(H):
                hidden[t, b, j] = (one - act[j]) * act[2 * H + j] + act[j] * h[j]


@nb.njit(**FAST)
def relevance(
    rule,
    pre,
    gates,
    inner,
    hidden,
    h0,
    lens,
    reverse,
    before,
    bias,
    Rb_h,
    R,
    eps,
    delta,
    features,
    r_y,
    r_h,
    m,
    each,
    lost,
):
    """LRP under every product rule.

    bias [3H]: of the pre-activations (without Rb_h under "before"); R [3H, H]; features: D. r_y [T, B, H]: relevance
    arriving at every step; r_h [B, H]: at the last state; overwritten with that of the initial state.
    Fills m [T, B, 3H], from which R_x = x * (m @ W) + each; each [T, B]; lost [B].
    Under "before" the candidate has D + 1 incoming units, the inputs and r * u; u has H.
    """
    _, B, H = hidden.shape
    zero, half, one = pre.dtype.type(0), pre.dtype.type(0.5), pre.dtype.type(1)
    keep = one - delta
    per_unit = one / (features + pre.dtype.type(H))
    per_candidate = one / (features + one) if before else per_unit
    back, through, direct, r_reset, density_u = np.empty((5, H), pre.dtype)
    for b in range(B):
        s_h = r_h[b]
        lost[b] = zero
        for s in range(lens[b] - 1, -1, -1):
            t = lens[b] - 1 - s if reverse else s
            h_prev = h0[b] if s == 0 else hidden[t + 1 if reverse else t - 1, b]
            act, z, u, out = gates[t, b], pre[t, b], inner[t, b], m[t, b]
            absorbed = zero
            to_x = zero
            to_h = zero
            to_product = zero  # every r * h_prev is an incoming unit of each candidate under "after"
            for j in range(H):
                back[j] = zero
                through[j] = zero
                density, kept = settle(s_h[j] + r_y[t, b, j], hidden[t, b, j], zero, eps)
                absorbed += keep * kept
                part = delta * half * kept
                new, old = one - act[j], act[j]
                r_new, r_n, gone_new = share(
                    rule, new, act[2 * H + j], new * act[2 * H + j] * density + part, eps, delta
                )
                r_old, r_prev, gone_old = share(rule, old, h_prev[j], old * h_prev[j] * density + part, eps, delta)
                absorbed += gone_new + gone_old
                direct[j] = r_prev

                density, kept = settle(r_new + r_old, z[j], bias[j], eps)
                out[j] = density
                absorbed += keep * kept
                to_x += delta * kept * per_unit
                to_h += delta * kept * per_unit

                density, kept = settle(r_n, z[2 * H + j], bias[2 * H + j], eps)
                out[2 * H + j] = density
                absorbed += keep * kept
                to_x += delta * kept * per_candidate
                to_product += delta * kept * per_candidate
                if before:
                    r_p = act[H + j] * u[j] * density + delta * kept * per_candidate
                    r_reset[j], r_u, gone = share(rule, act[H + j], u[j], r_p, eps, delta)
                    density, kept = settle(r_u, u[j], Rb_h[j], eps)
                    density_u[j] = density
                    absorbed += gone + keep * kept
                    to_h += delta * kept / pre.dtype.type(H)
            if before:
                add_product(density_u, R[2 * H :], back)
            else:
                add_product(out[2 * H :], R[2 * H :], through)
                for j in range(H):
                    r_p = u[j] * through[j] + to_product
                    r_reset[j], r_prev, gone = share(rule, act[H + j], h_prev[j], r_p, eps, delta)
                    direct[j] += r_prev
                    absorbed += gone
            for j in range(H):
                density, kept = settle(r_reset[j], z[H + j], bias[H + j], eps)
                out[H + j] = density
                absorbed += keep * kept
                to_x += delta * kept * per_unit
                to_h += delta * kept * per_unit
            if rule != 0:
                add_product(out[: 2 * H], R[: 2 * H], back)
            lost[b] += absorbed
            each[t, b] = to_x
            for j in range(H):
                s_h[j] = direct[j] + h_prev[j] * back[j] + to_h


@nb.njit(**FAST)
def gradient(pre, gates, inner, hidden, h0, lens, reverse, before, codes, params, clip, R, g_y, g_h, m):
    """Back-propagation through time; g_y, g_h as r_y, r_h in `relevance`, but gradients; g_x = m @ W."""
    _, B, H = hidden.shape
    one = pre.dtype.type(1)
    zero = pre.dtype.type(0)
    g_inner = np.empty(H, pre.dtype)
    for b in range(B):
        s_h = g_h[b]
        for s in range(lens[b] - 1, -1, -1):
            t = lens[b] - 1 - s if reverse else s
            h_prev = h0[b] if s == 0 else hidden[t + 1 if reverse else t - 1, b]
            act, z, u, out = gates[t, b], pre[t, b], inner[t, b], m[t, b]
            for j in range(H):
                g = s_h[j] + g_y[t, b, j]
                out[j] = g * (h_prev[j] - act[2 * H + j])
                out[2 * H + j] = g * (one - act[j])
                s_h[j] = g * act[j]
            multiply_by_slope(codes[1], params[1, 0], params[1, 1], clip, z[2 * H :], act[2 * H :], out[2 * H :])
            if before:
                for j in range(H):
                    out[H + j] = out[2 * H + j] * u[j]
                    g_inner[j] = out[2 * H + j] * act[H + j]
                add_product(g_inner, R[2 * H :], s_h)
            else:
                for j in range(H):
                    g_inner[j] = zero
                add_product(out[2 * H :], R[2 * H :], g_inner)
                for j in range(H):
                    out[H + j] = g_inner[j] * h_prev[j]
                    s_h[j] += g_inner[j] * act[H + j]
            multiply_by_slope(codes[0], params[0, 0], params[0, 1], clip, z[: 2 * H], act[: 2 * H], out[: 2 * H])
            add_product(out[: 2 * H], R[: 2 * H], s_h)
