# SPDX-License-Identifier: Apache-2.0
"""The backward pass of LRP through the LSTM. Conventions: time_steps.py; saved arrays: lstm.py."""

from __future__ import annotations

import numba as nb
import numpy as np

from lstm_explain.kernels.active_samples import active_at, begin
from lstm_explain.kernels.compilation import nobody_waits
from lstm_explain.kernels.recurrent_matmul import multiply, width_of
from lstm_explain.kernels.scalar_functions import LOOP, STEP, settle, settle_by, share
from lstm_explain.kernels.stabilisers import block_of, gap, gaps, limit, sizes_of_states
from lstm_explain.kernels.time_steps import (
    on_tape,
    order_on_tape,
    place,
    state_before,
    steps_at_once,
    through_hidden,
    to_inputs,
)


@nobody_waits
@nb.njit(**LOOP)
def relevance_all(
    lens, order, reverse, bias, R, W, eps, delta, unit, sums_W, sums_R, sums_bias, beta, of_cell, ceiling,
    x, signals, hidden, h0, r_y, r_h, r_c, r_x, lost,
):  # fmt: skip
    """LRP under "signal takes all": only the cell input passes relevance on (Arras et al. 2019, section 3).

    signals, hidden: of `forward`. bias [H] of the cell input; R, W: its weights, packed [H, H], [H, D]; delta:
    bias factor; unit: one over the number of incoming units (D + H). r_y: relevance arriving at every step, [T, B, H]
    or [0, 0, 0] for none; r_h, r_c [B, H]: at the last states; overwritten with that of the initial states. Fills
    r_x [T, B, D]: relevance of the inputs; adds to lost [B] what is absorbed.

    Only with the relative stabiliser, else None (eps counts): sums_W, sums_R, sums_bias, what `stabilisers.gaps` reads;
    beta and of_cell, those of `pre` and of the cell; ceiling, see `stabilisers.limit`.
    """
    B, H = order.size, hidden.shape[2]
    pre, old, new = signals[0], signals[1], signals[2]
    zero, half, one = pre.dtype.type(0), pre.dtype.type(0.5), pre.dtype.type(1)
    total, along = lens[order[0]], r_y.shape[0] > 0
    steps = steps_at_once(B, H, total)
    m, given = np.empty((steps * B, H), pre.dtype), np.empty(steps * B, pre.dtype)
    where, of_rows = np.empty((steps * B, 2), np.int64), np.empty((steps * B, width_of(W)), pre.dtype)
    back = np.empty((B, width_of(R)), pre.dtype)
    cell_gap, below, above = np.empty(H, pre.dtype), np.empty(H, pre.dtype), np.empty(H, pre.dtype)
    arrived, first, sizes, tape_order = np.zeros(lens.size, pre.dtype), total, None, order
    of_pre, block = np.empty((0, 0, 0), pre.dtype), 0
    if sums_W is not None:
        tape_order = order_on_tape(order, hidden)
        block = block_of(tape_order.size)
        of_pre = np.empty((block, hidden.shape[1], H), pre.dtype)
        sizes = sizes_of_states(old, new, lens, tape_order, reverse)
    active, wakes = np.empty(B, np.int64), np.empty(lens.size, np.int64)
    begin(order, lens, reverse, r_y, r_h, r_c, r_x, wakes)
    row = before = running = np.int64(0)
    for s in range(total - 1, -1, -1):
        if running:
            multiply(m[before:row], R, back, running, s)
            through_hidden(back, given, before, running, s, active, lens, reverse, hidden, h0, r_h)
        running = active_at(s, running, active, wakes, order, lens, reverse, r_y, r_h, r_c, r_x)
        if row + running > steps * B:
            to_inputs(m, W, of_rows, row, where, given, x, r_x)
            row = np.int64(0)
        if sums_W is not None and running and s < first:
            first = max(0, s + 1 - block)
            gaps(
                x, hidden, h0, lens, tape_order, reverse, first, s + 1, sums_W, sums_R, sums_bias, pre, None, beta,
                of_pre,
            )  # fmt: skip
        before = row
        for i in range(running):
            b = active[i]
            t, k = place(s, b, lens, reverse), on_tape(b, hidden)
            of_sum, of_input = zero, zero
            if sums_W is not None:
                for j in range(H):
                    terms = abs(old[t, k, j]) + abs(new[t, k, j])
                    cell_gap[j] = gap(old[t, k, j] + new[t, k, j], terms, of_cell)
                    below[j] = old[t, k, j] + new[t, k, j] + cell_gap[j]
                    above[j] = r_y[t, b, j] if along else zero
                lost[b] += limit(b, s == lens[b] - 1, ceiling, sizes, below, arrived, above, r_c, r_h)
            for j in range(H):
                r = r_c[b, j] + r_h[b, j]
                if along:
                    r += r_y[t, b, j]
                if sums_W is None:
                    density, kept = settle(r, old[t, k, j] + new[t, k, j], zero, eps)
                else:
                    density, kept = settle_by(r, old[t, k, j] + new[t, k, j], zero, cell_gap[j])
                of_sum += kept
                part = delta * half * kept
                r_c[b, j] = old[t, k, j] * density + part
                if sums_W is None:
                    density, kept = settle(new[t, k, j] * density + part, pre[t, k, j], bias[j], eps)
                else:
                    density, kept = settle_by(
                        new[t, k, j] * density + part, pre[t, k, j], bias[j], of_pre[s - first, k, j]
                    )
                of_input += kept
                m[row, j] = density
            lost[b] += (one - delta) * (of_sum + of_input)
            given[row] = delta * of_input * unit
            where[row, 0], where[row, 1] = t, b
            row += 1
    if running:
        if h0.any():
            multiply(m[before:row], R, back, running, 0)
        else:
            back[:] = 0
        through_hidden(back, given, before, running, -1, active, lens, reverse, hidden, h0, r_h)
    to_inputs(m, W, of_rows, row, where, given, x, r_x)


