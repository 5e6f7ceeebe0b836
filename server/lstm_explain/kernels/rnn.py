# SPDX-License-Identifier: Apache-2.0
"""The time loops of the plain recurrent cell, h = f(x W + h_prev R + b). Conventions: time_steps.py."""

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
from lstm_explain.kernels.scalar_functions import (
    LOOP,
    activate,
    multiply_by_slope,
    settle,
    settle_by,
    tanh,
    widest_vectors,
)
from lstm_explain.kernels.stabilisers import block_of, gaps, limit, sizes_of_states
from lstm_explain.kernels.time_steps import (
    gather,
    is_set,
    on_tape,
    order_on_tape,
    place,
    steps_at_once,
    through_hidden,
    to_gradient,
    to_inputs,
)


@nobody_waits
@nb.njit(**LOOP)
def forward(lens, order, reverse, codes, params, clip, W, Rt, bias, x, h0, z, hidden, stop):
    """x [T, B, D]. W, Rt: packed [D, H], [H, H]. bias [H]. Fills z [T, B, H], the pre-activations, and hidden [T, B,
    H]. The products are computed in the type of z.
    """
    widest_vectors()
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
        row = np.int64(0)
        for s in range(first, end):
            if is_set(stop):
                return
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


@nobody_waits
@nb.njit(**LOOP)
def relevance(
    lens, order, reverse, bias, R, W, eps, delta, unit, sums_W, sums_R, sums_bias, beta, ceiling,
    x, z, hidden, h0, r_y, r_h, r_x, lost,
):  # fmt: skip
    """LRP: the activation passes relevance unchanged; the epsilon rule then distributes it over x and h_prev together.

    R, W: packed [H, H], [H, D]; unit: one over the number of incoming units (D + H). r_y: relevance arriving at every
    step, [T, B, H] or [0, 0, 0]; r_h [B, H]: at the last state; becomes the initial state's. Fills r_x [T, B, D]; adds
    to lost [B] what is absorbed. Only with the relative stabiliser, else None (eps counts): sums_W, sums_R, sums_bias,
    beta, what `stabilisers.gaps` reads; ceiling, see `stabilisers.limit`; the state is h, which no direct path carries
    from step to step.
    """
    B, H, total, along = order.size, hidden.shape[2], lens[order[0]], r_y.shape[0] > 0
    zero, one = z.dtype.type(0), z.dtype.type(1)
    steps = steps_at_once(B, H, total)
    m, given = np.empty((steps * B, H), z.dtype), np.empty(steps * B, z.dtype)
    where, of_rows = np.empty((steps * B, 2), np.int64), np.empty((steps * B, width_of(W)), z.dtype)
    back = np.empty((B, width_of(R)), z.dtype)
    below, above, arrived = np.empty(H, z.dtype), np.empty(H, z.dtype), np.zeros(lens.size, z.dtype)
    carried, first, sizes, tape_order = np.zeros(r_h.shape, z.dtype), total, None, order
    of_z, block = np.empty((0, 0, 0), z.dtype), 0
    if sums_W is not None:
        tape_order = order_on_tape(order, hidden)
        block = block_of(tape_order.size)
        of_z = np.empty((block, hidden.shape[1], H), z.dtype)
        sizes = sizes_of_states(hidden, None, lens, tape_order, reverse)
    active, wakes = np.empty(B, np.int64), np.empty(lens.size, np.int64)
    begin(order, lens, reverse, r_y, r_h, r_h, r_x, wakes)
    row = running = np.int64(0)
    for s in range(total - 1, -1, -1):
        running = active_at(s, running, active, wakes, order, lens, reverse, r_y, r_h, r_h, r_x)
        if row + running > steps * B:
            to_inputs(m, W, of_rows, row, where, given, x, r_x)
            row = np.int64(0)
        if sums_W is not None and running and s < first:
            first = max(0, s + 1 - block)
            gaps(x, hidden, h0, lens, tape_order, reverse, first, s + 1, sums_W, sums_R, sums_bias, z, None, beta, of_z)
        before = row
        for i in range(running):
            b = active[i]
            t, k = place(s, b, lens, reverse), on_tape(b, hidden)
            of_bias = zero
            if sums_W is not None:
                for j in range(H):
                    below[j] = hidden[t, k, j]
                    above[j] = r_y[t, b, j] if along else zero
                lost[b] += limit(b, s == lens[b] - 1, ceiling, sizes, below, arrived, above, carried, r_h)
            for j in range(H):
                r = r_h[b, j] + r_y[t, b, j] if along else r_h[b, j]
                if sums_W is None:
                    density, kept = settle(r, z[t, k, j], bias[j], eps)
                else:
                    density, kept = settle_by(r, z[t, k, j], bias[j], of_z[s - first, k, j])
                m[row, j] = density
                of_bias += kept
            lost[b] += (one - delta) * of_bias
            given[row] = delta * of_bias * unit
            where[row, 0], where[row, 1] = t, b
            row += 1
        multiply(m[before:row], R, back, running, s)
        through_hidden(back, given, before, running, s - 1, active, lens, reverse, hidden, h0, r_h)
    to_inputs(m, W, of_rows, row, where, given, x, r_x)


