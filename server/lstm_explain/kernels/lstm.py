"""The time loops of the LSTM: forward with everything kept, relevance and gradient backward.

Gate order is ONNX's: i, o, f, c. One direction; `reverse` walks each sequence from its own end. Arrays are
[T, B, ...] and C-contiguous; rows past a sequence's length are neither read nor written. All numbers have the type of
`z` (weights may be narrower): Numba computes int with float32 in float64.

Every loop goes step by step through all samples whose sequence is not over, so that one product serves them all (see
product.py). order holds the samples to run, all or some, the longest sequence first: those at work are always a front
part of it, and row i of a loop's own arrays belongs to sample order[i].

Per step (the ONNX operator LSTM; peepholes P in order i, o, f):
    z = x W + h_prev R + b,  i, f = s(z + P c_prev),  g = tanh(z_c),  c = f c_prev + i g,  o = s(z_o + P_o c),
    h = o tanh(c).
"""

from __future__ import annotations

import numba as nb
import numpy as np

from lstm_explain.kernels.product import multiply, width_of
from lstm_explain.kernels.scalar import FAST, activate, exp, multiply_by_slope, settle, share, tanh


@nb.njit(**FAST)
def _plain_cell(acc, act, c, cell, squashed, hidden):
    """The cell as everybody uses it, in one loop."""
    H, one = c.size, acc.dtype.type(1)
    for j in range(H):
        i = one / (one + exp(-acc[j]))
        o = one / (one + exp(-acc[H + j]))
        f = one / (one + exp(-acc[2 * H + j]))
        g = tanh(acc[3 * H + j])
        act[j], act[H + j], act[2 * H + j], act[3 * H + j] = i, o, f, g
        cell[j] = f * c[j] + i * g
        squashed[j] = tanh(cell[j])
        hidden[j] = o * squashed[j]


@nb.njit(**FAST)
def _any_cell(acc, act, c, cell, squashed, hidden, P, codes, params, clip, coupled):
    """With peepholes, clipping, coupled gates and any activations."""
    H, none, one = c.size, acc.dtype.type(0), acc.dtype.type(1)
    if P.shape[0]:
        for j in range(H):
            acc[j] += P[0, j] * c[j]
            acc[2 * H + j] += P[2, j] * c[j]
    i, o, f, g = act[:H], act[H : 2 * H], act[2 * H : 3 * H], act[3 * H :]
    activate(codes[0], params[0, 0], params[0, 1], clip, acc[:H], i)
    activate(codes[1], params[1, 0], params[1, 1], clip, acc[3 * H :], g)
    if coupled:
        for j in range(H):
            f[j] = one - i[j]
    else:
        activate(codes[0], params[0, 0], params[0, 1], clip, acc[2 * H : 3 * H], f)
    for j in range(H):
        cell[j] = f[j] * c[j] + i[j] * g[j]
    if P.shape[0]:
        for j in range(H):
            acc[H + j] += P[1, j] * cell[j]
    activate(codes[0], params[0, 0], params[0, 1], clip, acc[H : 2 * H], o)
    activate(codes[2], params[2, 0], params[2, 1], none, cell, squashed)
    for j in range(H):
        hidden[j] = o[j] * squashed[j]


@nb.njit(**FAST)
def forward(
    z, Rt, bias, P, h0, c0, lens, order, reverse, codes, params, clip, coupled, gates, cells, squashed, hidden
):  # fmt: skip
    """Runs the recurrence.

    z [T, B, 4H]: x W, completed in place. Rt: packed [H, 4H]. bias [4H]. P [3, H] or [0, H]. h0, c0 [B, H]. lens [B].
    codes [3], params [3, 2]: activations f, g, h. coupled: f = 1 - i.
    Fills gates [T, B, 4H], cells, squashed (h's activation of the cell) and hidden [T, B, H].
    """
    B, H4 = order.size, z.shape[2]
    plain = codes[0] == 0 and codes[1] == 1 and codes[2] == 1 and not (clip > 0 or P.shape[0] or coupled)
    latest, product = h0[order], np.empty((B, width_of(Rt)), z.dtype)
    running = B
    for s in range(lens[order[0]]):
        while lens[order[running - 1]] <= s:
            running -= 1
        multiply(latest, Rt, product, running)
        for i in range(running):
            b = order[i]
            t = lens[b] - 1 - s if reverse else s
            c = c0[b] if s == 0 else cells[t + 1 if reverse else t - 1, b]
            acc, act, cell = z[t, b], gates[t, b], cells[t, b]
            for j in range(H4):
                acc[j] += product[i, j] + bias[j]
            if plain:
                _plain_cell(acc, act, c, cell, squashed[t, b], hidden[t, b])
            else:
                _any_cell(acc, act, c, cell, squashed[t, b], hidden[t, b], P, codes, params, clip, coupled)
            latest[i] = hidden[t, b]


