# SPDX-License-Identifier: Apache-2.0
"""Small computations of the backward pass for which NumPy would need five calls, each of which costs more than the sums
of a small model.

Compiled for both precisions, for arrays that may be read-only; until then, numpy_reductions.py answers. The caller
passes the arrays for the results, because allocating a new one costs more than most of these sums. Unlike in the time
loops, infinities and NaN keep their meaning here: they show that relevance has overflowed.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from lstm_explain.kernels import numpy_reductions
from lstm_explain.kernels.compilation import declared
from lstm_explain.kernels.scalar_functions import BARE, bits_of, from_bits

FINITE = {**BARE, "fastmath": {"reassoc", "nsz", "contract"}}


def _read(kind: nb.types.Type, ndim: int) -> nb.types.Array:
    return nb.types.Array(kind, ndim, "C", readonly=True)


_KINDS = (nb.float32, nb.float64)


@declared([nb.void(_read(kind, 3), nb.float64[::1]) for kind in _KINDS], numpy_reductions.add_per_sample, **FINITE)
def add_per_sample(amounts, total):
    """total [batch] += the sum of amounts [before, batch, after], in float64."""
    before, batch, after = amounts.shape
    for i in range(before):
        for b in range(batch):
            part = 0.0
            for j in range(after):
                part += amounts[i, b, j]
            total[b] += part


@declared([nb.void(_read(kind, 3), nb.float64[::1]) for kind in _KINDS], numpy_reductions.largest_per_sample, **FINITE)
def largest_per_sample(amounts, found):
    """found [batch]: at least the largest magnitude of amounts [before, batch, after], NaN left out."""
    before, batch, after = amounts.shape
    zero, infinity = bits_of(amounts.dtype.type(0)), bits_of(amounts.dtype.type(np.inf))
    for i in range(before):
        for b in range(batch):
            most = zero
            for j in range(after):
                size = bits_of(abs(amounts[i, b, j]))  # a loop over numbers would not be vectorised because of NaN
                size = size if size <= infinity else zero
                most = size if size > most else most
            found[b] = max(found[b], from_bits(most))


@declared(
    [nb.void(_read(kind, 3), nb.float64[::1], nb.float64[::1]) for kind in _KINDS],
    numpy_reductions.add_with_largest,
    **{**FINITE, "_nrt": True},
)
def add_with_largest(amounts, total, found):
    """Does both of the above."""
    add_per_sample(amounts, total)
    largest_per_sample(amounts, found)


@declared(
    [nb.boolean(_read(nb.float64, 1), _read(nb.float64, 2), *(nb.float64,) * 3, nb.float64[:, ::1])],
    numpy_reductions.balance,
    **{**BARE, "fastmath": False},
)
def balance(explained, peaks, most_left, most_absorbed, most_in_one, book):
    """Completes a ledger: rows 0 and 1 of book [rows, batch] hold the relevance of inputs and of initial states, rows
    from 4 on what nodes absorb; row 2 becomes the sum of the latter, row 3 what is left of explained [batch].

    Returns whether no sample has more than `most_left`, `most_absorbed` and `most_in_one` times its explained value in
    these two rows and in peaks [inputs, batch]; not so where one is not finite.
    """
    found = True
    for b in range(explained.size):
        absorbed, size = 0.0, abs(explained[b])
        for i in range(4, book.shape[0]):
            absorbed += book[i, b]
        left = explained[b] - book[0, b] - book[1, b] - absorbed
        book[2, b], book[3, b] = absorbed, left
        found &= size < np.inf and abs(left) <= most_left * size and abs(absorbed) <= most_absorbed * size
        for i in range(peaks.shape[0]):
            found &= peaks[i, b] <= most_in_one * size
    return found


@declared([nb.float64(_read(kind, 1)) for kind in _KINDS], numpy_reductions.largest, **FINITE)
def largest(values):
    """The largest magnitude among values [N], NaN left out; 0 where there are none."""
    zero, infinity = bits_of(values.dtype.type(0)), bits_of(values.dtype.type(np.inf))
    most = zero
    for j in range(values.size):
        size = bits_of(abs(values[j]))
        size = size if size <= infinity else zero
        most = size if size > most else most
    return from_bits(most)


@declared([nb.float64(_read(kind, 1), _read(kind, 1)) for kind in _KINDS], numpy_reductions.magnitude, **FINITE)
def magnitude(left, right):
    """The sum of |left * right| [N], in float64. A left factor of zero contributes nothing, even times infinity."""
    part = 0.0
    for j in range(left.size):
        if left[j] != 0:
            part += abs(left[j] * right[j])
    return part


@declared(
    [
        nb.void(_read(kind, 1), _read(kind, 1), nb.float64, _read(kind, 1), nb.float64, kind[::1], kind[::1])
        for kind in _KINDS
    ],
    numpy_reductions.settle,
    **FINITE,
)
def settle(r, z, epsilon, terms, beta, density, kept):
    """The epsilon rule, element by element: density = r / stab(z), and the part of r that the stabiliser absorbs; all
    [N].

    stab(z) = z + (epsilon + beta * (terms - |z|)) * sign(z), sign(0) = 1; terms may be of length 0. Without a
    stabiliser, a sum of zero absorbs everything. So does an infinite sum, which a mask produces.
    """
    zero, eps, most = r.dtype.type(0), r.dtype.type(epsilon), r.dtype.type(np.inf)
    relative, share_of_gap = terms.size > 0, r.dtype.type(beta)
    for j in range(r.size):
        over = terms[j] - abs(z[j]) if relative else zero
        added = eps + share_of_gap * over if over > zero else eps  # under a mask, infinity - infinity is NaN
        signed = added if z[j] >= zero else -added
        safe = z[j] + signed
        divides = safe != zero and abs(safe) != most
        share = r[j] / safe if divides else zero
        density[j] = share
        kept[j] = signed * share if divides else r[j]


@declared(
    [nb.void(_read(kind, 1), nb.float64, _read(kind, 1), nb.float64, *(kind[::1],) * 2) for kind in _KINDS],
    numpy_reductions.settling,
    **FINITE,
)
def settling(z, epsilon, terms, beta, divisor, share):
    """`settle` for relevance that is not known yet, all [N]: density = r / divisor, and kept = r * share."""
    zero, one, eps = z.dtype.type(0), z.dtype.type(1), z.dtype.type(epsilon)
    most, share_of_gap, relative = z.dtype.type(np.inf), z.dtype.type(beta), terms.size > 0
    for j in range(z.size):
        over = terms[j] - abs(z[j]) if relative else zero
        added = eps + share_of_gap * over if over > zero else eps  # under a mask, infinity - infinity is NaN
        signed = added if z[j] >= zero else -added
        safe = z[j] + signed
        divides = safe != zero and abs(safe) != most
        divisor[j] = safe if divides else most
        share[j] = signed / safe if divides else one


def _settling(kind: nb.types.Type) -> tuple[nb.types.Type, ...]:
    """The types of r, z, bias, epsilon, terms and beta, for one row per sample."""
    rows = _read(kind, 2)
    return rows, rows, _read(kind, 1), nb.float64, rows, nb.float64


@declared(
    [nb.void(*_settling(kind), kind[:, ::1], nb.float64[::1]) for kind in _KINDS],
    numpy_reductions.settle_rows,
    **FINITE,
)
def settle_rows(r, z, bias, epsilon, terms, beta, density, lost):
    """Does the same as `settle` for one row per sample, all [B, N]; lost [B] += what bias and stabiliser absorb. terms
    [B, N] or [0, N]. bias: of the shape of the last axes of a row, or of length 0.
    """
    zero, eps, most = r.dtype.type(0), r.dtype.type(epsilon), r.dtype.type(np.inf)
    relative, share_of_gap = terms.shape[0] > 0, r.dtype.type(beta)
    for b in range(r.shape[0]):
        part, at = 0.0, 0
        for j in range(r.shape[1]):
            over = terms[b, j] - abs(z[b, j]) if relative else zero
            added = eps + share_of_gap * over if over > zero else eps  # under a mask, infinity - infinity is NaN
            signed = added if z[b, j] >= zero else -added
            safe = z[b, j] + signed
            divides = safe != zero and abs(safe) != most
            share = r[b, j] / safe if divides else zero
            density[b, j] = share
            if not divides:
                part += r[b, j]
            elif share != zero:
                part += signed * share
                if bias.size:
                    part += bias[at] * share
            at = at + 1 if at + 1 < bias.size else 0
        lost[b] += part


@declared(
    [nb.void(_read(kind, 2), _read(kind, 2), kind[:, ::1]) for kind in _KINDS], numpy_reductions.rows_times, **FINITE
)
def rows_times(rows, weights, out):
    """out [B, M] = rows [B, N] @ weights [N, M]. Unlike with BLAS, the sums of a row do not depend on the number of
    rows.
    """
    for b in range(rows.shape[0]):
        for j in range(out.shape[1]):
            out[b, j] = 0
        for k in range(rows.shape[1]):
            for j in range(out.shape[1]):
                out[b, j] += rows[b, k] * weights[k, j]


@declared(
    [nb.void(*_settling(kind), _read(kind, 2), _read(kind, 2), kind[:, ::1], nb.float64[::1]) for kind in _KINDS],
    numpy_reductions.dense_back,
    **{**FINITE, "_nrt": True},
)
def dense_back(r, z, bias, epsilon, terms, beta, weights, x, out, lost):
    """Computes the relevance `out` [B, M] of a dense layer's inputs x [B, M] from the relevance r of its outputs z
    [B, N]. weights [N, M].

    Does the same as `settle_rows`, then multiplies by the weights and the inputs. A density of zero contributes
    nothing.
    """
    density, zero = np.empty(r.shape, out.dtype), out.dtype.type(0)
    settle_rows(r, z, bias, epsilon, terms, beta, density, lost)
    rows_times(density, weights, out)
    for b in range(out.shape[0]):
        for j in range(out.shape[1]):
            product = out[b, j] * x[b, j]
            out[b, j] = product if product == product or out[b, j] != zero else zero  # zero times infinity is NaN


@declared([nb.boolean(_read(nb.float64, 1), nb.float64, _read(nb.float64, 1))], numpy_reductions.within, **FINITE)
def within(figures, limit, values):
    """Whether |figures| <= limit * |values| [N] everywhere; not so where one is NaN."""
    found = True
    for j in range(figures.size):
        found &= abs(figures[j]) <= limit * abs(values[j])
    return found


@declared([nb.intp(_read(kind, 1)) for kind in _KINDS], numpy_reductions.address, **FINITE)
def address(values):
    """The address of values [N]. NumPy's own attribute builds a dictionary at every call."""
    return values.ctypes.data


@declared([nb.boolean(_read(kind, 1)) for kind in _KINDS], numpy_reductions.all_finite, **FINITE)
def all_finite(values):
    """Whether values [N] contain no infinity and no NaN."""
    total = values.dtype.type(0)
    for j in range(values.size):
        total += values[j] * values.dtype.type(0)
    return total == 0


SOUND = "fdil"  # NumPy's type letters that `sound` accepts


@declared(
    [nb.boolean(_read(kind, 1), nb.intp) for kind in (*_KINDS, nb.int32, nb.int64)],
    numpy_reductions.sound,
    **FINITE,
)
def sound(values, alignment):
    """Whether values [N] begin at a multiple of `alignment` bytes and contain no infinity and no NaN."""
    total = values.dtype.type(0)
    for j in range(values.size):
        total += values[j] * values.dtype.type(0)
    return total == 0 and values.ctypes.data % alignment == 0