@nobody_waits
@nb.njit(**LOOP)
def relevance_shared(
    lens, order, reverse, rule, coupled, bias, R, W, P, eps, delta, unit, sums_W, sums_R, sums_bias, beta, of_cell,
    ceiling, x, more, z, gates, cells, squashed, hidden, h0, c0, r_y, r_h, r_c, r_x, lost,
):  # fmt: skip
    """LRP under half (1), prop (2) and abs (3): gates receive relevance and pass it on.

    Takes the arguments of `relevance_all` and what `forward` saves, but with bias [4H], R, W packed [4H, H], [4H, D].
    more [T, B, 4H]: what peepholes add to the sums of absolute terms; or None. beta counts, too, where the rules prop
    and abs divide by gate + signal.
    """
    B, H = order.size, hidden.shape[2]
    total, along, plain = lens[order[0]], r_y.shape[0] > 0, not (coupled or P.shape[0])
    steps = steps_at_once(B, 4 * H, total)
    m, given = np.empty((steps * B, 4 * H), z.dtype), np.empty(steps * B, z.dtype)
    where, of_rows = np.empty((steps * B, 2), np.int64), np.empty((steps * B, width_of(W)), z.dtype)
    back, c_prev = np.empty((B, width_of(R)), z.dtype), np.empty((1, H), z.dtype)
    below, above, arrived = np.empty(H, z.dtype), np.empty(H, z.dtype), np.zeros(lens.size, z.dtype)
    first, of_z, sizes, tape_order, block = total, None, None, order, 0
    if sums_W is not None:
        tape_order = order_on_tape(order, hidden)
        block = block_of(tape_order.size)
        of_z = np.empty((block, hidden.shape[1], 4 * H), z.dtype)
        sizes = sizes_of_states(cells, None, lens, tape_order, reverse)
    active, wakes = np.empty(B, np.int64), np.empty(lens.size, np.int64)
    begin(order, lens, reverse, r_y, r_h, r_c, r_x, wakes)
    row = before = running = np.int64(0)
    for s in range(total - 1, -1, -1):
        if running:
            multiply(m[before:row], R, back, running, s)
            through_hidden(back, given, before, running, s, active, lens, reverse, hidden, h0, r_h)
        running = active_at(s, running, active, wakes, order, lens, reverse, r_y, r_h, r_c, r_x)
        if row + running > steps * B:
            to_inputs(m, W, of_rows, row, where, given, x, r_x)
            row = np.int64(0)
        if sums_W is not None and running and s < first:
            first = max(0, s + 1 - block)
            gaps(x, hidden, h0, lens, tape_order, reverse, first, s + 1, sums_W, sums_R, sums_bias, z, more, beta, of_z)
        before = row
        for i in range(running):
            b = active[i]
            t, k = place(s, b, lens, reverse), on_tape(b, hidden)
            state_before(s, b, lens, reverse, cells, c0, c_prev, 0)
            if sums_W is not None:
                for j in range(H):
                    old = gates[t, k, 2 * H + j] * c_prev[0, j]
                    new = gates[t, k, j] * z.dtype.type(gates[t, k, 3 * H + j])
                    below[j] = old + new + gap(old + new, abs(old) + abs(new), of_cell)
                    above[j] = r_y[t, b, j] if along else z.dtype.type(0)
                lost[b] += limit(b, s == lens[b] - 1, ceiling, sizes, below, arrived, above, r_c, r_h)
            if along:
                for j in range(H):
                    r_h[b, j] += r_y[t, b, j]
            # one loop for each rule of the plain cell: branches on compile-time constants cost nothing
            if plain and rule == 1:
                absorbed, handed = _shared_step(
                    1, False, False, t, s - first, b, k, row, z, gates, cells, squashed, c_prev, bias, P, eps, delta,
                    unit, r_h, r_c, m, of_z, of_cell, beta,
                )  # fmt: skip
            elif plain and rule == 2:
                absorbed, handed = _shared_step(
                    2, False, False, t, s - first, b, k, row, z, gates, cells, squashed, c_prev, bias, P, eps, delta,
                    unit, r_h, r_c, m, of_z, of_cell, beta,
                )  # fmt: skip
            elif plain:
                absorbed, handed = _shared_step(
                    3, False, False, t, s - first, b, k, row, z, gates, cells, squashed, c_prev, bias, P, eps, delta,
                    unit, r_h, r_c, m, of_z, of_cell, beta,
                )  # fmt: skip
            else:
                absorbed, handed = _shared_step(
                    rule, P.shape[0] > 0, coupled, t, s - first, b, k, row, z, gates, cells, squashed, c_prev, bias, P,
                    eps, delta, unit, r_h, r_c, m, of_z, of_cell, beta,
                )  # fmt: skip
            lost[b] += absorbed
            given[row] = handed
            where[row, 0], where[row, 1] = t, b
            row += 1
    if running:
        if h0.any():
            multiply(m[before:row], R, back, running, 0)
        else:
            back[:] = 0
        through_hidden(back, given, before, running, -1, active, lens, reverse, hidden, h0, r_h)
    to_inputs(m, W, of_rows, row, where, given, x, r_x)


