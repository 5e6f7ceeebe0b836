# SPDX-License-Identifier: Apache-2.0
"""Deletion for `discharge`: methods with a mean baseline, compared with the same methods over a background set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from bundled_models import HELD_OUT, weather
from common import MODELS, table

import lstm_explain as lx
from lstm_explain.evaluate.curves import curve
from lstm_explain.evaluate.data import player_set_of

BACKGROUND_YEAR, REPLACING_YEAR = "2000", "2001"
SAMPLES, SET, REPLACEMENTS, DRAWS = 32, 128, 12, 10
STEPS, POINTS = 50, 100
SHARES = np.array([0.0, 0.01, 0.02, 0.05, 0.1, 0.2])
TARGET = lx.Target(index=0)


def run(data_folder: Path, progress: Callable[[str], None]) -> str:
    """Return the section of docs/results.md."""

    def windows(year: str, count: int) -> np.ndarray:
        """`count` windows over all rivers."""
        batches = weather(data_folder / "camels", year, count // 4)
        return np.concatenate([batch["weather"] for batch in batches]) if batches else np.zeros((0, 1, 1))

    data = {"weather": windows(HELD_OUT, SAMPLES)}
    if not len(data["weather"]):
        return "## Background sets\n\nThis section is omitted because the CAMELS data is missing.\n"
    samples, replacements = windows(BACKGROUND_YEAR, SET), windows(REPLACING_YEAR, REPLACEMENTS)
    model = lx.load(MODELS / "discharge" / "1" / "model.onnx")
    mean = {"weather": samples.mean(axis=(0, 1))}
    background = lx.Background({"weather": samples}, draws=DRAWS)
    methods = {
        "Integrated Gradients, zeros": lx.IntegratedGradients(STEPS, max_steps=STEPS),
        "Integrated Gradients, mean": lx.IntegratedGradients(STEPS, mean, STEPS),
        "Integrated Gradients, background": lx.IntegratedGradients(STEPS, background, STEPS),
        "GradientSHAP, mean": lx.GradientShap(POINTS, baseline=mean),
        "GradientSHAP, background": lx.GradientShap(POINTS, baseline=background),
        "Occlusion, zeros": lx.Occlusion(),
        "Occlusion, mean": lx.Occlusion(baseline=mean),
        "Occlusion, background": lx.Occlusion(baseline=background),
    }
    by_mean = player_set_of(model, data, TARGET, mean)
    by_others = [player_set_of(model, data, TARGET, {"weather": one}) for one in replacements]
    falls: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for label, method in methods.items():
        totals = by_mean.totals(model.explain(data, method, TARGET).relevance)

        def fall(player_sets: list, totals: np.ndarray = totals) -> np.ndarray:
            curves = np.mean([curve(players, totals, SHARES) for players in player_sets], axis=0)
            return curves[:, 0] - curves[:, 1:].mean(axis=1)

        falls[label] = fall(by_others), fall([by_mean])
        progress(f"background sets: {label}")
    rows = []
    for label, found in falls.items():
        other = falls[f"{label.split(',')[0]}, mean"]
        paired = [_interval(mine - theirs) for mine, theirs in zip(found, other, strict=True)]
        shown = ["–", "–"] if label.endswith("mean") else paired
        rows.append([label, f"{found[0].mean():.3f}", shown[0], f"{found[1].mean():.3f}", shown[1]])
    head = ["method, baseline", "replaced by other days", "more than mean", "replaced by the mean", "more than mean"]
    return f"""## Background sets

Do background sets rank days better than a mean baseline does? The table shows how much the predicted discharge of
`discharge` (mm/day) falls when the most relevant days are replaced: the mean over 1, 2, 5, 10 and 20 % of the days, for
{len(data["weather"])} one-year windows of weather that end in {HELD_OUT}. The days are replaced by those of
{len(replacements)} windows that end in {REPLACING_YEAR} (the mean over these), or by the mean of each feature. The
background set has {len(samples)} windows that end in {BACKGROUND_YEAR}, of which {DRAWS} are drawn. Integrated
Gradients uses {STEPS} steps for each draw, GradientSHAP {POINTS} points in all. "More than mean" is the paired
difference from the same method with the mean as its baseline, with its 95 % interval.

{table(head, rows)}"""


def _interval(differences: np.ndarray) -> str:
    half = 1.96 * differences.std(ddof=1) / np.sqrt(len(differences))
    return f"{differences.mean():+.3f} ± {half:.3f}"
