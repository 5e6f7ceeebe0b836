"""The time loops of the plain recurrent cell, h = f(x W + h_prev R + b). Conventions: time_steps.py."""

from __future__ import annotations

import numba as nb
import numpy as np

from lstm_explain.kernels.active_samples import active_at, begin
from lstm_explain.kernels.recurrent_matmul import multiply, width_of
from lstm_explain.kernels.scalar_functions import LOOP, activate, multiply_by_slope, settle, settle_by, tanh
from lstm_explain.kernels.stabilisers import limit
from lstm_explain.kernels.time_steps import gather, place, steps_at_once, through_hidden, to_gradient, to_inputs


@nb.njit(**LOOP)
def forward(x, W, Rt, bias, h0, lens, order, reverse, codes, params, clip, z, hidden):
    """x [T, B, D]. W, Rt: packed [D, H], [H, H]. bias [H]. Fills z [T, B, H], the pre-activations, and hidden [T, B,
    H]. The products are computed in the type of z.
    """
    B, H, plain = order.size, hidden.shape[2], codes[0] == 1 and not clip > 0
    latest, product = np.empty((B, H), z.dtype), np.empty((B, width_of(Rt)), z.dtype)
    for i in range(B):
        for j in range(H):
            latest[i, j] = h0[order[i], j]
    total = lens[order[0]]
    steps = steps_at_once(B, width_of(W), total)
    rows, of_rows = np.empty((steps * B, x.shape[2]), z.dtype), np.empty((steps * B, width_of(W)), z.dtype)
    running = B
    for first in range(0, total, steps):
        end = min(first + steps, total)
        multiply(rows, W, of_rows, gather(x, order, lens, reverse, first, end, rows), 0)
        row = 0
        for s in range(first, end):
            while lens[order[running - 1]] <= s:
                running -= 1
            multiply(latest, Rt, product, running, s)
            for i in range(running):
                b = order[i]
                t = place(s, b, lens, reverse)
                for j in range(H):
                    z[t, b, j] = of_rows[row, j] + product[i, j] + bias[j]
                if plain:
                    for j in range(H):
                        hidden[t, b, j] = tanh(hidden.dtype.type(z[t, b, j]))
                else:
                    activate(codes[0], params[0, 0], params[0, 1], clip, z[t, b], hidden[t, b])
                for j in range(H):
                    latest[i, j] = hidden[t, b, j]
                row += 1


@nb.njit(**LOOP)
def relevance(
    x, z, hidden, h0, lens, order, reverse, bias, R, W, eps, delta, unit, r_y, r_h, r_x, lost, gaps, ceiling, sizes
):  # fmt: skip
    """LRP: the activation passes relevance unchanged; the epsilon rule then distributes it over x and h_prev together.

    R, W: packed [H, H], [H, D]; unit: one over the number of incoming units (D + H). r_y: relevance arriving at every
    step, [T, B, H] or [0, 0, 0]; r_h [B, H]: at the last state; becomes the initial state's. Fills r_x [T, B, D]; adds
    to lost [B] what is absorbed. gaps [T, B, H]: what the relative stabiliser adds to z; None: eps counts. Only with
    gaps: ceiling and sizes [B, H], see `stabilisers.limit`; the state is h, which no direct path carries from step to
    step.
    """
    B, H, total, along = order.size, hidden.shape[2], lens[order[0]], r_y.shape[0] > 0
    zero, one = z.dtype.type(0), z.dtype.type(1)
    steps = steps_at_once(B, H, total)
    m, given = np.empty((steps * B, H), z.dtype), np.empty(steps * B, z.dtype)
    where, of_rows = np.empty((steps * B, 2), np.int64), np.empty((steps * B, width_of(W)), z.dtype)
    back = np.empty((B, width_of(R)), z.dtype)
    below, above, arrived = np.empty(H, z.dtype), np.empty(H, z.dtype), np.zeros(lens.size, z.dtype)
    carried = np.zeros(r_h.shape, z.dtype)
    active, wakes = np.empty(B, np.int64), np.empty(lens.size, np.int64)
    begin(order, lens, reverse, r_y, r_h, r_h, r_x, wakes)
    row, running = 0, 0
    for s in range(total - 1, -1, -1):
        running = active_at(s, running, active, wakes, order, lens, reverse, r_y, r_h, r_h, r_x)
        if row + running > steps * B:
            to_inputs(m, W, of_rows, row, where, given, x, r_x)
            row = 0
        before = row
        for i in range(running):
            b = active[i]
            t = place(s, b, lens, reverse)
            of_bias = zero
            if gaps is not None:
                for j in range(H):
                    below[j] = hidden[t, b, j]
                    above[j] = r_y[t, b, j] if along else zero
                lost[b] += limit(b, s == lens[b] - 1, ceiling, sizes, below, arrived, above, carried, r_h)
            for j in range(H):
                r = r_h[b, j] + r_y[t, b, j] if along else r_h[b, j]
                if gaps is None:
                    density, kept = settle(r, z[t, b, j], bias[j], eps)
                else:
                    density, kept = settle_by(r, z[t, b, j], bias[j], gaps[t, b, j])
                m[row, j] = density
                of_bias += kept
            lost[b] += (one - delta) * of_bias
            given[row] = delta * of_bias * unit
            where[row, 0], where[row, 1] = t, b
            row += 1
        multiply(m[before:row], R, back, running, s)
        through_hidden(back, given, before, running, s - 1, active, lens, reverse, hidden, h0, r_h)
    to_inputs(m, W, of_rows, row, where, given, x, r_x)


@nb.njit(**LOOP)
def gradient(z, hidden, lens, order, reverse, codes, params, clip, R, W, g_y, g_h, g_x):
    """Back-propagation through time; fills g_x [T, B, D]; g_h becomes the initial state's."""
    B, H, total, along = order.size, hidden.shape[2], lens[order[0]], g_y.shape[0] > 0
    one, plain = hidden.dtype.type(1), codes[0] == 1 and not clip > 0
    steps = steps_at_once(B, H, total)
    m, back = np.empty((steps * B, H), z.dtype), np.empty((B, width_of(R)), z.dtype)
    where, of_rows = np.empty((steps * B, 2), np.int64), np.empty((steps * B, width_of(W)), z.dtype)
    active, wakes = np.empty(B, np.int64), np.empty(lens.size, np.int64)
    begin(order, lens, reverse, g_y, g_h, g_h, g_x, wakes)
    row, running = 0, 0
    for s in range(total - 1, -1, -1):
        running = active_at(s, running, active, wakes, order, lens, reverse, g_y, g_h, g_h, g_x)
        if row + running > steps * B:
            to_gradient(m, W, of_rows, row, where, g_x)
            row = 0
        before = row
        for i in range(running):
            b = active[i]
            t = place(s, b, lens, reverse)
            for j in range(H):
                m[row, j] = g_h[b, j] + g_y[t, b, j] if along else g_h[b, j]
            if plain:
                for j in range(H):
                    m[row, j] *= one - hidden[t, b, j] * hidden[t, b, j]
            else:
                multiply_by_slope(codes[0], params[0, 0], params[0, 1], clip, z[t, b], hidden[t, b], m[row])
            where[row, 0], where[row, 1] = t, b
            row += 1
        multiply(m[before:row], R, back, running, s)
        for i in range(running):
            for j in range(H):
                g_h[active[i], j] = back[i, j]
    to_gradient(m, W, of_rows, row, where, g_x)
