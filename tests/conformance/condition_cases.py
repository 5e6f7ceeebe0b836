# SPDX-License-Identifier: Apache-2.0
"""Cases of requests that are explained only where the prediction meets a condition."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.conformance import models
from tests.conformance.case import LRP, Array, Case, ask, case, feeds_of, near, refused, scalars
from tests.conformance.propagation_cases import by_lrp
from tests.reference.common import Rules
from tests.reference.textbook import one_hot


def condition_cases() -> Iterator[Case]:
    feeds, built = feeds_of("lstm", 4, 3), models.recurrent("lstm")
    logits = built.reference_forward(feeds)
    explained, probability = logits[:, 1], _softmax(logits)[:, 1]
    unexplained = {"outputs": {"logits": near(logits)}, "explained": scalars(explained)}

    def request(condition: str) -> dict[str, Any]:
        return ask("lstm", feeds, method=LRP, target={"indices": [1]}, condition=condition)

    reasons = [f'probability {p:.4g} of "fair" is not above 0.999' for p in probability]
    expect = {**unexplained, "not_explained": reasons}
    yield case("condition-not-met", "no sample is explained", request("probability > 0.999"), expect=expect)

    expect = {**by_lrp(built, feeds, one_hot(1, 3, 3), Rules()), "not_explained": [""] * 3}
    yield case("condition-met", "all samples are", request("explained < 99 and probability > 0"), expect=expect)

    limit = float(f"{(np.sort(explained)[0] + np.sort(explained)[1]) / 2:.3g}")
    reasons = ["" if y >= limit else f'explained {y:.4g} of "fair" is below {limit:g}' for y in explained]
    assert 0 < sum(map(bool, reasons)) < 3
    expect = {**unexplained, "not_explained": reasons}
    yield case("condition-some", "some samples are", request(f"explained >= {limit!r}"), expect=expect)

    best = logits.argmax(axis=1)
    wanted = sorted({0, 1, 2} - {int(best[0])})
    listed = " or ".join(f'"{models.CLASSES[at]}"' for at in wanted)
    reasons = ["" if at in wanted else f'the predicted class is "{models.CLASSES[at]}", not {listed}' for at in best]
    expect = {**unexplained, "not_explained": reasons}
    yield case(
        "condition-class",
        "those of two classes are",
        request(f"class is {wanted[0]} or {models.CLASSES[wanted[1]]}"),
        expect=expect,
    )

    before = [float(f"{y:.3g}") for y in explained + np.array([1.0, 0.1, 1.0])]
    changes = np.abs(explained - before)
    reasons = [
        "" if change > 0.5 else f'the change of explained from {old:.4g} to {y:.4g} of "fair" is not above 0.5'
        for change, old, y in zip(changes, before, explained, strict=True)
    ]
    expect = {**unexplained, "not_explained": reasons}
    condition = f"change > 0.5 from {', '.join(map(repr, before))}"
    yield case("condition-change", "those that differ from their references are", request(condition), expect=expect)

    yield _targets(feeds, logits)
    about = "words that are no condition"
    yield refused("error-condition", about, request("probability is high"), "INVALID_ARGUMENT", "condition", "0.8")
    about = "a class that is not there"
    yield refused("error-condition-class", about, request("class is 3"), "INVALID_ARGUMENT", "condition", "class")


def _targets(feeds: dict[str, Array], logits: Array) -> Case:
    limit = 0.25  # met by some; no value in the texts is so near zero that float32 rounds its last digit otherwise
    results = []
    for k, name in enumerate(models.CLASSES):
        reasons = ["" if y < limit else f'explained {y:.4g} of "{name}" is not below {limit:g}' for y in logits[:, k]]
        results.append({"explained": scalars(logits[:, k]), "not_explained": reasons})
    request = ask("lstm", feeds, method=LRP, targets=[{"every": {}}], condition=f"explained < {limit!r}")
    expect = {"results": results, "singles": []}
    about = "each target is judged by itself"
    return {
        "name": "condition-targets", "about": about, "call": "explain_many", "request": request, "expect": expect,
    }  # fmt: skip


def _softmax(scores: Array) -> Array:
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)
