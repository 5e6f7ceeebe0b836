# SPDX-License-Identifier: Apache-2.0
"""Which samples take part in a step of a backward pass: those that have relevance (or gradient) to pass on.

A sample rests as long as everything that its states carry is exactly zero and nothing arrives from above: each of these
steps would pass on zeros. So a sample begins at the first step that relevance reaches, and relevance that has faded to
zero ends its way back. The answer does not change, because all that is left out is zero times a finite number.
"""

from __future__ import annotations

import numba as nb

from lstm_explain.kernels.scalar_functions import STEP
from lstm_explain.kernels.time_steps import place

NAN_COUNTS = {**STEP, "fastmath": {"reassoc", "nsz", "contract"}}  # an overflow is not zero and must stay visible


@nb.njit(**NAN_COUNTS)
def begin(order, lens, reverse, arriving, carried, along, r_x, wakes):
    """Fills wakes [samples]: the step at which each sample begins; -1: never.

    arriving [T, B, H] or [0, 0, 0]: relevance from above. carried, along [B, H]: relevance at the last states. r_x [T,
    B, D] becomes zero at the steps that are left out.
    """
    for i in range(order.size):
        b = order[i]
        wakes[b] = _rest_until(b, lens[b] - 1, lens, reverse, arriving, carried, along, r_x)


@nb.njit(**NAN_COUNTS)
def active_at(s, running, active, wakes, order, lens, reverse, arriving, carried, along, r_x):
    """Updates active[:running], the samples that took part in step s + 1, for step s. Returns their number."""
    count = 0
    for i in range(running):
        b = active[i]
        if carried[b, 0] == 0 and along[b, 0] == 0:  # else it goes on, as usual
            wakes[b] = _rest_until(b, s, lens, reverse, arriving, carried, along, r_x)
            if wakes[b] != s:
                continue
            wakes[b] = lens[b]  # is awake
        active[count] = b
        count += 1
    for i in range(order.size):
        b = order[i]
        if wakes[b] == s:
            active[count] = b
            count += 1
            wakes[b] = lens[b]
    return count


@nb.njit(**NAN_COUNTS)
def _rest_until(b, s, lens, reverse, arriving, carried, along, r_x):
    """The last step, from s on backwards, at which sample b has relevance; -1 where there is none. r_x becomes zero at
    the steps between.
    """
    for j in range(carried.shape[1]):
        if carried[b, j] != 0 or along[b, j] != 0:
            return s
    while s >= 0:
        t = place(s, b, lens, reverse)
        if arriving.shape[0]:
            for j in range(arriving.shape[2]):
                if arriving[t, b, j] != 0:
                    return s
        for d in range(r_x.shape[2]):
            r_x[t, b, d] = 0
        s -= 1
    return s
