# SPDX-License-Identifier: Apache-2.0
"""Measures Occlusion and Shapley values of long sequences: with common prefixes run once, and with every changed input
run as a whole by ONNX Runtime, in turn, in processor time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
from rich.console import Console

import lstm_explain as lx
from bench.models import GRID, Shape, inputs_of, model_of
from bench.service import ROOT
from bench.timing import ratio_of, rounds
from lstm_explain.runner import scores

T = 500
SHAPES = [*GRID[:4], Shape(32, 128, op="GRU"), Shape(32, 128, op="RNN")]
SHAPES += [replace(shape, fading=True) for shape in SHAPES]
METHODS = {
    "occlusion": lx.Occlusion(),
    "occlusion, window 8": lx.Occlusion(window=8),
    "Shapley values, 1 order": lx.ShapleySampling(permutations=1),
}


def run(console: Console, *, seconds: float) -> list[dict[str, Any]]:
    """Return by model and method: the ratio, both in multiples of ONNX Runtime's forward pass, and by how much the
    answers differ relative to the largest one.
    """
    rows = []
    for label, model, inputs in _cases():
        for name, method in METHODS.items():

            def together(model: lx.Model = model, x: Any = inputs, method: lx.Method = method) -> lx.Explanation:
                return model.explain(x, method, lx.Target(index=1))

            apart = _apart(together)
            (found,), (expected,) = together().relevance.values(), apart().relevance.values()
            forward = partial(model.predict, inputs)
            forward()
            times = rounds([apart, together, forward], seconds, 3, clock=time.process_time)
            ratio = ratio_of(times[:, 1], times[:, 0])
            row = {
                "model": label,
                "method": name,
                "ratio": ratio.median,
                "together": float(np.median(times[:, 1] / times[:, 2])),
                "apart": float(np.median(times[:, 0] / times[:, 2])),
                "difference": float(np.abs(found - expected).max() / np.abs(expected).max()),
            }
            rows.append(row)
            console.print(
                f"{label}, {name}: {row['together']:.0f} forward passes instead of {row['apart']:.0f}, ratio "
                f"{ratio}, answers differ by {row['difference']:.1e}"
            )
    return rows


def _cases() -> Iterator[tuple[str, lx.Model, dict[str, Any]]]:
    """Yield a label, a model and its inputs. The bundled text model counts the words that are left."""
    words = np.random.default_rng(0).integers(2, 8000, (1, T))
    yield f"sentiment, {T} words", lx.load(ROOT / "models" / "sentiment" / "1" / "model.onnx"), {"tokens": words}
    for shape in SHAPES:
        yield f"{shape}, T = {T}", lx.load(model_of(shape)), {"x": inputs_of(shape, T, 1)}


def _apart(explain: Callable[[], lx.Explanation]) -> Callable[[], lx.Explanation]:
    def whole() -> lx.Explanation:
        with mock.patch.object(scores, "LONG", T + 1):
            return explain()

    return whole
