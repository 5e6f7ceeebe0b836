# SPDX-License-Identifier: Apache-2.0
"""Runs sequences that begin alike once: the groups of sequences that a time loop treats as one.

Methods that change an input again and again run the model on many sequences that differ in few steps. The state of a
recurrence depends on what came before, so two sequences have the same state up to the first step in which they differ.
The loops of these kernels (`predict` in lstm.py, gru.py and rnn.py) therefore keep one state per group. A group splits
where its sequences begin to differ, and two neighbouring groups merge once their states are equal to the bit and the
rest of their sequences is the same, because the network has forgotten the difference.

Sequences are compared with their predecessor in `order` only, so callers place those next to each other that begin
alike. Step s is the same position for all sequences, the last of the array first in the reverse direction, where
shorter sequences therefore start later; a sequence that does not run at a step differs from one that does. The product
of a row is the same whatever else runs with it (recurrent_matmul.py), so answers do not depend on the groups.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from lstm_explain.kernels.recurrent_matmul import width_of
from lstm_explain.kernels.scalar_functions import FAST, STEP
from lstm_explain.kernels.time_steps import AT_ONCE, HERE

EXACT = {**FAST, "fastmath": False}  # comparisons of numbers as they are, NaN included


@nb.njit(**EXACT)
def differences(x, order, lens, reverse):
    """Returns three arrays. new [T, n]: whether sequence order[i] runs at step s with an input that differs from its
    predecessor's. first [n] and last [n]: the first and last step at which the two differ (T and -1: never). The first
    sequence differs everywhere.
    """
    steps, n = x.shape[0], order.size
    new, first, last = np.zeros((steps, n), np.bool_), np.full(n, steps), np.full(n, -1)
    for s in range(steps):
        t = steps - 1 - s if reverse else s
        new[s, 0] = t < lens[order[0]]
        for i in range(1, n):
            a, b = order[i - 1], order[i]
            runs = t < lens[b]
            differs = runs != (t < lens[a])
            if runs and not differs:
                for d in range(x.shape[2]):
                    differs |= x[t, a, d] != x[t, b, d]
            new[s, i] = runs and differs
            if differs:
                first[i] = min(first[i], s)
                last[i] = s
    first[0], last[0] = 0, steps
    return new, first, last


@nb.njit(**EXACT)
def limits(steps, order, lens, reverse):
    """Returns two arrays [n]: the first step of each sequence (T: it has none), and the step after its last one."""
    starts, ends = np.zeros(order.size, np.int64), np.full(order.size, steps)
    for i in range(order.size):
        if reverse:
            starts[i] = steps - lens[order[i]]
        else:
            ends[i] = lens[order[i]]
            if not ends[i]:
                starts[i] = steps
    return starts, ends


@nb.njit(**EXACT)
def same(a, i, k):
    """Returns whether rows i and k of a are equal."""
    for j in range(a.shape[1]):  # noqa: SIM110 - Numba would allocate a generator
        if a[i, j] != a[k, j]:
            return False
    return True


@nb.njit(**EXACT)
def separate_initial(first, starts, order, h0, c0):
    """Sets `first` to the start of a sequence whose initial states differ from its predecessor's. h0, c0 [B, H]."""
    for i in range(1, order.size):
        for j in range(h0.shape[1]):
            if not (h0[order[i], j] == h0[order[i - 1], j] and c0[order[i], j] == c0[order[i - 1], j]):
                first[i] = min(first[i], starts[i])
                break


@nb.njit(**EXACT)
def split(s, count, first, starts, group_of, head, order, h0, c0, h, c):
    """Splits groups before step s, and makes groups of the sequences that start there. Returns the number of groups.

    group_of [n]: the group of each sequence, -1 where it does not run. head [n]: the first sequence of each group. h, c
    [n, H]: the states of the groups, copied to those that split off; of those that start, the initial ones.
    """
    for i in range(order.size):
        starting, old = starts[i] == s, group_of[i]
        if starting and i > 0 and starts[i - 1] == s and first[i] > s:
            group_of[i] = group_of[i - 1]
            continue
        if not starting and (first[i] != s or old < 0):
            continue
        for j in range(h.shape[1]):
            h[count, j] = h0[order[i], j] if starting else h[old, j]
            c[count, j] = c0[order[i], j] if starting else c[old, j]
        head[count], group_of[i] = i, count
        for k in range(i + 1, order.size):
            if starting or group_of[k] != old:
                break
            group_of[k] = count
        count += 1
    return count


