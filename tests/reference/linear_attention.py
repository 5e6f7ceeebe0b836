# SPDX-License-Identifier: Apache-2.0
"""Linear attention in plain float64, sample by sample and head by head: forward, gradient by hand, and LRP in closed
form.

With decay D_t, key k_t, rate b_t and query q_t as constants, the state S_t = A_t S_(t-1) + b_t k_t v_t' with
A_t = (I - b_t k_t k_t') diag(D_t) is linear in the values, and so is what is read, o_t = scale q_t' S_t. LRP therefore
is the epsilon rule with the weights scale q_t' A_t ... A_(s+1) b_s k_s of v_s, and those of the initial state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
NAMES = ("query", "key", "value", "past_state", "decay", "beta")


@dataclass(frozen=True)
class Head:
    """One head of one sample: q [T, G, K] of its queries, k [T, K], v [T, V], S0 [K, V], D [T, K], b [T]."""

    q: Array
    k: Array
    v: Array
    s0: Array
    decay: Array
    beta: Array
    scale: float
    erases: bool

    def states(self) -> list[Array]:
        """Returns S_0 to S_T."""
        found = [self.s0]
        for k, v, decay, beta in zip(self.k, self.v, self.decay, self.beta, strict=True):
            kept = decay[:, None] * found[-1]
            new = v - kept.T @ k if self.erases else v
            found.append(kept + np.outer(k, beta * new))
        return found

    def read(self) -> Array:
        """Returns [T, G, V]."""
        return self.scale * np.einsum("tgk,tkv->tgv", self.q, np.array(self.states()[1:]))

    def transition(self, t: int) -> Array:
        erased = self.beta[t] * np.outer(self.k[t], self.k[t]) if self.erases else 0
        return (np.eye(len(self.k[t])) - erased) @ np.diag(self.decay[t])

    def relevance(self, r: Array, stabiliser: float) -> tuple[Array, Array, float]:
        """Returns the relevance of v and S0, and what is absorbed, for that of `read`."""
        states, o = np.array(self.states()), self.read()
        size = self.scale * np.einsum("tgk,tkv->tgv", np.abs(self.q), np.abs(states[1:]))
        density = r / (o + np.where(o >= 0, 1, -1) * stabiliser * (size - np.abs(o)))
        weights_v, weights_s = np.zeros_like(self.v), np.zeros_like(self.s0)
        for t in range(len(self.q)):
            for g in range(self.q.shape[1]):
                row = self.scale * self.q[t, g]
                for s in range(t, -1, -1):
                    weights_v[s] += row @ self.k[s] * self.beta[s] * density[t, g]
                    row = row @ self.transition(s)
                weights_s += np.outer(row, density[t, g])
        return self.v * weights_v, self.s0 * weights_s, float((r - density * o).sum())

    def gradient(self, g_read: Array, g_last: Array) -> dict[str, Array]:
        """Returns the gradients of every operand, by its letter here."""
        states, g = self.states(), np.array(g_last)
        found = {n: np.zeros_like(getattr(self, n)) for n in ("q", "k", "v", "decay", "beta")}
        for t in range(len(self.q) - 1, -1, -1):
            q, k, decay, beta = self.q[t], self.k[t], self.decay[t], self.beta[t]
            found["q"][t] = self.scale * g_read[t] @ states[t + 1].T
            g = g + self.scale * q.T @ g_read[t]
            kept = decay[:, None] * states[t]
            new = self.v[t] - kept.T @ k if self.erases else self.v[t]
            g_written = g.T @ k
            found["v"][t] = beta * g_written
            found["beta"][t] = g_written @ new
            found["k"][t] = g @ (beta * new)
            if self.erases:
                found["k"][t] -= kept @ (beta * g_written)
                g = g - np.outer(k, beta * g_written)
            found["decay"][t] = (g * states[t]).sum(axis=1)
            g = decay[:, None] * g
        return {**found, "s0": g}


@dataclass(frozen=True)
class LinearAttention:
    """The operator with its operands by name, and its attributes. A decay is a logarithm; there is one per head or one
    per head and key.
    """

    operands: Mapping[str, Array]
    query_heads: int
    heads: int
    rule: str
    scale: float = 0.0

    def head(self, n: int, h: int) -> Head:
        """Returns head `h` of sample `n`."""
        given = {name: np.asarray(x, np.float64) for name, x in self.operands.items()}
        steps = given["query"].shape[1]
        q = given["query"][n].reshape(steps, self.heads, self.query_heads // self.heads, -1)[:, h]
        k, v = (given[name][n].reshape(steps, self.heads, -1)[:, h] for name in ("key", "value"))
        keys = k.shape[1]
        s0 = given["past_state"][n, h] if "past_state" in given else np.zeros((keys, v.shape[1]))
        decay, beta = np.ones((steps, keys)), np.ones(steps)
        if "decay" in given:
            decay = np.exp(given["decay"][n].reshape(steps, self.heads, -1)[:, h]) * np.ones((1, keys))
        if "beta" in given:
            beta = given["beta"][n][:, h % given["beta"].shape[2]]
        return Head(q, k, v, s0, decay, beta, self.scale or keys**-0.5, "delta" in self.rule)

    @property
    def samples(self) -> int:
        return len(self.operands["query"])

    def forward(self) -> tuple[Array, Array]:
        """Returns the output [B, T, Hq V] and the last state [B, H, K, V]."""
        heads = [[self.head(n, h) for h in range(self.heads)] for n in range(self.samples)]
        read = np.array([[head.read() for head in row] for row in heads])
        return self._joined(read), np.array([[head.states()[-1] for head in row] for row in heads])

    def relevance(self, r: Array, stabiliser: float) -> tuple[dict[str, Array], Array]:
        """Returns the relevance of value and past_state for that of the output, and what each sample absorbs."""
        value = np.zeros((self.samples, r.shape[1], self.heads, self.operands["value"].shape[2] // self.heads))
        states, absorbed = [], np.zeros(self.samples)
        for n in range(self.samples):
            for h in range(self.heads):
                value[n, :, h], state, kept = self.head(n, h).relevance(self._of_head(r, n, h), stabiliser)
                states.append(state)
                absorbed[n] += kept
        return {
            "value": value.reshape(self.samples, r.shape[1], -1),
            "past_state": np.array(states).reshape(self.samples, self.heads, *states[0].shape),
        }, absorbed

    def gradient(self, g_read: Array, g_last: Array) -> dict[str, Array]:
        """Returns the gradient of every operand, given those of both outputs."""
        found = {name: np.zeros(np.shape(x)) for name, x in self.operands.items()}
        steps = g_read.shape[1]
        for n in range(self.samples):
            for h in range(self.heads):
                head = self.head(n, h)
                own = head.gradient(self._of_head(g_read, n, h), g_last[n, h])
                for name, letter in (("query", "q"), ("key", "k"), ("value", "v")):
                    found[name][n].reshape(steps, self.heads, -1)[:, h] = own[letter].reshape(steps, -1)
                if "past_state" in found:
                    found["past_state"][n, h] = own["s0"]
                if "decay" in found:
                    part = own["decay"] * head.decay
                    view = found["decay"][n].reshape(steps, self.heads, -1)
                    view[:, h] = part if view.shape[2] > 1 else part.sum(axis=1, keepdims=True)
                if "beta" in found:
                    found["beta"][n][:, h % found["beta"].shape[2]] += own["beta"]
        return found

    def _of_head(self, r: Array, n: int, h: int) -> Array:
        """Returns [T, G, V] of an array like the output."""
        return np.asarray(r, np.float64)[n].reshape(r.shape[1], self.heads, self.query_heads // self.heads, -1)[:, h]

    def _joined(self, read: Array) -> Array:
        """[B, H, T, G, V] to [B, T, Hq V]."""
        return read.transpose(0, 2, 1, 3, 4).reshape(read.shape[0], read.shape[2], -1)
