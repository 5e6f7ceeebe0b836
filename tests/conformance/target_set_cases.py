# SPDX-License-Identifier: Apache-2.0
"""Cases of several targets in one request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.conformance import models
from tests.conformance.case import LRP, Case, ask, feeds_of, refused
from tests.conformance.propagation_cases import SIGNED, by_lrp, lrp
from tests.reference.common import Rules
from tests.reference.textbook import one_hot

HORIZONS = 24


def target_set_cases() -> Iterator[Case]:
    for rule in ("all", "half"):
        rules = Rules(rule)
        feeds, built = feeds_of("lstm", 5, 2), models.recurrent("lstm")
        results = [by_lrp(built, feeds, one_hot(k, 2, 3), rules) for k in range(3)]
        request = ask("lstm", feeds, method=lrp(product_rule=rule), targets=[{"every": {}}])
        singles = [{"indices": [k]} for k in range(3)]
        yield _case(f"targets-every-class-{rule}", f"every class, product rule {rule}", request, results, singles)
    yield _listed()
    yield _horizons()
    yield _stream()
    feeds = feeds_of("lstm", 4, 2)
    for name, wrong, field in (
        ("index", {"target": {"indices": [3]}}, "targets"),
        ("output", {"target": {"output": "scores"}}, "targets[1].target.output"),
        ("axis", {"every": {"axis": 2}}, "targets"),
    ):
        request = ask("lstm", feeds, method=LRP, targets=[{"target": {"indices": [0]}}, wrong])
        about = f"the second target has a bad {name}"
        yield {**refused(f"error-targets-{name}", about, request, "INVALID_ARGUMENT", field), "call": "explain_many"}


def _case(name: str, about: str, request: dict[str, Any], results: list[Any], singles: list[Any]) -> Case:
    """singles: the same targets one by one; alone, each has the same relevance to the last bit."""
    expect = {"results": results, "singles": singles}
    return {"name": name, "about": about, "call": "explain_many", "request": request, "expect": expect}


def _listed() -> Case:
    feeds, built = feeds_of("lstm", 3, 2), models.recurrent("lstm")
    targets = [
        {"target": {"indices": [1]}},
        {"target": {"indices": [0], "contrast_indices": [2]}},
        {},
        {"every": {"entries": [0], "target": {"output": "logits"}}},
    ]
    weights = [one_hot(1, 2, 3), one_hot(0, 2, 3) - one_hot(2, 2, 3), one_hot(2, 2, 3), one_hot(0, 2, 3)]
    results = [by_lrp(built, feeds, one, Rules()) for one in weights]
    singles = [{"indices": [1]}, {"indices": [0], "contrast_indices": [2]}, {"indices": [2]}, {"indices": [0]}]
    for result in results:
        result["receipt"] = SIGNED
    request = ask("lstm", feeds, method=LRP, targets=targets, receipt=True)
    about = "a list: a class, a difference, the model's default, an entry; with one receipt for all"
    return _case("targets-listed", about, request, results, singles)


def _horizons() -> Case:
    feeds, built = feeds_of("forecast", 8, 1), models.recurrent("forecast")
    results = [by_lrp(built, feeds, one_hot(k, 1, HORIZONS), Rules()) for k in range(HORIZONS)]
    for result in results[1:]:
        del result["outputs"]
    request = ask("forecast", feeds, method=LRP, targets=[{"every": {"axis": 0}}])
    singles = [{"indices": [k]} for k in range(HORIZONS)]
    return _case("targets-every-step", "all 24 steps of a forecast by a GRU", request, results, singles)


def _stream() -> Case:
    feeds, built = feeds_of("forecast", 6, 2), models.recurrent("forecast")
    steps = (0, 6, 23)
    each = [by_lrp(built, feeds, one_hot(k, 2, HORIZONS), Rules()) for k in steps]
    some = ask("forecast", feeds, method=LRP, targets=[{"every": {"axis": 0, "entries": list(steps)}}])
    alone = ask("forecast", feeds, method=LRP, target={"indices": [6]})
    for request in (some, alone):
        del request["deadline_ms"]
    return {
        "name": "stream-targets",
        "about": "a request for steps 0, 6 and 23, and one for a single step, over one stream",
        "call": "explain_stream",
        "requests": [{"id": "some", "request": some}, {"id": "alone", "request": alone}],
        "answers": {"some": {"expect": {"results": each}}, "alone": {"expect": each[1]}},
    }
