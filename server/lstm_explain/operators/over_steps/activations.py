# SPDX-License-Identifier: Apache-2.0
"""The activations of ONNX's recurrent operators and their derivatives, on arrays of any namespace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.kernels.scalar_functions import CODES
from lstm_explain.operators.array_api import namespace

Function = Callable[[Any, Array, float, float], Array]


def _sigmoid(xp: Any, z: Array, a: float, b: float) -> Array:
    return 1 / (1 + xp.exp(-z))


# name: f(z), f'(z) from z and y = f(z)
TABLE: dict[str, tuple[Function, Callable[[Any, Array, Array, float, float], Array]]] = {
    "sigmoid": (_sigmoid, lambda xp, z, y, a, b: y * (1 - y)),
    "tanh": (lambda xp, z, a, b: xp.tanh(z), lambda xp, z, y, a, b: 1 - y * y),
    "relu": (lambda xp, z, a, b: xp.maximum(z, 0), lambda xp, z, y, a, b: _where(xp, z > 0, z, 1, 0)),
    "affine": (lambda xp, z, a, b: a * z + b, lambda xp, z, y, a, b: xp.full_like(z, a)),
    "leakyrelu": (lambda xp, z, a, b: xp.where(z >= 0, z, a * z), lambda xp, z, y, a, b: _where(xp, z >= 0, z, 1, a)),
    "thresholdedrelu": (
        lambda xp, z, a, b: xp.where(z > a, z, 0),
        lambda xp, z, y, a, b: _where(xp, z > a, z, 1, 0),
    ),
    "scaledtanh": (lambda xp, z, a, b: a * xp.tanh(b * z), lambda xp, z, y, a, b: b * (a - y * y / a)),
    "hardsigmoid": (
        lambda xp, z, a, b: xp.minimum(xp.maximum(a * z + b, 0), 1),
        lambda xp, z, y, a, b: _where(xp, (a * z + b > 0) & (a * z + b < 1), z, a, 0),
    ),
    "elu": (
        lambda xp, z, a, b: xp.where(z >= 0, z, a * (xp.exp(xp.minimum(z, 0)) - 1)),
        lambda xp, z, y, a, b: xp.where(z >= 0, 1, a * xp.exp(xp.minimum(z, 0))),
    ),
    "softsign": (
        lambda xp, z, a, b: z / (1 + xp.abs(z)),
        lambda xp, z, y, a, b: (1 - xp.abs(y)) * (1 - xp.abs(y)),
    ),
    "softplus": (
        lambda xp, z, a, b: xp.maximum(z, 0) + xp.log(1 + xp.exp(-xp.abs(z))),
        lambda xp, z, y, a, b: _sigmoid(xp, z, a, b),
    ),
}
NAMES = {code: name for name, code in CODES.items()}


def _where(xp: Any, condition: Array, like: Array, yes: float, no: float) -> Array:
    return xp.where(condition, xp.full_like(like, yes), xp.full_like(like, no))


class Activation:
    """One activation of a cell. clip: its argument is bounded to [-clip, clip], where positive."""

    def __init__(self, code: int, parameters: Array, clip: float = 0.0) -> None:
        self._function, self._slope = TABLE[NAMES[code]]
        self._alpha, self._beta = (float(p) for p in parameters)
        self._clip = clip

    def __call__(self, z: Array) -> Array:
        xp = namespace(z)
        if self._clip > 0:
            z = xp.minimum(xp.maximum(z, -self._clip), self._clip)
        return self._function(xp, z, self._alpha, self._beta)

    def slope(self, z: Array, y: Array) -> Array:
        """Returns the derivative at z, given y = f(z)."""
        xp = namespace(z)
        slope = self._slope(xp, z, y, self._alpha, self._beta)
        return xp.where(xp.abs(z) > self._clip, 0, slope) if self._clip > 0 else slope


def activations_of(codes: Array, parameters: Array, clip: float) -> list[Activation]:
    """Returns those of a direction; only the last one of an LSTM, on the cell, is not clipped."""
    found = [Activation(int(c), np.asarray(p), clip) for c, p in zip(codes, parameters, strict=True)]
    if len(found) == 3:
        found[2] = Activation(int(codes[2]), np.asarray(parameters[2]))
    return found
