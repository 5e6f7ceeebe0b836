"""Where the time of one request goes, and the recurrent product by our kernel and by BLAS."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.console import Console

import lstm_explain as lx
from bench.engine import TARGET, Pair
from bench.models import GRID, inputs_of
from bench.timing import compare
from lstm_explain.kernels.product import WIDTH, multiply, pack

CALLS = 500
# label, module, where in it
PIECES = (
    ("input checks", "lstm_explain.model", "check_inputs"),
    ("forward pass", "lstm_explain.engine", "run"),
    ("· its recurrent node", "lstm_explain.rules.recurrent", "Recurrent.forward"),
    ("· · its kernel", "lstm_explain.kernels.lstm", "forward_all"),
    ("target", "lstm_explain.engine", "select"),
    ("way back", "lstm_explain.engine", "explain_by_propagation"),
    ("· its recurrent node", "lstm_explain.rules.recurrent", "Recurrent.backward"),
    ("· · its kernel", "lstm_explain.kernels.lstm", "relevance_all"),
)
SHAPES = ((GRID[0], 30), (GRID[2], 100), (GRID[3], 100))


def run(console: Console) -> dict[str, Any]:
    figures = {"profile": [_profile(console, *at) for at in SHAPES], "products": _products()}
    console.print(figures["products"])
    return figures


def _profile(console: Console, shape: Any, T: int) -> dict[str, Any]:
    pair, feeds = Pair(shape), {"x": inputs_of(shape, T, 1)}
    forward = _typical(lambda: pair.session.run(None, feeds))
    whole = _typical(lambda: pair.model.explain(feeds, lx.LRP(), TARGET))
    times: dict[int, list[float]] = {}
    restored = []
    for number, (_, module, place) in enumerate(PIECES):
        owner: Any = importlib.import_module(module)
        *outer, name = place.split(".")
        for part in outer:
            owner = getattr(owner, part)
        restored.append((owner, name, getattr(owner, name)))
        setattr(owner, name, _timed(getattr(owner, name), times.setdefault(number, [])))
    try:
        _typical(lambda: pair.model.explain(feeds, lx.LRP(), TARGET))
    finally:
        for owner, name, function in restored:
            setattr(owner, name, function)
    pieces = [[label, float(np.percentile(times[i], 10)) * 1e6] for i, (label, _, _) in enumerate(PIECES)]
    found = {"model": f"{shape.D} → {shape.H}, T = {T}", "forward": forward, "explanation": whole, "pieces": pieces}
    console.print(found)
    return found


def _typical(call: Callable[[], object]) -> float:
    """Microseconds, the tenth percentile: what a call takes that nothing else disturbs."""
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


def _products() -> list[dict[str, Any]]:
    """A step's product, [B, H] by [H, 4H]: NumPy's BLAS as a multiple of ours."""
    rows = []
    for H in (64, 128, 256, 512):
        matrix = np.random.default_rng(0).standard_normal((H, 4 * H)).astype(np.float32)
        packed, row = pack(matrix), {"H": H}
        for B in (1, 8, 32):
            vectors, out = np.ones((B, H), np.float32), np.empty((B, -(-4 * H // WIDTH) * WIDTH), np.float32)
            ratio = compare(
                lambda a=vectors, m=matrix, o=out: np.matmul(a, m, out=o),
                lambda a=vectors, m=packed, o=out, n=B: multiply(a, m, o, n),
                0.2,
            )
            row[f"batch {B}"] = ratio.median
        rows.append(row)
    return rows
