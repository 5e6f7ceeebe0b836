# SPDX-License-Identifier: Apache-2.0
"""Toy arithmetic (Arras et al. 2019, arXiv 1909.12114, section 5): does the relevance of a number follow the number?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from common import DEFAULT, MODELS, held, methods, table

import lstm_explain as lx

Array = npt.NDArray[Any]
Measured = tuple[float, float, float, float]
LENGTHS = range(4, 11)
SEQUENCES = 2500
# Per cent: rho(n_a, R_a), rho(n_b, R_b), share on both, as published (means over 50 models).
PUBLISHED = {"LRP-all": ((100, 100, 100), (98, -99, 99)), "Gradient × Input": ((100, 100, 100), (98, -99, 98))}
EPSILONS = (1e-3, 1e-6)
SIGNS = {"addition": 1, "subtraction": -1}
MEASURES = ("ρ(n_a, R_a)", "ρ(n_b, R_b)", "share", "error")
SAMPLING = {"SmoothGrad": lx.SmoothGrad(), "Shapley sampling": lx.ShapleySampling()}


@dataclass(frozen=True)
class Sequences:
    """x [batch, length, 3]; a, b: [batch], positions of the marked numbers."""

    x: Array
    a: Array
    b: Array

    def numbers(self) -> tuple[Array, Array]:
        rows = np.arange(len(self.x))
        return self.x[rows, self.a, 1], self.x[rows, self.b, 2]


def draw(seed: int) -> list[Sequences]:
    """As in training, from another seed: one batch for each length."""
    rng = np.random.default_rng(seed)
    lengths = rng.choice(LENGTHS, SEQUENCES)
    return [_sequences(rng, int((lengths == length).sum()), length) for length in LENGTHS]


def _sequences(rng: np.random.Generator, count: int, length: int) -> Sequences:
    values = rng.uniform(0.5, 4.0, (count, length)) * rng.choice([-1.0, 1.0], (count, length))
    marked = np.sort(rng.permuted(np.tile(np.arange(length), (count, 1)), axis=1)[:, :2], axis=1)
    channel = np.zeros((count, length), int)
    rows = np.arange(count)
    channel[rows, marked[:, 0]], channel[rows, marked[:, 1]] = 1, 2
    x = (values[:, :, None] * np.eye(3)[channel]).astype(np.float32)
    return Sequences(x, marked[:, 0], marked[:, 1])


def measure(model: lx.Model, method: lx.Method, data: list[Sequences]) -> Measured:
    """`MEASURES`: rho(n_a, R_a), rho(n_b, R_b) and the mean share of absolute relevance on the two positions, in per
    cent; and the mean squared difference of the prediction and the sum of all relevance.
    """
    columns: list[list[Array]] = [[], [], [], [], [], []]
    for batch in data:
        e = model.explain({"x": batch.x}, method, lx.Target(index=0))
        r = e.relevance["x"].sum(axis=2).astype(np.float64)
        rows = np.arange(len(r))
        r_a, r_b = r[rows, batch.a], r[rows, batch.b]
        share = (np.abs(r_a) + np.abs(r_b)) / np.maximum(np.abs(r).sum(axis=1), np.finfo(float).tiny)
        missed = (e.explained - r.sum(axis=1)) ** 2
        for column, values in zip(columns, (*batch.numbers(), r_a, r_b, share, missed), strict=True):
            column.append(values)
    n_a, n_b, r_a, r_b, share, missed = (np.concatenate(c) for c in columns)
    rho = 100 * _correlation(n_a, r_a), 100 * _correlation(n_b, r_b)
    return *rho, 100 * float(share.mean()), float(missed.mean())


def task_error(model: lx.Model, task: str, data: list[Sequences]) -> float:
    """The mean squared error of the model's predictions."""
    missed = []
    for batch in data:
        n_a, n_b = batch.numbers()
        predicted = next(iter(model.predict({"x": batch.x}).values()))[:, 0]
        missed.append((predicted.astype(np.float64) - n_a - SIGNS[task] * n_b) ** 2)
    return float(np.concatenate(missed).mean())


def _correlation(a: Array, b: Array) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if np.ptp(b) > 0 else 0.0


def trained(task: str, seeds: Path | None) -> list[Path]:
    """The bundled model, or every seed that `training/arithmetic.py --keep` left."""
    found = sorted((seeds / task / "seeds").glob("*.onnx")) if seeds is not None else []
    found = found or sorted((MODELS / task / "seeds").glob("*.onnx"))
    return found or [MODELS / task / "1" / "model.onnx"]


