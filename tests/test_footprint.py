# SPDX-License-Identifier: Apache-2.0
"""The memory of a request is estimated from the model's graph: within a factor of 1.5 of what is measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstm_explain as lx
from lstm_explain import footprint
from lstm_explain.cancellation import Deferred
from lstm_explain.growth_law import law_of
from lstm_explain.kernels.compilation import NotCompiled
from lstm_explain.operators.lstm_cell import LSTMDirection
from lstm_explain.repository.request_limits import Limits, estimate
from lstm_explain.runner.scores import LONG
from tests.memory_models import MODELS

FACTOR = 1.5
FACTOR_ALIKE = 3.0  # for copies of long sequences that run together, whose size depends on the graph more than on units
METHODS = {
    "predict": None,
    "all": lx.LRP(),
    "half": lx.LRP(product_rule="half"),
    "prop": lx.LRP(product_rule="prop"),
    "abs": lx.LRP(product_rule="abs"),
    "gradient": lx.Gradient(),
    "times_input": lx.GradientTimesInput(),
    "integrated": lx.IntegratedGradients(steps=4, max_steps=32),  # more rounds take no more memory
    "smooth": lx.SmoothGrad(samples=4),
    "occlusion": lx.Occlusion(),
    "shapley": lx.ShapleySampling(permutations=1),
    "decomposition": lx.ContextualDecomposition(),
}
ALIKE = {"occlusion", "shapley"}
# Samples, steps, and methods: by model, of sizes at which what the process does besides does not count.
CASES = {
    "discharge": [(100, 1000, "all half prop"), (16, 200, "decomposition")],
    "lstm": [
        (64, 1000, "predict all half abs gradient"),
        (100, 400, "integrated"),
        (128, 40, "occlusion shapley"),
        (1, 500, "occlusion shapley"),
        (4, 300, "occlusion"),
    ],
    "narrow": [(200, 1500, "all half gradient")],
    "wide": [(32, 1500, "predict all half gradient")],
    "gru": [(64, 1000, "all half gradient")],
    "rnn": [(200, 1000, "all gradient")],
    "two": [(32, 1000, "predict all half gradient"), (1, 500, "occlusion")],
    "attention": [(1, 3000, "all half gradient"), (8, 800, "all"), (1, 2000, "integrated smooth")],
    "gated": [(32, 1000, "all half gradient"), (64, 400, "integrated")],
    "convolved": [(64, 1000, "all half gradient")],
    "words": [(64, 1000, "all gradient times_input")],
    "scanned": [(4, 1000, "all half gradient")],
}


def inputs_of(model: lx.Model, batch: int, steps: int) -> dict[str, np.ndarray]:
    (name, spec), rng = next(iter(model.inputs.items())), np.random.default_rng(1)
    axes = model.axes[name]
    extents = {axes.batch: batch, axes.time: steps}
    shape = [d if isinstance(d, int) else extents[axis] for axis, d in enumerate(spec.shape)]
    if spec.dtype.kind == "f":
        return {name: rng.standard_normal(shape).astype(spec.dtype)}
    return {name: rng.integers(1, 400, shape).astype(spec.dtype)}


def factor_of(measured: dict[str, Any]) -> float:
    return FACTOR_ALIKE if measured["method"] in ALIKE and measured["steps"] >= LONG else FACTOR


@pytest.mark.parametrize("name", CASES)
def test_estimates_are_within_a_factor_of_measured_peaks(name: str) -> None:
    command = [sys.executable, "-m", "tests.test_footprint", name]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # others spin, beside tests that need the processors
    completed = subprocess.run(
        command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=600, check=False, env=one_thread
    )
    assert completed.returncode == 0, completed.stderr
    measured = [json.loads(line) for line in completed.stdout.splitlines()]
    assert len(measured) == sum(len(methods.split()) for _, _, methods in CASES[name])
    assert not [m for m in measured if not 1 / factor_of(m) <= m["estimated"] / m["peak"] <= factor_of(m)]


def test_a_request_with_quadratic_memory_is_refused_in_advance() -> None:
    model = lx.load(MODELS["attention"]())
    x = {"x": np.zeros((1, 14_000, 16), np.float32)}
    for method in METHODS.values():
        if not isinstance(method, lx.ContextualDecomposition):
            with pytest.raises(lx.InputError, match="bytes of memory"):
                Limits(bytes_estimate=500 << 20).check(model, x, method)
    short = {"x": np.zeros((1, 1000, 16), np.float32)}
    Limits(bytes_estimate=500 << 20).check(model, short, lx.LRP())


def test_the_estimate_covers_numpy_until_kernels_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any) -> None:
        raise NotCompiled

    model, method = lx.load(MODELS["lstm"]()), lx.LRP()
    x, target = inputs_of(model, 8, 300), lx.Target(index=0)
    due = estimate(lx.load(MODELS["lstm"]()), x, method)
    with monkeypatch.context() as uncompiled:
        uncompiled.setattr(LSTMDirection, "kernel", lambda *_: missing)
        uncompiled.setattr(footprint, "was_without", lambda since: True)
        uncompiled.setattr(footprint, "SECONDS_BETWEEN_MEASUREMENTS", 0.0)
        estimated = estimate(model, x, method)
        tracemalloc.start()
        model.explain(x, method, target)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak / FACTOR <= estimated <= 3 * peak
        assert not model.footprint.knows(method)
    assert estimate(model, x, method) == due
    assert model.footprint.knows(method)


def test_brief_checks_do_not_measure_the_model() -> None:
    model, x = lx.load(MODELS["attention"]()), {"x": np.zeros((1, 1000, 16), np.float32)}
    with pytest.raises(Deferred):
        Limits().check(model, x, lx.LRP(), brief=True)
    Limits().check(model, {"x": np.zeros((1, 100, 16), np.float32)}, lx.LRP(), brief=True)
    Limits().check(model, x, lx.LRP())
    Limits().check(model, x, lx.LRP(), brief=True)


@pytest.mark.parametrize(
    "size", [lambda b, t: 7, lambda b, t: 3 * b * t + 5 * b, lambda b, t: 2 * b * t * t, lambda b, t: 4 * (t - 4)]
)
def test_laws_extrapolate_to_larger_inputs(size) -> None:
    law = law_of((2, 16), size(2, 16), [size(4, 16), size(2, 32)])
    for extents in ((1, 100), (64, 1000), (3, 20_000)):
        assert law.at(extents) == pytest.approx(size(*extents), rel=0.02)


# --- in a process of its own -------------------------------------------------------------------------------------


def _status(key: str) -> int:
    return next(int(line.split()[1]) for line in Path("/proc/self/status").open() if line.startswith(key)) << 10


def _measure(name: str) -> None:
    import ctypes
    import gc

    from lstm_explain.graph.session import shrink_arena
    from lstm_explain.kernels import buffer_pool

    model = lx.load(MODELS[name]())

    def work(x: dict[str, np.ndarray], method: lx.Method | None) -> None:
        with suppress(lx.InputError):  # it overflows, which shows at the end
            model.predict(x) if method is None else model.explain(x, method)

    for batch, steps, methods in CASES[name]:
        for word in methods.split():
            work(inputs_of(model, 2, 8), METHODS[word])  # compiles kernels and prepares sessions
            gc.collect()
            buffer_pool.release_unused()
            shrink_arena()
            ctypes.CDLL(None).malloc_trim(0)
            before = _status("VmRSS")
            Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
            x = inputs_of(model, batch, steps)
            work(x, METHODS[word])
            case = {"model": name, "samples": batch, "steps": steps, "method": word, "peak": _status("VmHWM") - before}
            print(json.dumps(case | {"estimated": estimate(model, x, METHODS[word])}), flush=True)
            del x


if __name__ == "__main__":
    _measure(sys.argv[1])
