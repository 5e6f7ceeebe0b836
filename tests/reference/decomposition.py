# SPDX-License-Identifier: Apache-2.0
"""Contextual decomposition of one LSTM cell's run, with the paper's beta and gamma written out for one sample."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

Parts = tuple[Any, Any]


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def three(f: Any, beta: Any, gamma: Any, bias: Any) -> tuple[Any, Any, Any]:
    """The paper's linearisation: the mean over both orders of beta and gamma, the bias first."""
    of_beta = 0.5 * ((f(beta + bias) - f(bias)) + (f(beta + gamma + bias) - f(gamma + bias)))
    of_gamma = 0.5 * ((f(gamma + bias) - f(bias)) + (f(beta + gamma + bias) - f(beta + bias)))
    return of_beta, of_gamma, f(bias)


def decomposed(x: Any, W: Any, R: Any, b: Any, phrase: Collection[int]) -> tuple[Parts, Parts, Any]:
    """Murdoch et al. 2018, equations 10 to 23: (beta, gamma) of the last h and c; and the h of every step.

    phrase: the time steps that it consists of.
    """
    H = R.shape[1]
    beta_h = gamma_h = beta_c = gamma_c = np.zeros(H)
    every = []
    for t, v in enumerate(x):
        beta, gamma = R @ beta_h, R @ gamma_h
        if t in phrase:
            beta = beta + W @ v
        else:
            gamma = gamma + W @ v
        rows = {gate: slice(k * H, (k + 1) * H) for k, gate in enumerate("iofc")}
        i, i_g, i_b = three(sigmoid, beta[rows["i"]], gamma[rows["i"]], b[rows["i"]])
        f, f_g, f_b = three(sigmoid, beta[rows["f"]], gamma[rows["f"]], b[rows["f"]])
        g, g_g, g_b = three(np.tanh, beta[rows["c"]], gamma[rows["c"]], b[rows["c"]])
        new = i * (g + g_b) + i_b * g + (f + f_b) * beta_c
        rest = i_g * (g + g_g + g_b) + (i + i_b) * g_g + (f + f_g + f_b) * gamma_c + f_g * beta_c
        if t in phrase:
            new = new + i_b * g_b
        else:
            rest = rest + i_b * g_b
        beta_c, gamma_c = new, rest
        o = sigmoid(beta[rows["o"]] + gamma[rows["o"]] + b[rows["o"]])
        of_beta = 0.5 * (np.tanh(beta_c) + np.tanh(beta_c + gamma_c) - np.tanh(gamma_c))
        of_gamma = 0.5 * (np.tanh(gamma_c) + np.tanh(beta_c + gamma_c) - np.tanh(beta_c))
        beta_h, gamma_h = o * of_beta, o * of_gamma
        every.append((beta_h, gamma_h))
    return (beta_h, gamma_h), (beta_c, gamma_c), every
