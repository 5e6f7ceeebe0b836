# SPDX-License-Identifier: Apache-2.0
"""Draws docs/groups.png: a year of weather in groups, explained by the bundled model of discharge."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot

import lstm_explain as lx

ROOT = Path(__file__).resolve().parent.parent
FEATURES = {"water": ["prcp", "vp"], "heat": ["tmax", "tmin"]}  # and sunshine, which is left
QUESTIONS = {
    "windows of 30 days, LRP": ("lrp", lx.Groups(window=30, features=FEATURES)),
    "segments, Shapley values": ("shapley_sampling", lx.Groups(change_points=lx.ChangePoints(8))),
}


def main() -> None:
    mpl.use("Agg")
    folder = ROOT / "models" / "discharge"
    model = lx.load(folder)
    weather = np.loadtxt(folder / "example.csv", delimiter=",", skiprows=1, usecols=range(1, 6), dtype=np.float32)[None]
    figure, panels = pyplot.subplots(2, 1, figsize=(11, 6), layout="constrained", height_ratios=[3, 2])
    for axes, (title, (method, groups)) in zip(panels, QUESTIONS.items(), strict=True):
        model.explain({"weather": weather}, method, groups=groups).plot(ax=axes)
        axes.set_title(title)
    figure.savefig(ROOT / "docs" / "groups.png", dpi=110)


if __name__ == "__main__":
    main()
