# SPDX-License-Identifier: Apache-2.0
"""The bundled models calibrated on training data, and measured on other data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import MODELS, percent, table
from series import Batches, inputs_of

import lstm_explain as lx
from lstm_explain.calibration.card import with_method, write
from lstm_explain.calibration.data import singles
from lstm_explain.calibration.held_out import OCCLUSION, measure_held_out
from lstm_explain.calibration.race import Difference, difference
from lstm_explain.calibration.setup import Clock, Setup
from lstm_explain.repository.model_folder import find_model
from lstm_explain.repository.served_model import load_served

NAMES = ("addition", "subtraction", "corridor", "discharge", "sentiment", "sentiment-mamba")
SAMPLES, BUDGET = 400, 90.0  # of each model; seconds
BASELINES = {"corridor": 0.0}  # a step at which the agent is nowhere; the mean would be a little of everywhere
PAPERS = "ε = 0.001"


def run(data_folder: Path, progress: Callable[[str], None], *, cards: bool = False) -> str:
    """Return the section of docs/results.md. cards: write the choice and what was measured to each model.yaml."""
    rows = []
    for name in NAMES:
        trained, others = (inputs_of(name, data_folder, SAMPLES, trained=t) for t in (True, False))
        if not trained or not others:
            progress(f"calibration of {name} skipped: no data")
            continue
        progress(f"calibration of {name}")
        rows.append([name, *_measured(name, trained, others, cards=cards)])
    head = [
        "model",
        "setting",
        "samples",
        f"fall: {PAPERS}",
        "Occlusion",
        "default",
        "setting",
        "gain over ε",
        "untrusted: ε",
        "setting",
    ]
    return f"""## Calibration

`lx.calibrate` chose the setting of each bundled model on data that the model was trained on. This table measures the
choice on data that neither training nor calibration used: the mean fall of the explained value when the most relevant
steps are deleted, from one to half of them in geometric steps; the gain is paired, with its 95 % interval. "untrusted"
is the percentage of answers with a warning. The inputs of `sentiment` and `sentiment-mamba` are half test sentences and
half texts of 2 to 16 test sentences; those of `discharge` are years of weather that end in a year that was not used in
training.

{table(head, rows)}"""


def _measured(name: str, trained: Batches, others: Batches, *, cards: bool) -> list[str]:
    source = find_model(MODELS / name)
    served = load_served(source)
    method = served.default_method
    assert isinstance(method, lx.LRP)
    found = lx.calibrate(
        served.model, trained, method=method, target=served.default_target, baseline=BASELINES.get(name), budget=BUDGET
    )
    if cards:
        lines = ["on training data, by scripts/results (docs/results.md)", *found.lines()]
        write(source.config_file, with_method(source.config_file.read_text("utf-8"), found.entry(), lines))
    setup = Setup(served.model, served.default_target, found.baseline, "steps")
    samples = [single for batch in others for single in singles(served.model, batch)]
    np.random.default_rng(0).shuffle(samples)  # type: ignore[arg-type]
    methods = {"setting": found.method, "default": lx.LRP(), PAPERS: lx.LRP(epsilon=1e-3)}
    measured = measure_held_out(setup, methods, samples, Clock(BUDGET, lambda share, what: None), 0)
    falls = {label: m.deletion.mean(axis=1) for label, m in measured.items()}
    occlusion = f"{falls[OCCLUSION].mean():.3g}" if OCCLUSION in falls else ""
    return [
        found.label,
        str(len(falls["setting"])),
        f"{falls[PAPERS].mean():.3g}",
        occlusion,
        f"{falls['default'].mean():.3g}",
        f"{falls['setting'].mean():.3g}",
        _text(difference(falls["setting"], falls[PAPERS])),
        *(percent(float((~measured[label].trusted).mean())) for label in (PAPERS, "setting")),
    ]


def _text(gain: Difference) -> str:
    return f"{gain.mean:+.2g} ± {gain.half:.1g}"
