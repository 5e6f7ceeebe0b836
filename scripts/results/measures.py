# SPDX-License-Identifier: Apache-2.0
"""Conservation, agreement and randomised weights on the sentiment model, by lx.evaluate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import words
from common import MODELS, methods, percent, table

import lstm_explain as lx

SENTENCES = 256


def run(data_folder: Path, progress: Callable[[str], None]) -> str:
    """Return the section of docs/results.md, or a note if the data is missing."""
    path = data_folder / "sst" / "fine.test.txt"
    title = "## Conservation, agreement, randomised weights\n\n"
    if not path.is_file():
        progress(f"measures skipped: no {path.name} in the data folder")
        return f"{title}Skipped because the Stanford Sentiment Treebank is missing.\n"
    model = lx.load(MODELS / "sentiment" / "1" / "model.onnx")
    data = [{"tokens": batch.tokens} for batch in words.batches(words.read(path)[:SENTENCES])]
    named = methods(1e-3)

    def tell(what: str) -> Callable[[str], None]:
        return lambda name: progress(f"{what}: {name}")

    kept = lx.evaluate.conservation(model, data, named, progress=tell("conservation"))
    agreed = lx.evaluate.agreement(model, data, named, absolute=True, progress=tell("agreement"))
    changed = lx.evaluate.randomisation(model, data[:1], named, draws=1, progress=tell("randomisation"))
    shares = [
        [name, *(percent(c.share(entry)) for entry in ("inputs", "initial_states", "absorbed", "residual"))]
        for name, c in kept.items()
    ]
    ranks = [[name, *(f"{v:.2f}" for v in row)] for name, row in zip(agreed.names, agreed.correlation, strict=True)]
    random = [[name, *(f"{v:.2f}" for v in values)] for name, values in changed.correlation.items()]
    return f"""{title}These measures use the `sentiment` model and its predicted class for the first {SENTENCES}
test sentences of {words.SHORTEST} words or more; ε = 0.001.

The first table shows the entries of the ledger, as sums of absolute values over sentences, in per cent of the explained
scores ([their meaning for each method](methods.md)):

{table(["method", "inputs", "initial states", "absorbed", "residual"], shares)}
The second table shows the rank correlation (Spearman) between the absolute relevance of words, as the mean over
sentences:

{table(["", *agreed.names], ranks)}
The third table shows the rank correlation with the absolute relevance of the trained model, after noise has replaced
the weights of these nodes, from the output down (Adebayo et al. 2018); {len(data[0]["tokens"])} sentences:

{table(["method", *changed.nodes], random)}"""
