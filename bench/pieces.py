# SPDX-License-Identifier: Apache-2.0
"""Measures the parts of one request, and compares the recurrent product of our kernel with BLAS."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.console import Console

from bench.engine import METHODS
from bench.models import GRID, Shape, inputs_of
from bench.pair import TARGET, Pair
from bench.timing import compare
from lstm_explain.kernels import lstm
from lstm_explain.kernels.recurrent_matmul import WIDTH, multiply, pack

CALLS = 500
# label, and where in which module it is; of the kernels, which are made in one place, whether it is the forward one
PIECES: tuple[tuple[str, str, str, bool | None], ...] = (
    ("input checks", "lstm_explain.model", "check_inputs", None),
    ("forward pass", "lstm_explain.program.program", "Program.forward", None),
    ("· its kernel", "lstm_explain.operators.direction", "each_of", True),
    ("backward pass", "lstm_explain.program.engine", "explain_one", None),
    ("· its kernel", "lstm_explain.operators.direction", "each_of", False),
    ("answer object", "lstm_explain.answers", "explanation_of", None),
)
SHAPES = ((GRID[0], 30), (GRID[2], 100), (GRID[3], 100))
PROFILED = ("lrp all", "lrp half")


def run(console: Console) -> dict[str, Any]:
    profile = [_profile(shape, T, method) for method in PROFILED for shape, T in SHAPES]
    figures = {"profile": profile, "products": _products()}
    for of_one in profile:
        console.print(of_one)
    console.print(figures["products"])
    return figures


def place_of(module: str, place: str) -> tuple[Any, str]:
    """Return the object that has the attribute, and its name; raise AttributeError if there is none."""
    *outer, name = place.split(".")
    owner: Any = importlib.import_module(module)
    for part in outer:
        owner = getattr(owner, part)
    getattr(owner, name)
    return owner, name


def _profile(shape: Shape, T: int, method: str) -> dict[str, Any]:
    pair, feeds = Pair(shape), {"x": inputs_of(shape, T, 1)}

    def explain() -> object:
        return pair.model.explain(feeds, METHODS[method], TARGET)

    forward, whole = _typical(lambda: pair.session.run(None, feeds)), _typical(explain)
    times: list[list[float]] = [[] for _ in PIECES]
    restored = []
    for (_, module, place, first), taken in zip(PIECES, times, strict=True):
        owner, name = place_of(module, place)
        restored.append((owner, name, getattr(owner, name)))
        function = getattr(owner, name)
        setattr(owner, name, _timed(function, taken) if first is None else _timed_kernel(function, taken, first))
    try:
        pair = Pair(shape)  # which binds its kernels now
        _typical(explain)
    finally:
        for owner, name, function in restored[::-1]:
            setattr(owner, name, function)
    pieces = [[label, _microseconds(taken)] for (label, *_), taken in zip(PIECES, times, strict=True)]
    names = {"method": method, "model": f"{shape.D} → {shape.H}, T = {T}"}
    return {**names, "forward": forward, "explanation": whole, "pieces": pieces}


def _microseconds(taken: list[float]) -> float:
    return float(np.percentile(taken, 10)) * 1e6


def _typical(call: Callable[[], object]) -> float:
    """Return the tenth percentile in microseconds, which is the time of an undisturbed call."""
    times: list[float] = []
    timed = _timed(call, times)
    for _ in range(CALLS):
        timed()
    return float(np.percentile(times, 10)) * 1e6


def _timed(function: Callable[..., Any], times: list[float]) -> Callable[..., Any]:
    def run(*arguments: Any, **named: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*arguments, **named)
        finally:
            times.append(time.perf_counter() - start)

    return run


def _timed_kernel(each_of: Callable[..., Any], times: list[float], first: bool) -> Callable[..., Any]:
    """first: time only the kernel of the forward pass, or only others."""

    def bind(calls: Any) -> Any:
        kernel = each_of(calls)
        return _timed(kernel, times) if (calls[0].func is lstm.forward) == first else kernel

    return bind


def _products() -> list[dict[str, Any]]:
    """Measure the product of a step, [B, H] by [H, 4H]: NumPy's BLAS as a multiple of ours, and how fast ours is."""
    rows = []
    for H in (64, 128, 256, 512):
        matrix = np.random.default_rng(0).standard_normal((H, 4 * H)).astype(np.float32)
        packed, row = pack(matrix), {"H": H}
        for B in (1, 8, 32):
            vectors, out = np.ones((B, H), np.float32), np.empty((B, -(-4 * H // WIDTH) * WIDTH), np.float32)
            ratio = compare(
                lambda a=vectors, m=matrix, o=out: np.matmul(a, m, out=o),
                lambda a=vectors, m=packed, o=out, n=B: multiply(a, m, o, n, 0),
                0.2,
            )
            row[f"batch {B}"] = ratio.median
        row[f"ours at batch {B}, GFLOP/s"] = 2 * B * matrix.size / ratio.theirs_ms / 1e6
        rows.append(row)
    return rows
