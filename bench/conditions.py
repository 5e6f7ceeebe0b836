# SPDX-License-Identifier: Apache-2.0
"""Measures what a condition saves: an explanation that it leaves out, and one that it lets through, in pairs with a
prediction and an explanation without a condition.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console

import lstm_explain as lx
from bench.models import Shape, inputs_of, model_of
from bench.timing import compare

SHAPES = [(Shape(16, 64), 100, 1), (Shape(16, 128), 365, 1), (Shape(16, 128), 365, 32)]  # model, steps, samples
METHODS = {"lrp all": lx.LRP(), "integrated gradients": lx.IntegratedGradients()}
NEVER, ALWAYS = "probability > 1", "probability >= 0"


def run(console: Console, *, seconds: float) -> list[dict[str, Any]]:
    rows = []
    for shape, steps, batch in SHAPES:
        model, x = lx.load(model_of(shape)), {"x": inputs_of(shape, steps, batch)}
        for name, method in METHODS.items():

            def explain(condition: str | None, model: Any = model, x: Any = x, method: Any = method) -> Any:
                return model.explain(x, method, condition=condition)

            def predict(model: Any = model, x: Any = x) -> Any:
                return model.predict(x)

            pairs: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
                "left out, in predictions": (lambda e=explain: e(NEVER), predict),
                "left out, in explanations": (lambda e=explain: e(NEVER), lambda e=explain: e(None)),
                "let through, in explanations": (lambda e=explain: e(ALWAYS), lambda e=explain: e(None)),
            }
            row: dict[str, Any] = {"model": str(shape), "steps": steps, "batch": batch, "method": name}
            for what, (ours, theirs) in pairs.items():
                ratio = compare(ours, theirs, seconds)
                row[what] = {"ratio": ratio.median, "low": ratio.low, "high": ratio.high}
                console.print(f"{shape}, T = {steps}, batch {batch}, {name}: {what}: {ratio}")
            rows.append(row)
    return rows
