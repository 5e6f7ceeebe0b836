"""The time loops of the plain recurrent cell, h = f(x W + h_prev R + b). Conventions as in lstm.py."""

from __future__ import annotations

import numba as nb
import numpy as np

from lstm_explain.kernels.product import multiply, width_of
from lstm_explain.kernels.scalar import FAST, activate, multiply_by_slope, settle


@nb.njit(**FAST)
def forward(pre, Rt, bias, h0, lens, order, reverse, codes, params, clip, hidden):
    """pre [T, B, H]: x W, completed in place. Rt: packed [H, H]. bias [H]. Fills hidden [T, B, H]."""
    B, H = order.size, pre.shape[2]
    latest, product = h0[order], np.empty((B, width_of(Rt)), pre.dtype)
    running = B
    for s in range(lens[order[0]]):
        while lens[order[running - 1]] <= s:
            running -= 1
        multiply(latest, Rt, product, running)
        for i in range(running):
            b = order[i]
            t = lens[b] - 1 - s if reverse else s
            acc = pre[t, b]
            for j in range(H):
                acc[j] += product[i, j] + bias[j]
            activate(codes[0], params[0, 0], params[0, 1], clip, acc, hidden[t, b])
            latest[i] = hidden[t, b]


@nb.njit(**FAST)
def relevance(pre, hidden, h0, lens, order, reverse, bias, R, eps, delta, units, r_y, r_h, m, each, lost):
    """LRP: the activation passes, then the epsilon rule over x and h_prev together; units: D + H.

    R: packed [H, H]. Fills m [T, B, H], from which R_x = x * (m @ W) + each; lost [B]; r_h becomes the initial state's.
    """
    B, H = order.size, hidden.shape[2]
    latest, back = np.empty((B, H), pre.dtype), np.empty((B, width_of(R)), pre.dtype)
    zero, one, along = pre.dtype.type(0), pre.dtype.type(1), r_y.shape[0] > 0
    running = 0
    for s in range(lens[order[0]] - 1, -1, -1):
        while running < B and lens[order[running]] > s:
            running += 1
        for i in range(running):
            b = order[i]
            t = lens[b] - 1 - s if reverse else s
            total = zero
            for j in range(H):
                r = r_h[b, j] + r_y[t, b, j] if along else r_h[b, j]
                density, kept = settle(r, pre[t, b, j], bias[j], eps)
                m[t, b, j] = density
                total += kept
            lost[b] += (one - delta) * total
            each[t, b] = delta * total / units
            latest[i] = m[t, b]
        multiply(latest, R, back, running)
        for i in range(running):
            b = order[i]
            t = lens[b] - 1 - s if reverse else s
            h_prev = h0[b] if s == 0 else hidden[t + 1 if reverse else t - 1, b]
            for j in range(H):
                r_h[b, j] = h_prev[j] * back[i, j] + each[t, b]


@nb.njit(**FAST)
def gradient(pre, hidden, lens, order, reverse, codes, params, clip, R, g_y, g_h, m):
    """Back-propagation through time; fills m [T, B, H], from which g_x = m @ W; g_h becomes the initial state's."""
    B, H = order.size, hidden.shape[2]
    latest, back = np.empty((B, H), pre.dtype), np.empty((B, width_of(R)), pre.dtype)
    running, along = 0, g_y.shape[0] > 0
    for s in range(lens[order[0]] - 1, -1, -1):
        while running < B and lens[order[running]] > s:
            running += 1
        for i in range(running):
            b = order[i]
            t = lens[b] - 1 - s if reverse else s
            for j in range(H):
                m[t, b, j] = g_h[b, j] + g_y[t, b, j] if along else g_h[b, j]
            multiply_by_slope(codes[0], params[0, 0], params[0, 1], clip, pre[t, b], hidden[t, b], m[t, b])
            latest[i] = m[t, b]
        multiply(latest, R, back, running)
        for i in range(running):
            g_h[order[i]] = back[i, :H]
