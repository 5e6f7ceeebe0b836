# SPDX-License-Identifier: Apache-2.0
"""What the time loops of all cells share: how they iterate over ragged sequences, and which products cover several
steps.

A kernel runs one direction; `reverse` processes each sequence from its own end. Arrays are [T, B, ...] and
C-contiguous; rows past a sequence's length are neither read nor written. Every loop goes step by step through all
samples whose sequence has not ended, so that one product serves all of them (see recurrent_matmul.py). order: the
samples to run, longest sequence first. The active samples of a forward pass are therefore always a prefix of it, and
row i of a loop's own arrays belongs to sample order[i]; in a backward pass, to sample active[i] (active_samples.py).
Products with the input weights are computed for a few steps at a time, in arrays that stay in the cache. A backward
pass may have more samples than the tape, see `on_tape`: b then numbers the former, k the latter.

Weights may have a narrower type than the arrays that they multiply. Numba computes int with float32 in float64, so
constants are typed; and a counter that began with a literal would have every function that it is passed to compiled
twice. Loops index whole arrays: a view of a row updates its owner's reference count twice, which costs more than the
arithmetic of a small cell. A loop that takes `stop` [1] ends early once another thread writes anything but 0 to it;
what it fills is then unfinished.
"""

from __future__ import annotations

import numba as nb
import numpy as np
from numba.extending import intrinsic

from lstm_explain.kernels.recurrent_matmul import multiply
from lstm_explain.kernels.scalar_functions import FAST, STEP

AT_ONCE = 1 << 14  # elements of a product with the input weights: they fit into the cache
HERE = {**FAST, "cache": False, "inline": "always"}


@intrinsic
def is_set(typing, flag):
    """Returns whether flag[0], an uint8 that another thread may write, is not 0. An ordinary load would leave the
    loop.
    """

    def generate(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        value = builder.load_atomic(array.data, "monotonic", 1)
        return builder.icmp_unsigned("!=", value, value.type(0))

    return nb.types.boolean(flag), generate


@nb.njit(**HERE)
def steps_at_once(batch, width, total):
    return max(1, min(max(8, AT_ONCE // width) // batch, total))


@nb.njit(**HERE)
def place(s, b, lens, reverse):
    """The position on the time axis of step s of sample b; for step -1, one position outside the sequence."""
    return lens[b] - 1 - s if reverse else s


@nb.njit(**HERE)
def on_tape(b, saved):
    """The sample of the forward pass to which sample b of a backward pass belongs. saved [T, samples, ...]: an array of
    the tape. A backward pass from several targets has the samples of the forward pass once per target.
    """
    return b if b < saved.shape[1] else b % saved.shape[1]


@nb.njit(**HERE)
def order_on_tape(order, saved):
    """The samples of the tape to which these samples of a backward pass belong, longest sequence first."""
    found, seen, count = np.empty(order.size, np.int64), np.zeros(saved.shape[1], np.bool_), np.int64(0)
    for b in order:
        k = on_tape(b, saved)
        if not seen[k]:
            seen[k] = True
            found[count] = k
            count += 1
    return found[:count]


@nb.njit(**STEP)
def gather(x, order, lens, reverse, first, end, rows):
    """Fills rows with x at the steps [first, end), for the samples active in each. Returns the number of rows."""
    count, running = np.int64(0), order.size
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
        k = on_tape(b, x)
        for d in range(x.shape[2]):
            r_x[t, b, d] = x[t, k, d] * out[row, d] + given[row]


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
        t, k = place(s, b, lens, reverse), on_tape(b, hidden)
        if s < 0:
            for j in range(hidden.shape[2]):
                r_h[b, j] = h0[k, j] * back[i, j] + given[first + i]
        else:
            for j in range(hidden.shape[2]):
                r_h[b, j] = hidden[t, k, j] * back[i, j] + given[first + i]


@nb.njit(**STEP)
def state_before(s, b, lens, reverse, states, initial, out, i):
    """out [i]: the state that step s of sample b starts from."""
    k = on_tape(b, states)
    if s == 0:
        for j in range(out.shape[1]):
            out[i, j] = initial[k, j]
    else:
        t = place(s - 1, b, lens, reverse)
        for j in range(out.shape[1]):
            out[i, j] = states[t, k, j]
