# SPDX-License-Identifier: Apache-2.0
"""Measures what all horizons of a forecast cost in one call: multiples of one horizon, in processor time, in pairs."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from rich.console import Console

import lstm_explain as lx
from bench.models import Shape, inputs_of, model_of
from bench.timing import compare

HORIZONS, LAGS = 24, 168  # a day by the hour, from a week
FORECASTERS = [Shape(8, 64, op="GRU"), Shape(16, 128, op="GRU"), Shape(16, 256, op="GRU"), Shape(16, 128)]
METHODS = {"lrp all": lx.LRP(), "lrp half": lx.LRP("half"), "gradient × input": lx.GradientTimesInput()}


def run(console: Console, *, seconds: float) -> list[dict[str, Any]]:
    rows = []
    for shape in FORECASTERS:
        model, x = lx.load(model_of(shape, HORIZONS)), {"x": inputs_of(shape, LAGS, 1)}
        targets = [lx.Target(index=k) for k in range(HORIZONS)]
        for name, method in METHODS.items():
            many, alone = model.explain_many(x, method, targets), model.explain(x, method, targets[-1])
            np.testing.assert_array_equal(many[-1].relevance["x"], alone.relevance["x"])
            for _ in range(3):  # the third call of a shape runs specialised steps
                model.explain(x, method, targets[-1])
            ratio = compare(
                lambda m=model, x=x, method=method, t=targets: m.explain_many(x, method, t),
                lambda m=model, x=x, method=method, t=targets: m.explain(x, method, t[-1]),
                seconds,
                warm=True,
                clock=time.process_time,
            )
            row = {"model": str(shape), "method": name, "ratio": ratio.median, "low": ratio.low, "high": ratio.high}
            rows.append(row)
            console.print(f"{HORIZONS} targets, {shape}, T = {LAGS}, {name}: {ratio} times one")
    return rows
