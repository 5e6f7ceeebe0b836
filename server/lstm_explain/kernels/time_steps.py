"""What the time loops of all cells share: how they go through ragged sequences, and what is done for steps together.

One direction; `reverse` walks each sequence from its own end. Arrays are [T, B, ...] and C-contiguous; rows past a
sequence's length are neither read nor written. Every loop goes step by step through all samples whose sequence is not
over, so that one product serves them all (see recurrent_matmul.py). order holds the samples to run, all or some, the
longest sequence first: those at work are always a front part of it, and row i of a loop's own arrays belongs to sample
order[i]. The products with the inputs' weights are done for a few steps at a time, in arrays that stay in the cache.

Weights may be narrower than what they are multiplied with. Numba computes int with float32 in float64, so constants are
typed. Loops index whole arrays: a view of a row costs two counts of its owner, more than a small cell's arithmetic.
"""

from __future__ import annotations

import numba as nb

from lstm_explain.kernels.recurrent_matmul import multiply
from lstm_explain.kernels.scalar_functions import FAST, STEP

AT_ONCE = 1 << 14  # numbers of a product with the inputs' weights: they stay in the cache
HERE = {**FAST, "cache": False, "inline": "always"}


@nb.njit(**HERE)
def steps_at_once(batch, width, total):
    return max(1, min(max(8, AT_ONCE // width) // batch, total))


@nb.njit(**HERE)
def place(s, b, lens, reverse):
    """Where step s of sample b lies; of step -1, one beyond."""
    return lens[b] - 1 - s if reverse else s


@nb.njit(**STEP)
def gather(x, order, lens, reverse, first, end, rows):
    """rows: x at steps from `first` to before `end`, of those at work in each; returns how many."""
    count, running = 0, order.size
    for s in range(first, end):
        while lens[order[running - 1]] <= s:
            running -= 1
        for i in range(running):
            b = order[i]
            t = place(s, b, lens, reverse)
            for d in range(x.shape[2]):
                rows[count, d] = x[t, b, d]
            count += 1
    return count


@nb.njit(**STEP)
def to_inputs(m, W, out, count, where, given, x, r_x):
    """R_x = x * (m @ W) + given, of the rows of m; where [rows, 2]: t and b of each."""
    multiply(m, W, out, count, 0)
    for row in range(count):
        t, b = where[row, 0], where[row, 1]
        for d in range(x.shape[2]):
            r_x[t, b, d] = x[t, b, d] * out[row, d] + given[row]


@nb.njit(**STEP)
def to_gradient(m, W, out, count, where, g_x):
    """g_x = m @ W, of the rows of m."""
    multiply(m, W, out, count, 0)
    for row in range(count):
        t, b = where[row, 0], where[row, 1]
        for d in range(g_x.shape[2]):
            g_x[t, b, d] = out[row, d]


@nb.njit(**STEP)
def through_hidden(back, given, first, running, s, order, lens, reverse, hidden, h0, r_h):
    """Relevance of the hidden states at step s (-1: the initial ones). given: of the rows from `first` on, at s + 1."""
    for i in range(running):
        b = order[i]
        t = place(s, b, lens, reverse)
        if s < 0:
            for j in range(hidden.shape[2]):
                r_h[b, j] = h0[b, j] * back[i, j] + given[first + i]
        else:
            for j in range(hidden.shape[2]):
                r_h[b, j] = hidden[t, b, j] * back[i, j] + given[first + i]


@nb.njit(**STEP)
def state_before(s, b, lens, reverse, states, initial, out, i):
    """out [i]: the state that step s of sample b starts from."""
    if s == 0:
        for j in range(out.shape[1]):
            out[i, j] = initial[b, j]
    else:
        t = place(s - 1, b, lens, reverse)
        for j in range(out.shape[1]):
            out[i, j] = states[t, b, j]
