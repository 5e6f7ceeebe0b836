# SPDX-License-Identifier: Apache-2.0
"""The forward pass of the GRU, and back-propagation through it. Conventions: time_steps.py; gate order is ONNX's: z, r,
h.

Per step (the ONNX operator GRU, "after" being linear_before_reset = 0, "before" 1):
    z, r = s(x W + h_prev R + b),  u = h_prev R_h + Rb_h,
    n = tanh(x W_h + Wb_h + (r * u, or (r * h_prev) R_h + Rb_h)),  h = (1 - z) n + z h_prev.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from lstm_explain.kernels.active_samples import active_at, begin
from lstm_explain.kernels.compilation import nobody_waits
from lstm_explain.kernels.prefixes import (
    differences,
    different_inputs,
    finish,
    gather_different,
    hand_out,
    limits,
    merge,
    pre_activations,
    room_for,
    separate_initial,
    split,
)
from lstm_explain.kernels.recurrent_matmul import multiply, width_of
from lstm_explain.kernels.scalar_functions import LOOP, activate, exp, multiply_by_slope, tanh, widest_vectors
from lstm_explain.kernels.time_steps import gather, is_set, on_tape, place, state_before, steps_at_once, to_gradient


@nobody_waits
@nb.njit(**LOOP)
def forward(
    lens, order, reverse, before, codes, params, clip, W, Rt_zr, Rt_h, bias, Rb_h, x, h0, z, gates, inner, hidden, stop
):  # fmt: skip
    """Runs the recurrence. The products are computed in the type of `inner`.

    x [T, B, D]. W, Rt_zr, Rt_h: packed [D, 3H], [H, 2H], [H, H]. bias [3H]: of the pre-activations; under "before"
    without Rb_h [H], which belongs to u. Fills gates [T, B, 3H], hidden [T, B, H], inner [T, B, H]: u under "before",
    r * h_prev under "after"; and z [T, B, 3H], the pre-activations, unless it has length 0.
    """
    widest_vectors()
    B, H, number, single = order.size, hidden.shape[2], inner.dtype, hidden.dtype.type
    one, plain = hidden.dtype.type(1), codes[0] == 0 and codes[1] == 1 and not clip > 0
    latest, reset = np.empty((B, H), number), np.empty((B, H), number)
    for i in range(B):
        for j in range(H):
            latest[i, j] = h0[order[i], j]
    of_gates, of_candidate = np.empty((B, width_of(Rt_zr)), number), np.empty((B, width_of(Rt_h)), number)
    total = lens[order[0]]
    steps = steps_at_once(B, width_of(W), total)
    rows, acc = np.empty((steps * B, x.shape[2]), number), np.empty((steps * B, width_of(W)), number)
    running = B
    for first in range(0, total, steps):
        end = min(first + steps, total)
        multiply(rows, W, acc, gather(x, order, lens, reverse, first, end, rows), 0)
        row = np.int64(0)
        for s in range(first, end):
            if is_set(stop):
                return
            while lens[order[running - 1]] <= s:
                running -= 1
            multiply(latest, Rt_zr, of_gates, running, s)
            for i in range(running):
                b = order[i]
                t = place(s, b, lens, reverse)
                for j in range(2 * H):
                    acc[row + i, j] += of_gates[i, j] + bias[j]
                if plain:
                    for j in range(2 * H):
                        gates[t, b, j] = one / (one + exp(single(-acc[row + i, j])))
                else:
                    activate(
                        codes[0], params[0, 0], params[0, 1], clip, acc[row + i, : 2 * H], gates[t, b, : 2 * H]
                    )  # fmt: skip
                for j in range(H):
                    reset[i, j] = inner.dtype.type(gates[t, b, H + j]) * latest[i, j]
            multiply(latest if before else reset, Rt_h, of_candidate, running, s)
            for i in range(running):
                b = order[i]
                t = place(s, b, lens, reverse)
                if before:
                    for j in range(H):
                        u = of_candidate[i, j] + Rb_h[j]
                        inner[t, b, j] = u
                        acc[row + i, 2 * H + j] += bias[2 * H + j] + gates[t, b, H + j] * u
                else:
                    for j in range(H):
                        inner[t, b, j] = reset[i, j]
                        acc[row + i, 2 * H + j] += bias[2 * H + j] + of_candidate[i, j]
                if plain:
                    for j in range(H):
                        gates[t, b, 2 * H + j] = tanh(single(acc[row + i, 2 * H + j]))
                else:
                    activate(
                        codes[1], params[1, 0], params[1, 1], clip, acc[row + i, 2 * H : 3 * H], gates[t, b, 2 * H :]
                    )  # fmt: skip
                for j in range(H):
                    keeps = gates[t, b, j]
                    hidden[t, b, j] = (one - keeps) * gates[t, b, 2 * H + j] + keeps * single(latest[i, j])
                    latest[i, j] = hidden[t, b, j]
                if z.shape[0]:
                    for j in range(3 * H):
                        z[t, b, j] = acc[row + i, j]
            row += running


@nobody_waits
@nb.njit(**LOOP)
def gradient(
    lens, order, reverse, before, codes, params, clip, R_zr, R_h, W, z, gates, inner, hidden, h0, g_y, g_h, g_x, stop
):  # fmt: skip
    """g_y [T, B, H] or [0, 0, 0], g_h [B, H]: gradients arriving at the steps and at the last state, which becomes that
    of the initial state. R_zr, R_h, W: packed [2H, H], [H, H], [3H, D]. Fills g_x [T, B, D]. z may be empty where no
    derivative reads it."""
    B, H = order.size, hidden.shape[2]
    one, total, along = hidden.dtype.type(1), lens[order[0]], g_y.shape[0] > 0
    steps = steps_at_once(B, 3 * H, total)
    m, h_prev = np.empty((steps * B, 3 * H), inner.dtype), np.empty((B, H), inner.dtype)
    where, of_rows = np.empty((steps * B, 2), np.int64), np.empty((steps * B, width_of(W)), inner.dtype)
    of_candidate, of_gates = np.empty((B, H), inner.dtype), np.empty((B, 2 * H), inner.dtype)
    through, back = np.empty((B, width_of(R_h)), inner.dtype), np.empty((B, width_of(R_zr)), inner.dtype)
    active, wakes = np.empty(B, np.int64), np.empty(lens.size, np.int64)
    begin(order, lens, reverse, g_y, g_h, g_h, g_x, wakes)
    row = running = np.int64(0)
    for s in range(total - 1, -1, -1):
        if is_set(stop):
            return
        running = active_at(s, running, active, wakes, order, lens, reverse, g_y, g_h, g_h, g_x)
        if row + running > steps * B:
            to_gradient(m, W, of_rows, row, where, g_x)
            row = np.int64(0)
        for i in range(running):
            b = active[i]
            t, k = place(s, b, lens, reverse), on_tape(b, hidden)
            state_before(s, b, lens, reverse, hidden, h0, h_prev, i)
            where[row + i, 0], where[row + i, 1] = t, b
            for j in range(H):
                g = g_h[b, j] + g_y[t, b, j] if along else g_h[b, j]
                m[row + i, j] = g * (h_prev[i, j] - gates[t, k, 2 * H + j])
                m[row + i, 2 * H + j] = g * (one - gates[t, k, j])
                g_h[b, j] = g * gates[t, k, j]
            pre = z[t, k] if z.shape[0] else gates[t, k]
            multiply_by_slope(
                codes[1], params[1, 0], params[1, 1], clip, pre[2 * H :], gates[t, k, 2 * H :], m[row + i, 2 * H :]
            )
            for j in range(H):
                if before:
                    m[row + i, H + j] = m[row + i, 2 * H + j] * inner[t, k, j]
                    of_candidate[i, j] = m[row + i, 2 * H + j] * gates[t, k, H + j]
                else:
                    of_candidate[i, j] = m[row + i, 2 * H + j]
        multiply(of_candidate, R_h, through, running, s)
        for i in range(running):
            b = active[i]
            t, k = place(s, b, lens, reverse), on_tape(b, hidden)
            for j in range(H):
                if before:
                    g_h[b, j] += through[i, j]
                else:
                    m[row + i, H + j] = through[i, j] * h_prev[i, j]
                    g_h[b, j] += through[i, j] * gates[t, k, H + j]
            pre = z[t, k] if z.shape[0] else gates[t, k]
            multiply_by_slope(
                codes[0], params[0, 0], params[0, 1], clip, pre[: 2 * H], gates[t, k, : 2 * H], m[row + i, : 2 * H]
            )
            for j in range(2 * H):
                of_gates[i, j] = m[row + i, j]
        multiply(of_gates, R_zr, back, running, s)
        for i in range(running):
            for j in range(H):
                g_h[active[i], j] += back[i, j]
        row += running
    to_gradient(m, W, of_rows, row, where, g_x)


@nobody_waits
@nb.njit(**LOOP)
def predict(x, W, Rt_zr, Rt_h, bias, Rb_h, h0, lens, order, reverse, before, codes, params, clip, hidden, last, stop):
    """Does what `forward` does without saving anything, and once for sequences that begin alike (prefixes.py).

    x to clip: as in `forward`. order [n]: the sequences, neighbours being those that begin alike. Fills hidden
    [T, B, H], unless it has length 0, and the last states [B, H]; nothing after the end of a sequence. Returns how many
    steps of groups it ran.
    """
    widest_vectors()
    n, H, dtype, one = order.size, h0.shape[1], x.dtype, x.dtype.type(1)
    plain = codes[0] == 0 and codes[1] == 1 and not clip > 0
    new, first, last_new = differences(x, order, lens, reverse)
    starts, ends = limits(x.shape[0], order, lens, reverse)
    separate_initial(first, starts, order, h0, h0)
    counts = different_inputs(new)
    group_of, head, count = np.full(n, -1), np.zeros(n, np.int64), np.int64(0)
    h, z, act = np.empty((n, H), dtype), np.empty((n, 3 * H), dtype), np.empty((n, 3 * H), dtype)
    reset, product = np.empty((n, H), dtype), np.zeros((n, max(width_of(Rt_zr), 3 * H)), dtype)
    of_gates, of_candidate = np.empty((n, width_of(Rt_zr)), dtype), np.empty((n, width_of(Rt_h)), dtype)
    rows = np.empty((room_for(n, W), x.shape[2]), dtype)
    of_rows = np.empty((rows.shape[0], width_of(W)), dtype)
    end = row = ran = np.int64(0)
    for s in range(x.shape[0]):
        if is_set(stop):
            break
        if s == end:
            end, filled = gather_different(x, order, reverse, new, s, counts, rows)
            multiply(rows, W, of_rows, filled, 0)
            row = np.int64(0)
        count = split(s, count, first, starts, group_of, head, order, h0, h0, h, h)
        count = finish(s, count, ends, group_of, head, order, h, h, last, last)
        multiply(h, Rt_zr, of_gates, count, s)
        for g in range(count):
            for j in range(2 * H):
                product[g, j] = of_gates[g, j]
        row = pre_activations(new, s, row, group_of, head, of_rows, product, bias, 3 * H, z)
        for g in range(count):
            if plain:
                for j in range(2 * H):
                    act[g, j] = one / (one + exp(-z[g, j]))
            else:
                activate(codes[0], params[0, 0], params[0, 1], clip, z[g, : 2 * H], act[g, : 2 * H])
            for j in range(H):
                reset[g, j] = act[g, H + j] * h[g, j]
        multiply(h if before else reset, Rt_h, of_candidate, count, s)
        for g in range(count):
            for j in range(H):
                if before:
                    z[g, 2 * H + j] += act[g, H + j] * (of_candidate[g, j] + Rb_h[j])
                else:
                    z[g, 2 * H + j] += of_candidate[g, j]
            if plain:
                for j in range(H):
                    act[g, 2 * H + j] = tanh(z[g, 2 * H + j])
            else:
                activate(codes[1], params[1, 0], params[1, 1], clip, z[g, 2 * H :], act[g, 2 * H :])
            for j in range(H):
                h[g, j] = (one - act[g, j]) * act[g, 2 * H + j] + act[g, j] * h[g, j]
        ran += count
        count = merge(s, count, last_new, group_of, head, h, h)
        hand_out(x.shape[0] - 1 - s if reverse else s, order, group_of, h, hidden)
    finish(x.shape[0], count, ends, group_of, head, order, h, h, last, last)
    return ran