@nb.njit(**FAST)
def relevance_all(
    z, gates, cells, hidden, h0, c0, lens, order, reverse, bias, R, eps, delta, r_y, r_h, r_c, m, each, lost
):  # fmt: skip
    """LRP under "signal takes all": only the cell input passes relevance on (Arras et al. 2019, section 3).

    bias [H] of the cell input; R: its recurrent weights, packed [H, H]; delta: bias factor; each [T, B] comes in as one
    over the number of incoming units (D + H). r_y [T, B, H]: relevance arriving at every step; r_h, r_c [B, H]: at the
    last states; overwritten with that of the initial states.
    Fills m [T, B, H], from which R_x = x * (m @ W) + each; each: what every input unit gets of bias and stabiliser;
    lost [B]: what is absorbed.
    """
    B, H = order.size, hidden.shape[2]
    latest, back = np.empty((B, H), z.dtype), np.empty((B, width_of(R)), z.dtype)
    zero, half, keep = z.dtype.type(0), z.dtype.type(0.5), z.dtype.type(1) - delta
    running = 0
    for s in range(lens[order[0]] - 1, -2, -1):
        multiply(latest, R, back, running)
        for i in range(running):
            _through_hidden(i, order[i], s, lens, reverse, hidden, h0, back, each, r_h)
        while s >= 0 and running < B and lens[order[running]] > s:
            running += 1
        for i in range(running if s >= 0 else 0):
            b = order[i]
            t = lens[b] - 1 - s if reverse else s
            s_h, s_c = r_h[b], r_c[b]
            c_prev = c0[b] if s == 0 else cells[t + 1 if reverse else t - 1, b]
            act, pre, cell, out, arriving = gates[t, b], z[t, b], cells[t, b], m[t, b], r_y[t, b]
            of_sum = zero
            of_input = zero
            for j in range(H):
                density, kept = settle(s_c[j] + s_h[j] + arriving[j], cell[j], zero, eps)
                of_sum += kept
                part = delta * half * kept
                s_c[j] = act[2 * H + j] * c_prev[j] * density + part
                density, kept = settle(act[j] * act[3 * H + j] * density + part, pre[3 * H + j], bias[j], eps)
                of_input += kept
                out[j] = density
            lost[b] += keep * (of_sum + of_input)
            each[t, b] *= delta * of_input
            latest[i] = out


@nb.njit(**FAST)
def _through_hidden(i, b, s, lens, reverse, hidden, h0, back, each, r_h):
    """Relevance of sample b's hidden state at step s (-1: the initial one), from that of the step after."""
    t = lens[b] - 1 - s if reverse else s
    own = h0[b] if s < 0 else hidden[t, b]
    given = each[t - 1 if reverse else t + 1, b]
    for j in range(own.size):
        r_h[b, j] = own[j] * back[i, j] + given


@nb.njit(**FAST)
def relevance_shared(
    rule, z, gates, cells, squashed, hidden, h0, c0, lens, order, reverse, coupled, bias, R, P, eps, delta,
    r_y, r_h, r_c, m, each, lost,
):  # fmt: skip
    """LRP under half (1), prop (2) and abs (3): gates receive relevance and pass it on.

    As `relevance_all`, but bias [4H], R packed [4H, H], m [T, B, 4H], so that R_x = x * (m @ W) + each. A gate with a
    peephole has one more incoming unit, the cell.
    """
    B, H = order.size, hidden.shape[2]
    latest, back = np.empty((B, 4 * H), z.dtype), np.empty((B, width_of(R)), z.dtype)
    zero, half, one = z.dtype.type(0), z.dtype.type(0.5), z.dtype.type(1)
    keep = one - delta
    peeps = P.shape[0] > 0
    running = 0
    for s in range(lens[order[0]] - 1, -2, -1):
        multiply(latest, R, back, running)
        for i in range(running):
            _through_hidden(i, order[i], s, lens, reverse, hidden, h0, back, each, r_h)
        while s >= 0 and running < B and lens[order[running]] > s:
            running += 1
        for i in range(running if s >= 0 else 0):
            b = order[i]
            t = lens[b] - 1 - s if reverse else s
            s_h, s_c = r_h[b], r_c[b]
            c_prev = c0[b] if s == 0 else cells[t + 1 if reverse else t - 1, b]
            act, pre, cell, out = gates[t, b], z[t, b], cells[t, b], m[t, b]
            per_unit = each[t, b]
            per_gate_unit = one / (one / per_unit + one) if peeps else per_unit
            absorbed = zero
            handed = zero
            for j in range(H):
                r_o, r_s, gone = share(rule, act[H + j], squashed[t, b, j], s_h[j] + r_y[t, b, j], eps, delta)
                density, kept = settle(r_o, pre[H + j], bias[H + j], eps)
                out[H + j] = density
                absorbed += keep * kept + gone
                handed += delta * kept * per_gate_unit
                r_cell = s_c[j] + r_s
                if peeps:
                    r_cell += P[1, j] * cell[j] * density + delta * kept * per_gate_unit

                density, kept = settle(r_cell, cell[j], zero, eps)
                part = delta * half * kept
                absorbed += keep * kept
                r_f, r_prev, gone_f = share(
                    rule, act[2 * H + j], c_prev[j], act[2 * H + j] * c_prev[j] * density + part, eps, delta
                )
                r_i, r_g, gone_i = share(
                    rule, act[j], act[3 * H + j], act[j] * act[3 * H + j] * density + part, eps, delta
                )
                absorbed += gone_f + gone_i
                if coupled:
                    r_i += r_f
                    r_f = zero

                density, kept = settle(r_i, pre[j], bias[j], eps)
                out[j] = density
                absorbed += keep * kept
                handed += delta * kept * per_gate_unit
                if peeps:
                    r_prev += P[0, j] * c_prev[j] * density + delta * kept * per_gate_unit

                density, kept = settle(r_f, pre[2 * H + j], bias[2 * H + j], eps)
                out[2 * H + j] = density
                absorbed += keep * kept
                handed += delta * kept * per_gate_unit
                if peeps:
                    r_prev += P[2, j] * c_prev[j] * density + delta * kept * per_gate_unit

                density, kept = settle(r_g, pre[3 * H + j], bias[3 * H + j], eps)
                out[3 * H + j] = density
                absorbed += keep * kept
                handed += delta * kept * per_unit
                s_c[j] = r_prev
            lost[b] += absorbed
            each[t, b] = handed
            latest[i] = out


