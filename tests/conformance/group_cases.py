# SPDX-License-Identifier: Apache-2.0
"""Cases of groups of entries: sums of the textbook's relevance, and Shapley values over all orders."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.conformance import models
from tests.conformance.case import LRP, Array, Case, ask, case, feeds_of, near, refused, tensor
from tests.conformance.propagation_cases import by_lrp
from tests.reference.common import Rules
from tests.reference.textbook import one_hot

WINDOW, T, B = 2, 5, 2
STEPS = [(0, 2), (2, 4), (4, 5)]
NAMES = ["steps 0-1", "steps 2-3", "step 4"]


def group_cases() -> Iterator[Case]:
    feeds, built = feeds_of("lstm", T, B), models.recurrent("lstm")
    groups = {"window": WINDOW, "features": [{"name": "pair", "input": "x", "features": ["0", "2"]}]}
    expect = by_lrp(built, feeds, one_hot(1, B, 3), Rules())
    request = ask("lstm", feeds, method=LRP, target={"indices": [1]}, groups=groups)
    about = "sums over windows of two steps and groups of features"
    yield case("groups-lrp", about, request, expect={**expect, "groups": _sums(expect["relevance"]["x"])})
    results = [by_lrp(built, feeds, one_hot(k, B, 3), Rules()) for k in range(3)]
    results = [{**one, "groups": _sums(one["relevance"]["x"])} for one in results]
    request = ask("lstm", feeds, method=LRP, targets=[{"every": {}}], groups=groups)
    singles = [{"indices": [k]} for k in range(3)]
    yield {
        "name": "groups-targets",
        "about": "groups of every target",
        "call": "explain_many",
        "request": request,
        "expect": {"results": results, "singles": singles},
    }
    x = feeds["x"]
    values = _shapley(built.reference_forward, x)
    own = {
        "relevance": {"x": near(values, "float64")},
        "standard_error": {"x": tensor(np.zeros(values.shape), 0.0)},
        **_described(NAMES, STEPS),
    }
    own["relevance"]["x"]["tolerance"] = 1e-5
    request = ask(
        "lstm", feeds, method={"name": "shapley_sampling"}, target={"indices": [1]}, groups={"window": WINDOW}
    )
    yield case("groups-shapley", "windows as players, over all orders", request, expect={"groups": own})
    segments = {"change_points": {"segments": 1, "penalty": 0.5}}
    request = ask("lstm", feeds, method=LRP, target={"indices": [1]}, groups=segments)
    whole = np.array(expect["relevance"]["x"]["data"]).reshape(x.shape).sum(axis=(1, 2))[:, None]
    own = {"relevance": {"x": _near64(whole)}, **_described([f"steps 0-{T - 1}"], [(0, T)])}
    yield case("groups-segments", "at most one segment is the whole sequence", request, expect={"groups": own})
    yield _through()
    wrong = {"features": [{"name": "pair", "input": "x", "features": ["rain"]}]}
    request = ask("lstm", feeds, method=LRP, groups=wrong)
    yield refused(
        "error-groups", "a feature that does not exist", request, "INVALID_ARGUMENT", "groups.features", "rain"
    )


def _through() -> Case:
    """Of a combination of logits, only some pass: the relevance is that of the combination without the others."""
    feeds, built = feeds_of("lstm", T, B), models.recurrent("lstm")
    weights = np.array([0.5, -2.0, 0.25], np.float32)
    kept = by_lrp(built, feeds, np.tile(weights * [1.0, 0.0, 1.0], (B, 1)), Rules())
    request = ask("lstm", feeds, method=LRP, target={"weights": tensor(weights)}, through={"logits": [0, 2]})
    about = "relevance through two of the three logits of a combination"
    return case("through", about, request, expect={"relevance": kept["relevance"]})


def _sums(relevance: dict[str, Any]) -> dict[str, Any]:
    R = np.array(relevance["data"]).reshape(relevance["shape"])
    others = [d for d in range(R.shape[2]) if d not in (0, 2)]
    sums = [R[:, a:b][:, :, some].sum(axis=(1, 2)) for a, b in STEPS for some in ([0, 2], others)]
    names = [f"{name}, {group}" for name in NAMES for group in ("pair", "other features")]
    return {"relevance": {"x": _near64(np.stack(sums, axis=1))}, **_described(names, [s for s in STEPS for _ in "ab"])}


def _near64(array: Array) -> dict[str, Any]:
    """Sums of float32 relevance, in float64."""
    return {**near(array, "float64"), "tolerance": 1e-4}


def _described(names: list[str], steps: list[tuple[int, int]]) -> dict[str, Any]:
    of_batch = np.array([names] * B, dtype=object)
    return {"names": {"x": tensor(of_batch)}, "steps": {"x": tensor(np.array([steps] * B, np.int64))}}


def _shapley(forward: Any, x: Array) -> Array:
    """The mean gain of each window over all orders, [batch, windows]."""
    count = len(STEPS)

    def worth(present: tuple[int, ...]) -> Array:
        changed = np.zeros(x.shape)
        for a, b in (STEPS[player] for player in present):
            changed[:, a:b] = x[:, a:b]
        return forward({"x": changed})[:, 1]

    values = np.zeros((len(x), count))
    for order in itertools.permutations(range(count)):
        for place, player in enumerate(order):
            values[:, player] += worth(order[: place + 1]) - worth(order[:place])
    return values / math.factorial(count)