@nobody_waits
@nb.njit(**LOOP)
def gradient(lens, order, reverse, codes, params, clip, R, W, z, hidden, g_y, g_h, g_x, stop):
    """Back-propagation through time; fills g_x [T, B, D]; g_h becomes the initial state's."""
    B, H, total, along = order.size, hidden.shape[2], lens[order[0]], g_y.shape[0] > 0
    one, plain = hidden.dtype.type(1), codes[0] == 1 and not clip > 0
    steps = steps_at_once(B, H, total)
    m, back = np.empty((steps * B, H), z.dtype), np.empty((B, width_of(R)), z.dtype)
    where, of_rows = np.empty((steps * B, 2), np.int64), np.empty((steps * B, width_of(W)), z.dtype)
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
        before = row
        for i in range(running):
            b = active[i]
            t, k = place(s, b, lens, reverse), on_tape(b, hidden)
            for j in range(H):
                m[row, j] = g_h[b, j] + g_y[t, b, j] if along else g_h[b, j]
            if plain:
                for j in range(H):
                    m[row, j] *= one - hidden[t, k, j] * hidden[t, k, j]
            else:
                multiply_by_slope(codes[0], params[0, 0], params[0, 1], clip, z[t, k], hidden[t, k], m[row])
            where[row, 0], where[row, 1] = t, b
            row += 1
        multiply(m[before:row], R, back, running, s)
        for i in range(running):
            for j in range(H):
                g_h[active[i], j] = back[i, j]
    to_gradient(m, W, of_rows, row, where, g_x)


@nobody_waits
@nb.njit(**LOOP)
def predict(x, W, Rt, bias, h0, lens, order, reverse, codes, params, clip, hidden, last, stop):
    """Does what `forward` does without saving anything, and once for sequences that begin alike (prefixes.py).

    x to clip: as in `forward`. order [n]: the sequences, neighbours being those that begin alike. Fills hidden
    [T, B, H], unless it has length 0, and the last states [B, H]; nothing after the end of a sequence. stop [1]:
    anything but 0 ends the loop early. Returns how many steps of groups it ran.
    """
    widest_vectors()
    n, H, dtype, plain = order.size, h0.shape[1], x.dtype, codes[0] == 1 and not clip > 0
    new, first, last_new = differences(x, order, lens, reverse)
    starts, ends = limits(x.shape[0], order, lens, reverse)
    separate_initial(first, starts, order, h0, h0)
    counts = different_inputs(new)
    group_of, head, count = np.full(n, -1), np.zeros(n, np.int64), np.int64(0)
    h, z, product = np.empty((n, H), dtype), np.empty((n, H), dtype), np.empty((n, width_of(Rt)), dtype)
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
        multiply(h, Rt, product, count, s)
        row = pre_activations(new, s, row, group_of, head, of_rows, product, bias, H, z)
        for g in range(count):
            if plain:
                for j in range(H):
                    h[g, j] = tanh(z[g, j])
            else:
                activate(codes[0], params[0, 0], params[0, 1], clip, z[g], h[g])
        ran += count
        count = merge(s, count, last_new, group_of, head, h, h)
        hand_out(x.shape[0] - 1 - s if reverse else s, order, group_of, h, hidden)
    finish(x.shape[0], count, ends, group_of, head, order, h, h, last, last)
    return ran
