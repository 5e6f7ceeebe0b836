"""What the time loops of all cells share: how they iterate over ragged sequences, and which products cover several
steps.

A kernel runs one direction; `reverse` processes each sequence from its own end. Arrays are [T, B, ...] and
C-contiguous; rows past a sequence's length are neither read nor written. Every loop goes step by step through all
samples whose sequence has not ended, so that one product serves all of them (see recurrent_matmul.py). order: the
samples to run, longest sequence first. The active samples of a forward pass are therefore always a prefix of it, and
row i of a loop's own arrays belongs to sample order[i]; in a backward pass, to sample active[i] (active_samples.py).
Products with the input weights are computed for a few steps at a time, in arrays that stay in the cache.

Weights may have a narrower type than the arrays that they multiply. Numba computes int with float32 in float64, so
constants are typed. Loops index whole arrays: a view of a row updates its owner's reference count twice, which costs
more than the arithmetic of a small cell.
"""

from __future__ import annotations

import numba as nb

from lstm_explain.kernels.recurrent_matmul import multiply
from lstm_explain.kernels.scalar_functions import FAST, STEP

AT_ONCE = 1 << 14  # elements of a product with the input weights: they fit into the cache
HERE = {**FAST, "cache": False, "inline": "always"}


@nb.njit(**HERE)
def steps_at_once(batch, width, total):
    return max(1, min(max(8, AT_ONCE // width) // batch, total))


@nb.njit(**HERE)
def place(s, b, lens, reverse):
    """The position on the time axis of step s of sample b; for step -1, one position outside the sequence."""
    return lens[b] - 1 - s if reverse else s


@nb.njit(**STEP)
def gather(x, order, lens, reverse, first, end, rows):
    """Fills rows with x at the steps [first, end), for the samples active in each. Returns the number of rows."""
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
    """R_x = x * (m @ W) + given, for the rows of m. where [rows, 2]: t and b of each row."""
    multiply(m, W, out, count, 0)
    for row in range(count):
        t, b = where[row, 0], where[row, 1]
        for d in range(x.shape[2]):
            r_x[t, b, d] = x[t, b, d] * out[row, d] + given[row]


@nb.njit(**STEP)
def to_gradient(m, W, out, count, where, g_x):
    """g_x = m @ W, for the rows of m."""
    multiply(m, W, out, count, 0)
    for row in range(count):
        t, b = where[row, 0], where[row, 1]
        for d in range(g_x.shape[2]):
            g_x[t, b, d] = out[row, d]


@nb.njit(**STEP)
def through_hidden(back, given, first, running, s, active, lens, reverse, hidden, h0, r_h):
    """Relevance of the hidden states at step s (-1: the initial ones). given: a share for each row from `first` on, at
    step s + 1.
    """
    for i in range(running):
        b = active[i]
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
