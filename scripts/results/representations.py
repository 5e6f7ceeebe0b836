# SPDX-License-Identifier: Apache-2.0
"""Sentences as sums of word vectors, weighted by relevance (Arras et al. 2017, doi 10.1371/journal.pone.0181142)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import treebank
from common import DEFAULT, DOCS, MODELS, held, table
from scatter import scatter

import lstm_explain as lx

Array = npt.NDArray[Any]
NEIGHBOURS, HALVES = (5, 15, 45), 10
PLOT = "sentence-representations.svg"
MEAN = "mean of word vectors"
METHODS: dict[str, lx.Method] = {
    DEFAULT: lx.LRP(),
    "LRP-all, ε = 0.001": lx.LRP(epsilon=1e-3),
    "LRP-half": lx.LRP("half"),
    "Gradient × Input": lx.GradientTimesInput(),
    "Gradient": lx.Gradient(),
    "Occlusion": lx.Occlusion(),
    "Contextual Decomposition": lx.ContextualDecomposition(),
}
CLASSES = ("very negative", "negative", "neutral", "positive", "very positive")


def run(data_folder: Path, progress: Callable[[str], None]) -> str:
    """Return the section of docs/results.md, or a note if the data is missing."""
    path = data_folder / "sst" / "fine.test.txt"
    title = "## Sentences as relevant words\n\n"
    if not path.is_file():
        return f"{title}Skipped because the Stanford Sentiment Treebank is missing.\n"
    model, sentences = treebank.load(), treebank.read(path)
    rows, labels = [s.ids for s in sentences], np.array([s.label for s in sentences])
    scores = treebank.logits(model, rows)
    predicted = scores.argmax(axis=1)
    vectors = _embedding()
    words = [vectors[ids] for ids in rows]
    found = {MEAN: np.array([v.mean(axis=0) for v in words])}
    for name, method in METHODS.items():
        progress(f"representations: {name}")
        relevance, _ = treebank.explained(model, rows, method, lambda chosen: lx.Target(index=predicted[chosen]))
        found[name] = np.array([r @ v for r, v in zip(relevance, words, strict=True)])
        relevance, _ = treebank.explained(model, rows, method, treebank.POLARITY)
        found[name + POLAR] = np.array([np.abs(r) @ v for r, v in zip(relevance, words, strict=True)])
    found = {name: x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for name, x in found.items()}
    kinds = {"true class": labels, "predicted class": predicted}
    progress("representations: neighbours")
    accuracy = {name: {kind: neighbours(x, y) for kind, y in kinds.items()} for name, x in found.items()}
    svg = scatter({name: principal(found[name]) for name in (MEAN, DEFAULT)}, predicted, CLASSES)
    (DOCS / PLOT).write_text(svg, encoding="utf-8")
    own = {"true class": 100 * float((predicted == labels).mean()), "predicted class": 100.0}
    return title + _section(accuracy, own, len(sentences))


POLAR = ", size"


def _embedding() -> Array:
    graph = onnx.load(MODELS / "sentiment" / "1" / "model.onnx").graph
    (weights,) = (w for w in graph.initializer if w.name == "embedding.weight")
    return onnx.numpy_helper.to_array(weights).astype(np.float64)


def neighbours(x: Array, classes: Array) -> dict[int, list[float]]:
    """By number of neighbours, the accuracy in per cent for each random half: its sentences are classified by the
    majority of their nearest neighbours (cosine) in the other half; similarity decides between equal votes.
    """
    rng = np.random.default_rng(2017)
    found: dict[int, list[float]] = {k: [] for k in NEIGHBOURS}
    for _ in range(HALVES):
        order = rng.permutation(len(x))
        known, asked = order[: len(x) // 2], order[len(x) // 2 :]
        similarity = x[asked] @ x[known].T
        nearest = np.argsort(-similarity, axis=1)[:, : max(NEIGHBOURS)]
        votes = 1 + 1e-6 * np.take_along_axis(similarity, nearest, axis=1)
        for k in NEIGHBOURS:
            counts = np.zeros((len(asked), len(CLASSES)))
            np.add.at(counts, (np.arange(len(asked))[:, None], classes[known][nearest[:, :k]]), votes[:, :k])
            found[k].append(100 * float((counts.argmax(axis=1) == classes[asked]).mean()))
    return found


def principal(x: Array) -> Array:
    """[sentences, 2]: the first two principal components."""
    centred = x - x.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    return np.asarray(centred @ axes[:2].T)


def _section(accuracy: dict[str, dict[str, dict[int, list[float]]]], own: dict[str, float], count: int) -> str:
    rows = []
    for name, kinds in accuracy.items():
        cells = [f"{np.mean(v):.1f}" for by_k in kinds.values() for v in by_k.values()]
        rows.append([name, *cells])
    head = ["weights of words", *(f"{kind}, k = {k}" for kind in own for k in NEIGHBOURS)]
    spread = max(
        float(np.std(v, ddof=1)) for kinds in accuracy.values() for by_k in kinds.values() for v in by_k.values()
    )
    most = max(NEIGHBOURS)
    verdicts = []
    for kind, claim in (
        ("predicted class", "weighted by LRP-all, word vectors say more about the predicted class than their mean"),
        ("true class", "the same for the true class"),
    ):
        gains = np.subtract(accuracy[DEFAULT][kind][most], accuracy[MEAN][kind][most])
        figures = f"k = {most}: {gains.mean():+.1f} points, in the worst half {gains.min():+.1f}".replace("-", "−")
        verdicts.append(held(f"{claim} ({figures})", gains.min() > 0))
    return f"""\
A sentence becomes one vector: the sum of its word vectors, weighted by the relevance of the words, scaled to
length 1. How much do the relevant words say about the class? The test uses all {count} test sentences and the word
vectors of the `sentiment` model itself. It classifies one half by the nearest neighbours in the other half (cosine,
majority of k). Figures are accuracies in per cent, as means over {HALVES} random halves; their standard deviation is at
most {spread:.1f}.

Relevance explains the score of the predicted class, so the choice of this class contributes to the representation. In
rows with "size", it does not: relevance explains the same quantity for all sentences, the scores of positive and very
positive minus those of negative and very negative, and its absolute values are the weights. For the true class, the
model itself has an accuracy of {own["true class"]:.1f} %.

{table(head, rows)}
The picture shows the first two principal components of two of these representations, coloured by the predicted class:

![sentences in two dimensions]({PLOT})

{chr(10).join(verdicts)}
"""
