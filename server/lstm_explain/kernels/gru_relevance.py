# SPDX-License-Identifier: Apache-2.0
"""The backward pass of LRP through the GRU. Conventions: time_steps.py; saved arrays: gru.py."""

from __future__ import annotations

import numba as nb
import numpy as np

from lstm_explain.kernels.active_samples import active_at, begin
from lstm_explain.kernels.compilation import nobody_waits
from lstm_explain.kernels.recurrent_matmul import multiply, width_of
from lstm_explain.kernels.scalar_functions import LOOP, STEADY, STEP, settle, settle_by, share
from lstm_explain.kernels.stabilisers import block_of, gap, gaps, gaps_of_candidate, limit, sizes_of_states
from lstm_explain.kernels.time_steps import on_tape, order_on_tape, place, state_before, steps_at_once, to_inputs


@nobody_waits
@nb.njit(**{**LOOP, "fastmath": STEADY})
def relevance(
    lens, order, reverse, rule, before, bias, Rb_h, R_zr, R_h, W, eps, delta, zr_W, zr_R, zr_bias, sums_W, sums_R,
    sums_bias, sums_Rb, beta, of_cell, ceiling, x, z, gates, inner, hidden, h0, r_y, r_h, r_x, lost,
):  # fmt: skip
    """LRP under every product rule.

    bias, Rb_h: as in `forward`; R_zr, R_h: packed [2H, H], [H, H]. W: packed, [H, D] of the candidate alone under
    "signal takes all" (rule 0), where gates receive nothing, else [3H, D]. r_y: relevance arriving at every step, [T,
    B, H] or [0, 0, 0]; r_h [B, H]: at the last state; overwritten with that of the initial state. Fills r_x [T, B, D]:
    relevance of the inputs; adds to lost [B] what is absorbed.

    Only with the relative stabiliser, else None (eps counts): zr_W, zr_R, zr_bias, what `stabilisers.gaps` reads of
    both gates (None under rule 0); sums_W, sums_R, sums_bias, sums_Rb, what `stabilisers.gaps_of_candidate` reads;
    beta and of_cell, those of these sums and products, and of the state; ceiling, see `stabilisers.limit`.
    """
    B, H, number = order.size, hidden.shape[2], z.dtype
    total, along, width = lens[order[0]], r_y.shape[0] > 0, W.shape[1]
    steps = steps_at_once(B, width, total)
    m, given = np.empty((steps * B, width), number), np.empty(steps * B, number)
    where, of_rows = np.empty((steps * B, 2), np.int64), np.empty((steps * B, width_of(W)), number)
    h_prev, direct = np.empty((B, H), number), np.empty((B, H), number)
    r_reset, density_u = np.empty((B, H), number), np.empty((B, H), number)
    of_gates, of_bias = np.empty((B, 2 * H), number), np.empty((B, 2), number)
    through, back = np.empty((B, width_of(R_h)), number), np.zeros((B, width_of(R_zr)), number)
    below, above, arrived = np.empty(H, number), np.empty(H, number), np.zeros(lens.size, number)
    carried, first, tape_order = np.zeros((lens.size, H), number), total, order
    of_zr, of_n, of_inner, sizes, block = None, None, None, None, 0
    if sums_W is not None:
        tape_order = order_on_tape(order, hidden)
        block = block_of(tape_order.size)
        of_n = np.empty((block, hidden.shape[1], H), number)
        of_inner = np.empty((block, hidden.shape[1], H), number)
        sizes = sizes_of_states(hidden, None, lens, tape_order, reverse)
    if zr_W is not None:
        of_zr = np.empty((block, hidden.shape[1], 2 * H), number)
    active, wakes = np.empty(B, np.int64), np.empty(lens.size, np.int64)
    begin(order, lens, reverse, r_y, r_h, carried, r_x, wakes)
    row = running = np.int64(0)
    for s in range(total - 1, -1, -1):
        running = active_at(s, running, active, wakes, order, lens, reverse, r_y, r_h, carried, r_x)
        if row + running > steps * B:
            to_inputs(m, W, of_rows, row, where, given, x, r_x)
            row = np.int64(0)
        if sums_W is not None and running and s < first:
            first = max(0, s + 1 - block)
            if zr_W is not None:
                gaps(x, hidden, h0, lens, tape_order, reverse, first, s + 1, zr_W, zr_R, zr_bias, z, None, beta, of_zr)
            gaps_of_candidate(
                before, x, gates, inner, hidden, h0, lens, tape_order, reverse, first, s + 1, sums_W, sums_R, sums_bias,
                sums_Rb, z, beta, of_n, of_inner,
            )  # fmt: skip
        for i in range(running):
            b = active[i]
            t, k = place(s, b, lens, reverse), on_tape(b, hidden)
            where[row + i, 0], where[row + i, 1] = t, b
            state_before(s, b, lens, reverse, hidden, h0, h_prev, i)
            if sums_W is not None:
                for j in range(H):
                    old_gate = number.type(gates[t, k, j])
                    old = old_gate * h_prev[i, j]
                    new = (number.type(1) - old_gate) * number.type(gates[t, k, 2 * H + j])
                    below[j] = old + new + gap(old + new, abs(old) + abs(new), of_cell)
                    above[j] = r_y[t, b, j] if along else number.type(0)
                    r_h[b, j] -= carried[b, j]
                lost[b] += limit(b, s == lens[b] - 1, ceiling, sizes, below, arrived, above, carried, r_h)
                for j in range(H):
                    r_h[b, j] += carried[b, j]
            if along:
                for j in range(H):
                    r_h[b, j] += r_y[t, b, j]
            # one loop for each of the usual rules: branches on compile-time constants cost nothing
            if rule == 0:
                lost[b] += _to_candidate(
                    0, before, i, t, s - first, b, k, row + i, x.shape[2], z, gates, inner, h_prev, bias, Rb_h, eps,
                    delta, r_h, direct, r_reset, density_u, m, given, of_bias, of_zr, of_n, of_inner, of_cell,
                    beta,
                )  # fmt: skip
            elif rule == 1:
                lost[b] += _to_candidate(
                    1, before, i, t, s - first, b, k, row + i, x.shape[2], z, gates, inner, h_prev, bias, Rb_h, eps,
                    delta, r_h, direct, r_reset, density_u, m, given, of_bias, of_zr, of_n, of_inner, of_cell,
                    beta,
                )  # fmt: skip
            else:
                lost[b] += _to_candidate(
                    rule, before, i, t, s - first, b, k, row + i, x.shape[2], z, gates, inner, h_prev, bias, Rb_h, eps,
                    delta, r_h, direct, r_reset, density_u, m, given, of_bias, of_zr, of_n, of_inner, of_cell,
                    beta,
                )  # fmt: skip
        if sums_W is not None:
            for i in range(running):
                for j in range(H):
                    carried[active[i], j] = direct[i, j]
        multiply(density_u, R_h, through, running, s)
        for i in range(running):
            b = active[i]
            t, k = place(s, b, lens, reverse), on_tape(b, hidden)
            lost[b] += _to_reset(
                rule, before, i, t, s - first, k, row + i, x.shape[2], z, gates, inner, h_prev, bias, eps, delta,
                through, direct, r_reset, m, given, of_bias, of_zr, beta,
            )  # fmt: skip
            if rule != 0:
                for j in range(2 * H):
                    of_gates[i, j] = m[row + i, j]
        if rule != 0:
            multiply(of_gates, R_zr, back, running, s)
        for i in range(running):
            b, to_h = active[i], of_bias[i, 0]
            if before:
                for j in range(H):
                    r_h[b, j] = direct[i, j] + h_prev[i, j] * (back[i, j] + through[i, j]) + to_h
            else:
                for j in range(H):
                    r_h[b, j] = direct[i, j] + h_prev[i, j] * back[i, j] + to_h
        row += running
    to_inputs(m, W, of_rows, row, where, given, x, r_x)


