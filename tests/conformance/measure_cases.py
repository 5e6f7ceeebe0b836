# SPDX-License-Identifier: Apache-2.0
"""Cases of measures: errors, norms and probabilities of an output, by gradient times input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tests.conformance import models
from tests.conformance.case import Array, Case, ask, case, feeds_of, near, refused, scalars, tensor

GRADIENT = {"name": "gradient_times_input"}
REFERENCE = np.array([[0.5, -1.0, 0.25], [0.0, 0.75, -0.5]], np.float32)
STEP = 1e-5


def _log_softmax(z: Array) -> Array:
    shifted = z - z.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


# By kind: further fields of the target, and the same in NumPy, from logits [batch, 3] to [batch].
MEASURES: dict[str, tuple[dict[str, Any], Callable[[Array], Array]]] = {
    "mean_squared_error": ({"tensor": REFERENCE}, lambda y: ((y - REFERENCE) ** 2).mean(axis=1)),
    "mean_absolute_error": ({"tensor": REFERENCE}, lambda y: np.abs(y - REFERENCE).mean(axis=1)),
    "l1_norm": ({}, lambda y: np.abs(y).sum(axis=1)),
    "l2_norm": ({}, lambda y: np.sqrt((y**2).sum(axis=1))),
    "log_probability": ({"indices": [1]}, lambda y: _log_softmax(y)[:, 1]),
    "probability": ({"indices": [2]}, lambda y: np.exp(_log_softmax(y))[:, 2]),
}


def measure_cases() -> Iterator[Case]:
    for kind, (fields, value) in MEASURES.items():
        built, feeds = models.recurrent("gru"), feeds_of("gru", 4, 2)
        measure: dict[str, Any] = {"kind": kind}
        if "tensor" in fields:
            measure["tensor"] = tensor(fields["tensor"])
        target = {"measure": measure, **{k: v for k, v in fields.items() if k != "tensor"}}

        def expression(x: Array, value: Callable[[Array], Array] = value, built: Any = built) -> Array:
            return value(built.reference_forward({"x": x}))

        x = feeds["x"].astype(np.float64)
        expect = {
            "relevance": {"x": _loose(_gradient(expression, x) * x)},
            "outputs": {"logits": near(built.reference_forward({"x": x}))},
            "explained": scalars(expression(x)),
            "explained_quantity": kind,
        }
        request = ask("gru", feeds, method=GRADIENT, target=target)
        yield case(f"measure-{kind.replace('_', '-')}", f"{kind} of the output", request, expect=expect)
    x = feeds_of("gru", 4, 2)
    wrong = ask("gru", x, method=GRADIENT, target={"measure": {"kind": "mean_squared_error", "input": "x"}})
    field = "target.measure.reference"
    yield refused("error-measure", "an input of another rank as the reference", wrong, "INVALID_ARGUMENT", field, "x")


def _gradient(expression: Callable[[Array], Array], x: Array) -> Array:
    """By central differences; samples do not depend on each other."""
    found = np.zeros(x.shape)
    for place in np.ndindex(x.shape[1:]):
        step = np.zeros(x.shape)
        step[(slice(None), *place)] = STEP
        found[(slice(None), *place)] = (expression(x + step) - expression(x - step)) / (2 * STEP)
    return found


def _loose(array: Array) -> dict[str, Any]:
    """Finite differences are exact to about eight digits; the file keeps seven, so that it is the same everywhere."""
    return near(np.round(array, 7))
