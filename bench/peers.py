"""Others on the same models: the textbook LRP in NumPy, and Captum on an equal torch model where it is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
from onnx import numpy_helper
from rich.console import Console

import lstm_explain as lx
from bench.engine import TARGET, Pair
from bench.models import GRID, Shape, inputs_of, model_of
from bench.timing import compare

T = 100
PEERS = [GRID[0], GRID[2], GRID[3]]
IG = lx.IntegratedGradients(steps=50)


def run(console: Console, *, seconds: float) -> list[dict[str, Any]]:
    """As multiples of ONNX Runtime's forward pass of one sample."""
    rows = []
    for shape in PEERS:
        pair, x = Pair(shape), inputs_of(shape, T, 1)
        feeds = {"x": x}
        calls: dict[str, Callable[[], object]] = {
            "lrp all": lambda pair=pair, feeds=feeds: pair.model.explain(feeds, lx.LRP(), TARGET),
            "gradient × input": lambda pair=pair, feeds=feeds: pair.model.explain(
                feeds, lx.GradientTimesInput(), TARGET
            ),
            "integrated gradients, 50 steps": lambda pair=pair, feeds=feeds: pair.model.explain(feeds, IG, TARGET),
            "textbook LRP-all in NumPy": textbook(shape, x),
        }
        if importlib.util.find_spec("captum") and importlib.util.find_spec("torch"):
            calls |= captum(shape, x)
        ratios = {}
        for name, call in calls.items():
            ratio = compare(call, lambda pair=pair, feeds=feeds: pair.session.run(None, feeds), seconds, least=3)
            ratios[name] = asdict(ratio)
            console.print(f"{shape} T={T}: {name}: {ratio}")
        rows.append({"model": asdict(shape), "T": T, "batch": 1, "ratios": ratios})
    return rows


def _weights(shape: Shape) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in model_of(shape).graph.initializer}


def textbook(shape: Shape, x: np.ndarray) -> Callable[[], object]:
    """tests/reference: one neuron after the other, in float64, as the papers write it."""
    from tests.reference.dense import dense_lrp
    from tests.reference.textbook import Layer, Rules, layer_forward, layer_lrp

    w, rules = _weights(shape), Rules()
    layer = Layer("LSTM", w["W"], w["R"], w["B"])

    def explain() -> object:
        features = layer_forward(layer, x).Y_h[0]
        y = features[0] @ w["V"] + w["b"]
        seed = np.where(np.arange(len(y)) == TARGET.index, y, 0)
        relevance, _ = dense_lrp(features[0].astype(np.float64), w["V"].T.astype(np.float64), w["b"], seed, rules)
        return layer_lrp(layer, x, rules, R_Y_h=relevance[None, None]).x

    wanted = lx.load(model_of(shape)).explain({"x": x}, lx.LRP(), TARGET).relevance["x"]
    np.testing.assert_allclose(explain(), wanted, atol=1e-4 * np.abs(wanted).max())
    return explain


def captum(shape: Shape, x: np.ndarray) -> dict[str, Callable[[], object]]:
    import torch
    from captum import attr

    torch.set_num_threads(1)
    w = {name: torch.from_numpy(array.copy()) for name, array in _weights(shape).items()}

    class Equal(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = torch.nn.LSTM(shape.D, shape.H)
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
            _, (last, _) = self.lstm(batch_first.transpose(0, 1))
            return last[0] @ w["V"] + w["b"]

    model, at = Equal(), torch.from_numpy(x).transpose(0, 1).contiguous().requires_grad_()
    times, integrated = attr.InputXGradient(model), attr.IntegratedGradients(model)
    return {
        "Captum InputXGradient": lambda: times.attribute(at, target=TARGET.index),
        "Captum IntegratedGradients, 50 steps": lambda: integrated.attribute(at, target=TARGET.index, n_steps=50),
    }