@nb.njit(**{**STEP, "fastmath": STEADY}, forceinline=True)
def _to_candidate(
    rule, before, i, t, step, b, k, row, features, z, gates, inner, h_prev, bias, Rb_h, eps, delta, r_h, direct,
    r_reset, density_u, m, given, of_bias, of_zr, of_n, of_inner, of_cell, of_product,
):  # fmt: skip
    """Passes relevance from h to the sums of the update gate and the candidate, and under "before" to u. Returns what
    is absorbed.

    direct [i]: the relevance that z h_prev passes to h_prev. density_u [i]: the density that passes through R_h. The
    share of biases and stabilisers that each unit receives: given [row] for an input, of_bias [i, 0] for h_prev,
    of_bias [i, 1] for r h_prev. Under "before", the candidate has D + 1 incoming units (the inputs and r * u), and u
    has H. of_zr, of_n, of_inner [step]: what the relative stabiliser adds; or None.
    """
    H, number = h_prev.shape[1], z.dtype.type
    zero, half, one = number(0), number(0.5), number(1)
    keep, at = one - delta, 0 if rule == 0 else 2 * H
    per_unit = one / number(features + H)
    per_candidate = one / number(features + 1) if before else per_unit
    absorbed, to_gate, to_candidate, to_u = zero, zero, zero, zero
    for j in range(H):
        old_gate, n = number(gates[t, k, j]), number(gates[t, k, 2 * H + j])
        new_gate = one - old_gate
        new, old = new_gate * n, old_gate * h_prev[i, j]
        if of_n is None:
            density, kept = settle(r_h[b, j], new + old, zero, eps)
        else:
            density, kept = settle_by(r_h[b, j], new + old, zero, gap(new + old, abs(new) + abs(old), of_cell))
        absorbed += keep * kept
        part = delta * half * kept
        r_new, r_n, gone_new = share(rule, new_gate, n, new * density + part, eps, delta, of_product)
        r_old, r_prev, gone_old = share(rule, old_gate, h_prev[i, j], old * density + part, eps, delta, of_product)
        absorbed += gone_new + gone_old
        direct[i, j] = r_prev
        if rule != 0:
            if of_zr is None:
                density, kept = settle(r_new + r_old, z[t, k, j], bias[j], eps)
            else:
                density, kept = settle_by(r_new + r_old, z[t, k, j], bias[j], of_zr[step, k, j])
            m[row, j] = density
            to_gate += kept
        if of_n is None:
            density, kept = settle(r_n, z[t, k, 2 * H + j], bias[2 * H + j], eps)
        else:
            density, kept = settle_by(r_n, z[t, k, 2 * H + j], bias[2 * H + j], of_n[step, k, j])
        m[row, at + j] = density
        to_candidate += kept
        if before:
            r_gate, u = number(gates[t, k, H + j]), inner[t, k, j]
            r_p = r_gate * u * density + delta * kept * per_candidate
            r_r, r_u, gone = share(rule, r_gate, u, r_p, eps, delta, of_product)
            r_reset[i, j] = r_r
            if of_n is None:
                density, kept = settle(r_u, u, Rb_h[j], eps)
            else:
                density, kept = settle_by(r_u, u, Rb_h[j], of_inner[step, k, j])
            absorbed += gone
            to_u += kept
        density_u[i, j] = density
    given[row] = delta * (to_gate * per_unit + to_candidate * per_candidate)
    of_bias[i, 0] = delta * (to_gate * per_unit + to_u / number(H))
    of_bias[i, 1] = delta * to_candidate * per_candidate
    return absorbed + keep * (to_gate + to_candidate + to_u)


