# SPDX-License-Identifier: Apache-2.0
"""The backward pass of one direction of a plain recurrent cell, h = f(x W + h_before R + b)."""

from __future__ import annotations

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.methods import LRP
from lstm_explain.operators.direction import Direction
from lstm_explain.operators.over_steps.activations import activations_of
from lstm_explain.operators.over_steps.received import Received, per_sample
from lstm_explain.operators.over_steps.sums import Ceiling, Rules, has_ceiling, weighted
from lstm_explain.operators.over_steps.timeline import Timeline


def forward(direction: Direction, time: Timeline, x: Array, initial: list[Array]) -> tuple[Array, list[Array]]:
    """Returns the hidden states [T, B, H], and the last one, [B, H]. initial: h."""
    xp, kind = time.xp, x.dtype
    (f,) = activations_of(direction.codes, direction.params, float(direction.clip))
    R = xp.asarray(direction.R.T.astype(kind))
    from_x = x @ xp.asarray(direction.W.T.astype(kind)) + xp.asarray(direction.bias.astype(kind))

    def step(states: list[Array], at: list[Array]) -> tuple[list[Array], list[Array]]:
        hidden = f(at[0] + states[0] @ R)
        return [hidden], [hidden]

    last, (hidden,) = time.forwards(step, initial, [from_x])
    return hidden, last


def backward(
    direction: Direction,
    time: Timeline,
    lrp: LRP | None,
    x: Array,
    hidden: Array,
    initial: list[Array],
    r_y: Array | None,
    r_ends: list[Array],
) -> Received:
    """hidden, r_y [T, B, H]; initial, r_ends: h, [B, H]."""
    xp, kind = time.xp, x.dtype
    h_before = time.before(hidden, initial[0])
    z = weighted(x, direction.W, h_before, direction.R, direction.bias)
    R, W = (xp.asarray(a.astype(kind)) for a in (direction.R, direction.W))
    lost = spread = None
    ceiling: Ceiling | None = None
    if lrp is None:
        (f,) = activations_of(direction.codes, direction.params, float(direction.clip))
        density = f.slope(z, hidden)
    else:
        terms = None
        if lrp.relative is not None:
            terms = weighted(
                xp.abs(x), np.abs(direction.W), xp.abs(h_before), np.abs(direction.R), np.abs(direction.bias)
            )
        density, kept = Rules(lrp).pre_activation(z, terms, xp.asarray(direction.bias.astype(kind)))
        lost = kept * (1 - lrp.bias_factor)
        spread = kept * (lrp.bias_factor / direction.units) if lrp.bias_factor else None
        if has_ceiling(lrp):
            ceiling = Ceiling(lrp, time, hidden, hidden, r_y)
    read = [density, *(a for a in (r_y, None if lrp is None else h_before, spread) if a is not None)]
    carried = [*r_ends, *([] if ceiling is None else [ceiling.start])]

    def step(states: list[Array], at: list[Array]) -> tuple[list[Array], list[Array]]:
        values, r, after, results = iter(at), states[0], list[Array](), list[Array]()
        slope = next(values)
        y = None if r_y is None else next(values)
        h_prev = None if lrp is None else next(values)
        share = None if spread is None else next(values)
        if ceiling is not None:
            arrived, _, r, taken = ceiling.limit(states[1], None, r, list(values))
            after, results = [arrived], [taken]
        r = r if y is None else r + y
        m = r * slope
        back = m @ R if h_prev is None else (m @ R) * h_prev
        if share is not None:
            results.append(xp.sum(r * share, axis=-1, keepdims=True))
            back = back + results[-1]
        return [back, *after], [r, *results]

    last, (r, *more) = time.backwards(step, carried, [*read, *([] if ceiling is None else ceiling.read)])
    passed = (r * density) @ W
    if lrp is None:
        return Received(passed, last[:1])
    passed = x * passed if spread is None else x * passed + more[-1]
    absorbed = per_sample(r, lost)
    return Received(passed, last[:1], absorbed if ceiling is None else absorbed + xp.sum(more[0], axis=(0, 2)))