def run(seeds: Path | None, progress: Callable[[str], None]) -> str:
    """Return the section of docs/results.md."""
    data = draw(seed=20190912)
    found: dict[str, dict[str, list[Measured]]] = {}
    counts, errors = {}, {}
    for task in ("addition", "subtraction"):
        models = [lx.load(path) for path in trained(task, seeds)]
        counts[task] = len(models)
        errors[task] = [task_error(model, task, data) for model in models]
        for epsilon in EPSILONS:
            for name, method in (methods(epsilon) | SAMPLING).items():
                if epsilon != EPSILONS[-1] and name != "LRP-all":
                    continue
                label = name if epsilon == EPSILONS[-1] else f"{name}, ε = {epsilon:g}"
                progress(f"toy {task}: {label}")
                found.setdefault(label, {})[task] = [measure(m, method, data) for m in models]
    return _section(found, counts, errors)


def _section(
    found: dict[str, dict[str, list[Measured]]], counts: dict[str, int], errors: dict[str, list[float]]
) -> str:
    head = ["method", *(f"{t}: {c}" for t in ("+", "−") for c in MEASURES)]
    rows = []
    order = sorted(found, key=lambda name: list(found).index(name))
    for name in order:
        cells = [
            f"{np.mean(values):.1e}".replace("-", "−") if k == 3 else _mean_std(values)
            for task in found[name]
            for k, values in enumerate(zip(*found[name][task], strict=True))
        ]
        rows.append([name, *cells])
    for name, tasks in PUBLISHED.items():
        published = [[*(f"*{v}*".replace("-", "−") for v in values), ""] for values in tasks]
        rows.append([f"*{name}, published*", *(cell for cells in published for cell in cells)])
    largest = " and ".join(f"{max(values):.1e}".replace("-", "−") + f" for {task}" for task, values in errors.items())
    models = " and ".join(f"{n} for {task}" for task, n in counts.items())
    return f"""## Toy arithmetic

In this task of Arras et al. 2019, two numbers of a sequence are marked. An LSTM with one cell and a linear output
learns to add them, or to subtract the second from the first. The test uses {SEQUENCES} sequences of {LENGTHS[0]} to
{LENGTHS[-1]} steps that were not used in training. The relevance of a marked number should follow the number (ρ:
Pearson's correlation), and no other step should have relevance (share of absolute relevance on the two). Figures are
in per cent, as mean ± standard deviation over the trained models: {models}.
The error is the mean squared difference between the prediction and the sum of all relevance, which is no percentage;
numbers lie in [−4, −0.5] and [0.5, 4]. The predictions themselves have a mean squared error of at most {largest}.

Unless stated otherwise, ε is 1e-6. These networks keep their cell state below 0.1, where a stabiliser of 0.001
absorbs a visible part of the relevance (see `models/addition/README.md`), so that LRP-all stays below 98. The default
stabiliser is relative to the terms of each sum and needs no setting.

{table(head, rows)}
{_verdict(found)}
"""


def _mean_std(values: Sequence[float]) -> str:
    mean = f"{np.mean(values):.1f}".replace("-", "−")
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.1f}"


def _verdict(found: dict[str, dict[str, list[Measured]]]) -> str:
    """What the paper says of these methods; every column by the mean over the trained models."""

    def sizes(name: str) -> list[float]:
        return [abs(float(np.mean([m[k] for m in runs]))) for runs in found[name].values() for k in range(3)]

    least = min(min(sizes("LRP-all")), min(sizes(DEFAULT)))
    exact = max(float(np.mean([m[3] for m in runs])) for runs in found["LRP-all"].values())
    alike = max(abs(a - b) for a, b in zip(sizes("LRP-all"), sizes("Gradient × Input"), strict=True))
    others = [v for name in ("LRP-half", "LRP-prop", "LRP-abs") for v in sizes(name)]
    return "\n".join(
        (
            held(
                "LRP-all, with either stabiliser, at 98 or more in absolute value in all six columns "
                f"(smallest: {least:.1f})",
                least >= 98,
            ),
            held(f"the relevance of LRP-all sums to the prediction (error at most {exact:.1e})", exact < 1e-4),
            held(f"Gradient × Input agrees with it in all six (within {alike:.1f})", alike <= 1),
            held(
                f"LRP-half, -prop and -abs far below in all six (largest: {max(others):.1f})", max(others) < least - 30
            ),
        )
    )
