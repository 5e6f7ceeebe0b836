# SPDX-License-Identifier: Apache-2.0
"""The forward pass of the LSTM, which saves what the backward pass needs. Conventions: time_steps.py. Gate order is
ONNX's: i, o, f, c.

Under "half", "prop" and "abs", pre-activations and cells are in float64 even where everything else is in float32,
because these rules divide by both. Then c is in float64, and so are the products, whose type is that of c.

Per step (the ONNX operator LSTM; peepholes P in order i, o, f):
    z = x W + h_prev R + b,  i, f = s(z + P c_prev),  g = tanh(z_c),  c = f c_prev + i g,  o = s(z_o + P_o c),
    h = o tanh(c).
"""

from __future__ import annotations

import numba as nb
import numpy as np

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
from lstm_explain.kernels.scalar_functions import LOOP, STEP, activate, exp, tanh, widest_vectors
from lstm_explain.kernels.single_steps import next_states
from lstm_explain.kernels.time_steps import HERE, gather, is_set, place, steps_at_once


@nb.njit(**HERE)
def is_plain(codes, clip, P, coupled):
    """Returns whether the cell is the usual one, for which there is a single loop."""
    return codes[0] == 0 and codes[1] == 1 and codes[2] == 1 and not (clip > 0 or P.shape[0] or coupled)


@nobody_waits
@nb.njit(**LOOP)
def forward(
    lens, order, reverse, codes, params, clip, coupled, W, Rt, bias, P,
    x, c, h0, signals, z, gates, cells, squashed, hidden, stop,
):  # fmt: skip
    """Runs the recurrence and saves one of two sets of arrays.

    x [T, B, D]. W, Rt: packed [D, 4H], [H, 4H]. bias [4H]. P [3, H] or [0, H]. h0 [B, H]. lens [B]. c [B, H]: the
    initial cells, overwritten with the last. codes [3], params [3, 2]: activations f, g, h. coupled: f = 1 - i.

    signals [3, T, B, H]: what "signal takes all" reads: z of the cell input; f c_prev; i g. Or None, and what all other
    backward passes read: gates [T, B, 4H]; cells and squashed, h's activation of the cell, [T, B, H]; and z [T, B, 4H],
    unless it is empty. The others are then None. Always hidden [T, B, H].
    """
    if signals is not None:
        widest_vectors()  # not for gates, which take longer to write with them
    B, H = order.size, hidden.shape[2]
    plain = is_plain(codes, clip, P, coupled)
    latest, product = np.empty((B, H), c.dtype), np.zeros((B, width_of(Rt)), c.dtype)
    for i in range(B):
        for j in range(H):
            latest[i, j] = h0[order[i], j]
    started = h0.any()
    act, cell, bent = np.empty(4 * H, hidden.dtype), np.empty(H, c.dtype), np.empty(H, hidden.dtype)
    total = lens[order[0]]
    steps = steps_at_once(B, width_of(W), total)
    rows, of_rows = np.empty((steps * B, x.shape[2]), c.dtype), np.empty((steps * B, width_of(W)), c.dtype)
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
            if s > 0 or started:
                multiply(latest, Rt, product, running, s)
            for i in range(running):
                b = order[i]
                t = place(s, b, lens, reverse)
                if signals is not None:
                    if plain:
                        _signals(row, i, t, b, of_rows, product, bias, c, signals, hidden, latest)
                    else:
                        z_row = of_rows[row]
                        for j in range(4 * H):
                            z_row[j] += product[i, j] + bias[j]
                        _any_cell(z_row, act, c[b], cell, bent, hidden[t, b], P, codes, params, clip, coupled)
                        for j in range(H):
                            signals[0, t, b, j] = z_row[3 * H + j]
                            signals[1, t, b, j] = act[2 * H + j] * c[b, j]
                            signals[2, t, b, j] = act[j] * act[3 * H + j]
                            latest[i, j] = hidden[t, b, j]
                            c[b, j] = cell[j]
                if gates is not None:  # not `else`: Numba only leaves out what an argument of None excludes
                    for j in range(4 * H):
                        of_rows[row, j] += product[i, j] + bias[j]
                    if plain:
                        _gates(row, i, t, b, of_rows, c, gates, cells, squashed, hidden, latest)
                    else:
                        _any_cell(
                            of_rows[row], gates[t, b], c[b], cells[t, b], squashed[t, b], hidden[t, b], P, codes,
                            params, clip, coupled,
                        )  # fmt: skip
                        for j in range(H):
                            latest[i, j] = hidden[t, b, j]
                            c[b, j] = cells[t, b, j]
                    if z.shape[0] > 0:
                        for j in range(4 * H):
                            z[t, b, j] = of_rows[row, j]
                row += 1


@nb.njit(**HERE)
def _signals(row, i, t, b, of_rows, product, bias, c, signals, hidden, latest):
    """One step of the plain cell, for "signal takes all". A loop for each function: the constants of all of them at
    once would not fit into the registers, and would be loaded again for every vector.
    """
    H, one = hidden.shape[2], hidden.dtype.type(1)
    for j in range(3 * H):
        of_rows[row, j] = one + exp(-(of_rows[row, j] + product[i, j] + bias[j]))
    for j in range(H):
        z = of_rows[row, 3 * H + j] + product[i, 3 * H + j] + bias[3 * H + j]
        signals[0, t, b, j] = z
        of_rows[row, 3 * H + j] = tanh(z)
    for j in range(H):
        added = of_rows[row, 3 * H + j] / of_rows[row, j]
        carried = c[b, j] / of_rows[row, 2 * H + j]
        cell = added + carried
        out = tanh(cell) / of_rows[row, H + j]
        signals[1, t, b, j] = carried
        signals[2, t, b, j] = added
        c[b, j] = cell
        hidden[t, b, j] = out
        latest[i, j] = out