@nb.njit(**EXACT)
def finish(s, count, ends, group_of, head, order, h, c, last, last_c):
    """Hands out the states of the sequences that have ended before step s. Returns the number of groups left."""
    for i in range(order.size):
        g = group_of[i]
        if g < 0 or ends[i] != s:
            continue
        for j in range(h.shape[1]):
            last[order[i], j], last_c[order[i], j] = h[g, j], c[g, j]
        group_of[i] = -1
        if i + 1 == order.size or group_of[i + 1] != g:
            count = fill_gap(g, count, group_of, head, h, c)
    return count


@nb.njit(**EXACT)
def fill_gap(g, count, group_of, head, h, c):
    """Moves the last group to the place of group g, which has no sequence any more. Returns the number of groups."""
    count -= 1
    if g < count:
        head[g] = head[count]
        for j in range(h.shape[1]):
            h[g, j], c[g, j] = h[count, j], c[count, j]
        for k in range(head[g], group_of.size):
            if group_of[k] != count:
                break
            group_of[k] = g
    return count


@nb.njit(**EXACT)
def merge(s, count, last, group_of, head, h, c):
    """Merges groups after step s with the previous one, where their states are equal and so are all later inputs.
    Returns their number.
    """
    n = group_of.size
    for i in range(1, n):
        before, own = group_of[i - 1], group_of[i]
        if last[i] > s or before == own or before < 0 or own < 0:
            continue
        if not (same(h, before, own) and same(c, before, own)):
            continue
        for k in range(i, n):
            if group_of[k] != own:
                break
            group_of[k] = before
        count = fill_gap(own, count, group_of, head, h, c)
    return count


@nb.njit(**EXACT)
def different_inputs(new):
    """Returns an array [T]: how many different inputs there are at each step."""
    counts = np.zeros(new.shape[0], np.int64)
    for s in range(new.shape[0]):
        for i in range(new.shape[1]):
            counts[s] += new[s, i]
    return counts


@nb.njit(**HERE)
def room_for(n, W):
    """Returns how many rows of inputs are multiplied at once, at least those of one step."""
    return max(n, AT_ONCE // width_of(W))


@nb.njit(**STEP)
def gather_different(x, order, reverse, new, start, counts, rows):
    """Fills rows with the different inputs of the steps from `start` on, as many steps as there is room for. Returns
    the step after the last one, and the number of rows.
    """
    steps, row, s = x.shape[0], 0, start
    while s < steps and row + counts[s] <= rows.shape[0]:
        t = steps - 1 - s if reverse else s
        for i in range(order.size):
            if new[s, i]:
                for d in range(x.shape[2]):
                    rows[row, d] = x[t, order[i], d]
                row += 1
        s += 1
    return s, row


@nb.njit(**STEP)
def pre_activations(new, s, row, group_of, head, of_rows, product, bias, columns, z):
    """Fills z [groups, columns] with the product of the inputs, that of the states and the biases. row: the row of
    of_rows at which step s begins. Returns the row at which the next step begins.
    """
    row -= 1
    for i in range(group_of.size):
        row += new[s, i]
        g = group_of[i]
        if g < 0 or head[g] != i:
            continue
        for j in range(columns):
            z[g, j] = of_rows[row, j] + product[g, j] + bias[j]
    return row + 1


@nb.njit(**STEP)
def hand_out(t, order, group_of, h, hidden):
    """hidden [T, B, H], or with no steps: the states of the running sequences at position t."""
    if hidden.shape[0] > 0:
        for i in range(order.size):
            g, b = group_of[i], order[i]
            for j in range(h.shape[1] if g >= 0 else 0):
                hidden[t, b, j] = h[g, j]
