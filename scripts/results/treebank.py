# SPDX-License-Identifier: Apache-2.0
"""Sentences of the Stanford Sentiment Treebank, explained by the bundled `sentiment` model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from common import MODELS
from tokenizers import Tokenizer

import lstm_explain as lx

Array = npt.NDArray[Any]
SIZE = 64
# Positive and very positive minus negative and very negative: what the experiments on polarity explain.
POLARITY = lx.Target(weights=np.array([-1, -1, 0, 1, 1], np.float32))


@dataclass(frozen=True)
class Sentence:
    """text: as the treebank has it. words, ids: as the tokenizer splits it. label: from 0, very negative, to 4."""

    text: str
    words: list[str]
    ids: list[int]
    label: int


def read(path: Path, shortest: int = 1) -> list[Sentence]:
    """All sentences of a file that have at least `shortest` words, the shortest ones first."""
    tokenizer = Tokenizer.from_file(str(MODELS / "sentiment" / "tokenizer.json"))
    lines = [line.split(" ", 1) for line in path.read_text(encoding="utf-8").splitlines()]
    rows = tokenizer.encode_batch([text for _, text in lines])
    found = [
        Sentence(text, row.tokens, row.ids, int(label))
        for row, (label, text) in zip(rows, lines, strict=True)
        if row.ids
    ]
    return sorted((s for s in found if len(s.ids) >= shortest), key=lambda s: len(s.ids))


def load() -> lx.Model:
    return lx.load(MODELS / "sentiment" / "1" / "model.onnx")


def padded(rows: Sequence[list[int]]) -> Array:
    """[batch, time]: ids, padded with 0."""
    tokens = np.zeros((len(rows), max(map(len, rows))), np.int64)
    for row, ids in zip(tokens, rows, strict=True):
        row[: len(ids)] = ids
    return tokens


def batches(rows: Sequence[list[int]]) -> Iterator[tuple[slice, Array]]:
    """The positions and the padded ids of a few sentences at a time."""
    for start in range(0, len(rows), SIZE):
        chosen = slice(start, start + SIZE)
        yield chosen, padded(rows[chosen])


def logits(model: lx.Model, rows: Sequence[list[int]]) -> Array:
    """[sentences, 5]."""
    return np.concatenate([model.predict({"tokens": tokens})["logits"] for _, tokens in batches(rows)])


def explained(
    model: lx.Model, rows: Sequence[list[int]], method: lx.Method, target: lx.Target | Callable[[slice], lx.Target]
) -> tuple[list[Array], Array]:
    """The relevance of every word of every sentence, and the explained values; target: one for all, or by positions."""
    relevance, values = [], []
    for chosen, tokens in batches(rows):
        e = model.explain({"tokens": tokens}, method, target(chosen) if callable(target) else target)
        relevance += [row[: len(ids)] for row, ids in zip(e.relevance["tokens"], rows[chosen], strict=True)]
        values.append(e.explained)
    return relevance, np.concatenate(values)
