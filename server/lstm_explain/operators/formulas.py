# SPDX-License-Identifier: Apache-2.0
"""Formulas that several steps share: division by a stabilised sum, and the product rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.kernels import reductions
from lstm_explain.methods import LRP
from lstm_explain.operators.array_api import cast, is_numpy, namespace
from lstm_explain.operators.operator import NodeContext, unbroadcast

FLOAT32 = np.dtype(np.float32)
FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(slots=True)
class At:
    """The stabiliser at one sum z: it adds (epsilon + beta * (magnitude - |z|)) * sign(z).

    magnitude: the sum of the absolute terms of z, in its shape; None where beta is 0.
    """

    epsilon: float = 0.0
    beta: float = 0.0
    magnitude: Array | None = None

    def terms(self, dtype: np.dtype[Any]) -> Array:
        """Return the magnitude as a flat array for the loops; empty where there is none."""
        if self.magnitude is None:
            return np.zeros(0, dtype)
        return np.ascontiguousarray(self.magnitude, dtype).reshape(-1)


def settle(r: Array, z: Array, stabiliser: At) -> tuple[Array, Array]:
    """Apply the epsilon rule to relevance r at sums z of the same shape.

    Returns the density r / stab(z) and what the stabiliser absorbs.
    """
    if not is_numpy(r):
        own: Any = getattr(namespace(r), "settle", None)
        return (settled if own is None else own)(r, z, stabiliser)
    density, kept = np.empty(r.shape, r.dtype), np.empty(r.shape, r.dtype)
    reductions.settle(
        np.ascontiguousarray(r).reshape(-1), np.ascontiguousarray(z, r.dtype).reshape(-1), stabiliser.epsilon,
        stabiliser.terms(r.dtype), stabiliser.beta, density.reshape(-1), kept.reshape(-1),
    )  # fmt: skip
    return density, kept


def settled(r: Array, z: Array, stabiliser: At) -> tuple[Array, Array]:
    """Compute `settle` without its Numba kernel, in the array API."""
    xp = namespace(r)
    z = cast(z, r.dtype)
    added = xp.full_like(z, stabiliser.epsilon)
    if stabiliser.magnitude is not None:
        over = cast(stabiliser.magnitude, r.dtype) - xp.abs(z)
        added = added + stabiliser.beta * xp.where(over > 0, over, 0)
    signed = xp.where(z >= 0, added, -added)
    safe = z + signed
    divides = (safe != 0) & ~xp.isinf(safe)
    density = xp.where(divides, r / xp.where(divides, safe, 1), 0)
    return density, xp.where(divides, signed * density, r)


def settle_rows(r: Array, z: Array, bias: Array | None, stabiliser: At, batch: int) -> tuple[Array, Array] | None:
    """Do the same as `settle`, but return the totals [batch] that bias and stabiliser absorb. The samples lie along the
    first axis, unless there is only one.

    Returns None where the bias does not have the shape of the last axes of a sample.
    """
    if bias is None:
        bias = np.zeros(0, r.dtype)
    elif bias.shape != r.shape[r.ndim - bias.ndim :] or (batch > 1 and bias.ndim == r.ndim):
        return None
    if not r.size:
        return None
    rows = (batch, r.size // batch)
    density, kept = np.empty(rows, r.dtype), np.zeros(batch)
    terms = stabiliser.terms(r.dtype).reshape(-1, rows[1])
    reductions.settle_rows(
        r.ravel().reshape(rows), in_dtype(z, r.dtype).ravel().reshape(rows), in_dtype(bias, r.dtype).ravel(),
        stabiliser.epsilon, terms, stabiliser.beta, density, kept,
    )  # fmt: skip
    return density.reshape(r.shape), kept


def in_dtype(array: Array, dtype: np.dtype[Any]) -> Array:
    """Convert without a copy, and without the cost of `astype` where the type is the same."""
    return array if array.dtype == dtype else array.astype(dtype)


def in_single(array: Array) -> Array:
    """Convert to float32. An array that overflows, as under LRP-prop, stays in float64.

    Even then, its numbers in the range of float32 are rounded: a sample's answer must not depend on whether another
    sample overflows.
    """
    if array.dtype == FLOAT32:
        return array
    if _holds(array):
        return array.astype(FLOAT32)
    with np.errstate(over="ignore"):
        rounded = array.astype(np.float32)
    return np.where(np.isfinite(rounded), rounded, array)


def _holds(array: Array) -> bool:
    """Return whether all numbers are in the range of float32."""
    flat = array.ravel() if array.dtype.char == "d" else array.astype(np.float64).ravel()
    return bool(reductions.largest(flat) <= FLOAT32_MAX)


def times(density: Array, value: Array) -> Array:
    """Return density * value, with 0 where the density is 0 and the value infinite, as under a mask."""
    xp = namespace(density)
    product = xp.asarray(density * value)
    if is_numpy(product) and reductions.all_finite(product.ravel()):
        return product
    return xp.where(density == 0, 0, product)


def at_product(lrp: LRP, *terms: Array) -> At:
    """Return the stabiliser where a product rule divides by the sum of these terms."""
    if lrp.relative is None:
        return At(lrp.epsilon or 0.0)
    xp = namespace(terms[0])
    return At(0.0, lrp.relative.pre_activations, sum((xp.abs(term) for term in terms[1:]), xp.abs(terms[0])))


# The relevance of both operands of a product, None for an operand that gets nothing, and what is absorbed, in the shape
# of the product; None where that is nothing.
Shares = tuple[Sequence[Array | None], Array | None]


def shares_of_product(ctx: NodeContext, r: Array, gate: int | None, lrp: LRP) -> Shares:
    """Apply the product rule to an element-wise product."""
    if lrp.gate_rule == "all" and gate is not None:
        signal = unbroadcast(r, ctx.shape(1 - gate))
        return ([None, signal] if gate == 0 else [signal, None]), None
    shapes = [ctx.shape(0), ctx.shape(1)]
    parts, absorbed = shared(lrp, r, ctx.x(0), ctx.x(1), gate)
    return [unbroadcast(p, s) for p, s in zip(parts, shapes, strict=True)], absorbed


def shared(lrp: LRP, r: Array, left: Array, right: Array, gate: int | None) -> tuple[list[Array], Array]:
    """Apply the product rule (Arras et al. 2019, section 3), before the sum over axes that were broadcast.

    Without a gate, "all" has no signal to give everything to, so each operand gets half.
    """
    xp = namespace(r)
    nothing = xp.zeros_like(r)
    rule = lrp.gate_rule
    if rule == "all" and gate is not None:
        return ([nothing, r] if gate == 0 else [r, nothing]), nothing
    if rule in ("all", "half"):
        return [r / 2, r / 2], nothing
    if rule == "abs":
        left, right = xp.abs(left), xp.abs(right)
    density, kept = settle(r, xp.asarray(left + right), at_product(lrp, left, right))
    part = kept * (lrp.bias_factor / 2)
    return [left * density + part, right * density + part], kept * (1 - lrp.bias_factor)
