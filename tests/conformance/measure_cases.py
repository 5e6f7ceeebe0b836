# SPDX-License-Identifier: Apache-2.0
"""Cases of measures: errors, norms, probabilities and paths of an output, by gradient times input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby, product
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


def path_cases() -> Iterator[Case]:
    """The best of all paths, found by looking at each of them."""
    built, feeds = models.steps(), feeds_of("forecast", 4, 2)
    scores = _scores(built, feeds["x"].astype(np.float64))
    every = np.array(list(product(range(models.LABELS), repeat=models.STEPS)))
    transitions = np.random.default_rng(5).normal(size=(models.LABELS, models.LABELS)).astype(np.float32)
    gained = 2 * transitions[every[:, :-1], every[:, 1:]].sum(axis=1)
    labels, blank = [2, 2, 1], 3
    read_so = [[label for label, _ in groupby(path) if label != blank] == labels for path in every.tolist()]
    given = np.array([[0, 1, 2, 3, 0, 1], [3, 3, 2, 2, -1, -1]])
    totals = scores[:, np.arange(models.STEPS), every].sum(axis=2)
    crf, ctc = {"tensor": tensor(2 * transitions)}, {"blank": blank}
    for name, about, indices, measure, paths in (
        ("best", "the best path", [], {}, every[totals.argmax(axis=1)]),
        ("crf", "the best path with transitions", [], crf, every[(totals + gained).argmax(axis=1)]),
        (
            "ctc",
            "the best path that CTC reads as labels",
            labels,
            ctc,
            every[np.where(read_so, totals, -1e9).argmax(1)],
        ),
        ("given", "a path per sample, of which one ends early", given.ravel().tolist(), {}, given),
    ):

        def expression(x: Array, paths: Array = paths) -> Array:
            along = np.take_along_axis(_scores(built, x), np.maximum(paths, 0)[:, :, None], axis=2)[:, :, 0]
            return np.where(paths < 0, 0, along).sum(axis=1)

        x = feeds["x"].astype(np.float64)
        expect = {
            "relevance": {"x": _loose(_gradient(expression, x) * x)},
            "outputs": {"scores": near(scores)},
            "explained": scalars(expression(x)),
        }
        target = {"measure": {"kind": "path_score", **measure}} | ({"indices": indices} if indices else {})
        yield case(f"path-{name}", about, ask("steps", feeds, method=GRADIENT, target=target), expect=expect)
    wrong = {"measure": {"kind": "path_score"}, "indices": labels}
    request = ask("steps", feeds, method=GRADIENT, target=wrong)
    yield refused("error-path", "fewer labels than steps", request, "INVALID_ARGUMENT", "target.indices", "labels")


def _scores(built: Any, x: Array) -> Array:
    return built.reference_forward({"x": x}).reshape(len(x), models.STEPS, models.LABELS)


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
