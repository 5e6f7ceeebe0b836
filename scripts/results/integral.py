# SPDX-License-Identifier: Apache-2.0
"""How complete IntegratedGradients is on real sentences."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import words
from common import MODELS, table

import lstm_explain as lx

EVERY = 32  # of the test sentences, from the shortest to the longest
METHODS = {
    "50": lx.IntegratedGradients(50, max_steps=1),
    "300": lx.IntegratedGradients(300, max_steps=1),
    "50 to 500, the default": lx.IntegratedGradients(),
}


def run(data_folder: Path, progress: Callable[[str], None]) -> str:
    """Return the section of docs/results.md, or a note if the data is missing."""
    path = data_folder / "sst" / "fine.test.txt"
    title = "## Completeness of Integrated Gradients\n\n"
    if not path.is_file():
        progress(f"integral skipped: no {path.name} in the data folder")
        return f"{title}Skipped because the Stanford Sentiment Treebank is missing.\n"
    model = lx.load(MODELS / "sentiment" / "1" / "model.onnx")
    sentences = sorted((ids for ids, _ in words.read(path)), key=len)[::EVERY]
    rows = []
    for label, method in METHODS.items():
        left, whole, all_relevance, used = [], [], [], []
        for number, ids in enumerate(sentences):
            progress(f"integral, {label} steps: sentence {number + 1} of {len(sentences)}")
            e = model.explain({"tokens": np.array([ids])}, method)
            left.append(abs(float(e.ledger.residual[0])))
            whole.append(abs(float((e.explained - e.ledger.absorbed)[0])))
            used.append(int(e.steps_used[0]))
            all_relevance.append(float(np.abs(e.relevance["tokens"]).sum()))
        shares = np.array(left) / np.array(whole)
        rows.append(
            [
                label,
                f"{np.mean(used):.0f}",
                f"{100 * (shares <= 0.01).mean():.1f}",
                f"{100 * np.median(shares):.3f}",
                f"{100 * shares.max():.2f}",
                f"{100 * (np.array(left) / np.array(all_relevance)).max():.2f}",
            ]
        )
    head = ["steps", "mean", "within 1 %", "median", "largest", "largest, of all absolute relevance"]
    return f"""{title}This experiment uses the `sentiment` model and its predicted class for one in {EVERY} of the
test sentences of {words.SHORTEST} words or more ({len(sentences)} sentences), chosen by length. Columns show the
convergence delta as a fraction of explained − baseline, in per cent:

{table(head, rows)}"""
