"""The engine: an explanation, forward pass included, as a multiple of ONNX Runtime's forward pass alone."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import onnxruntime as ort
from rich.console import Console
from rich.table import Table

import lstm_explain as lx
from bench.models import Shape, inputs_of, model_of
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
TARGET = lx.Target(index=2)


def session_of(shape: Shape, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return ort.InferenceSession(model_of(shape).SerializeToString(), options, providers=["CPUExecutionProvider"])


class Pair:
    """One model, loaded by us and by ONNX Runtime."""

    def __init__(self, shape: Shape) -> None:
        self.session, self.model = session_of(shape, threads=1), lx.load(model_of(shape))

    def measure(self, x: np.ndarray, method: lx.Method, seconds: float, least: int = 5) -> Ratio | None:
        """None where the relevance overflows: LRP-prop divides by gate + signal, and diverges on long sequences."""
        feeds = {"x": x}
        try:
            predicted = self.model.explain(feeds, method, TARGET).outputs["y"]
        except lx.InputError:
            return None
        assert np.allclose(predicted, self.session.run(None, feeds)[0], atol=1e-5)
        return compare(
            lambda: self.model.explain(feeds, method, TARGET), lambda: self.session.run(None, feeds), seconds, least
        )


def run(console: Console, shapes: list[Shape], *, quick: bool, seconds: float) -> list[dict[str, Any]]:
    """One row a shape, length and batch; prints a table and returns the figures."""
    steps, batches = (QUICK_STEPS, QUICK_BATCHES) if quick else (STEPS, BATCHES)
    table = Table(title="explain() ÷ ONNX Runtime's forward pass, one thread: median (quartiles) of alternating pairs")
    for column in ("model", "T", "batch", "forward, ms", *METHODS):
        table.add_column(column, justify="left" if column == "model" else "right")
    rows: list[dict[str, Any]] = []
    for shape in shapes:
        pair = Pair(shape)
        for T in steps:
            for B in batches:
                x = inputs_of(shape, T, B)
                ratios = {name: pair.measure(x, method, seconds) for name, method in METHODS.items()}
                forward = next(r for r in ratios.values() if r is not None).theirs_ms
                table.add_row(str(shape), str(T), str(B), f"{forward:.2f}", *(str(r or "-") for r in ratios.values()))
                figures = {name: None if ratio is None else asdict(ratio) for name, ratio in ratios.items()}
                rows.append({"model": asdict(shape), "T": T, "batch": B, "ratios": figures})
                console.print(f"[dim]{shape} T={T} batch={B}: lrp all {ratios['lrp all']}[/dim]")
    console.print(table)
    console.print(_means(rows, batches))
    return rows


def geometric_mean(rows: list[dict[str, Any]], batch: int, method: str) -> float:
    medians = [r["ratios"][method]["median"] for r in rows if r["batch"] == batch and r["ratios"][method]]
    return float(np.exp(np.mean(np.log(medians))))


def _means(rows: list[dict[str, Any]], batches: tuple[int, ...]) -> Table:
    table = Table(title="geometric mean over the grid")
    for column in ("batch", *METHODS):
        table.add_column(column, justify="right")
    for batch in batches:
        table.add_row(str(batch), *(f"{geometric_mean(rows, batch, name):.2f}" for name in METHODS))
    return table
