# SPDX-License-Identifier: Apache-2.0
"""Heatmaps of misclassified sentences (Arras et al. 2017, arXiv 1706.07206, section 4.1)."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import treebank
from common import DOCS
from representations import CLASSES

import lstm_explain as lx

Array = npt.NDArray[Any]
SHOWN, SHORTEST, LONGEST = 8, 6, 16
PLOT = "misclassified.svg"
CHARACTER, SIZE, LINE, LEFT, WIDTH = 8.0, 13, 24, 12, 860  # pixels, in a monospaced font
RED, BLUE = (178, 24, 43), (33, 102, 172)


def run(data_folder: Path, progress: Callable[[str], None]) -> str:
    """Return the section of docs/results.md, or a note if the data is missing."""
    path = data_folder / "sst" / "fine.test.txt"
    title = "## Misclassified sentences\n\n"
    if not path.is_file():
        return f"{title}Skipped because the Stanford Sentiment Treebank is missing.\n"
    progress("misclassified sentences")
    model = treebank.load()
    sentences = [s for s in treebank.read(path, SHORTEST) if len(s.ids) <= LONGEST]
    rows, labels = [s.ids for s in sentences], np.array([s.label for s in sentences])
    scores = treebank.logits(model, rows)
    predicted = scores.argmax(axis=1)
    margin = scores[np.arange(len(rows)), predicted] - scores[np.arange(len(rows)), labels]
    wrong = [i for i in np.argsort(-margin, kind="stable") if predicted[i] != labels[i]][:SHOWN]
    chosen = [sentences[i] for i in wrong]

    def contrast(part: slice) -> lx.Target:
        at = wrong[part]
        return lx.Target(index=predicted[at], contrast=labels[at])

    relevance, values = treebank.explained(model, [s.ids for s in chosen], lx.LRP(), contrast)
    captions = [
        f"labelled {CLASSES[labels[i]]}, predicted {CLASSES[predicted[i]]} (by {value:+.2f})"
        for i, value in zip(wrong, values, strict=True)
    ]
    (DOCS / PLOT).write_text(heatmaps([s.words for s in chosen], relevance, captions), encoding="utf-8")
    errors = int((predicted != labels).sum())
    return f"""{title}\
Of the {len(rows)} test sentences of {SHORTEST} to {LONGEST} words, the model classifies {errors} wrongly. These are
the {SHOWN} with the largest difference between the score of the predicted class and that of the label, which
LRP-all with the default stabiliser explains here. Red words speak for the prediction, blue words for the label; the
strongest colour is the largest relevance of each sentence. Words that the model does not know are shown as [UNK].

![misclassified sentences]({PLOT})
"""


def heatmaps(sentences: list[list[str]], relevance: list[Array], captions: list[str]) -> str:
    """Each sentence below its caption, every word on a background of its relevance."""
    parts, y = [], 0.0
    for words, values, caption in zip(sentences, relevance, captions, strict=True):
        y += LINE
        parts.append(f'<text x="{LEFT}" y="{y:g}" font-family="sans-serif" fill="#555555">{escape(caption)}</text>')
        x, y, largest = float(LEFT), y + 8, float(np.abs(values).max())
        for word, value in zip(words, values, strict=True):
            width = CHARACTER * len(word) + 6
            if x + width > WIDTH - LEFT:
                x, y = float(LEFT), y + LINE
            box = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{LINE - 4}"'
            parts.append(f'<rect {box} fill="{_colour(float(value) / largest)}"/>')
            parts.append(f'<text x="{x + width / 2:g}" y="{y + 14:g}" text-anchor="middle">{escape(word)}</text>')
            x += width + 2
        y += LINE
    size = f'width="{WIDTH}" height="{y + 8:g}" viewBox="0 0 {WIDTH} {y + 8:g}"'
    font = f'font-family="monospace" font-size="{SIZE}"'
    white = '<rect width="100%" height="100%" fill="white"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>{white}{"".join(parts)}</svg>\n'


def _colour(share: float) -> str:
    """White at zero; at most half the strength of a colour, so that text stays readable."""
    strength = 0.6 * abs(share)
    return "#" + "".join(f"{round(255 + strength * (end - 255)):02x}" for end in (RED if share > 0 else BLUE))
