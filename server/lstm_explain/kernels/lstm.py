"""The time loops of the LSTM: forward with what the way back needs, relevance and gradient backward.

Gate order is ONNX's: i, o, f, c. One direction; `reverse` walks each sequence from its own end. Arrays are
[T, B, ...] and C-contiguous; rows past a sequence's length are neither read nor written. Under "half", "prop" and "abs"
pre-activations and cells have float64 where all else may have float32: these rules divide by both. Weights may be
narrower than what they are multiplied with. Numba computes int with float32 in float64, so constants are typed.

Every loop goes step by step through all samples whose sequence is not over, so that one product serves them all (see
product.py). order holds the samples to run, all or some, the longest sequence first: those at work are always a front
part of it, and row i of a loop's own arrays belongs to sample order[i]. The products with the inputs' weights are done
for a few steps at a time, in arrays that stay in the cache.

Per step (the ONNX operator LSTM; peepholes P in order i, o, f):
    z = x W + h_prev R + b,  i, f = s(z + P c_prev),  g = tanh(z_c),  c = f c_prev + i g,  o = s(z_o + P_o c),
    h = o tanh(c).
"""

from __future__ import annotations

import numba as nb
import numpy as np

from lstm_explain.kernels.product import multiply, width_of
from lstm_explain.kernels.scalar import FAST, activate, exp, multiply_by_slope, settle, share, tanh

AT_ONCE = 1 << 14  # numbers of a product with the inputs' weights: they stay in the cache