@nb.njit(**FAST)
def gradient(
    z, gates, cells, squashed, c0, lens, order, reverse, codes, params, clip, coupled, R, P, g_y, g_h, g_c, m
):  # fmt: skip
    """Back-propagation through time. g_y [T, B, H], g_h, g_c [B, H] as r_y, r_h, r_c in `relevance_all`, but
    gradients; R packed [4H, H]; fills m [T, B, 4H], the gradient of the pre-activations, from which g_x = m @ W."""
    B, H = order.size, cells.shape[2]
    none = z.dtype.type(0)
    latest, back, g_cell = np.empty((B, 4 * H), z.dtype), np.empty((B, width_of(R)), z.dtype), np.empty(H, z.dtype)
    i, o, f, g = slice(0, H), slice(H, 2 * H), slice(2 * H, 3 * H), slice(3 * H, 4 * H)
    running = 0
    for s in range(lens[order[0]] - 1, -2, -1):
        multiply(latest, R, back, running)
        for row in range(running):
            g_h[order[row]] = back[row, :H]
        while s >= 0 and running < B and lens[order[running]] > s:
            running += 1
        for row in range(running if s >= 0 else 0):
            b = order[row]
            t = lens[b] - 1 - s if reverse else s
            s_h, s_c = g_h[b], g_c[b]
            c_prev = c0[b] if s == 0 else cells[t + 1 if reverse else t - 1, b]
            act, pre, out = gates[t, b], z[t, b], m[t, b]
            for j in range(H):
                s_h[j] += g_y[t, b, j]
                out[H + j] = s_h[j] * squashed[t, b, j]
                g_cell[j] = s_h[j] * act[H + j]
            multiply_by_slope(codes[0], params[0, 0], params[0, 1], clip, pre[o], act[o], out[o])
            multiply_by_slope(codes[2], params[2, 0], params[2, 1], none, cells[t, b], squashed[t, b], g_cell)
            for j in range(H):
                s_c[j] += g_cell[j]
                if P.shape[0]:
                    s_c[j] += P[1, j] * out[H + j]
                out[j] = s_c[j] * act[3 * H + j]
                out[3 * H + j] = s_c[j] * act[j]
                out[2 * H + j] = s_c[j] * c_prev[j]
                if coupled:
                    out[j] -= out[2 * H + j]
                    out[2 * H + j] = none
            multiply_by_slope(codes[0], params[0, 0], params[0, 1], clip, pre[i], act[i], out[i])
            multiply_by_slope(codes[1], params[1, 0], params[1, 1], clip, pre[g], act[g], out[g])
            if not coupled:
                multiply_by_slope(codes[0], params[0, 0], params[0, 1], clip, pre[f], act[f], out[f])
            for j in range(H):
                s_c[j] *= act[2 * H + j]
                if P.shape[0]:
                    s_c[j] += P[0, j] * out[j] + P[2, j] * out[2 * H + j]
            latest[row] = out
