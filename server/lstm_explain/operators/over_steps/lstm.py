# SPDX-License-Identifier: Apache-2.0
"""The backward pass of one direction of an LSTM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.kernels.single_steps import next_step
from lstm_explain.methods import LRP
from lstm_explain.operators.array_api import namespace
from lstm_explain.operators.direction import Direction
from lstm_explain.operators.formulas import shared
from lstm_explain.operators.over_steps.activations import activations_of
from lstm_explain.operators.over_steps.received import Received, per_sample, rows_of
from lstm_explain.operators.over_steps.sums import Ceiling, Rules, has_ceiling, weighted
from lstm_explain.operators.over_steps.timeline import Timeline

I, O, F, G = range(4)  # noqa: E741 - the gates in ONNX's order, and the cell input


@dataclass
class Inner:
    """What a step computes, [T, B, H] each: pre-activations and gates by `I`, `O`, `F`, `G`, the cell that it starts
    from, its cell, and the activation of that.
    """

    z: list[Array]
    gates: list[Array]
    cell_before: Array
    cell: Array
    bent: Array


def inner_values(direction: Direction, time: Timeline, x: Array, h_before: Array, c0: Array) -> Inner:
    """Recomputes the cells from the hidden states that each step starts from."""
    H, xp = direction.hidden, time.xp
    f, g, h = activations_of(direction.codes, direction.params, float(direction.clip))
    together = weighted(x, direction.W, h_before, direction.R, direction.bias)
    z = [together[..., k * H : (k + 1) * H] for k in range(4)]
    peepholes = [xp.asarray(p.astype(x.dtype)) for p in direction.P]
    candidate = g(z[G])

    def step(states: list[Array], at: list[Array]) -> tuple[list[Array], list[Array]]:
        (c,), (z_i, z_f, new) = states, at
        i = f(z_i + peepholes[0] * c if peepholes else z_i)
        keep = 1 - i if direction.coupled else f(z_f + peepholes[2] * c if peepholes else z_f)
        c = keep * c + i * new
        return [c], [c]

    def product(states: list[Array], at: list[Array]) -> tuple[list[Array], list[Array]]:
        c = at[0] * states[0] + at[1]
        return [c], [c]

    if peepholes:
        _, (cell,) = time.forwards(step, [c0], [z[I], z[F], candidate])
        before = time.before(cell, c0)
        z = [z[I] + peepholes[0] * before, z[O] + peepholes[1] * cell, z[F] + peepholes[2] * before, z[G]]
    gates = [f(z[I]), f(z[O]), f(z[F]), candidate]
    if direction.coupled:
        gates[F] = 1 - gates[I]
    if not peepholes:
        _, (cell,) = time.forwards(product, [c0], [gates[F], gates[I] * candidate])
        before = time.before(cell, c0)
    return Inner(z, gates, before, cell, h(cell))


@dataclass
class Flow:
    """What one unit becomes, [T, B, H] each, None where it passes nothing on.

    At the output h, it becomes `through` (None: all of it) at the cell and output_gate at that gate's sum; at the cell,
    `keep` at the cell before, and input_gate, forget_gate and cell_input at those sums. lost_h, lost_cell: what biases
    and stabilisers absorb of it; spread_h, spread_cell: what each incoming unit receives of their shares.
    """

    through: Array | None
    output_gate: Array | None
    input_gate: Array | None
    forget_gate: Array | None
    cell_input: Array
    keep: Array
    lost_h: Array | None = None
    lost_cell: Array | None = None
    spread_h: Array | None = None
    spread_cell: Array | None = None

    @property
    def gates(self) -> list[tuple[int, Array, bool]]:
        """The sums that receive something: which, how much, and whether from h rather than the cell."""
        found = [(I, self.input_gate, False), (O, self.output_gate, True), (F, self.forget_gate, False)]
        return [(k, a, h) for k, a, h in found if a is not None] + [(G, self.cell_input, False)]


def gradient_flow(direction: Direction, v: Inner) -> Flow:
    """Back-propagation through one step."""
    f, g, h = activations_of(direction.codes, direction.params, float(direction.clip))
    i, o, keep, new = v.gates
    slopes = [a.slope(z, y) for a, z, y in zip((f, f, f, g), v.z, v.gates, strict=True)]
    at_o, through = v.bent * slopes[O], o * h.slope(v.cell, v.bent)
    at_i: Array = new * slopes[I]
    at_f: Array | None = v.cell_before * slopes[F]
    if direction.coupled:
        at_i, at_f = (new - v.cell_before) * slopes[I], None
    if len(direction.P):
        P = [namespace(v.cell).asarray(p.astype(v.cell.dtype)) for p in direction.P]
        through = through + P[1] * at_o
        keep = keep + P[0] * at_i + (0 if at_f is None else P[2] * at_f)
    return Flow(through, at_o, at_i, at_f, i * slopes[G], keep)


def relevance_flow(direction: Direction, lrp: LRP, v: Inner, x: Array, h_before: Array) -> Flow:
    """LRP through one step (Arras et al. 2019, section 3)."""
    rules, delta, H, xp = Rules(lrp), lrp.bias_factor, direction.hidden, namespace(x)
    i, o, keep, new = v.gates
    all_to_signal = lrp.gate_rule == "all"
    first = 3 if all_to_signal else 0
    terms: list[Any] = [None] * 4
    P = [xp.asarray(p.astype(x.dtype)) for p in direction.P]
    if lrp.relative is not None:
        W, R, b = (np.abs(a[first * H :]) for a in (direction.W, direction.R, direction.bias))
        absolute = weighted(xp.abs(x), W, xp.abs(h_before), R, b)
        terms[first:] = [absolute[..., k * H : (k + 1) * H] for k in range(4 - first)]
        if len(P) and not all_to_signal:
            for k, p, c in ((I, P[0], v.cell_before), (O, P[1], v.cell), (F, P[2], v.cell_before)):
                terms[k] = terms[k] + xp.abs(p * c)
    bias = [xp.asarray(direction.bias[k * H : (k + 1) * H].astype(x.dtype)) for k in range(4)]
    unit = 1 / direction.units
    gate_unit = 1 / (direction.units + 1) if len(P) else unit

    to_old, to_new, kept = rules.state(keep * v.cell_before, i * new)
    density, lost = rules.pre_activation(v.z[G], terms[G], bias[G])
    if all_to_signal:
        lost = lost * to_new
        spread = lost * (delta * unit) if delta else None
        return Flow(None, None, None, None, to_new * density, to_old, None, kept + lost * (1 - delta), None, spread)

    one = xp.ones_like(v.cell)
    (r_o, through), gone_h = shared(lrp, one, o, v.bent, 0)
    (r_f, to_before), gone_f = shared(lrp, to_old, keep, v.cell_before, 0)
    (r_i, r_g), gone_i = shared(lrp, to_new, i, new, 0)
    if direction.coupled:
        r_i, r_f = r_i + r_f, xp.zeros_like(r_f)
    lost_h, lost_cell, spread_h, spread_cell = gone_h, kept + gone_f + gone_i, None, None
    sums: list[Array] = []
    for k, r in ((I, r_i), (O, r_o), (F, r_f), (G, r_g)):
        own, share = (density, lost) if k == G else rules.pre_activation(v.z[k], terms[k], bias[k])
        share = share * r
        sums.append(own * r)
        each = share * (delta * (unit if k == G else gate_unit)) if delta else None
        if k == O:
            lost_h, spread_h = lost_h + share * (1 - delta), each
        else:
            lost_cell = lost_cell + share * (1 - delta)
            spread_cell = each if spread_cell is None or each is None else spread_cell + each
        if len(P) and k != G:  # the cell is one more unit of a gate
            back = P[(I, O, F).index(k)] * (v.cell if k == O else v.cell_before) * sums[k] + (
                0 if each is None else each
            )
            if k == O:
                through = through + back
            else:
                to_before = to_before + back
    return Flow(through, sums[O], sums[I], sums[F], sums[G], to_before, lost_h, lost_cell, spread_h, spread_cell)


def forward(direction: Direction, time: Timeline, x: Array, initial: list[Array]) -> tuple[Array, list[Array]]:
    """Returns the hidden states [T, B, H], and the last h and c, [B, H]. initial: h and c."""
    H, kind = direction.hidden, x.dtype
    f, g, h = activations_of(direction.codes, direction.params, float(direction.clip))
    R, P = direction.R.T.astype(kind, order="C"), [p.astype(kind) for p in direction.P]
    from_x = x @ direction.W.T.astype(kind) + direction.bias.astype(kind)

    def plain_step(states: list[Array], at: list[Array]) -> tuple[list[Array], list[Array]]:
        (z,), (before, c) = at, states  # z may be overwritten, because every element of from_x is read once
        c, hidden = c.copy(), np.empty_like(c)
        next_step(z, before @ R, c, hidden)
        return [hidden, c], [hidden]

    def step(states: list[Array], at: list[Array]) -> tuple[list[Array], list[Array]]:
        (hidden, c), (z,) = states, at
        z = z + hidden @ R
        i, o, keep, new = (z[..., k * H : (k + 1) * H] for k in range(4))
        i = f(i + P[0] * c if P else i)
        keep = 1 - i if direction.coupled else f(keep + P[2] * c if P else keep)
        c = keep * c + i * g(new)
        hidden = f(o + P[1] * c if P else o) * h(c)
        return [hidden, c], [hidden]

    last, (hidden,) = time.forwards(plain_step if direction.plain and kind == np.float32 else step, initial, [from_x])
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
    """hidden, r_y [T, B, H]; initial, r_ends: h and c, [B, H]."""
    xp, (h0, c0) = time.xp, initial
    h_before = time.before(hidden, h0)
    v = inner_values(direction, time, x, h_before, c0)
    flow = gradient_flow(direction, v) if lrp is None else relevance_flow(direction, lrp, v, x, h_before)
    which = [k for k, _, _ in flow.gates]
    R, W = (xp.asarray(rows_of(a, which, direction.hidden).astype(x.dtype)) for a in (direction.R, direction.W))

    ceiling: Ceiling | None = None
    if lrp is not None and has_ceiling(lrp):
        old, new = v.gates[F] * v.cell_before, v.gates[I] * v.gates[G]
        state = old + new if lrp.gate_rule == "all" else v.cell
        ceiling = Ceiling(lrp, time, state, Rules(lrp).state_with_stabiliser(old, new), r_y)
    spreads = [s for s in (flow.spread_h, flow.spread_cell) if s is not None]
    varying = [a for _, a, _ in flow.gates] + [flow.keep] + ([] if flow.through is None else [flow.through])
    read = [*varying, *([] if r_y is None else [r_y]), *([] if lrp is None else [h_before]), *spreads]
    carried = [*r_ends, *([] if ceiling is None else [ceiling.start])]

    needs_h = flow.output_gate is not None or flow.lost_h is not None

    def at_sums(at_h: Array, at_cell: Array, coefficients: list[Array]) -> Array:
        """Returns the densities at the sums that receive something, side by side."""
        pairs = zip(flow.gates, coefficients, strict=True)
        return xp.concat([(at_h if from_h else at_cell) * c for (_, _, from_h), c in pairs], axis=-1)

    def step(states: list[Array], at: list[Array]) -> tuple[list[Array], list[Array]]:
        values = iter(at)
        coefficients = [next(values) for _ in flow.gates]
        keep = next(values)
        through = None if flow.through is None else next(values)
        y = None if r_y is None else next(values)
        h_prev = None if lrp is None else next(values)
        spread_h = None if flow.spread_h is None else next(values)
        spread_cell = None if flow.spread_cell is None else next(values)
        r_h, r_c, results = states[0], states[1], []
        after: list[Array] = []
        if ceiling is not None:
            arrived, along, r_h, taken = ceiling.limit(states[2], r_c, r_h, list(values))
            assert along is not None
            r_c, after, results = along, [arrived], [taken]
        at_h = r_h if y is None else r_h + y
        at_cell = r_c + (at_h if through is None else at_h * through)
        back = at_sums(at_h, at_cell, coefficients) @ R
        if h_prev is not None:
            back = back * h_prev
        given = [
            xp.sum(r * s, axis=-1, keepdims=True)
            for r, s in ((at_h, spread_h), (at_cell, spread_cell))
            if s is not None
        ]
        if given:
            total = given[0] if len(given) == 1 else given[0] + given[1]
            back = back + total
            results.append(total)
        return [back, at_cell * keep, *after], [at_cell, *([at_h] if needs_h else []), *results]

    last, (at_cell, *more) = time.backwards(step, carried, [*read, *([] if ceiling is None else ceiling.read)])
    at_h = more.pop(0) if needs_h else at_cell
    passed = at_sums(at_h, at_cell, [a for _, a, _ in flow.gates]) @ W
    if lrp is None:
        return Received(passed, last[:2])
    passed = x * passed
    if spreads:
        passed = passed + more[-1]
    absorbed = per_sample(at_cell, flow.lost_cell) + per_sample(at_h, flow.lost_h)
    if ceiling is not None:
        absorbed = absorbed + xp.sum(more[0], axis=(0, 2))
    return Received(passed, last[:2], absorbed)
