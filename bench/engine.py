# SPDX-License-Identifier: Apache-2.0
"""Measures an explanation, including its forward pass, as a multiple of ONNX Runtime's forward pass."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import lstm_explain as lx
from bench.models import Shape, inputs_of
from bench.pair import Pair
from bench.products import products_of_gradient

METHODS: dict[str, lx.Method] = {
    "lrp all": lx.LRP(),
    "lrp all, epsilon 0.001": lx.LRP(epsilon=1e-3),
    "lrp half": lx.LRP("half"),
    "lrp prop": lx.LRP("prop"),
    "lrp abs": lx.LRP("abs"),
    "gradient × input": lx.GradientTimesInput(),
}
# The methods that run a model many times, at batch 1.
MANY: dict[str, lx.Method] = {
    "integrated gradients, 50 steps": lx.IntegratedGradients(50, max_steps=50),
    "smooth grad, 25 samples": lx.SmoothGrad(25),
    "occlusion": lx.Occlusion(),
    "Shapley values, 25 orders": lx.ShapleySampling(25),
    "contextual decomposition": lx.ContextualDecomposition(),
}
# The largest T for methods whose work grows with the square of T.
LONGEST = {"Shapley values, 25 orders": 100, "contextual decomposition": 100}
STEPS, BATCHES = (30, 100, 500), (1, 8, 32)
QUICK_STEPS, QUICK_BATCHES = (30, 100), (1, 8)
# Measured at batch 1 over lengths up to LENGTHS[-1], with scaled weights and with those of FADING.
LENGTH_METHODS = {name: METHODS[name] for name in ("lrp all", "lrp all, epsilon 0.001", "gradient × input")}
LENGTHS = (30, 100, 500, 2000)
BATCH_STEPS = 100  # of the batches that are measured in the same way
Figures = dict[str, Any]


def run(console: Console, shapes: Sequence[Shape], *, quick: bool, seconds: float) -> list[Figures]:
    """Measure one row per shape, length and batch size; print the tables and return the figures.

    If a cell fails, its "error" says why, and the measurement continues.
    """
    steps, batches = (QUICK_STEPS, QUICK_BATCHES) if quick else (STEPS, BATCHES)
    rows: list[Figures] = []
    for shape in shapes:
        pair = Pair(shape)
        for T in steps:
            for B in batches:
                x, row = inputs_of(shape, T, B), {"model": asdict(shape), "T": T, "batch": B}
                row["ratios"] = _cells(pair, x, METHODS, seconds)
                if B == 1:
                    many = {name: method for name, method in MANY.items() if LONGEST.get(name, T) >= T}
                    row["many"] = _cells(pair, x, many, seconds)
                rows.append(row)
                console.print(f"[dim]{shape} T={T} batch={B}: lrp all {shown(row['ratios']['lrp all'])}[/dim]")
    console.print(_table(rows, "ratios", list(METHODS)))
    console.print(_table([row for row in rows if "many" in row], "many", list(MANY)))
    console.print(_means(rows, batches))
    return rows


def run_cells(console: Console, shapes: Sequence[Shape], *, seconds: float) -> list[Figures]:
    """Measure other recurrent cells on a part of the grid."""
    rows: list[Figures] = []
    for shape in shapes:
        pair = Pair(shape)
        for T, B in itertools.product(QUICK_STEPS, QUICK_BATCHES):
            ratios = _cells(pair, inputs_of(shape, T, B), METHODS, seconds)
            rows.append({"model": asdict(shape), "T": T, "batch": B, "ratios": ratios})
    console.print(_table(rows, "ratios", list(METHODS)))
    return rows


def run_lengths(console: Console, shapes: Sequence[Shape], *, quick: bool, seconds: float) -> list[Figures]:
    """Measure short and long sequences at batch 1."""
    return _alternating(console, shapes, [(T, 1) for T in (LENGTHS[:2] if quick else LENGTHS)], seconds)


def run_batches(console: Console, shapes: Sequence[Shape], *, quick: bool, seconds: float) -> list[Figures]:
    """Measure batches of sequences of BATCH_STEPS steps, and the products that a gradient consists of."""
    cases = [(BATCH_STEPS, B) for B in (QUICK_BATCHES if quick else BATCHES)]
    return _alternating(console, shapes, cases, seconds, {"a gradient's products alone": products_of_gradient})


def _alternating(
    console: Console,
    shapes: Sequence[Shape],
    cases: Sequence[tuple[int, int]],
    seconds: float,
    others: Mapping[str, Callable[[Shape, int, int], Callable[[], object]]] = MappingProxyType({}),
) -> list[Figures]:
    """Measure LENGTH_METHODS in the same rounds. cases: steps and batch size. others: make further calls, by name."""
    rows: list[Figures] = []
    names = [*LENGTH_METHODS, *others]
    for shape in shapes:
        pair = Pair(shape)
        for T, B in cases:
            row: Figures = {"model": asdict(shape), "T": T, "batch": B}
            try:
                found, added = pair.alternate(
                    inputs_of(shape, T, B),
                    list(LENGTH_METHODS.values()),
                    seconds,
                    clock=time.thread_time,
                    others=[make(shape, T, B) for make in others.values()],
                )
                row["ratios"] = {name: asdict(ratio) for name, ratio in zip(names, found, strict=True)}
                row["added"] = asdict(added)  # by the relative stabiliser
            except Exception as error:  # whatever it is: the grid goes on, and the row says it
                row["ratios"] = {name: {"error": f"{type(error).__name__}: {error}"} for name in names}
            rows.append(row)
    console.print(_table(rows, "ratios", names))
    return rows


def _cells(
    pair: Pair,
    x: np.ndarray,
    methods: Mapping[str, lx.Method],
    seconds: float,
    clock: Callable[[], float] = time.thread_time,
) -> dict[str, Figures]:
    """Measured in processor time of the thread, which other work on the machine disturbs less."""
    found = {}
    for name, method in methods.items():
        try:
            found[name] = asdict(pair.measure(x, method, seconds, clock=clock))
        except Exception as error:  # whatever it is: the grid goes on, and the cell says it
            found[name] = {"error": f"{type(error).__name__}: {error}"}
    return found


def shown(cell: Figures | None) -> str:
    if cell is None:
        return "-"
    return cell.get("error") or f"{cell['median']:.2f} ({cell['low']:.2f} to {cell['high']:.2f})"


def _table(rows: list[Figures], kind: str, methods: list[str]) -> Table:
    table = Table(title="explain() ÷ ONNX Runtime's forward pass, one thread: median (quartiles) of alternating pairs")
    for column in ("model", "T", "batch", "forward, ms", *methods):
        table.add_column(column, justify="left" if column == "model" else "right")
    for row in rows:
        forward = next((f"{cell['theirs_ms']:.2f}" for cell in row[kind].values() if "error" not in cell), "-")
        cells = (shown(row[kind].get(method)) for method in methods)
        table.add_row(str(Shape(**row["model"])), str(row["T"]), str(row["batch"]), forward, *cells)
    return table


def geometric_mean(rows: list[Figures], batch: int, method: str) -> float:
    cells = [row["ratios"][method] for row in rows if row["batch"] == batch]
    medians = [cell["median"] for cell in cells if "error" not in cell]
    return float(np.exp(np.mean(np.log(medians)))) if medians else float("nan")


def _means(rows: list[Figures], batches: tuple[int, ...]) -> Table:
    table = Table(title="geometric mean over the grid")
    for column in ("batch", *METHODS):
        table.add_column(column, justify="right")
    for batch in batches:
        table.add_row(str(batch), *(f"{geometric_mean(rows, batch, name):.2f}" for name in METHODS))
    return table
