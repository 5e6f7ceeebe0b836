# SPDX-License-Identifier: Apache-2.0
"""Measures compiled files: multiples of ONNX Runtime's forward pass, in processor time, beside the engine's."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import numpy as np
import onnxruntime as ort
from rich.console import Console

import lstm_explain as lx
from bench.models import GRID, Shape, inputs_of, model_of
from bench.pair import TARGET, session_of
from bench.timing import Ratio, compare

STEPS = 100
SHAPES = [Shape(8, 32), *GRID[:4], Shape(32, 128, op="GRU")]
METHODS: dict[str, lx.Method] = {
    "lrp all": lx.LRP(),
    "lrp all, absolute epsilon": lx.LRP(epsilon=1e-3),
    "lrp half": lx.LRP("half"),
    "gradient × input": lx.GradientTimesInput(),
    "integrated gradients, 15 steps": lx.IntegratedGradients(steps=15, max_steps=15),
}


def compiled_session(model: lx.Model, method: lx.Method) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    data = lx.compile(model, method, TARGET).SerializeToString()
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def run(console: Console, *, seconds: float) -> list[dict[str, Any]]:
    rows = []
    for shape in SHAPES:
        model, forward = lx.load(model_of(shape)), session_of(shape, threads=1)
        feeds = {"x": inputs_of(shape, STEPS, 1)}
        for name, method in METHODS.items():
            file = compiled_session(model, method)
            expected = model.explain(feeds, method, TARGET).relevance["x"]
            found = file.run(["relevance/x"], feeds)[0]
            np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())

            def of(call: Any, seconds: float = seconds, forward: Any = forward, feeds: Any = feeds) -> Ratio:
                return compare(call, lambda: forward.run(None, feeds), seconds, clock=time.process_time)

            ours = of(lambda m=model, method=method, feeds=feeds: m.explain(feeds, method, TARGET))
            theirs = of(lambda file=file, feeds=feeds: file.run(None, feeds))
            rows.append(
                {"model": str(shape), "method": name, "T": STEPS, "file": asdict(theirs), "engine": asdict(ours)}
            )
            console.print(f"{shape}, T = {STEPS}, {name}: compiled {theirs}, engine {ours} forward passes")
    return rows
