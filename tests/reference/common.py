# SPDX-License-Identifier: Apache-2.0
"""The rules that every layer is made of: weighted sums, plain sums and gated products.

Each returns the relevance of its inputs, and what it absorbed: the part of the arriving relevance that belongs to the
bias and to the stabiliser when `bias_factor` is below 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Wiring = npt.NDArray[np.bool_]
ProductRule = Literal["all", "half", "prop", "abs"]
PRODUCT_RULES: tuple[ProductRule, ...] = ("all", "half", "prop", "abs")


Added = float | Callable[[Array, Array], Array]  # the stabiliser: a number, or from z and the sum of its absolute terms


@dataclass(frozen=True)
class Relative:
    """Betas of the stabiliser beta (S - |z|) sign(z) by kind of sum, and the ceiling (docs/stabilisers.md)."""

    pre_activations: float = 0.1
    cells: float = 0.0
    layers: float = 0.02
    ceiling: float = 10.0


@dataclass(frozen=True)
class Rules:
    """The settings of LRP: Arras et al. 2017 use epsilon 0.001, bias_factor 0; 1 is their conservation check.

    relative: in the place of epsilon.
    """

    product_rule: ProductRule = "all"
    epsilon: float = 1e-3
    bias_factor: float = 0.0
    relative: Relative | None = None

    def added(self, kind: str) -> Added:
        """The amount that is added to |z| at a sum of this kind."""
        if self.relative is None:
            return self.epsilon
        beta = getattr(self.relative, kind)
        return lambda z, S: beta * np.maximum(S - np.abs(z), 0.0)


class Ceiling:
    """The bound on the relevance that returns to the states of one sample; without a relative stabiliser, there is no
    bound.

    The size of relevance R at a state with terms [H] each is sum_j |R_j / stab(state_j)| s_j, where s_j is the root
    mean square of state j over the sequence.
    """

    def __init__(self, rules: Rules, terms: Sequence[Sequence[Array]]) -> None:
        self.rules, self.terms = rules, terms
        states = np.array([sum(t) for t in terms])
        self.sizes = np.sqrt((states**2).mean(axis=0)) if len(states) else np.zeros(0)
        self.arrived, self.started = 0.0, False

    def __call__(self, t: int, above: Array, carried: Array, hidden: Array) -> tuple[Array, Array, float]:
        """The bounded `carried` and `hidden`, and the relevance that the ceiling removes."""
        if self.rules.relative is None:
            return carried, hidden, 0.0
        z = sum(self.terms[t], np.zeros(()))
        S = sum((np.abs(term) for term in self.terms[t]), np.zeros(()))
        added = self.rules.added("cells")
        below = np.abs(stab(z, added(z, S) if callable(added) else added))

        def size(R: Array) -> float:
            return sum(abs(r) / b * s for r, b, s in zip(R, below, self.sizes, strict=True) if b != 0)

        self.arrived += size(above)
        if not self.started:
            self.started, self.arrived = True, self.arrived + size(carried) + size(hidden)
            return carried, hidden, 0.0
        most = self.rules.relative.ceiling * self.arrived
        together = size(above + carried)
        keep = 1.0 if together <= most else max(0.0, min(1.0, (most - size(above)) / size(carried)))
        through = size(hidden)
        keep_hidden = 1.0 if through == 0 else max(0.0, min(1.0, (most - together) / through))
        lost = ((1 - keep) * carried + (1 - keep_hidden) * hidden).sum()
        return keep * carried, keep_hidden * hidden, float(lost)


def sign(z: Array) -> Array:
    """The sign with sign(0) = +1, so that the stabiliser never vanishes."""
    return np.where(z >= 0, 1.0, -1.0)


def stab(z: Array, eps: float | Array) -> Array:
    return z + eps * sign(z)


def per(R_z: Array, divisor: Array) -> Array:
    """R_z divided by the divisor, where 0 / 0 is 0."""
    return np.divide(R_z, divisor, out=np.zeros_like(R_z + divisor), where=divisor != 0)


def lrp_linear(
    a: Array,
    W: Array,
    b: Array,
    z: Array,
    R_z: Array,
    N: int,
    eps: Added,
    bias_factor: float,
    wired: Wiring | None = None,
) -> tuple[Array, float]:
    """The epsilon-rule for z_k = sum_j w_kj a_j + b_k (Arras et al. 2017, section 3.2, weighted connections).

        R_{j<-k} = [w_kj a_j + bias_factor (b_k + eps sign(z_k)) / N] / (z_k + eps sign(z_k)) R_k

    a [D], W [M, D], b, z and R_z [M]; N counts the incoming units of one k. `wired` [M, D] says which j feed k at all
    (a peephole feeds its own cell only); units that do not feed k get no share of its bias. Returns R_j and what was
    absorbed, (1 - bias_factor) (b_k + eps sign(z_k)) / (z_k + eps sign(z_k)) R_k summed over k.
    """
    if wired is None:
        wired = np.ones(W.shape, dtype=np.bool_)
    if W.size and not np.array_equal(wired.sum(axis=1), np.full(len(z), N)):
        raise ValueError("N must be the number of units that feed each k")
    eps = eps(z, np.abs(W) @ np.abs(a) + np.abs(b)) if callable(eps) else eps
    leftover = b + eps * sign(z)  # what no incoming unit explains, per k
    contributions = W.T * a[:, np.newaxis]  # [D, M]: w_kj a_j
    shares = wired.T * (bias_factor * leftover / N)[np.newaxis, :]  # [D, M]
    density = per(R_z, stab(z, eps))
    kept = np.where(stab(z, eps) == 0, R_z, 0.0)  # by a sum of zero without a stabiliser
    messages = (contributions + shares) * density[np.newaxis, :] + wired.T * (bias_factor * kept / N)[np.newaxis, :]
    absorbed = (1.0 - bias_factor) * (leftover * density + kept)
    return messages.sum(axis=1), float(absorbed.sum())


def lrp_sum(
    terms: Sequence[Array], z: Array, R_z: Array, rules: Rules, kind: str = "cells"
) -> tuple[list[Array], float]:
    """The epsilon-rule for an elementwise sum z = terms[0] + terms[1] + ...: weights 1, no bias, N = len(terms)."""
    eps = rules.added(kind)
    eps = eps(z, np.sum(np.abs(terms), axis=0)) if callable(eps) else eps
    leftover = eps * sign(z)
    share = rules.bias_factor * leftover / len(terms)
    kept = np.where(stab(z, eps) == 0, R_z, 0.0)
    relevances = [per((term + share) * R_z, stab(z, eps)) + rules.bias_factor * kept / len(terms) for term in terms]
    absorbed = (1.0 - rules.bias_factor) * (per(leftover * R_z, stab(z, eps)) + kept)
    return relevances, float(absorbed.sum())


def lrp_product(gate: Array, signal: Array, R_p: Array, rules: Rules) -> tuple[Array, Array, float]:
    """The product rules for p = gate * signal, elementwise (Arras et al. 2019, section 11.2.2, table of LRP rules).

    "all" is the rule of Arras et al. 2017 (the signal takes all). "prop" and "abs" share R_p in proportion to the
    two values and to their magnitudes, which is the epsilon-rule over two terms. Returns (R_gate, R_signal, absorbed).
    """
    if rules.product_rule == "all":
        return np.zeros_like(R_p), R_p.copy(), 0.0
    if rules.product_rule == "half":
        return 0.5 * R_p, 0.5 * R_p, 0.0
    if rules.product_rule == "prop":
        terms = [gate, signal]
    elif rules.product_rule == "abs":
        terms = [np.abs(gate), np.abs(signal)]
    else:
        raise ValueError(f"unknown product rule {rules.product_rule!r}")
    (R_gate, R_signal), absorbed = lrp_sum(terms, terms[0] + terms[1], R_p, rules, "pre_activations")
    return R_gate, R_signal, absorbed
