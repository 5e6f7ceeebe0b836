# SPDX-License-Identifier: Apache-2.0
"""Rules for exponential gates and for log space, against what the networks do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from common import DEFAULT, ROOT, table

import lstm_explain as lx
from lstm_explain.evaluate.agreement import rank_correlation

Array = npt.NDArray[Any]
EXPORTS = ROOT / "tests" / "exports"
SAMPLES = 100
NETWORKS = {  # folder: what it is, and the index of the explained output
    "slstm": ("sLSTM: exponential gates, normaliser", 0),
    "rwkv": ("RWKV: exponential weights, normaliser", 1),
    "mamba": ("Mamba: selective scan", 0),
    "mingru_log": ("minGRU: parallel scan in log space", 0),
    "ltc": ("liquid time-constant cell", 0),
    "bilstm_crf": ("BiLSTM with the forward algorithm of a CRF", 2),
}
METHODS = {
    DEFAULT: lx.LRP(),
    "LRP-all, ε = 0.001": lx.LRP(epsilon=1e-3),
    "Gradient × Input": lx.GradientTimesInput(),
}


def made_up(example: Array) -> Array:
    rng, shape = np.random.default_rng(0), (SAMPLES, *example.shape[1:])
    if example.dtype.kind == "i":
        return rng.integers(0, example.max() + 1, shape).astype(example.dtype)
    return rng.standard_normal(shape).astype(example.dtype)


def run(progress: Callable[[str], None]) -> str:
    """Return the section of docs/results.md."""
    rows = []
    for name, (what, index) in NETWORKS.items():
        progress(f"recurrences: {name}")
        model, target = lx.load(EXPORTS / name / "model.dynamo.onnx"), lx.Target(index=index)
        with np.load(EXPORTS / name / "input.npz") as stored:
            (key, example), *_ = stored.items()
        inputs = {key: made_up(example)}

        def explained(method: lx.Method) -> tuple[Array, Array]:
            """Relevance by step, and the explained values."""
            e = model.explain(inputs, method, target)  # noqa: B023 - called in this turn of the loop
            relevance = e.relevance[key]  # noqa: B023
            return relevance.reshape(SAMPLES, relevance.shape[1], -1).sum(axis=2), e.explained

        occlusion, _ = explained(lx.Occlusion(over="steps"))
        shapley, _ = explained(lx.ShapleySampling(permutations=25, over="steps"))
        for method, made in METHODS.items():
            relevance, values = explained(made)
            sizes = np.abs(relevance).max(axis=1) / np.abs(values)
            figures = [*(np.nanmean(rank_correlation(relevance, other)) for other in (occlusion, shapley))]
            rows.append([what, method, *(f"{f:.2f}" for f in figures), f"{np.median(sizes):.2f}"])
        rows.append([what, "Occlusion", "1.00", f"{np.nanmean(rank_correlation(occlusion, shapley)):.2f}", ""])
    head = ["network", "method", "Occlusion", "Shapley", "largest ÷ explained"]
    return f"""## Exponential gates and log space

LRP treats an exponential as a gate where it is the only one of a product, and passes the density by the chain rule
where a network computes with logarithms ([methods.md](methods.md#exponential-gates-and-log-space)). The networks have
random weights, take 8 to 12 steps and come from tests/exports. Columns: the mean rank correlation of relevance per step
with Occlusion and with Shapley values (25 orders, each step replaced by zeros or token 0) over {SAMPLES} random inputs,
and the median of the largest entry in relation to the explained value.

{table(head, rows)}
"""