@nb.njit(**{**STEP, "fastmath": STEADY}, forceinline=True)
def _to_reset(
    rule, before, i, t, step, k, row, features, z, gates, inner, h_prev, bias, eps, delta, through, direct, r_reset, m,
    given, of_bias, of_zr, of_product,
):  # fmt: skip
    """Passes relevance to the sum of the reset gate. Under "after", it comes from r h_prev, and each element of r
    h_prev is an incoming unit of every candidate.
    """
    H, number = h_prev.shape[1], z.dtype.type
    absorbed, to_gate = number(0), number(0)
    if not before:
        for j in range(H):
            r_p = inner[t, k, j] * through[i, j] + of_bias[i, 1]
            r_r, r_prev, gone = share(rule, number(gates[t, k, H + j]), h_prev[i, j], r_p, eps, delta, of_product)
            r_reset[i, j] = r_r
            direct[i, j] += r_prev
            absorbed += gone
    if rule != 0:
        for j in range(H):
            if of_zr is None:
                density, kept = settle(r_reset[i, j], z[t, k, H + j], bias[H + j], eps)
            else:
                density, kept = settle_by(r_reset[i, j], z[t, k, H + j], bias[H + j], of_zr[step, k, H + j])
            m[row, H + j] = density
            to_gate += kept
        each = delta * to_gate / number(features + H)
        given[row] += each
        of_bias[i, 0] += each
    return absorbed + (number(1) - delta) * to_gate
