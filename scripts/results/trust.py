# SPDX-License-Identifier: Apache-2.0
"""Where explanations get worse: what the verdict measures of an answer, related to the answer's faithfulness."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from common import MODELS, table
from series import inputs_of

import lstm_explain as lx
from lstm_explain.calibration.calibrate import feature_means
from lstm_explain.calibration.data import batches_of, singles
from lstm_explain.calibration.measure import Bench

Array = npt.NDArray[Any]
SAMPLES, BATCH = {"sentiment": 240, "discharge": 120}, 8
LRP = {
    "default": lx.LRP(),
    "β = 0.03, ceiling 1e6": lx.LRP(stabiliser=0.03, ceiling=1e6),
    **{f"ε = {epsilon:g}": lx.LRP(epsilon=epsilon) for epsilon in (1e-3, 0.01, 0.1)},
}
STEPS = (3, 10, 50)  # of Integrated Gradients, which adds none
EDGES = (0, 1, 3, 10, 30, 100, 1e4, np.inf)
ABSORBED_EDGES = (0, 1, 2, 5, np.inf)
RESIDUAL_EDGES = (0, 0.01, 0.05, 0.2, 1, 2, 5, np.inf)


@dataclass(frozen=True)
class Answers:
    """Of one method on many samples, [samples]: figures in units of the explained value, and the quality.

    quality: the mean fall of the score under deletion, from 0 (random orders) to 1 (the best order that any method or
    Occlusion found for the sample).
    """

    size: Array
    absorbed: Array
    residual: Array
    quality: Array


def run(data_folder: Path, progress: Callable[[str], None]) -> str:
    """Return the section of docs/results.md."""
    title = "## When answers get worse\n\n"
    found: dict[str, dict[str, Answers]] = {}
    for name, count in SAMPLES.items():
        data = inputs_of(name, data_folder, count, trained=False)
        if not data:
            return f"{title}Skipped because the data is missing.\n"
        progress(f"trust: {name}")
        found[name] = _answers(lx.load(MODELS / name / "1" / "model.onnx"), data)
    lrp, integrated = ({n: [a[k] for k in keys] for n, a in found.items()} for keys in (LRP, _integrated(None)))
    small = {n: [_where(a, a.size < EDGES[3]) for a in answers] for n, answers in lrp.items()}
    means = [[m, *(f"{found[n][m].quality.mean():.2f}" for n in SAMPLES)] for m in next(iter(found.values()))]
    texts, years = SAMPLES.values()
    return f"""{title}\
These tables relate the figures of the [verdict](methods.md#when-not-to-rely-on-an-answer) to faithfulness. The
quality of an answer is the fall of the score when its most relevant steps are deleted, from one to half of them: 0 is
the mean of random orders, 1 the best order that any of these methods found for the sample. The inputs are
{texts} texts of 1 to 16 test sentences and {years} years of weather. LRP-all runs with five stabilisers, from the
papers' ε to the default, so that all sizes occur. Each cell is the mean quality with its 95 % interval, and the number
of answers.

The largest entry of relevance, in units of the explained value (limit of the verdict: 10):

{_binned(lrp, "size", EDGES)}
What biases and stabilisers absorb, in the same units, where the largest entry is below 10 (limit: 10):

{_binned(small, "absorbed", ABSORBED_EDGES)}
The residual of Integrated Gradients with {", ".join(map(str, STEPS[:-1]))} and {STEPS[-1]} steps (limit: 0.05):

{_binned(integrated, "residual", RESIDUAL_EDGES)}
The mean quality of each method, whatever its verdict. The product rule is all, where nothing else is named:

{table(["method", *SAMPLES], means)}"""


def _integrated(baseline: Any) -> dict[str, lx.Method]:
    return {
        f"Integrated Gradients, {s} steps": lx.IntegratedGradients(steps=s, max_steps=s, baseline=baseline)
        for s in STEPS
    }


def _answers(model: lx.Model, data: Sequence[dict[str, Array]]) -> dict[str, Answers]:
    samples = [single for batch in data for single in singles(model, batch)]
    baseline = feature_means(model, samples)
    methods: dict[str, lx.Method] = {
        **LRP, **_integrated(baseline), "Gradient × Input": lx.GradientTimesInput(),
        **{f"LRP-{rule}": lx.LRP(rule) for rule in ("half", "prop", "abs")},
    }  # fmt: skip
    rows: dict[str, list[tuple[Array, ...]]] = {name: [] for name in methods}
    for batch in batches_of(model, samples, BATCH):
        bench = Bench(model, batch, lx.Target(), baseline, "steps")
        random = bench.random(np.random.default_rng(0)).deletion.mean(axis=1)
        falls, figures = {"occlusion": _fall(bench, bench.explained(lx.Occlusion(baseline=baseline))[0])}, {}
        for name, method in methods.items():
            e = model.explain(batch, method, bench.target)
            falls[name] = _fall(bench, bench.players.totals(e.relevance))
            peaks = [np.abs(r).reshape(len(r), -1).max(axis=1) for r in e.relevance.values()]
            unit = np.abs(e.explained)
            figures[name] = [
                np.max(peaks, axis=0) / unit,
                np.abs(e.ledger.absorbed) / unit,
                np.abs(e.ledger.residual) / unit,
            ]
        best = np.max([*falls.values()], axis=0)
        for name in methods:
            quality = np.clip((falls[name] - random) / np.maximum(best - random, 1e-9), -1, 1)
            rows[name].append((*figures[name], quality))
    return {name: Answers(*map(np.concatenate, zip(*parts, strict=True))) for name, parts in rows.items()}


def _fall(bench: Bench, relevance: Array) -> Array:
    return bench.of_relevance(relevance).deletion.mean(axis=1)


def _where(answers: Answers, chosen: Array) -> Answers:
    return Answers(*(getattr(answers, f)[chosen] for f in ("size", "absorbed", "residual", "quality")))


def _binned(answers: dict[str, list[Answers]], figure: str, edges: Sequence[float]) -> str:
    rows = []
    for low, high in pairwise(edges):
        cells = []
        for of_model in answers.values():
            x, q = (np.concatenate([getattr(a, f) for a in of_model]) for f in (figure, "quality"))
            q = q[(x >= low) & (x < high)]
            cells.append(f"{q.mean():.2f} ± {1.96 * q.std() / np.sqrt(len(q)):.2f} ({len(q)})" if len(q) > 2 else "")
        rows.append([f"{low:g} to {high:g}" if np.isfinite(high) else f"{low:g} and more", *cells])
    return table([figure, *answers], rows)
