# SPDX-License-Identifier: Apache-2.0
"""Back-propagation through the LSTM. Conventions: time_steps.py; saved arrays: lstm.py."""

from __future__ import annotations

import numba as nb
import numpy as np

from lstm_explain.kernels.active_samples import active_at, begin
from lstm_explain.kernels.compilation import nobody_waits
from lstm_explain.kernels.lstm import is_plain
from lstm_explain.kernels.recurrent_matmul import multiply, width_of
from lstm_explain.kernels.scalar_functions import LOOP, STEP, multiply_by_slope
from lstm_explain.kernels.time_steps import is_set, on_tape, place, state_before, steps_at_once, to_gradient


@nobody_waits
@nb.njit(**LOOP)
def gradient(
    lens, order, reverse, codes, params, clip, coupled, R, W, P, z, gates, cells, squashed, c0, g_y, g_h, g_c, g_x,
    stop,
):  # fmt: skip
    """g_y, g_h, g_c, g_x are like r_y, r_h, r_c, r_x in `relevance_all`, but hold gradients; R, W packed [4H, H], [4H,
    D]. z may be empty where no derivative reads it.
    """
    B, H = order.size, cells.shape[2]
    plain, total, along = is_plain(codes, clip, P, coupled), lens[order[0]], g_y.shape[0] > 0
    steps = steps_at_once(B, 4 * H, total)
    m, c_prev, g_cell = (
        np.empty((steps * B, 4 * H), cells.dtype),
        np.empty((1, H), cells.dtype),
        np.empty(H, cells.dtype),
    )
    where, of_rows = np.empty((steps * B, 2), np.int64), np.empty((steps * B, width_of(W)), cells.dtype)
    back = np.empty((B, width_of(R)), cells.dtype)
    active, wakes = np.empty(B, np.int64), np.empty(lens.size, np.int64)
    begin(order, lens, reverse, g_y, g_h, g_c, g_x, wakes)
    row = before = running = np.int64(0)
    for s in range(total - 1, -2, -1):
        if is_set(stop):
            return
        if running:
            multiply(m[before:row], R, back, running, s)
            for i in range(running):
                for j in range(H):
                    g_h[active[i], j] = back[i, j]
        if s >= 0:
            running = active_at(s, running, active, wakes, order, lens, reverse, g_y, g_h, g_c, g_x)
        if row + running > steps * B or s < 0:
            to_gradient(m, W, of_rows, row, where, g_x)
            row = np.int64(0)
        before = row
        for i in range(running if s >= 0 else 0):
            b = active[i]
            t, k = place(s, b, lens, reverse), on_tape(b, cells)
            state_before(s, b, lens, reverse, cells, c0, c_prev, 0)
            if along:
                for j in range(H):
                    g_h[b, j] += g_y[t, b, j]
            if plain:
                _plain_step(t, b, k, row, gates, squashed, c_prev, g_h, g_c, m)
            else:
                _any_step(
                    z[t, k] if z.shape[0] else gates[t, k], gates[t, k], cells[t, k], squashed[t, k], c_prev, codes,
                    params, clip, coupled, P, g_h[b], g_c[b], g_cell, m[row],
                )  # fmt: skip
            where[row, 0], where[row, 1] = t, b
            row += 1


@nb.njit(**STEP, forceinline=True)
def _plain_step(t, b, k, row, gates, squashed, c_prev, g_h, g_c, m):
    """Writes the gradients at the pre-activations to row `row` of m, and those of the previous cell to g_c."""
    H, one = c_prev.shape[1], m.dtype.type(1)
    for j in range(H):
        i_gate, o_gate, bent = gates[t, k, j], gates[t, k, H + j], squashed[t, k, j]
        f_gate, g = gates[t, k, 2 * H + j], gates[t, k, 3 * H + j]
        m[row, H + j] = g_h[b, j] * bent * o_gate * (one - o_gate)
        of_cell = g_c[b, j] + g_h[b, j] * o_gate * (one - bent * bent)
        m[row, j] = of_cell * g * i_gate * (one - i_gate)
        m[row, 3 * H + j] = of_cell * i_gate * (one - g * g)
        m[row, 2 * H + j] = of_cell * c_prev[0, j] * f_gate * (one - f_gate)
        g_c[b, j] = of_cell * f_gate


@nb.njit(**LOOP)
def _any_step(z, act, cell, bent, c_prev, codes, params, clip, coupled, P, g_h, g_c, g_cell, out):
    """With peepholes, clipping, coupled gates and any activations. g_cell [H]: scratch space."""
    H, none = c_prev.shape[1], clip - clip
    i, o, f, g = slice(0, H), slice(H, 2 * H), slice(2 * H, 3 * H), slice(3 * H, 4 * H)
    for j in range(H):
        out[H + j] = g_h[j] * bent[j]
        g_cell[j] = g_h[j] * act[H + j]
    multiply_by_slope(codes[0], params[0, 0], params[0, 1], clip, z[o], act[o], out[o])
    multiply_by_slope(codes[2], params[2, 0], params[2, 1], none, cell, bent, g_cell)
    for j in range(H):
        g_c[j] += g_cell[j]
        if P.shape[0]:
            g_c[j] += P[1, j] * out[H + j]
        out[j] = g_c[j] * act[3 * H + j]
        out[3 * H + j] = g_c[j] * act[j]
        out[2 * H + j] = g_c[j] * c_prev[0, j]
        if coupled:
            out[j] -= out[2 * H + j]
            out[2 * H + j] = 0
    multiply_by_slope(codes[0], params[0, 0], params[0, 1], clip, z[i], act[i], out[i])
    multiply_by_slope(codes[1], params[1, 0], params[1, 1], clip, z[g], act[g], out[g])
    if not coupled:
        multiply_by_slope(codes[0], params[0, 0], params[0, 1], clip, z[f], act[f], out[f])
    for j in range(H):
        g_c[j] *= act[2 * H + j]
        if P.shape[0]:
            g_c[j] += P[0, j] * out[j] + P[2, j] * out[2 * H + j]
