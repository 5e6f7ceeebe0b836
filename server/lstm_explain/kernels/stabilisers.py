# SPDX-License-Identifier: Apache-2.0
"""The relative stabiliser inside recurrent cells: what it adds to each sum, and the ceiling on relevance that grows.

Formulas: methods/stabiliser.py and docs/stabilisers.md. All states are known by the time of the backward pass, so the
sums of absolute terms of several steps take one product. Backward passes compute them for a block of steps when they
reach its last one with relevance, so that steps without relevance cost nothing. Conventions: time_steps.py.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from lstm_explain.kernels.recurrent_matmul import multiply, width_of
from lstm_explain.kernels.scalar_functions import LOOP, STEADY, STEP
from lstm_explain.kernels.time_steps import HERE, gather, place, state_before

ORDERED = {**STEP, "fastmath": STEADY}
ROWS_AT_ONCE = (
    32  # of a block: its arrays stay in the first cache, beside which the rest of a request stays in the second
)


@nb.njit(**HERE)
def block_of(samples):
    """The number of steps whose sums of absolute terms are computed together."""
    return max(1, ROWS_AT_ONCE // samples)


@nb.njit(**{**ORDERED, "_nrt": False}, forceinline=True)
def gap(z, terms, beta):
    """What the stabiliser adds to z: beta * (terms - |z|) * sign(z). terms: the sum of the absolute terms of z."""
    over = beta * max(terms - abs(z), z - z)
    return over if z >= 0 else -over


@nb.njit(**STEP)
def absolute_rows(x, hidden, h0, scale, lens, order, reverse, first, end, inputs, states):
    """Fills inputs and states with |x| and |h_prev| of the steps [first, end), in the order of `gather`. Returns the
    number of rows.

    scale [T, B, H or more]: the factor of each state, from H on; or None.
    """
    rows = gather(x, order, lens, reverse, first, end, inputs)
    H, row, running = states.shape[1], 0, order.size
    for s in range(first, end):
        while lens[order[running - 1]] <= s:
            running -= 1
        for i in range(running):
            state_before(s, order[i], lens, reverse, hidden, h0, states, row)
            if scale is not None:
                t = place(s, order[i], lens, reverse)
                for j in range(H):
                    states[row, j] *= scale[t, order[i], H + j]
            row += 1
    for row in range(rows):
        for d in range(inputs.shape[1]):
            inputs[row, d] = abs(inputs[row, d])
        for j in range(H):
            states[row, j] = abs(states[row, j])
    return rows


@nb.njit(**LOOP)
def gaps(x, hidden, h0, lens, order, reverse, first, end, W, R, bias, z, more, beta, out):
    """out [end - first or more, samples, G]: what the stabiliser adds to the first G of z, whose terms are x, h_prev
    and a bias, at the steps [first, end).

    W, R: absolute weights, packed [D, G], [H, G]; bias [G], absolute. more [T, B, G]: further absolute terms; or None.
    """
    B, G, number = order.size, out.shape[2], out.dtype
    most = (end - first) * B
    from_x, from_h = np.empty((most, width_of(W)), number), np.empty((most, width_of(W)), number)
    inputs, states = np.empty((most, x.shape[2]), number), np.empty((most, hidden.shape[2]), number)
    rows = absolute_rows(x, hidden, h0, None, lens, order, reverse, first, end, inputs, states)
    multiply(inputs, W, from_x, rows, 0)
    multiply(states, R, from_h, rows, 0)
    row, running = np.int64(0), B
    for s in range(first, end):
        while lens[order[running - 1]] <= s:
            running -= 1
        for i in range(running):
            b = order[i]
            t = place(s, b, lens, reverse)
            for j in range(G):
                terms = from_x[row, j] + from_h[row, j] + bias[j]
                if more is not None:
                    terms += more[t, b, j]
                out[s - first, b, j] = gap(z[t, b, j], terms, beta)
            row += 1


@nb.njit(**LOOP)
def gaps_of_candidate(
    before, x, gates, inner, hidden, h0, lens, order, reverse, first, end, W, R, bias, Rb, z, beta, out, out_inner
):
    """The same for a GRU's candidate, whose terms are x, a bias and what passes through the reset gate r.

    before (linear_before_reset): the gated term is r * u, where u = R h_prev + Rb is `inner`, a neuron of its own with
    the stabiliser out_inner, an array like `out`; otherwise it is R (r * h_prev). bias, Rb [H], absolute; W, R:
    absolute, packed.
    """
    B, H, number = order.size, hidden.shape[2], out.dtype
    most = (end - first) * B
    from_x, from_h = np.empty((most, width_of(W)), number), np.empty((most, width_of(R)), number)
    inputs, states = np.empty((most, x.shape[2]), number), np.empty((most, H), number)
    if before:
        rows = absolute_rows(x, hidden, h0, None, lens, order, reverse, first, end, inputs, states)
    else:
        rows = absolute_rows(x, hidden, h0, gates, lens, order, reverse, first, end, inputs, states)
    multiply(inputs, W, from_x, rows, 0)
    multiply(states, R, from_h, rows, 0)
    row, running = np.int64(0), B
    for s in range(first, end):
        while lens[order[running - 1]] <= s:
            running -= 1
        for i in range(running):
            b = order[i]
            t = place(s, b, lens, reverse)
            for j in range(H):
                terms = from_x[row, j] + bias[j]
                if before:
                    terms += abs(number.type(gates[t, b, H + j]) * inner[t, b, j])
                    out_inner[s - first, b, j] = gap(inner[t, b, j], from_h[row, j] + Rb[j], beta)
                else:
                    terms += from_h[row, j]
                out[s - first, b, j] = gap(z[t, b, 2 * H + j], terms, beta)
            row += 1


@nb.njit(**{**LOOP, "fastmath": STEADY})
def sizes_of_states(states, more, lens, order, reverse):
    """[B, H]: root mean square of each state over its sequence; of `states` + `more`, unless that is None."""
    H, number = states.shape[2], states.dtype.type
    out = np.empty((states.shape[1], H), states.dtype)
    for i in range(order.size):
        b = order[i]
        for j in range(H):
            out[b, j] = 0
        for s in range(lens[b]):
            t = place(s, b, lens, reverse)
            for j in range(H):
                value = number(states[t, b, j]) + (number(more[t, b, j]) if more is not None else number(0))
                out[b, j] += value * value
        for j in range(H):
            out[b, j] = np.sqrt(out[b, j] / number(max(lens[b], 1)))
    return out


@nb.njit(**ORDERED, forceinline=True)
def limit(b, is_last, ceiling, sizes, below, arrived, above, carried, hidden):
    """Bounds the relevance at a state by the density that has arrived from above so far; returns the relevance that it
    removes.

    The size of the density is sum_j |R_j / below_j| sizes_j. above [H]: relevance from above the node; carried [B, H]:
    along the state; hidden [B, H]: through hidden states; both are scaled. arrived [B]: sizes of the densities from
    above, to which this step is added. is_last: whether this is the last step, where everything comes from above.
    """
    zero, one, k = below.dtype.type(0), below.dtype.type(1), b if b < sizes.shape[0] else b % sizes.shape[0]
    from_above, along, together, through = zero, zero, zero, zero
    for j in range(below.size):
        unit = sizes[k, j] / abs(below[j]) if below[j] != zero else zero
        from_above += unit * abs(above[j])
        along += unit * abs(carried[b, j])
        together += unit * abs(above[j] + carried[b, j])
        through += unit * abs(hidden[b, j])
    if is_last:
        arrived[b] += from_above + along + through
        return zero
    arrived[b] += from_above
    most = ceiling * arrived[b]
    if together + through <= most:
        return zero
    keep_hidden = max(most - together, zero) / through if through > most - together else one
    keep_along = max(most - from_above, zero) / along if together > most and along > most - from_above else one
    taken = zero
    for j in range(below.size):
        taken += (one - keep_along) * carried[b, j] + (one - keep_hidden) * hidden[b, j]
        carried[b, j] *= keep_along
        hidden[b, j] *= keep_hidden
    return taken
