"""The time loops of the plain recurrent cell, h = f(x W + h_prev R + b). Conventions as in lstm.py."""

from __future__ import annotations

import numba as nb
import numpy as np

from lstm_explain.kernels.scalar import FAST, activate, add_product, multiply_by_slope, settle


@nb.njit(**FAST)
def forward(pre, Rt, h0, lens, reverse, codes, params, clip, hidden):
    """pre [T, B, H]: input part of the pre-activations, biases included; completed in place. Fills hidden [T, B, H]."""
    B = pre.shape[1]
    for b in range(B):
        for s in range(lens[b]):
            t = lens[b] - 1 - s if reverse else s
            h = h0[b] if s == 0 else hidden[t + 1 if reverse else t - 1, b]
            add_product(h, Rt, pre[t, b])
            activate(codes[0], params[0, 0], params[0, 1], clip, pre[t, b], hidden[t, b])


@nb.njit(**FAST)
def relevance(pre, hidden, h0, lens, reverse, bias, R, eps, delta, units, r_y, r_h, m, each, lost):
    """LRP: the activation passes, then the epsilon rule over x and h_prev together; units: D + H.

    Fills m [T, B, H], from which R_x = x * (m @ W) + each; lost [B]; r_h becomes the initial state's.
    """
    _, B, H = hidden.shape
    back = np.empty(H, pre.dtype)
    zero, one = pre.dtype.type(0), pre.dtype.type(1)
    for b in range(B):
        s_h = r_h[b]
        lost[b] = zero
        for s in range(lens[b] - 1, -1, -1):
            t = lens[b] - 1 - s if reverse else s
            h_prev = h0[b] if s == 0 else hidden[t + 1 if reverse else t - 1, b]
            total = zero
            for j in range(H):
                back[j] = zero
                density, kept = settle(s_h[j] + r_y[t, b, j], pre[t, b, j], bias[j], eps)
                m[t, b, j] = density
                total += kept
            add_product(m[t, b], R, back)
            lost[b] += (one - delta) * total
            given = delta * total / units
            each[t, b] = given
            for j in range(H):
                s_h[j] = h_prev[j] * back[j] + given


@nb.njit(**FAST)
def gradient(pre, hidden, lens, reverse, codes, params, clip, R, g_y, g_h, m):
    """Back-propagation through time; fills m [T, B, H], from which g_x = m @ W; g_h becomes the initial state's."""
    _, B, H = hidden.shape
    zero = pre.dtype.type(0)
    for b in range(B):
        s_h = g_h[b]
        for s in range(lens[b] - 1, -1, -1):
            t = lens[b] - 1 - s if reverse else s
            for j in range(H):
                m[t, b, j] = s_h[j] + g_y[t, b, j]
                s_h[j] = zero
            multiply_by_slope(codes[0], params[0, 0], params[0, 1], clip, pre[t, b], hidden[t, b], m[t, b])
            add_product(m[t, b], R, s_h)