@nb.njit(**STEP, forceinline=True)
def _gates(row, i, t, b, z, c, gates, cells, squashed, hidden, latest):
    """One step of the plain cell from its pre-activations, the row of z; the functions are computed in the type of
    `hidden`.
    """
    H, single, one = hidden.shape[2], hidden.dtype.type, hidden.dtype.type(1)
    for j in range(3 * H):
        gates[t, b, j] = one / (one + exp(single(-z[row, j])))
    for j in range(H):
        gates[t, b, 3 * H + j] = tanh(single(z[row, 3 * H + j]))
    for j in range(H):
        cell = gates[t, b, 2 * H + j] * c[b, j] + gates[t, b, j] * c.dtype.type(gates[t, b, 3 * H + j])
        bent = tanh(single(cell))
        c[b, j] = cell
        cells[t, b, j] = cell
        squashed[t, b, j] = bent
        hidden[t, b, j] = gates[t, b, H + j] * bent
        latest[i, j] = gates[t, b, H + j] * bent


@nb.njit(**LOOP)
def _any_cell(acc, act, c, cell, squashed, hidden, P, codes, params, clip, coupled):
    """One step with peepholes, clipping, coupled gates and any activations."""
    H, none, one = cell.size, clip - clip, clip - clip + np.float32(1)
    if P.shape[0]:
        for j in range(H):
            acc[j] += P[0, j] * c[j]
            acc[2 * H + j] += P[2, j] * c[j]
    i, o, f, g = act[:H], act[H : 2 * H], act[2 * H : 3 * H], act[3 * H :]
    activate(codes[0], params[0, 0], params[0, 1], clip, acc[:H], i)
    activate(codes[1], params[1, 0], params[1, 1], clip, acc[3 * H : 4 * H], g)
    if coupled:
        for j in range(H):
            f[j] = one - i[j]
    else:
        activate(codes[0], params[0, 0], params[0, 1], clip, acc[2 * H : 3 * H], f)
    for j in range(H):
        cell[j] = f[j] * c[j] + i[j] * g[j]
    if P.shape[0]:
        for j in range(H):
            acc[H + j] += P[1, j] * cell[j]
    activate(codes[0], params[0, 0], params[0, 1], clip, acc[H : 2 * H], o)
    activate(codes[2], params[2, 0], params[2, 1], none, cell, squashed)
    for j in range(H):
        hidden[j] = o[j] * squashed[j]


@nobody_waits
@nb.njit(**LOOP)
def predict(x, W, Rt, bias, P, h0, c0, lens, order, reverse, codes, params, clip, coupled, hidden, last, last_c, stop):
    """Does what `forward` does without saving anything, and once for sequences that begin alike (prefixes.py).

    x, W, Rt, bias, P, codes, params, coupled: as in `forward`. h0, c0 [B, H]. order [n]: the sequences, neighbours
    being those that begin alike. Fills hidden [T, B, H], unless it has length 0, and the last states and cells [B, H];
    nothing after the end of a sequence. Returns how many steps of groups it ran.
    """
    widest_vectors()
    n, H, dtype, plain = order.size, h0.shape[1], x.dtype, is_plain(codes, clip, P, coupled)
    new, first, last_new = differences(x, order, lens, reverse)
    starts, ends = limits(x.shape[0], order, lens, reverse)
    separate_initial(first, starts, order, h0, c0)
    counts = different_inputs(new)
    group_of, head, count = np.full(n, -1), np.zeros(n, np.int64), np.int64(0)
    h, c, z = np.empty((n, H), dtype), np.empty((n, H), dtype), np.empty((n, 4 * H), dtype)
    product = np.empty((n, width_of(Rt)), dtype)
    rows = np.empty((room_for(n, W), x.shape[2]), dtype)
    of_rows = np.empty((rows.shape[0], width_of(W)), dtype)
    act, cell, bent = np.empty(4 * H, dtype), np.empty(H, dtype), np.empty(H, dtype)
    end = row = ran = np.int64(0)
    for s in range(x.shape[0]):
        if is_set(stop):
            break
        if s == end:
            end, filled = gather_different(x, order, reverse, new, s, counts, rows)
            multiply(rows, W, of_rows, filled, 0)
            row = np.int64(0)
        count = split(s, count, first, starts, group_of, head, order, h0, c0, h, c)
        count = finish(s, count, ends, group_of, head, order, h, c, last, last_c)
        multiply(h, Rt, product, count, s)
        row = pre_activations(new, s, row, group_of, head, of_rows, product, bias, 4 * H, z)
        if plain:
            next_states(count, z, c, h)
        for g in range(0 if plain else count):
            _any_cell(z[g], act, c[g], cell, bent, h[g], P, codes, params, clip, coupled)
            for j in range(H):
                c[g, j] = cell[j]
        ran += count
        count = merge(s, count, last_new, group_of, head, h, c)
        hand_out(x.shape[0] - 1 - s if reverse else s, order, group_of, h, hidden)
    finish(x.shape[0], count, ends, group_of, head, order, h, c, last, last_c)
    return ran
