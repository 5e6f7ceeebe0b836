# SPDX-License-Identifier: Apache-2.0
"""The activation functions of recurrent ONNX nodes, as the operator specification of LSTM, GRU and RNN lists them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .common import Array

Function = Callable[[Array, float, float], Array]


def sigmoid(z: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-z))


FUNCTIONS: dict[str, Function] = {
    "Sigmoid": lambda z, alpha, beta: sigmoid(z),
    "Tanh": lambda z, alpha, beta: np.tanh(z),
    "Relu": lambda z, alpha, beta: np.maximum(z, 0.0),
    "Affine": lambda z, alpha, beta: alpha * z + beta,
    "LeakyRelu": lambda z, alpha, beta: np.where(z >= 0, z, alpha * z),
    "ThresholdedRelu": lambda z, alpha, beta: np.where(z >= alpha, z, 0.0),
    "ScaledTanh": lambda z, alpha, beta: alpha * np.tanh(beta * z),
    "HardSigmoid": lambda z, alpha, beta: np.clip(alpha * z + beta, 0.0, 1.0),
    "Elu": lambda z, alpha, beta: np.where(z >= 0, z, alpha * (np.exp(np.minimum(z, 0.0)) - 1.0)),
    "Softsign": lambda z, alpha, beta: z / (1.0 + np.abs(z)),
    "Softplus": lambda z, alpha, beta: np.logaddexp(0.0, z),
}

# Which functions read alpha and beta, with the values of the corresponding ONNX operators when none is given.
ALPHA_DEFAULT = {
    "Affine": 1.0,
    "LeakyRelu": 0.01,
    "ThresholdedRelu": 1.0,
    "ScaledTanh": 1.0,
    "HardSigmoid": 0.2,
    "Elu": 1.0,
}
BETA_DEFAULT = {"Affine": 0.0, "ScaledTanh": 1.0, "HardSigmoid": 0.5}


@dataclass(frozen=True)
class Activation:
    """One activation by its ONNX name, with its parameters (ignored by functions without any)."""

    name: str
    alpha: float = 0.0
    beta: float = 0.0

    def __call__(self, z: Array) -> Array:
        return FUNCTIONS[self.name](z, self.alpha, self.beta)


def parse_activations(
    names: Sequence[str], alphas: Sequence[float] = (), betas: Sequence[float] = ()
) -> tuple[Activation, ...]:
    """Read the attributes `activations`, `activation_alpha`, `activation_beta` of a node.

    The two lists hold values for those functions only that have such a parameter, in order, and may be too short.
    """
    canonical = {name.lower(): name for name in FUNCTIONS}  # names in files differ in case
    alpha_left, beta_left = list(alphas), list(betas)
    parsed = []
    for given in names:
        name = canonical[given.lower()]
        alpha = beta = 0.0
        if name in ALPHA_DEFAULT:
            alpha = alpha_left.pop(0) if alpha_left else ALPHA_DEFAULT[name]
        if name in BETA_DEFAULT:
            beta = beta_left.pop(0) if beta_left else BETA_DEFAULT[name]
        parsed.append(Activation(name, float(np.float32(alpha)), float(np.float32(beta))))
    return tuple(parsed)
