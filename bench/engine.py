"""The engine: an explanation, forward pass included, as a multiple of ONNX Runtime's forward pass alone."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import onnxruntime as ort
from rich.console import Console
from rich.table import Table

import lstm_explain as lx
from bench.models import GRID, Shape, inputs_of, model_of
from bench.timing import Ratio, compare

METHODS: dict[str, lx.Method] = {
    "lrp all": lx.LRP(),
    "lrp half": lx.LRP("half"),
    "lrp prop": lx.LRP("prop"),
    "lrp abs": lx.LRP("abs"),
    "gradient × input": lx.GradientTimesInput(),
}
STEPS, BATCHES = (30, 100, 500), (1, 8, 32)
QUICK_STEPS, QUICK_BATCHES = (30, 100), (1, 8)


def session_of(shape: Shape, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return ort.InferenceSession(model_of(shape).SerializeToString(), options, providers=["CPUExecutionProvider"])


def measure(shape: Shape, steps: int, batch: int, method: lx.Method, seconds: float) -> Ratio:
    session, model = session_of(shape, threads=1), lx.load(model_of(shape))
    x = inputs_of(shape, steps, batch)
    target = lx.Target(index=2)
    predicted = session.run(None, {"x": x})[0]
    assert np.allclose(model.explain({"x": x}, method, target).outputs["y"], predicted, atol=1e-5)
    return compare(
        lambda: model.explain({"x": x}, method, target), lambda: session.run(None, {"x": x}), seconds, least=5
    )


def run(console: Console, *, quick: bool, seconds: float) -> list[dict[str, Any]]:
    """One row a shape, length and batch; prints a table and returns the figures."""
    steps, batches = (QUICK_STEPS, QUICK_BATCHES) if quick else (STEPS, BATCHES)
    table = Table(title="explain() ÷ ONNX Runtime's forward pass, one thread: median (quartiles) of alternating pairs")
    for column in ("model", "T", "batch", "forward, ms", *METHODS):
        table.add_column(column, justify="left" if column == "model" else "right")
    rows: list[dict[str, Any]] = []
    for shape in GRID:
        for T in steps:
            for B in batches:
                ratios = {name: measure(shape, T, B, method, seconds) for name, method in METHODS.items()}
                forward = next(iter(ratios.values())).theirs_ms
                table.add_row(str(shape), str(T), str(B), f"{forward:.2f}", *map(str, ratios.values()))
                figures = {name: asdict(ratio) for name, ratio in ratios.items()}
                rows.append({"model": asdict(shape), "T": T, "batch": B, "ratios": figures})
                console.print(f"[dim]{shape} T={T} batch={B}: lrp all {ratios['lrp all']}[/dim]")
    console.print(table)
    console.print(_means(rows, batches))
    return rows


def _means(rows: list[dict[str, Any]], batches: tuple[int, ...]) -> Table:
    table = Table(title="geometric mean over the grid")
    for column in ("batch", *METHODS):
        table.add_column(column, justify="right")
    for batch in batches:
        chosen = [row["ratios"] for row in rows if row["batch"] == batch]
        means = (np.exp(np.mean([np.log(r[name]["median"]) for r in chosen])) for name in METHODS)
        table.add_row(str(batch), *(f"{mean:.2f}" for mean in means))
    return table
