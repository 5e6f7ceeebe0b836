# SPDX-License-Identifier: Apache-2.0
"""Measures how cost and memory grow: exponents in T, batch and H, and the memory of one long explanation."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rich.console import Console

import lstm_explain as lx
from bench.engine import METHODS
from bench.models import Shape, inputs_of, model_of
from bench.pair import TARGET

LENGTHS, SIZES, UNITS = (100, 300, 1000, 3000, 10_000), (1, 4, 16, 64), (64, 128, 256, 512)
TARGETS = (1, 2, 5, 16)
GROWING = ("lrp all", "lrp half", "gradient × input")
LONG = (Shape(64, 256), 10_000)
REPETITIONS = 5
Case = tuple[int, Callable[[], object]]
# From /proc, because the peak of getrusage includes that of the process that started this one.
MEMORY = """
import json, re, sys
from pathlib import Path
import lstm_explain as lx
from bench.engine import METHODS
from bench.pair import TARGET
from bench.models import Shape, inputs_of, model_of

def megabytes(name):
    return int(re.search(name + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

method, D, H, T = METHODS[sys.argv[1]], *map(int, sys.argv[2:])
model = lx.load(model_of(Shape(D, H)))
model.explain({"x": inputs_of(Shape(D, H), 3, 1)}, method, TARGET)
x = inputs_of(Shape(D, H), T, 1)
before = megabytes("VmRSS")
model.explain({"x": x}, method, TARGET)
print(json.dumps({"process_mb": megabytes("VmHWM"), "explanation_mb": megabytes("VmHWM") - before}))
"""


def run(console: Console, *, quick: bool) -> dict[str, Any]:
    lengths = LENGTHS[:3] if quick else LENGTHS
    fits: dict[str, dict[str, Any]] = {"T": {}, "batch": {}, "H": {}}
    for name in GROWING:
        fits["T"][name] = _fit([_case(T, Shape(64, 256), T, 1, name) for T in lengths])
        fits["batch"][name] = _fit([_case(B, Shape(64, 256), 100, B, name) for B in SIZES])
        fits["H"][name] = _fit([_case(H, Shape(64, H), 100, 1, name) for H in UNITS])
    fits["targets"] = {"lrp all": _fit([_targets(count) for count in TARGETS])}
    for size, by_method in fits.items():
        for method, fit in by_method.items():
            console.print(f"cost of {method} grows as {size}^{fit['exponent']:.2f}: {fit['milliseconds']}")
    memory = {method: _memory(method) for method in METHODS}
    shape, T = LONG
    console.print(f"peak memory, {shape}, T = {T}, batch 1: {memory}")
    return {"exponents": fits, "memory": memory}


def _case(size: int, shape: Shape, T: int, B: int, method: str) -> Case:
    model, x = lx.load(model_of(shape)), {"x": inputs_of(shape, T, B)}
    return size, lambda: model.explain(x, METHODS[method], TARGET)


def _targets(count: int) -> Case:
    """Measure several targets in one call."""
    shape = Shape(64, 256)
    model, x = lx.load(model_of(shape)), {"x": inputs_of(shape, 100, 1)}
    return count, lambda: model.explain_many(x, lx.LRP(), [TARGET] * count)


def _fit(cases: Sequence[Case]) -> dict[str, Any]:
    """Fit the slope of log(time) over log(size); each time is the minimum of several, with alternating sizes."""
    times: dict[int, list[float]] = {size: [] for size, _ in cases}
    for round_ in range(REPETITIONS + 1):
        for size, call in cases:
            start = time.perf_counter()
            call()
            if round_:  # the first warms up
                times[size].append((time.perf_counter() - start) * 1e3)
    least = {size: min(found) for size, found in times.items()}
    slope = np.polyfit(np.log(list(least)), np.log(list(least.values())), 1)[0]
    return {"exponent": float(slope), "milliseconds": {size: round(ms, 2) for size, ms in least.items()}}


def _memory(method: str) -> dict[str, Any]:
    """Measure the memory of one explanation in a separate process."""
    shape, T = LONG
    command = [sys.executable, "-c", MEMORY, method, str(shape.D), str(shape.H), str(T)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1]}
    return dict(json.loads(done.stdout))
