# SPDX-License-Identifier: Apache-2.0
"""Attention by the formulas of AttnLRP (Achtibat et al. 2024, arXiv 2402.05602), element by element, one sample at a
time.

`product_rule="attn"` promises these: proposition 3.1 for the Softmax, 3.3 for a matrix product of two live operands,
and the epsilon rule for the projections. Our stabiliser belongs to the product itself, so the denominator of
proposition 3.3 is 2 (O + added) here instead of 2 O + epsilon; without a stabiliser the two are the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from .common import Array, Rules, lrp_linear, sign
from .dense import dense_lrp, mean_lrp
from .layer import Layer, layer_forward, layer_lrp


def softmax(x: Array) -> Array:
    """Of one row; a score of minus infinity has the weight 0."""
    e = np.exp(x - x.max())
    return np.asarray(e / e.sum())


def softmax_lrp(x: Array, R: Array) -> tuple[Array, float]:
    """Returns R_i = x_i (R_i - s_i sum_j R_j), and what is left of the sum of R: the rule does not conserve it.

    Where a weight is zero, the score is masked.
    """
    s, found = softmax(x), np.zeros(len(x))
    total = sum(R[i] for i in range(len(x)) if s[i] != 0)
    for i in range(len(x)):
        if s[i] != 0:
            found[i] = x[i] * (R[i] - s[i] * total)
    return found, float(R.sum() - found.sum())


def product_lrp(A: Array, V: Array, R: Array, rules: Rules) -> tuple[Array, Array, float]:
    """O = A V with A [m, k], V [k, n]: R_ji = sum_p A_ji V_ip R_jp / (2 O_jp), the same for V, and what is absorbed."""
    R_A, R_V, absorbed, added = np.zeros(A.shape), np.zeros(V.shape), 0.0, rules.added("layers")
    for j in range(A.shape[0]):
        for p in range(V.shape[1]):
            terms = [A[j, i] * V[i, p] for i in range(A.shape[1])]
            O_jp = np.array(sum(terms))
            extra = added(O_jp, np.array(sum(map(abs, terms)))) if callable(added) else added
            divisor = float(2 * (O_jp + extra * sign(O_jp)))
            passed = 0.0
            for i, term in enumerate(terms):
                part = term * R[j, p] / divisor if divisor else 0.0
                R_A[j, i] += part
                R_V[i, p] += part
                passed += 2 * part
            absorbed += R[j, p] - passed
    return R_A, R_V, float(absorbed)


@dataclass
class Absorbed:
    softmax: float = 0.0
    products: float = 0.0
    projections: float = 0.0

    @property
    def total(self) -> float:
        return self.softmax + self.products + self.projections


@dataclass(frozen=True)
class SelfAttention:
    """weights: Q, K, V and O [D, D], applied from the right, and biases q, k, v and o [D]. mask: what is added to the
    scores [T, T].
    """

    weights: dict[str, Array]
    heads: int = 1
    mask: Array | None = field(default=None)

    def projected(self, x: Array, name: str) -> Array:
        return np.asarray(x @ self.weights[name] + self.weights[name.lower()])

    def head(self, x: Array, h: int) -> tuple[Array, Array, Array, Array]:
        """Returns the query, key and value [T, d], and the scores [T, T] before the mask."""
        d = x.shape[1] // self.heads
        q, k, v = (self.projected(x, name)[:, h * d : (h + 1) * d] for name in "QKV")
        return q, k, v, q @ k.T / math.sqrt(d)

    def masked(self, scores: Array) -> Array:
        return scores if self.mask is None else scores + self.mask

    def mixed(self, x: Array) -> Array:
        """What the output projection reads [T, D]."""
        parts = []
        for h in range(self.heads):
            _, _, v, scores = self.head(x, h)
            parts.append(np.array([softmax(row) for row in self.masked(scores)]) @ v)
        return np.concatenate(parts, axis=1)

    def forward(self, x: Array) -> Array:
        """[T, D]"""
        return self.projected(self.mixed(x), "O")

    def _linear(self, a: Array, name: str, R: Array, rules: Rules) -> tuple[Array, float]:
        W, b, found, absorbed = self.weights[name], self.weights[name.lower()], np.zeros(a.shape), 0.0
        for t in range(len(a)):
            found[t], lost = lrp_linear(a[t], W.T, b, a[t] @ W + b, R[t], len(W), rules.added("layers"), 0.0)
            absorbed += lost
        return found, absorbed

    def lrp(self, x: Array, R_y: Array, rules: Rules) -> tuple[Array, Absorbed]:
        """Returns the relevance of x [T, D] for that of `forward`, and what is absorbed."""
        mixed, absorbed = self._linear(self.mixed(x), "O", R_y, rules)
        R_x, lost = self.lrp_of_mixed(x, mixed, rules)
        lost.projections += absorbed
        return R_x, lost

    def lrp_of_mixed(self, x: Array, mixed: Array, rules: Rules) -> tuple[Array, Absorbed]:
        """The same for the relevance [T, D] of what the output projection reads."""
        T, D = x.shape
        d, lost, R_x = D // self.heads, Absorbed(), np.zeros(x.shape)
        arrived = {name: np.zeros(x.shape) for name in "QKV"}
        for h in range(self.heads):
            q, k, v, scores = self.head(x, h)
            own = slice(h * d, (h + 1) * d)
            A = np.array([softmax(row) for row in self.masked(scores)])
            R_A, arrived["V"][:, own], absorbed = product_lrp(A, v, mixed[:, own], rules)
            lost.products += absorbed
            R_scores = np.zeros((T, T))
            for t in range(T):
                R_scores[t], rest = softmax_lrp(self.masked(scores)[t], R_A[t])
                lost.softmax += rest
            R_scores, kept = self._before_mask(scores, R_scores, rules)
            R_q, R_k, absorbed = product_lrp(q, k.T, R_scores, rules)
            arrived["Q"][:, own], arrived["K"][:, own] = R_q, R_k.T
            lost.products += absorbed + kept
        for name, R in arrived.items():
            part, absorbed = self._linear(x, name, R, rules)
            R_x += part
            lost.projections += absorbed
        return R_x, lost

    def _before_mask(self, scores: Array, R: Array, rules: Rules) -> tuple[Array, float]:
        """The sum of score and mask is a neuron with one unit and a bias; where the mask is infinite, R is 0."""
        if self.mask is None:
            return R, 0.0
        found, absorbed, one = np.zeros(R.shape), 0.0, np.ones((1, 1))
        for i in np.ndindex(R.shape):
            if np.isfinite(self.mask[i]):
                z, b = np.array([scores[i] + self.mask[i]]), np.array([self.mask[i]])
                score, arrived = np.array([scores[i]]), np.array([R[i]])
                part, lost = lrp_linear(score, one, b, z, arrived, 1, rules.added("layers"), 0.0)
                found[i] = part[0]
                absorbed += lost
        return found, absorbed


@dataclass(frozen=True)
class OverLstm:
    """An LSTM, attention over its states, and a linear readout [hidden, outputs] of the mean over the steps."""

    attention: SelfAttention
    layer: Layer
    readout: Array

    def states(self, x: Array) -> Array:
        """[B, T, H] of x [B, T, D]"""
        return layer_forward(self.layer, x.swapaxes(0, 1)).Y[:, 0].swapaxes(0, 1)

    def forward(self, x: Array) -> Array:
        """[B, outputs]"""
        return np.array([self.attention.forward(h).mean(axis=0) @ self.readout for h in self.states(x)])

    def lrp(self, x: Array, output: int, rules: Rules) -> tuple[Array, Array]:
        """Returns the relevance of x [B, T, D] for one output, and what is absorbed [B]."""
        states, W = self.states(x), self.readout.T
        R_states, absorbed = np.zeros(states.shape), np.zeros(len(states))
        for b, h in enumerate(states):
            mixed = self.attention.forward(h)
            z = np.where(np.arange(len(W)) == output, W @ mixed.mean(axis=0), 0.0)
            R_mean, at_readout = dense_lrp(mixed.mean(axis=0), W, np.zeros(len(W)), z, rules)
            R_mixed, at_mean = mean_lrp(mixed, R_mean, rules)
            R_states[b], of_attention = self.attention.lrp(h, R_mixed, rules)
            absorbed[b] = at_readout + at_mean + of_attention.total
        R = layer_lrp(self.layer, x.swapaxes(0, 1), rules, R_states.swapaxes(0, 1)[:, None])
        return R.x.swapaxes(0, 1), absorbed + R.absorbed
