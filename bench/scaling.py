"""How cost and memory grow: fitted exponents in T, batch and H; memory of one long explanation."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import numpy as np
from rich.console import Console

import lstm_explain as lx
from bench.engine import TARGET
from bench.models import Shape, inputs_of, model_of

LENGTHS, SIZES, UNITS = (100, 300, 1000, 3000, 10_000), (1, 4, 16, 64), (64, 128, 256, 512)
TARGETS = (1, 2, 5, 16)
LONG = (Shape(64, 256), 10_000)
MEMORY = """
import json, os, resource, sys
import lstm_explain as lx
from bench.engine import METHODS, TARGET
from bench.models import Shape, inputs_of, model_of
method, D, H, T = METHODS[sys.argv[1]], *map(int, sys.argv[2:])
model = lx.load(model_of(Shape(D, H)))
model.explain({"x": inputs_of(Shape(D, H), 3, 1)}, method, TARGET)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
x = inputs_of(Shape(D, H), T, 1)
before = int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
try:
    model.explain({"x": x}, method, TARGET)
    print(json.dumps({"process_mb": peak(), "explanation_mb": peak() - before}))
except lx.InputError as error:
    print(json.dumps({"error": str(error)}))
"""


def run(console: Console, *, quick: bool) -> dict[str, Any]:
    lengths = LENGTHS[:3] if quick else LENGTHS
    found = {
        "T": _exponent([(T, Shape(64, 256), T, 1) for T in lengths]),
        "batch": _exponent([(B, Shape(64, 256), 100, B) for B in SIZES]),
        "H": _exponent([(H, Shape(64, H), 100, 1) for H in UNITS]),
        "targets": _exponent([(count, Shape(64, 256), 100, 1) for count in TARGETS], by_targets=True),
    }
    for name, fit in found.items():
        console.print(f"cost of LRP-all grows as {name}^{fit['exponent']:.2f}: {fit['milliseconds']}")
    shape, T = LONG
    memory = {}
    for method in ("lrp all", "lrp abs", "gradient × input"):
        command = [sys.executable, "-c", MEMORY, method, str(shape.D), str(shape.H), str(T)]
        memory[method] = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
        console.print(f"peak memory, {method}, {shape}, T = {T}, batch 1: {memory[method]}")
    return {"exponents": found, "memory": memory}


def _exponent(cases: list[tuple[int, Shape, int, int]], *, by_targets: bool = False) -> dict[str, Any]:
    """Slope of log(time) over log(size), and the times (each the least of a few).

    by_targets: the size is the number of targets, explained by one call.
    """
    milliseconds = {}
    for size, shape, T, B in cases:
        model, x = lx.load(model_of(shape)), {"x": inputs_of(shape, T, B)}
        targets = [TARGET] * (size if by_targets else 1)
        model.explain_many(x, lx.LRP(), targets)
        milliseconds[size] = min(_time(model, x, targets) for _ in range(5))
    slope = np.polyfit(np.log(list(milliseconds)), np.log(list(milliseconds.values())), 1)[0]
    return {"exponent": float(slope), "milliseconds": {k: round(v, 2) for k, v in milliseconds.items()}}


def _time(model: lx.Model, x: dict[str, np.ndarray], targets: list[lx.Target]) -> float:
    start = time.perf_counter()
    model.explain_many(x, lx.LRP(), targets)
    return (time.perf_counter() - start) * 1e3
