# SPDX-License-Identifier: Apache-2.0
"""The backward pass of one direction of a GRU, whose gates ONNX orders as update z, reset r, candidate n.

h = (1 - z) n + z h_before, and n = g(x W + b + (r * u, or (r * h_before) R)) with u = h_before R + Rb: the former
is linear_before_reset, "before" below.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.methods import LRP
from lstm_explain.operators.array_api import namespace
from lstm_explain.operators.direction import Direction
from lstm_explain.operators.formulas import shared
from lstm_explain.operators.over_steps.activations import activations_of
from lstm_explain.operators.over_steps.received import Received, per_sample, rows_of
from lstm_explain.operators.over_steps.sums import Ceiling, Rules, has_ceiling, weighted
from lstm_explain.operators.over_steps.timeline import Timeline

Z, R, N = range(3)


@dataclass
class Inner:
    """What a step computes, [T, B, H] each: pre-activations and gates by `Z`, `R`, `N`; inner: u before, r * h_before
    after the reset gate.
    """

    z: list[Array]
    gates: list[Array]
    inner: Array
    h_before: Array


def inner_values(direction: Direction, x: Array, h_before: Array) -> Inner:
    H, xp, kind = direction.hidden, namespace(x), x.dtype
    f, g = activations_of(direction.codes, direction.params, float(direction.clip))
    W, RR, bias = direction.W, direction.R, direction.bias
    both = weighted(x, W[: 2 * H], h_before, RR[: 2 * H], bias[: 2 * H])
    z, r = f(both[..., :H]), f(both[..., H:])
    R_h, from_x = xp.asarray(RR[2 * H :].T.astype(kind)), x @ xp.asarray(W[2 * H :].T.astype(kind))
    from_x = from_x + xp.asarray(bias[2 * H :].astype(kind))
    if direction.linear_before_reset:
        inner = h_before @ R_h + xp.asarray(direction.Rb_h.astype(kind))
        candidate = from_x + r * inner
    else:
        inner = r * h_before
        candidate = from_x + inner @ R_h
    return Inner([both[..., :H], both[..., H:], candidate], [z, r, g(candidate)], inner, h_before)


@dataclass
class Flow:
    """What one unit at the state h becomes, [T, B, H] each, None where nothing arrives.

    candidate, update: at these sums. direct: at h_before, without a weight. Before the reset gate: reset: at its sum;
    inner: at u. After it, what comes back through R of one unit at r * h_before: inner_value (None: 1) times it is p,
    and one unit of p becomes reset at the reset gate's sum, and direct_inner at h_before.

    lost, lost_p: what is absorbed of one unit at h and of p. spread_x, spread_h, spread_p: what the shares of biases
    give each input, each unit of h_before, and each unit of r * h_before; spread_reset: what those of p give both.
    """

    candidate: Array
    direct: Array
    update: Array | None = None
    reset: Array | None = None
    inner: Array | None = None
    inner_value: Array | None = None
    direct_inner: Array | None = None
    lost: Array | None = None
    lost_p: Array | None = None
    spread_x: Array | None = None
    spread_h: Array | None = None
    spread_p: Array | None = None
    spread_reset: Array | None = None

    def all(self) -> dict[str, Array]:
        """Returns what the loop reads."""
        used = (
            "candidate", "direct", "update", "reset", "inner", "inner_value", "direct_inner", "spread_x", "spread_h",
            "spread_p", "spread_reset",
        )  # fmt: skip
        return {name: value for name in used if (value := getattr(self, name)) is not None}


def gradient_flow(direction: Direction, v: Inner) -> Flow:
    f, g = activations_of(direction.codes, direction.params, float(direction.clip))
    z, r, n = v.gates
    candidate = (1 - z) * g.slope(v.z[N], n)
    update, slope = (v.h_before - n) * f.slope(v.z[Z], z), f.slope(v.z[R], r)
    if direction.linear_before_reset:
        return Flow(candidate, z, update, candidate * v.inner * slope, candidate * r)
    return Flow(candidate, z, update, v.h_before * slope, direct_inner=r)


def relevance_flow(direction: Direction, lrp: LRP, v: Inner, x: Array) -> Flow:
    """LRP through one step (Arras et al. 2019, section 3)."""
    H, xp, kind, before = direction.hidden, namespace(x), x.dtype, direction.linear_before_reset
    rules, delta, gated = Rules(lrp), lrp.bias_factor, lrp.gate_rule != "all"
    keep = 1 - delta
    z, r, n = v.gates
    bias = [xp.asarray(direction.bias[k * H : (k + 1) * H].astype(kind)) for k in range(3)]
    recurrent_bias = xp.asarray(direction.Rb_h.astype(kind))
    terms, terms_inner = _terms(direction, lrp, v, x, gated)
    units, features = direction.units, direction.units - H
    per_candidate = 1 / (features + 1) if before else 1 / units

    to_old, to_new, kept = rules.state(z * v.h_before, (1 - z) * n)
    (r_new, r_n), gone_new = shared(lrp, to_new, 1 - z, n, 0)
    (r_old, direct), gone_old = shared(lrp, to_old, z, v.h_before, 0)
    lost: Any = kept + gone_new + gone_old
    own, share = rules.pre_activation(v.z[N], terms[N], bias[N])
    flow, share = Flow(own * r_n, direct), share * r_n
    lost, spread_x, spread_h = lost + share * keep, share * per_candidate, None
    if gated:
        own, at_update = rules.pre_activation(v.z[Z], terms[Z], bias[Z])
        flow.update, at_update = own * (r_new + r_old), at_update * (r_new + r_old)
        lost, spread_h = lost + at_update * keep, at_update * (1 / units)
        spread_x = spread_x + spread_h
    of_reset, at_reset = rules.pre_activation(v.z[R], terms[R], bias[R]) if gated else (None, None)
    if before:
        r_p = r * v.inner * flow.candidate + share * (delta * per_candidate)
        (r_r, r_u), gone = shared(lrp, r_p, r, v.inner, 0)
        own, at_inner = rules.pre_activation(v.inner, terms_inner, recurrent_bias)
        flow.inner, at_inner = own * r_u, at_inner * r_u
        lost = lost + gone + at_inner * keep
        spread_h = at_inner * (1 / H) if spread_h is None else spread_h + at_inner * (1 / H)
        if of_reset is not None and at_reset is not None:
            flow.reset, at_reset = of_reset * r_r, at_reset * r_r
            lost, each = lost + at_reset * keep, at_reset * (1 / units)
            spread_x, spread_h = spread_x + each, spread_h + each
    else:
        (r_r, r_prev), gone = shared(lrp, xp.ones_like(r), r, v.h_before, 0)
        flow.inner_value, flow.direct_inner, flow.lost_p = v.inner, r_prev, gone
        if of_reset is not None and at_reset is not None:
            flow.reset, at_reset = of_reset * r_r, at_reset * r_r
            flow.lost_p = gone + at_reset * keep
            flow.spread_reset = at_reset * (delta / units) if delta else None
        flow.spread_p = share * (delta * per_candidate) if delta else None
    flow.lost = lost
    if delta:
        flow.spread_x = spread_x * delta
        flow.spread_h = None if spread_h is None else spread_h * delta
    return flow


def _terms(direction: Direction, lrp: LRP, v: Inner, x: Array, gated: bool) -> tuple[list[Any], Any]:
    """Returns the sums of absolute terms of the three sums, and of u."""
    terms: list[Any] = [None] * 3
    if lrp.relative is None:
        return terms, None
    H, xp, kind = direction.hidden, namespace(x), x.dtype
    W, RR, bias = np.abs(direction.W), np.abs(direction.R), np.abs(direction.bias)
    size_of_h = xp.abs(v.h_before)
    if gated:
        both = weighted(xp.abs(x), W[: 2 * H], size_of_h, RR[: 2 * H], bias[: 2 * H])
        terms[Z], terms[R] = both[..., :H], both[..., H:]
    R_h = xp.asarray(RR[2 * H :].T.astype(kind))
    from_x = xp.abs(x) @ xp.asarray(W[2 * H :].T.astype(kind)) + xp.asarray(bias[2 * H :].astype(kind))
    if not direction.linear_before_reset:
        terms[N] = from_x + xp.abs(v.inner) @ R_h
        return terms, None
    terms[N] = from_x + xp.abs(v.gates[R] * v.inner)
    return terms, size_of_h @ R_h + xp.asarray(np.abs(direction.Rb_h).astype(kind))


def forward(direction: Direction, time: Timeline, x: Array, initial: list[Array]) -> tuple[Array, list[Array]]:
    """Returns the hidden states [T, B, H], and the last one, [B, H]. initial: h."""
    H, xp, kind = direction.hidden, time.xp, x.dtype
    f, g = activations_of(direction.codes, direction.params, float(direction.clip))
    R_gates, R_h = (xp.asarray(R.T.astype(kind)) for R in (direction.R[: 2 * H], direction.R[2 * H :]))
    from_x = x @ xp.asarray(direction.W.T.astype(kind)) + xp.asarray(direction.bias.astype(kind))
    recurrent_bias = xp.asarray(direction.Rb_h.astype(kind))

    def step(states: list[Array], at: list[Array]) -> tuple[list[Array], list[Array]]:
        (before,), (z,) = states, at
        gates = f(z[..., : 2 * H] + before @ R_gates)
        update, reset = gates[..., :H], gates[..., H:]
        first = direction.linear_before_reset
        inner = reset * (before @ R_h + recurrent_bias) if first else (reset * before) @ R_h
        hidden = (1 - update) * g(z[..., 2 * H :] + inner) + update * before
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
    xp, H, kind, before = time.xp, direction.hidden, x.dtype, direction.linear_before_reset
    h_before = time.before(hidden, initial[0])
    v = inner_values(direction, x, h_before)
    flow = gradient_flow(direction, v) if lrp is None else relevance_flow(direction, lrp, v, x)
    gates = [k for k, used in ((Z, flow.update), (R, flow.reset)) if used is not None]
    R_h = xp.asarray(direction.R[2 * H :].astype(kind))
    R_gates = xp.asarray(rows_of(direction.R, gates, H).astype(kind)) if gates else None
    W = xp.asarray(rows_of(direction.W, [*gates, N], H).astype(kind))
    names, coefficients = list(flow.all()), list(flow.all().values())
    ceiling: Ceiling | None = None
    if lrp is not None and has_ceiling(lrp):
        below = Rules(lrp).state_with_stabiliser(v.gates[Z] * h_before, (1 - v.gates[Z]) * v.gates[N])
        ceiling = Ceiling(lrp, time, hidden, below, r_y)
    read = [*coefficients, *(a for a in (r_y, None if lrp is None else h_before) if a is not None)]
    carried = [r_ends[0], xp.zeros_like(r_ends[0]), *([] if ceiling is None else [ceiling.start])]

    def step(states: list[Array], at: list[Array]) -> tuple[list[Array], list[Array]]:
        c = dict(zip(names, at, strict=False))
        values = iter(at[len(names) :])
        y = None if r_y is None else next(values)
        h_prev = None if lrp is None else next(values)
        through_h, along, after, results = states[0], states[1], list[Array](), list[Array]()
        if ceiling is not None:
            arrived, limited, through_h, taken = ceiling.limit(states[2], along, through_h, list(values))
            assert limited is not None
            along, after, results = limited, [arrived], [taken]
        r = through_h + along if y is None else through_h + along + y

        def total(r: Array, name: str) -> Any:
            return xp.sum(r * c[name], axis=-1, keepdims=True) if name in c else 0

        sums = {N: r * c["candidate"]}
        if "update" in c:
            sums[Z] = r * c["update"]
        back = (r * c["inner"] if before else sums[N]) @ R_h
        direct, p = r * c["direct"], r
        if before:
            if "reset" in c:
                sums[R] = r * c["reset"]
        else:
            p = back * c["inner_value"] if "inner_value" in c else back
            p = p + total(r, "spread_p")
            if "reset" in c:
                sums[R] = p * c["reset"]
        weighted_parts = [back] if before else []
        if R_gates is not None:
            weighted_parts.append(xp.concat([sums[k] for k in gates], axis=-1) @ R_gates)
        passed: Any = sum(weighted_parts[1:], weighted_parts[0]) if weighted_parts else xp.zeros_like(r)
        passed = passed if h_prev is None else passed * h_prev
        of_reset = total(p, "spread_reset")
        passed = passed + total(r, "spread_h") + of_reset
        if not before:  # through r * h_before: not along the state, whose growth is bounded apart
            passed = passed + p * c["direct_inner"]
        given = [total(r, "spread_x") + of_reset] if "spread_x" in c else []
        return [passed, direct, *after], [r, *([] if before else [p]), *results, *given]

    last, (r, *more) = time.backwards(step, carried, [*read, *([] if ceiling is None else ceiling.read)])
    p = r if before else more.pop(0)
    parts = {N: r * flow.candidate}
    if flow.update is not None:
        parts[Z] = r * flow.update
    if flow.reset is not None:
        parts[R] = p * flow.reset
    passed = xp.concat([parts[k] for k in (*gates, N)], axis=-1) @ W
    if lrp is None:
        return Received(passed, [last[0] + last[1]])
    passed = x * passed + more[-1] if "spread_x" in names else x * passed
    absorbed = per_sample(r, flow.lost) + per_sample(p, flow.lost_p)
    if ceiling is not None:
        absorbed = absorbed + xp.sum(more[0], axis=(0, 2))
    return Received(passed, [last[0] + last[1]], absorbed)
