# SPDX-License-Identifier: Apache-2.0
"""Conservation over data sets, for the bundled models of numbers (`sentiment` is in measures.py)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import toy
from common import MODELS, methods, percent, table
from corridor import wander

import lstm_explain as lx

Array = npt.NDArray[Any]
LEFT_OUT = ("Gradient", "Contextual Decomposition")  # no share of the value; not for every cell
WEATHER = ("prcp(mm/day)", "srad(W/m2)", "tmax(C)", "tmin(C)", "vp(Pa)")
WINDOW, WINDOWS, HELD_OUT = 365, 64, "2002"
BATCH = 32


def run(data_folder: Path, progress: Callable[[str], None]) -> str:
    """Return the section of docs/results.md."""
    sums = [{"x": batch.x} for batch in toy.draw(seed=20190912)]
    data = {
        "addition": (1e-6, sums),
        "subtraction": (1e-6, sums),
        "corridor": (1e-6, [{"x": wander(np.random.default_rng(2019), 1000).x}]),
    }
    if found := weather(data_folder / "camels", HELD_OUT, WINDOWS):
        data["discharge"] = (1e-3, found)
    rows = []
    for name, (epsilon, batches) in data.items():
        progress(f"conservation: {name}")
        model = lx.load(MODELS / name / "1" / "model.onnx")
        chosen = {label: m for label, m in methods(epsilon).items() if label not in LEFT_OUT}
        for label, method in chosen.items():
            try:
                c = lx.evaluate.conservation(model, batches, {label: method}, lx.Target(index=0))[label]
            except lx.InputError:  # relevance beyond float64: LRP-prop over a year of steps
                rows.append([name, label, *["overflows"] * 3])
            else:
                rows.append([name, label, *(percent(c.share(e)) for e in ("inputs", "absorbed", "residual"))])
    rivers = (
        f"`discharge` is tested on {WINDOWS} one-year windows of weather for each of four rivers. They end in "
        f"{HELD_OUT}, a year that was not used in training (ε = 0.001)."
        if found
        else "`discharge` is omitted because the CAMELS data is missing."
    )
    return f"""## Conservation over data sets

This table shows the ledgers of the other bundled models, as above. `addition` and `subtraction` are tested on the
{toy.SEQUENCES} sequences of the toy task (ε = 1e-6), and `corridor` on 1000 random walks (ε = 1e-6).
{rivers}

{table(["model", "method", "inputs", "absorbed", "residual"], rows)}"""


def weather(folder: Path, year: str, count: int) -> list[dict[str, Array]]:
    """Return, for every river, `count` windows of 365 days that end on days spread over the year."""
    windows = []
    for path in sorted(folder.glob("*_forcing_daymet.txt")):
        lines = path.read_text(encoding="utf-8").splitlines()
        columns = [lines[3].split().index(name) for name in WEATHER]
        days = [line.split() for line in lines[4:] if line.strip()]
        ends = [i for i, day in enumerate(days) if day[0] == year and i >= WINDOW]
        values = np.array([[float(day[c]) for c in columns] for day in days], np.float32)
        chosen = [ends[round(k)] for k in np.linspace(0, len(ends) - 1, count)]
        windows += [values[end + 1 - WINDOW : end + 1] for end in chosen]
    stacked = [np.stack(windows[s : s + BATCH]) for s in range(0, len(windows), BATCH)]
    return [{"weather": batch} for batch in stacked]
