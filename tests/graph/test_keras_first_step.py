# SPDX-License-Identifier: Apache-2.0
"""Keras 3 with torch writes models that only read step 0 of a dynamic time axis; the report says so."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import lstm_explain as lx
from tests.graph_builder import GraphBuilder

Reading = Callable[[GraphBuilder, str], str]
FIRST: dict[str, Reading] = {
    "gathered": lambda g, x: g.squeeze(g.op("Gather", [x, g.ints(0)], axis=1), 1),
    "time first": lambda g, x: g.squeeze(
        g.op("Gather", [g.op("Transpose", [x], perm=[1, 0, 2]), g.ints(0)], axis=0), 0
    ),
    "sliced": lambda g, x: g.squeeze(g.op("Slice", [x, g.ints(0), g.ints(1), g.ints(1)]), 1),
    "copied": lambda g, x: g.squeeze(g.op("Gather", [g.op("Identity", [x]), g.ints(0)], axis=1), 1),
}
MORE: dict[str, Reading] = {
    "another step": lambda g, x: g.squeeze(g.op("Gather", [x, g.ints(1)], axis=1), 1),
    "all of them": lambda g, x: g.reduce("mean", x, 1, "mean"),
    "two steps": lambda g, x: g.reduce(
        "sum", g.op("Slice", [x, g.ints(0), g.ints(2), g.ints(1)]), 1, "sum"
    ),
    "the first, and all": lambda g, x: g.op("Add", [FIRST["sliced"](g, x), g.reduce("mean", x, 1, "mean")]),
    "the first feature": lambda g, x: g.op(
        "Expand", [MORE["all of them"](g, g.op("Slice", [x, g.ints(0), g.ints(1), g.ints(2)])), g.ints(1, 4)]
    ),
}  # fmt: skip


def warned(reading: Reading, time: int | str) -> bool:
    g = GraphBuilder(np.float32, 17)
    step = reading(g, g.input("x", ["B", time, 4]))
    logits = g.op("MatMul", [step, g.constant(np.ones((4, 2)), "W")])
    return any("only step 0" in warning for warning in lx.load(g.model(logits, ["B", 2])).report().warnings)


@pytest.mark.parametrize("how", FIRST)
def test_a_model_that_reads_the_first_step_only(how: str) -> None:
    assert warned(FIRST[how], "T")
    assert not warned(FIRST[how], 6)  # as it was built


@pytest.mark.parametrize("how", MORE)
def test_a_model_that_reads_more(how: str) -> None:
    assert not warned(MORE[how], "T")