@nb.njit(**{**FAST, "cache": False, "inline": "always"})
def _steps_at_once(batch, width):
    return max(1, max(8, AT_ONCE // width) // batch)


@nb.njit(**FAST)
def _gather(x, order, lens, reverse, first, end, rows):
    """rows: x at steps from `first` to before `end`, of those at work in each; returns how many."""
    count, running = 0, order.size
    for s in range(first, end):
        while lens[order[running - 1]] <= s:
            running -= 1
        for i in range(running):
            b = order[i]
            t = lens[b] - 1 - s if reverse else s
            for d in range(x.shape[2]):
                rows[count, d] = x[t, b, d]
            count += 1
    return count


@nb.njit(**FAST)
def _any_cell(acc, act, c, cell, squashed, hidden, P, codes, params, clip, coupled):
    """With peepholes, clipping, coupled gates and any activations."""
    H, none, one = cell.size, clip - clip, clip - clip + np.float32(1)
    if P.shape[0]:
        for j in range(H):
            acc[j] += P[0, j] * c[j]
            acc[2 * H + j] += P[2, j] * c[j]
    i, o, f, g = act[:H], act[H : 2 * H], act[2 * H : 3 * H], act[3 * H :]
    activate(codes[0], params[0, 0], params[0, 1], clip, acc[:H], i)
    activate(codes[1], params[1, 0], params[1, 1], clip, acc[3 * H : 4 * H], g)
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


@nb.njit(**{**FAST, "cache": False, "inline": "always"})
def _is_plain(codes, clip, P, coupled):
    """Whether the cell is as everybody uses it: one loop does."""
    return codes[0] == 0 and codes[1] == 1 and codes[2] == 1 and not (clip > 0 or P.shape[0] or coupled)


@nb.njit(**FAST)
def forward_all(
    x, W, Rt, bias, P, c, h0, lens, order, reverse, codes, params, clip, coupled, pre, old, new, hidden
):  # fmt: skip
    """Runs the recurrence and keeps what "signal takes all" looks at.

    x [T, B, D]. W, Rt: packed [D, 4H], [H, 4H]. bias [4H]. P [3, H] or [0, H]. h0 [B, H]. lens [B]. c [B, H]: the
    initial cells, overwritten with the last. codes [3], params [3, 2]: activations f, g, h. coupled: f = 1 - i.
    Fills [T, B, H] each: pre, z of the cell input; old and new, f c_prev and i g; hidden.
    """
    B, H = order.size, hidden.shape[2]
    plain = _is_plain(codes, clip, P, coupled)
    one = hidden.dtype.type(1)
    latest, product = h0[order], np.zeros((B, width_of(Rt)), hidden.dtype)
    started = h0.any()
    act, cell, squashed = np.empty(4 * H, hidden.dtype), np.empty(H, hidden.dtype), np.empty(H, hidden.dtype)
    steps, total = _steps_at_once(B, width_of(W)), lens[order[0]]
    steps = min(steps, total)
    rows, of_rows = np.empty((steps * B, x.shape[2]), x.dtype), np.empty((steps * B, width_of(W)), hidden.dtype)
    running = B
    for first in range(0, total, steps):
        end = min(first + steps, total)
        multiply(rows, W, of_rows, _gather(x, order, lens, reverse, first, end, rows))
        row = 0
        for s in range(first, end):
            while lens[order[running - 1]] <= s:
                running -= 1
            if s > 0 or started:
                multiply(latest, Rt, product, running)
            for i in range(running):
                b = order[i]
                t = lens[b] - 1 - s if reverse else s
                if plain:
                    for j in range(H):
                        z = of_rows[row, 3 * H + j] + product[i, 3 * H + j] + bias[3 * H + j]
                        z_i = of_rows[row, j] + product[i, j] + bias[j]
                        z_o = of_rows[row, H + j] + product[i, H + j] + bias[H + j]
                        z_f = of_rows[row, 2 * H + j] + product[i, 2 * H + j] + bias[2 * H + j]
                        added = tanh(z) / (one + exp(-z_i))
                        carried = c[b, j] / (one + exp(-z_f))
                        total_cell = added + carried
                        out = tanh(total_cell) / (one + exp(-z_o))
                        pre[t, b, j] = z
                        old[t, b, j] = carried
                        new[t, b, j] = added
                        c[b, j] = total_cell
                        hidden[t, b, j] = out
                        latest[i, j] = out
                else:
                    z_row = of_rows[row]
                    for j in range(4 * H):
                        z_row[j] += product[i, j] + bias[j]
                    _any_cell(z_row, act, c[b], cell, squashed, latest[i], P, codes, params, clip, coupled)
                    for j in range(H):
                        pre[t, b, j] = z_row[3 * H + j]
                        old[t, b, j] = act[2 * H + j] * c[b, j]
                        new[t, b, j] = act[j] * act[3 * H + j]
                        hidden[t, b, j] = latest[i, j]
                        c[b, j] = cell[j]
                row += 1


@nb.njit(**FAST)
def forward(
    x, W, Rt, bias, P, c, h0, lens, order, reverse, codes, params, clip, coupled, z, gates, cells, squashed, hidden
):  # fmt: skip
    """As `forward_all`, but fills gates [T, B, 4H], cells, squashed (h's activation of the cell) and hidden [T, B, H],
    and z [T, B, 4H], unless it has length 0."""
    B, H = order.size, hidden.shape[2]
    plain, keeps = _is_plain(codes, clip, P, coupled), z.shape[0] > 0
    one = hidden.dtype.type(1)
    latest, product = h0[order], np.zeros((B, width_of(Rt)), z.dtype)
    started = h0.any()
    steps, total = _steps_at_once(B, width_of(W)), lens[order[0]]
    steps = min(steps, total)
    rows, of_rows = np.empty((steps * B, x.shape[2]), x.dtype), np.empty((steps * B, width_of(W)), z.dtype)
    running = B
    for first in range(0, total, steps):
        end = min(first + steps, total)
        multiply(rows, W, of_rows, _gather(x, order, lens, reverse, first, end, rows))
        row = 0
        for s in range(first, end):
            while lens[order[running - 1]] <= s:
                running -= 1
            if s > 0 or started:
                multiply(latest, Rt, product, running)
            for i in range(running):
                b = order[i]
                t = lens[b] - 1 - s if reverse else s
                acc, act = of_rows[row], gates[t, b]
                for j in range(4 * H):
                    acc[j] += product[i, j] + bias[j]
                if plain:
                    for j in range(H):
                        i_gate = one / (one + exp(hidden.dtype.type(-acc[j])))
                        o_gate = one / (one + exp(hidden.dtype.type(-acc[H + j])))
                        f_gate = one / (one + exp(hidden.dtype.type(-acc[2 * H + j])))
                        g = tanh(hidden.dtype.type(acc[3 * H + j]))
                        act[j], act[H + j], act[2 * H + j], act[3 * H + j] = i_gate, o_gate, f_gate, g
                        cell = f_gate * c[b, j] + i_gate * z.dtype.type(g)
                        bent = tanh(hidden.dtype.type(cell))
                        c[b, j] = cell
                        cells[t, b, j] = cell
                        squashed[t, b, j] = bent
                        hidden[t, b, j] = o_gate * bent
                        latest[i, j] = o_gate * bent
                else:
                    _any_cell(
                        acc, act, c[b], cells[t, b], squashed[t, b], hidden[t, b], P, codes, params, clip, coupled
                    )
                    for j in range(H):
                        latest[i, j] = hidden[t, b, j]
                        c[b, j] = cells[t, b, j]
                if keeps:
                    for j in range(4 * H):
                        z[t, b, j] = acc[j]
                row += 1


@nb.njit(**FAST)
def _through_hidden(i, b, s, lens, reverse, hidden, h0, back, given, r_h):
    """Relevance of sample b's hidden state at step s (-1: the initial one), from that of the step after."""
    t = lens[b] - 1 - s if reverse else s
    own = h0[b] if s < 0 else hidden[t, b]
    for j in range(own.size):
        r_h[b, j] = own[j] * back[i, j] + given


@nb.njit(**FAST)
def _to_inputs(m, W, out, count, where, given, x, r_x):
    """R_x = x * (m @ W) + given, of the rows of m; where [rows, 2]: t and b of each."""
    multiply(m, W, out, count)
    for row in range(count):
        t, b = where[row]
        for d in range(x.shape[2]):
            r_x[t, b, d] = x[t, b, d] * out[row, d] + given[row]


@nb.njit(**FAST)
def relevance_all(
    x, pre, old, new, hidden, h0, lens, order, reverse, bias, R, W, eps, delta, unit, r_y, r_h, r_c, r_x, lost
):  # fmt: skip
    """LRP under "signal takes all": only the cell input passes relevance on (Arras et al. 2019, section 3).

    pre, old, new, hidden: of `forward_all`. bias [H] of the cell input; R, W: its weights, packed [H, H], [H, D];
    delta: bias factor; unit: one over the number of incoming units (D + H). r_y: relevance arriving at every step,
    [T, B, H] or [0, 0, 0] for none; r_h, r_c [B, H]: at the last states; overwritten with that of the initial states.
    Fills r_x [T, B, D]: relevance of the inputs; adds to lost [B] what is absorbed.
    """
    B, H = order.size, hidden.shape[2]
    zero, half, one = pre.dtype.type(0), pre.dtype.type(0.5), pre.dtype.type(1)
    total, along = lens[order[0]], r_y.shape[0] > 0
    steps = max(1, min(_steps_at_once(B, H), total))
    m, given = np.empty((steps * B, H), pre.dtype), np.empty(steps * B, pre.dtype)
    where, of_rows = np.empty((steps * B, 2), np.int64), np.empty((steps * B, width_of(W)), pre.dtype)
    back = np.empty((B, width_of(R)), pre.dtype)
    row, before, running = 0, 0, 0
    for s in range(total - 1, -1, -1):
        if running:
            multiply(m[before:row], R, back, running)
            for i in range(running):
                _through_hidden(i, order[i], s, lens, reverse, hidden, h0, back, given[before + i], r_h)
        while running < B and lens[order[running]] > s:
            running += 1
        if row + running > steps * B:
            _to_inputs(m, W, of_rows, row, where, given, x, r_x)
            row = 0
        before = row
        for i in range(running):
            b = order[i]
            t = lens[b] - 1 - s if reverse else s
            of_sum, of_input = zero, zero
            for j in range(H):
                r = r_c[b, j] + r_h[b, j]
                if along:
                    r += r_y[t, b, j]
                density, kept = settle(r, old[t, b, j] + new[t, b, j], zero, eps)
                of_sum += kept
                part = delta * half * kept
                r_c[b, j] = old[t, b, j] * density + part
                density, kept = settle(new[t, b, j] * density + part, pre[t, b, j], bias[j], eps)
                of_input += kept
                m[row, j] = density
            lost[b] += (one - delta) * (of_sum + of_input)
            given[row] = delta * of_input * unit
            where[row, 0], where[row, 1] = t, b
            row += 1
    if running:
        if h0.any():
            multiply(m[before:row], R, back, running)
        else:
            back[:] = 0
        for i in range(running):
            _through_hidden(i, order[i], -1, lens, reverse, hidden, h0, back, given[before + i], r_h)
        _to_inputs(m, W, of_rows, row, where, given, x, r_x)


@nb.njit(**FAST)
def relevance_shared(
    rule, x, z, gates, cells, squashed, hidden, h0, c0, lens, order, reverse, coupled, bias, R, W, P, eps, delta, unit,
    r_y, r_h, r_c, r_x, lost,
):  # fmt: skip
    """LRP under half (1), prop (2) and abs (3): gates receive relevance and pass it on.

    As `relevance_all`, from what `forward` keeps, but bias [4H], R, W packed [4H, H], [4H, D]. A gate with a peephole
    has one more incoming unit, the cell.
    """
    B, H = order.size, hidden.shape[2]
    zero, half, one = z.dtype.type(0), z.dtype.type(0.5), z.dtype.type(1)
    total, along = lens[order[0]], r_y.shape[0] > 0
    steps = max(1, min(_steps_at_once(B, 4 * H), total))
    m, given = np.empty((steps * B, 4 * H), z.dtype), np.empty(steps * B, z.dtype)
    where, of_rows = np.empty((steps * B, 2), np.int64), np.empty((steps * B, width_of(W)), z.dtype)
    back = np.empty((B, width_of(R)), z.dtype)
    keep = one - delta
    peeps = P.shape[0] > 0
    gate_unit = one / (one / unit + one) if peeps else unit
    row, before, running = 0, 0, 0
    for s in range(total - 1, -1, -1):
        if running:
            multiply(m[before:row], R, back, running)
            for i in range(running):
                _through_hidden(i, order[i], s, lens, reverse, hidden, h0, back, given[before + i], r_h)
        while running < B and lens[order[running]] > s:
            running += 1
        if row + running > steps * B:
            _to_inputs(m, W, of_rows, row, where, given, x, r_x)
            row = 0
        before = row
        for i in range(running):
            b = order[i]
            t = lens[b] - 1 - s if reverse else s
            s_h, s_c = r_h[b], r_c[b]
            c_prev = c0[b] if s == 0 else cells[t + 1 if reverse else t - 1, b]
            act, pre, cell, out, bent = gates[t, b], z[t, b], cells[t, b], m[row], squashed[t, b]
            if along:
                for j in range(H):
                    s_h[j] += r_y[t, b, j]
            absorbed, handed = zero, zero
            for j in range(H):
                i_gate, o_gate = z.dtype.type(act[j]), z.dtype.type(act[H + j])
                f_gate, g = z.dtype.type(act[2 * H + j]), z.dtype.type(act[3 * H + j])
                r_o, r_s, gone = share(rule, o_gate, z.dtype.type(bent[j]), s_h[j], eps, delta)
                density, kept = settle(r_o, pre[H + j], bias[H + j], eps)
                out[H + j] = density
                absorbed += keep * kept + gone
                handed += delta * kept * gate_unit
                r_cell = s_c[j] + r_s
                if peeps:
                    r_cell += P[1, j] * cell[j] * density + delta * kept * gate_unit

                density, kept = settle(r_cell, f_gate * c_prev[j] + i_gate * g, zero, eps)
                part = delta * half * kept
                absorbed += keep * kept
                r_f, r_prev, gone_f = share(rule, f_gate, c_prev[j], f_gate * c_prev[j] * density + part, eps, delta)
                r_i, r_g, gone_i = share(rule, i_gate, g, i_gate * g * density + part, eps, delta)
                absorbed += gone_f + gone_i
                if coupled:
                    r_i += r_f
                    r_f = zero

                density, kept = settle(r_i, pre[j], bias[j], eps)
                out[j] = density
                absorbed += keep * kept
                handed += delta * kept * gate_unit
                if peeps:
                    r_prev += P[0, j] * c_prev[j] * density + delta * kept * gate_unit

                density, kept = settle(r_f, pre[2 * H + j], bias[2 * H + j], eps)
                out[2 * H + j] = density
                absorbed += keep * kept
                handed += delta * kept * gate_unit
                if peeps:
                    r_prev += P[2, j] * c_prev[j] * density + delta * kept * gate_unit

                density, kept = settle(r_g, pre[3 * H + j], bias[3 * H + j], eps)
                out[3 * H + j] = density
                absorbed += keep * kept
                handed += delta * kept * unit
                s_c[j] = r_prev
            lost[b] += absorbed
            given[row] = handed
            where[row, 0], where[row, 1] = t, b
            row += 1
    if running:
        if h0.any():
            multiply(m[before:row], R, back, running)
        else:
            back[:] = 0
        for i in range(running):
            _through_hidden(i, order[i], -1, lens, reverse, hidden, h0, back, given[before + i], r_h)
        _to_inputs(m, W, of_rows, row, where, given, x, r_x)


@nb.njit(**FAST)
def gradient(
    z, gates, cells, squashed, c0, lens, order, reverse, codes, params, clip, coupled, R, W, P, g_y, g_h, g_c, g_x
):  # fmt: skip
    """Back-propagation through time. g_y, g_h, g_c, g_x as r_y, r_h, r_c, r_x in `relevance_all`, but gradients; R, W
    packed [4H, H], [4H, D]. z may be missing where no slope looks at it."""
    B, H = order.size, cells.shape[2]
    none, one = cells.dtype.type(0), cells.dtype.type(1)
    plain, has_z = _is_plain(codes, clip, P, coupled), z.shape[0] > 0
    total, along = lens[order[0]], g_y.shape[0] > 0
    steps = max(1, min(_steps_at_once(B, 4 * H), total))
    m, g_cell = np.empty((steps * B, 4 * H), cells.dtype), np.empty(H, cells.dtype)
    where, of_rows = np.empty((steps * B, 2), np.int64), np.empty((steps * B, width_of(W)), cells.dtype)
    back = np.empty((B, width_of(R)), cells.dtype)
    i, o, f, g = slice(0, H), slice(H, 2 * H), slice(2 * H, 3 * H), slice(3 * H, 4 * H)
    row, before, running = 0, 0, 0
    for s in range(total - 1, -2, -1):
        if running:
            multiply(m[before:row], R, back, running)
            for k in range(running):
                for j in range(H):
                    g_h[order[k], j] = back[k, j]
        while s >= 0 and running < B and lens[order[running]] > s:
            running += 1
        if row + running > steps * B or s < 0:
            multiply(m, W, of_rows, row)
            for k in range(row):
                t, b = where[k]
                for d in range(g_x.shape[2]):
                    g_x[t, b, d] = of_rows[k, d]
            row = 0
        before = row
        for k in range(running if s >= 0 else 0):
            b = order[k]
            t = lens[b] - 1 - s if reverse else s
            s_h, s_c = g_h[b], g_c[b]
            c_prev = c0[b] if s == 0 else cells[t + 1 if reverse else t - 1, b]
            act, out, bent = gates[t, b], m[row], squashed[t, b]
            pre = z[t, b] if has_z else act
            if along:
                for j in range(H):
                    s_h[j] += g_y[t, b, j]
            if plain:
                for j in range(H):
                    out[H + j] = s_h[j] * bent[j] * act[H + j] * (one - act[H + j])
                    of_cell = s_c[j] + s_h[j] * act[H + j] * (one - bent[j] * bent[j])
                    out[j] = of_cell * act[3 * H + j] * act[j] * (one - act[j])
                    out[3 * H + j] = of_cell * act[j] * (one - act[3 * H + j] * act[3 * H + j])
                    out[2 * H + j] = of_cell * c_prev[j] * act[2 * H + j] * (one - act[2 * H + j])
                    s_c[j] = of_cell * act[2 * H + j]
            else:
                for j in range(H):
                    out[H + j] = s_h[j] * bent[j]
                    g_cell[j] = s_h[j] * act[H + j]
                multiply_by_slope(codes[0], params[0, 0], params[0, 1], clip, pre[o], act[o], out[o])
                multiply_by_slope(codes[2], params[2, 0], params[2, 1], none, cells[t, b], bent, g_cell)
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
            where[row, 0], where[row, 1] = t, b
            row += 1
