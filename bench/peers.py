# SPDX-License-Identifier: Apache-2.0
"""Measures other implementations on the same models: the files of `lx.compile`, the textbook LRP in NumPy, and Captum
on an equal torch model.

`scripts/captum_environment.sh DIR` makes an environment with both; `--captum DIR/bin/python` measures in it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from onnx import numpy_helper
from rich.console import Console

import lstm_explain as lx
from bench.compiled import compiled_session
from bench.machine import machine
from bench.models import GRID, Shape, inputs_of, model_of
from bench.pair import TARGET, Pair
from bench.timing import compare

ROOT = Path(__file__).resolve().parent.parent
PEERS = [(GRID[0], 100), (GRID[2], 100), (GRID[3], 100), (GRID[3], 500)]  # and the number of steps
EPSILON = lx.LRP(epsilon=1e-3)
IG = lx.IntegratedGradients(steps=50, max_steps=50)
METHODS: dict[str, lx.Method] = {
    "lrp all": lx.LRP(),
    "lrp all, epsilon 0.001": EPSILON,
    "gradient × input": lx.GradientTimesInput(),
    "integrated gradients, 50 steps": IG,
}
Call = Callable[[], object]


def run(console: Console, *, seconds: float, python: Path | None = None) -> dict[str, Any]:
    """Measure multiples of ONNX Runtime's forward pass of one sample, in this process or in that of `python`."""
    if python:
        return _elsewhere(python, seconds)

    rows = []
    for shape, T in PEERS:
        pair, x = Pair(shape), inputs_of(shape, T, 1)
        calls = _ours(pair, x) | _compiled(pair, x) | {"textbook LRP-all in NumPy": textbook(shape, x)}
        if importlib.util.find_spec("captum") and importlib.util.find_spec("torch"):
            calls |= captum(shape, x)
        ratios = {}
        for name, call in calls.items():
            ratio = compare(
                call,
                lambda pair=pair, x=x: pair.session.run(None, {"x": x}),
                3 * seconds,
                least=5,
                clock=time.process_time,
            )
            ratios[name] = asdict(ratio)
            console.print(f"{shape} T={T}: {name}: {ratio}")
        rows.append({"model": asdict(shape), "T": T, "batch": 1, "ratios": ratios})
    return {"machine": machine(), "rows": rows}


def _elsewhere(python: Path, seconds: float) -> dict[str, Any]:
    paths = ("server", "client/python", "proto/python")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(ROOT / path) for path in paths)}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        command = [python, "-m", "bench", "--part", "peers", "--seconds", str(seconds), "--json", file]
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
        return dict(json.loads(file.read_text())["peers"])


def _ours(pair: Pair, x: np.ndarray) -> dict[str, Call]:
    def explain(method: lx.Method) -> Call:
        return lambda: pair.model.explain({"x": x}, method, TARGET)

    return {name: explain(method) for name, method in METHODS.items()}


def _compiled(pair: Pair, x: np.ndarray) -> dict[str, Call]:
    """The files that `lx.compile` writes, which predict and explain, in ONNX Runtime."""

    def explain(method: lx.Method) -> Call:
        session = compiled_session(pair.model, method)
        return lambda: session.run(None, {"x": x})

    return {f"compiled: {name}": explain(method) for name, method in METHODS.items()}


def _weights(shape: Shape) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in model_of(shape).graph.initializer}


def _agree(theirs: np.ndarray, shape: Shape, x: np.ndarray, method: lx.Method) -> None:
    """Fail if an implementation gives other numbers, so that only equal answers are compared."""
    ours = lx.load(model_of(shape)).explain({"x": x}, method, TARGET).relevance["x"]
    np.testing.assert_allclose(theirs, ours, atol=1e-4 * np.abs(ours).max())


def textbook(shape: Shape, x: np.ndarray) -> Call:
    """Run tests/reference, which computes neuron by neuron in float64, as the papers define it."""
    from tests.reference.dense import dense_lrp
    from tests.reference.textbook import Layer, Rules, layer_forward, layer_lrp

    w, rules = _weights(shape), Rules()
    layer = Layer("LSTM", w["W"], w["R"], w["B"])

    def explain() -> np.ndarray:
        features = layer_forward(layer, x).Y_h[0]
        y = features[0] @ w["V"] + w["b"]
        seed = np.where(np.arange(len(y)) == TARGET.index, y, 0)
        relevance, _ = dense_lrp(features[0].astype(np.float64), w["V"].T.astype(np.float64), w["b"], seed, rules)
        return layer_lrp(layer, x, rules, R_Y_h=relevance[None, None]).x

    _agree(explain(), shape, x, EPSILON)
    return explain


def captum(shape: Shape, x: np.ndarray) -> dict[str, Call]:
    """Measure Captum on the equal torch model, whose output is that of the ONNX model within 1e-5, on one thread."""
    import torch
    from captum import attr

    torch.set_num_threads(1)
    model = _equal(shape)
    at = torch.from_numpy(x).transpose(0, 1).contiguous().requires_grad_()
    predicted = lx.load(model_of(shape)).predict({"x": x})["y"]
    np.testing.assert_allclose(model(at).detach().numpy(), predicted, atol=1e-5)
    times, integrated, shap = attr.InputXGradient(model), attr.IntegratedGradients(model), attr.GradientShap(model)
    index, zero = TARGET.index, torch.zeros_like(at)

    def forward() -> object:
        with torch.no_grad():
            return model(at)

    def integrate() -> Any:
        return integrated.attribute(at, target=index, n_steps=50)

    _agree(_time_first(times.attribute(at, target=index)), shape, x, lx.GradientTimesInput())
    _agree(_time_first(integrate()), shape, x, IG)
    return {
        "torch's forward pass": forward,
        "Captum InputXGradient": lambda: times.attribute(at, target=index),
        "Captum IntegratedGradients, 50 steps": integrate,
        "Captum GradientShap, 50 samples": lambda: shap.attribute(at, zero, n_samples=50, stdevs=0.1, target=index),
    }


def _time_first(relevance: Any) -> np.ndarray:
    return np.asarray(relevance.detach().transpose(0, 1).numpy())


def _equal(shape: Shape) -> Any:
    """Build torch's LSTM and linear layer with the weights of model_of."""
    import torch

    w = {name: torch.from_numpy(array.copy()) for name, array in _weights(shape).items()}

    class Equal(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = torch.nn.LSTM(shape.D, shape.H, batch_first=True)
            half = 4 * shape.H
            with torch.no_grad():
                for mine, theirs in (
                    ("weight_ih_l0", w["W"][0]),
                    ("weight_hh_l0", w["R"][0]),
                    ("bias_ih_l0", w["B"][0, :half]),
                    ("bias_hh_l0", w["B"][0, half:]),
                ):
                    i, o, f, c = theirs.chunk(4)
                    getattr(self.lstm, mine).copy_(torch.cat([i, f, c, o]))
            self.requires_grad_(False)

        def forward(self, batch_first: torch.Tensor) -> torch.Tensor:
            _, (last, _) = self.lstm(batch_first)
            return last[0] @ w["V"] + w["b"]

    return Equal()
