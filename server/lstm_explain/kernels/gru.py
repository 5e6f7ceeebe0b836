"""The time loops of the GRU. Conventions as in lstm.py; gate order is ONNX's: z, r, h.

Per step (the ONNX operator GRU, "after" being linear_before_reset = 0, "before" 1):
    z, r = s(x W + h_prev R + b),  u = h_prev R_h + Rb_h,
    n = tanh(x W_h + Wb_h + (r * u, or (r * h_prev) R_h + Rb_h)),  h = (1 - z) n + z h_prev.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from lstm_explain.kernels.product import multiply, width_of
from lstm_explain.kernels.scalar import FAST, activate, multiply_by_slope, settle, share


@nb.njit(**FAST)
def forward(
    pre, Rt_zr, Rt_h, bias, Rb_h, h0, lens, order, reverse, before, codes, params, clip, gates, inner, hidden
):  # fmt: skip
    """Runs the recurrence.

    pre [T, B, 3H]: x W, completed in place. Rt_zr, Rt_h: packed [H, 2H], [H, H]. bias [3H]: of the pre-activations;
    under "before" without Rb_h [H], which belongs to u. Fills gates [T, B, 3H], hidden [T, B, H] and inner [T, B, H]: u
    under "before", r * h_prev under "after".
    """
    B, H3 = order.size, pre.shape[2]
    H = H3 // 3
    one = pre.dtype.type(1)
    latest, reset = h0[order], np.empty((B, H), pre.dtype)
    of_gates, of_candidate = np.empty((B, width_of(Rt_zr)), pre.dtype), np.empty((B, width_of(Rt_h)), pre.dtype)
    running = B
    for s in range(lens[order[0]]):
        while lens[order[running - 1]] <= s:
            running -= 1
        multiply(latest, Rt_zr, of_gates, running)
        for i in range(running):
            b = order[i]
            t = lens[b] - 1 - s if reverse else s
            acc, act = pre[t, b], gates[t, b]
            for j in range(2 * H):
                acc[j] += of_gates[i, j] + bias[j]
            activate(codes[0], params[0, 0], params[0, 1], clip, acc[: 2 * H], act[: 2 * H])
            for j in range(H):
                reset[i, j] = act[H + j] * latest[i, j]
        multiply(latest if before else reset, Rt_h, of_candidate, running)
        for i in range(running):
            b = order[i]
            t = lens[b] - 1 - s if reverse else s
            acc, act, u = pre[t, b], gates[t, b], inner[t, b]
            for j in range(H):
                if before:
                    u[j] = of_candidate[i, j] + Rb_h[j]
                    acc[2 * H + j] += bias[2 * H + j] + act[H + j] * u[j]
                else:
                    u[j] = reset[i, j]
                    acc[2 * H + j] += bias[2 * H + j] + of_candidate[i, j]
            activate(codes[1], params[1, 0], params[1, 1], clip, acc[2 * H :], act[2 * H :])
            for j in range(H):
                latest[i, j] = (one - act[j]) * act[2 * H + j] + act[j] * latest[i, j]
            hidden[t, b] = latest[i]


@nb.njit(**FAST)
def relevance(
    rule, pre, gates, inner, hidden, h0, lens, order, reverse, before, bias, Rb_h, R_zr, R_h, eps, delta, features,
    r_y, r_h, m, each, lost,
):  # fmt: skip
    """LRP under every product rule.

    bias, Rb_h: as in `forward`; R_zr, R_h: packed [2H, H], [H, H]; features: D. r_y: relevance arriving at
    every step, [T, B, H] or [0, 0, 0]; r_h [B, H]: at the last state; overwritten with that of the initial state.
    Fills m [T, B, 3H], from which R_x = x * (m @ W) + each; each [T, B]; lost [B].
    Under "before" the candidate has D + 1 incoming units, the inputs and r * u; u has H.
    """
    B, H = order.size, hidden.shape[2]
    kind = pre.dtype.type
    zero, half, one = kind(0), kind(0.5), kind(1)
    keep, along = one - delta, r_y.shape[0] > 0
    per_unit = one / (features + kind(H))
    per_candidate = one / (features + one) if before else per_unit
    direct, r_reset = np.empty((B, H), pre.dtype), np.empty((B, H), pre.dtype)
    density_u = np.empty((B, H), pre.dtype)
    of_gates = np.empty((B, 2 * H), pre.dtype)
    to_x, to_h, to_product = np.empty((3, B), pre.dtype)  # what every unit gets of bias and stabiliser
    through, back = np.empty((B, width_of(R_h)), pre.dtype), np.zeros((B, width_of(R_zr)), pre.dtype)
    running = 0
    for s in range(lens[order[0]] - 1, -1, -1):
        while running < B and lens[order[running]] > s:
            running += 1
        for i in range(running):
            b = order[i]
            t = lens[b] - 1 - s if reverse else s
            h_prev = h0[b] if s == 0 else hidden[t + 1 if reverse else t - 1, b]
            act, z, u, out = gates[t, b], pre[t, b], inner[t, b], m[t, b]
            absorbed, given_x, given_h, given_product = zero, zero, zero, zero
            for j in range(H):
                r = r_h[b, j] + r_y[t, b, j] if along else r_h[b, j]
                density, kept = settle(r, hidden[t, b, j], zero, eps)
                absorbed += keep * kept
                part = delta * half * kept
                new, old = one - act[j], act[j]
                r_new, r_n, gone_new = share(
                    rule, new, act[2 * H + j], new * act[2 * H + j] * density + part, eps, delta
                )
                r_old, r_prev, gone_old = share(rule, old, h_prev[j], old * h_prev[j] * density + part, eps, delta)
                absorbed += gone_new + gone_old
                direct[i, j] = r_prev

                density, kept = settle(r_new + r_old, z[j], bias[j], eps)
                out[j] = density
                absorbed += keep * kept
                given_x += delta * kept * per_unit
                given_h += delta * kept * per_unit

                density, kept = settle(r_n, z[2 * H + j], bias[2 * H + j], eps)
                out[2 * H + j] = density
                absorbed += keep * kept
                given_x += delta * kept * per_candidate
                given_product += delta * kept * per_candidate
                if before:
                    r_p = act[H + j] * u[j] * density + delta * kept * per_candidate
                    r_reset[i, j], r_u, gone = share(rule, act[H + j], u[j], r_p, eps, delta)
                    density, kept = settle(r_u, u[j], Rb_h[j], eps)
                    absorbed += gone + keep * kept
                    given_h += delta * kept / kind(H)
                density_u[i, j] = density
            lost[b] += absorbed
            to_x[i], to_h[i], to_product[i] = given_x, given_h, given_product
        multiply(density_u, R_h, through, running)
        for i in range(running):
            b = order[i]
            t = lens[b] - 1 - s if reverse else s
            h_prev = h0[b] if s == 0 else hidden[t + 1 if reverse else t - 1, b]
            act, z, u, out = gates[t, b], pre[t, b], inner[t, b], m[t, b]
            absorbed, given = zero, zero
            for j in range(H):
                if not before:  # every r * h_prev is an incoming unit of each candidate
                    r_p = u[j] * through[i, j] + to_product[i]
                    r_reset[i, j], r_prev, gone = share(rule, act[H + j], h_prev[j], r_p, eps, delta)
                    direct[i, j] += r_prev
                    absorbed += gone
                density, kept = settle(r_reset[i, j], z[H + j], bias[H + j], eps)
                out[H + j] = density
                absorbed += keep * kept
                given += delta * kept * per_unit
            lost[b] += absorbed
            to_h[i] += given
            each[t, b] = to_x[i] + given
            of_gates[i] = out[: 2 * H]
        if rule != 0:
            multiply(of_gates, R_zr, back, running)
        for i in range(running):
            b = order[i]
            t = lens[b] - 1 - s if reverse else s
            h_prev = h0[b] if s == 0 else hidden[t + 1 if reverse else t - 1, b]
            for j in range(H):
                linear = back[i, j] + through[i, j] if before else back[i, j]
                r_h[b, j] = direct[i, j] + h_prev[j] * linear + to_h[i]


@nb.njit(**FAST)
def gradient(
    pre, gates, inner, hidden, h0, lens, order, reverse, before, codes, params, clip, R_zr, R_h, g_y, g_h, m
):  # fmt: skip
    """Back-propagation through time; g_y, g_h as r_y, r_h in `relevance`, but gradients; g_x = m @ W."""
    B, H = order.size, hidden.shape[2]
    one, along = pre.dtype.type(1), g_y.shape[0] > 0
    of_candidate, of_gates = np.empty((B, H), pre.dtype), np.empty((B, 2 * H), pre.dtype)
    through, back = np.empty((B, width_of(R_h)), pre.dtype), np.empty((B, width_of(R_zr)), pre.dtype)
    running = 0
    for s in range(lens[order[0]] - 1, -1, -1):
        while running < B and lens[order[running]] > s:
            running += 1
        for i in range(running):
            b = order[i]
            t = lens[b] - 1 - s if reverse else s
            h_prev = h0[b] if s == 0 else hidden[t + 1 if reverse else t - 1, b]
            act, z, u, out = gates[t, b], pre[t, b], inner[t, b], m[t, b]
            for j in range(H):
                g = g_h[b, j] + g_y[t, b, j] if along else g_h[b, j]
                out[j] = g * (h_prev[j] - act[2 * H + j])
                out[2 * H + j] = g * (one - act[j])
                g_h[b, j] = g * act[j]
            multiply_by_slope(codes[1], params[1, 0], params[1, 1], clip, z[2 * H :], act[2 * H :], out[2 * H :])
            for j in range(H):
                if before:
                    out[H + j] = out[2 * H + j] * u[j]
                    of_candidate[i, j] = out[2 * H + j] * act[H + j]
                else:
                    of_candidate[i, j] = out[2 * H + j]
        multiply(of_candidate, R_h, through, running)
        for i in range(running):
            b = order[i]
            t = lens[b] - 1 - s if reverse else s
            h_prev = h0[b] if s == 0 else hidden[t + 1 if reverse else t - 1, b]
            act, z, out = gates[t, b], pre[t, b], m[t, b]
            for j in range(H):
                if before:
                    g_h[b, j] += through[i, j]
                else:
                    out[H + j] = through[i, j] * h_prev[j]
                    g_h[b, j] += through[i, j] * act[H + j]
            multiply_by_slope(codes[0], params[0, 0], params[0, 1], clip, z[: 2 * H], act[: 2 * H], out[: 2 * H])
            of_gates[i] = out[: 2 * H]
        multiply(of_gates, R_zr, back, running)
        for i in range(running):
            for j in range(H):
                g_h[order[i], j] += back[i, j]