@nb.njit(**STEP, forceinline=True)
def _shared_step(
    rule, peeps, coupled, t, step, b, k, row, z, gates, cells, squashed, c_prev, bias, P, eps, delta, unit, r_h, r_c, m,
    of_z, of_cell, of_product,
):  # fmt: skip
    """One step of one sample: writes the densities at its pre-activations to row `row` of m, and the relevance of the
    previous cell to r_c. Returns what is absorbed, and the share of biases and stabilisers that each incoming unit
    receives.

    A gate with a peephole has one more incoming unit, the cell. of_z [step]: what the relative stabiliser adds to the
    pre-activations; or None.
    """
    H, number = c_prev.shape[1], z.dtype.type
    zero, half, one = number(0), number(0.5), number(1)
    keep, gate_unit = one - delta, one / (one / unit + one) if peeps else unit
    absorbed, handed = zero, zero
    for j in range(H):
        i_gate, o_gate = number(gates[t, k, j]), number(gates[t, k, H + j])
        f_gate, g = number(gates[t, k, 2 * H + j]), number(gates[t, k, 3 * H + j])
        r_o, r_s, gone = share(rule, o_gate, number(squashed[t, k, j]), r_h[b, j], eps, delta, of_product)
        density, kept = _at_gate(r_o, t, k, H + j, z, bias, eps, of_z, step)
        m[row, H + j] = density
        absorbed += keep * kept + gone
        handed += delta * kept * gate_unit
        r_cell = r_c[b, j] + r_s
        if peeps:
            r_cell += P[1, j] * cells[t, k, j] * density + delta * kept * gate_unit

        old, new = f_gate * c_prev[0, j], i_gate * g
        if of_z is None:
            density, kept = settle(r_cell, old + new, zero, eps)
        else:
            density, kept = settle_by(r_cell, old + new, zero, gap(old + new, abs(old) + abs(new), of_cell))
        part = delta * half * kept
        absorbed += keep * kept
        r_f, r_prev, gone_f = share(rule, f_gate, c_prev[0, j], old * density + part, eps, delta, of_product)
        r_i, r_g, gone_i = share(rule, i_gate, g, new * density + part, eps, delta, of_product)
        absorbed += gone_f + gone_i
        if coupled:
            r_i += r_f
            r_f = zero

        density, kept = _at_gate(r_i, t, k, j, z, bias, eps, of_z, step)
        m[row, j] = density
        absorbed += keep * kept
        handed += delta * kept * gate_unit
        if peeps:
            r_prev += P[0, j] * c_prev[0, j] * density + delta * kept * gate_unit

        density, kept = _at_gate(r_f, t, k, 2 * H + j, z, bias, eps, of_z, step)
        m[row, 2 * H + j] = density
        absorbed += keep * kept
        handed += delta * kept * gate_unit
        if peeps:
            r_prev += P[2, j] * c_prev[0, j] * density + delta * kept * gate_unit

        density, kept = _at_gate(r_g, t, k, 3 * H + j, z, bias, eps, of_z, step)
        m[row, 3 * H + j] = density
        absorbed += keep * kept
        handed += delta * kept * unit
        r_c[b, j] = r_prev
    return absorbed, handed


@nb.njit(**STEP, forceinline=True)
def _at_gate(r, t, k, at, z, bias, eps, of_z, step):
    """The epsilon rule at pre-activation `at`."""
    if of_z is None:
        return settle(r, z[t, k, at], bias[at], eps)
    return settle_by(r, z[t, k, at], bias[at], of_z[step, k, at])
