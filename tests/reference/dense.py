# SPDX-License-Identifier: Apache-2.0
"""The layers around the recurrent ones: a dense head, pooling over time, selection of a step, embedding lookup.

One sample at a time; Y [T, H] is one sample's sequence.
"""

from __future__ import annotations

import numpy as np

from .common import Array, Rules, lrp_linear, lrp_sum


def dense_forward(a: Array, W: Array, b: Array) -> Array:
    """Gemm with transB: W [M, D]."""
    return W @ a + b


def dense_lrp(a: Array, W: Array, b: Array, R_z: Array, rules: Rules) -> tuple[Array, float]:
    z = dense_forward(a, W, b)
    return lrp_linear(a, W, b, z, R_z, len(a), rules.added("layers"), rules.bias_factor)


def sum_lrp(Y: Array, R_z: Array, rules: Rules) -> tuple[Array, float]:
    """z = sum_t Y_t: the epsilon-rule over T terms."""
    terms = list(Y)
    relevances, absorbed = lrp_sum(terms, Y.sum(axis=0), R_z, rules, "layers")
    return np.stack(relevances), absorbed


def mean_lrp(Y: Array, R_z: Array, rules: Rules) -> tuple[Array, float]:
    """z = sum_t Y_t / T: the same with weights 1 / T."""
    return sum_lrp(Y / len(Y), R_z, rules)


def last_step_lrp(Y: Array, R_z: Array) -> Array:
    """z = Y_{T-1}: only the selected step is relevant."""
    R_Y = np.zeros_like(Y)
    R_Y[-1] = R_z
    return R_Y


def embedding_lrp(R_vectors: Array) -> Array:
    """Relevance of a token: the sum over its vector (last axis)."""
    return np.asarray(R_vectors.sum(axis=-1))
