# SPDX-License-Identifier: Apache-2.0
"""Word deletion on the Stanford Sentiment Treebank (Arras et al. 2017, arXiv 1706.07206, section 4.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from common import DOCS, MODELS, held, methods, table
from tokenizers import Tokenizer

import lstm_explain as lx
from lstm_explain.evaluate.plot import line_chart

Array = npt.NDArray[Any]
SHORTEST = 10
DELETED = range(6)
DRAWS = 10  # random orders, the mean of which is reported
SIZE = 64
PLOTS = {True: "word-deletion-correct.svg", False: "word-deletion-wrong.svg"}


@dataclass(frozen=True)
class Sentences:
    """tokens [batch, time], padded with 0 behind their lengths [batch]; labels [batch]."""

    tokens: Array
    lengths: Array
    labels: Array


def read(path: Path) -> list[tuple[list[int], int]]:
    """Token ids and label of every sentence that is long enough."""
    tokenizer = Tokenizer.from_file(str(MODELS / "sentiment" / "tokenizer.json"))
    lines = [line.split(" ", 1) for line in path.read_text(encoding="utf-8").splitlines()]
    ids = [row.ids for row in tokenizer.encode_batch([text for _, text in lines])]
    return [(row, int(label)) for row, (label, _) in zip(ids, lines, strict=True) if len(row) >= SHORTEST]


def batches(sentences: list[tuple[list[int], int]]) -> Iterator[Sentences]:
    """Of similar length together."""
    ordered = sorted(sentences, key=lambda s: len(s[0]))
    for start in range(0, len(ordered), SIZE):
        group = ordered[start : start + SIZE]
        lengths = np.array([len(ids) for ids, _ in group])
        tokens = np.zeros((len(group), lengths.max()), np.int64)
        for row, (ids, _) in zip(tokens, group, strict=True):
            row[: len(ids)] = ids
        yield Sentences(tokens, lengths, np.array([label for _, label in group]))


def deletions(model: lx.Model, data: Sentences, order: Array) -> Array:
    """[deleted, batch]: whether the label is predicted after 0, 1, 2, … words of `order` [batch, time] are replaced."""
    rows = np.arange(len(order))
    tokens, right = data.tokens.copy(), []
    for count in DELETED:
        if count:
            tokens[rows, order[:, count - 1]] = 0
        right.append(model.predict({"tokens": tokens})["logits"].argmax(axis=1) == data.labels)
    return np.array(right)


def order_of(relevance: Array, data: Sentences, correct: Array) -> Array:
    """Positions by decreasing relevance for correctly classified sentences, by increasing for the others."""
    inside = np.arange(data.tokens.shape[1]) < data.lengths[:, None]
    score = np.where(correct[:, None], relevance, -relevance)
    return np.argsort(np.where(inside, -score, np.inf), axis=1, kind="stable")


def run(data_folder: Path, progress: Callable[[str], None]) -> str:
    """Return the section of docs/results.md, or a note if the data is missing."""
    path = data_folder / "sst" / "fine.test.txt"
    title = "## Word deletion\n\n"
    if not path.is_file():
        progress(f"word deletion skipped: no {path.name} in the data folder")
        return f"{title}Skipped because the Stanford Sentiment Treebank is missing.\n"
    model = lx.load(MODELS / "sentiment" / "1" / "model.onnx")
    rng = np.random.default_rng(2017)
    hits: dict[str, list[Array]] = {}
    corrects = []
    data = list(batches(read(path)))
    for number, batch in enumerate(data):
        progress(f"word deletion: batch {number + 1} of {len(data)}")
        correct = model.predict({"tokens": batch.tokens})["logits"].argmax(axis=1) == batch.labels
        corrects.append(correct)
        target = lx.Target(index=batch.labels)
        for name, method in methods(1e-3).items():
            relevance = model.explain({"tokens": batch.tokens}, method, target).relevance["tokens"]
            hits.setdefault(name, []).append(deletions(model, batch, order_of(relevance, batch, correct)))
        drawn = [rng.standard_normal(batch.tokens.shape) for _ in range(DRAWS)]
        random = [deletions(model, batch, order_of(r, batch, correct)) for r in drawn]
        hits.setdefault("random", []).append(np.mean(random, axis=0))
    return title + _section({n: np.concatenate(h, axis=1) for n, h in hits.items()}, np.concatenate(corrects))


def _section(hits: dict[str, Array], correct: Array) -> str:
    text = f"""This experiment uses the bundled `sentiment` model and the {len(correct)} test sentences of
{SHORTEST} words or more of the Stanford Sentiment Treebank. The model classifies {int(correct.sum())} of them
correctly (five classes). The explained value is the score of the true class; ε = 0.001. A deleted word becomes the
token 0, whose embedding is zero. The columns show the accuracy in per cent by the number of deletions, and half the
95 % confidence interval after five (the plots show all intervals as bands). The row random is the mean of {DRAWS}
orders.
"""
    for right, what, better in (
        (True, "correctly classified, most relevant words first", "lower"),
        (False, "wrongly classified, least relevant words first", "higher"),
    ):
        chosen = {name: 100 * h[:, correct == right] for name, h in hits.items()}
        curves = {name: h.mean(axis=1) for name, h in chosen.items()}
        best = sorted(curves, key=lambda n: curves[n][1:].mean(), reverse=not right)
        rows = [[n, *(f"{v:.1f}" for v in curves[n]), f"± {_half(chosen[n][-1]):.1f}"] for n in best]
        head = ["method", *(str(k) for k in DELETED), "interval"]
        lines = {n: curves[n].tolist() for n in curves}
        halves = {n: [_half(after) for after in h] for n, h in chosen.items()}
        svg = line_chart(list(DELETED), lines, what, "words deleted", "accuracy, %", halves)
        (DOCS / PLOTS[right]).write_text(svg, encoding="utf-8")
        text += f"\n### {what.capitalize()} ({better} is better)\n\n{table(head, rows)}\n![{what}]({PLOTS[right]})\n"
        text += f"\n{_verdict(curves, chosen, right)}\n"
    return text


def _half(values: Array) -> float:
    return float(1.96 * values.std(ddof=1) / np.sqrt(len(values)))


def _verdict(curves: dict[str, Array], chosen: dict[str, Array], right: bool) -> str:
    """LRP-all against random and LRP-prop, sentence by sentence; and who is best."""
    sentences, clear = [], True
    for rival in ("random", "LRP-prop"):
        gain = (chosen[rival] - chosen["LRP-all"])[1:].mean(axis=0) * (1 if right else -1)
        points = f"{gain.mean():+.1f}".replace("-", "−")
        sentences.append(f"{points} ± {_half(gain):.1f} points beyond {rival}")
        clear &= gain.mean() > 2 * _half(gain)
    best = (min if right else max)(curves, key=lambda n: curves[n][1:].mean())
    beyond = f"LRP-all, mean over one to five deletions: {' and '.join(sentences)}. Best: {best}."
    return f"{beyond}\n{held('LRP-all clearly beats both (by twice the interval or more)', bool(clear))}"
