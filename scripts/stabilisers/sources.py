# SPDX-License-Identifier: Apache-2.0
"""The networks and inputs of the study, by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from scripts.stabilisers.measures import Inputs
from scripts.stabilisers.networks import Network, from_npz, from_onnx
from scripts.stabilisers.tasks import Task, events, motifs

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MODELS = ROOT / "models"
SHARED = ROOT.parent / "shared"  # data and cases, where they lie beside the repository

TEXTS = 7  # seed
SHORTEST_TEXT = 10


def sentences(split: str) -> list[str]:
    """The Stanford Sentiment Treebank's, without labels; empty where the data is absent."""
    path = SHARED / "data" / "sst" / f"fine.{split}.txt"
    return [line.split(maxsplit=1)[1] for line in path.read_text("utf-8").splitlines()] if path.is_file() else []


def labels(split: str) -> list[int]:
    path = SHARED / "data" / "sst" / f"fine.{split}.txt"
    return [int(line[0]) for line in path.read_text("utf-8").splitlines()] if path.is_file() else []


def sentiment() -> Network:
    return from_onnx(MODELS / "sentiment" / "1" / "model.onnx")


def ids_of(texts: list[str]) -> list[npt.NDArray[np.int64]]:
    tokenizer = Tokenizer.from_file(str(MODELS / "sentiment" / "tokenizer.json"))
    return [np.array(tokenizer.encode(text).ids) for text in texts]


def texts(joined: int, count: int, orders: int, split: str = "test") -> Iterator[Inputs]:
    """Texts of so many sentences each, drawn without repetition; one at a time, since their lengths differ."""
    there = sentences(split)
    order = np.random.default_rng(TEXTS).permutation(len(there))
    drawn = [" ".join(there[i] for i in order[k * joined : (k + 1) * joined]) for k in range(count)]
    network = sentiment()
    for ids in ids_of([text for text in drawn if text]):
        if len(ids) >= SHORTEST_TEXT:
            yield Inputs(network, ids[None], 1, 0, orders=orders)


def _case(name: str, count: int, *, truth: bool) -> Iterator[Inputs]:
    folder = SHARED / "cases" / name
    if (folder / "data.npz").is_file():
        data = np.load(folder / "data.npz")
        x = data["x"][:count]
        matters = data["mask"][:count].any(2) if truth else None
        yield Inputs(from_onnx(folder / "model.onnx"), x, 5, x.mean((0, 1)), matters)


def _trained(name: str, task: Task, steps: int, width: int, count: int) -> Iterator[Inputs]:
    x, _, matters = task(count, np.random.default_rng(11), steps)
    yield Inputs(from_npz(HERE / "networks" / f"{name}.npz"), x, width, x.mean((0, 1)), matters)


def _rivers(count: int) -> Iterator[Inputs]:
    """The bundled model of discharge on years that its training left out."""
    files = sorted((SHARED / "data" / "camels").glob("*_forcing_daymet.txt"))
    years = []
    for path in files:
        rows = [re.split(r"\s+", line.strip()) for line in path.read_text().splitlines()[4:]]
        table = np.array([[float(v) for v in row[4:]] for row in rows])
        weather = table[:, [1, 2, 4, 5, 6]].astype(np.float32)  # prcp, srad, tmax, tmin, vp
        ends = range(len(weather) - 1, len(weather) - 1 - count // len(files) * 5, -5)
        years += [weather[end - 364 : end + 1] for end in ends]
    if years:
        x = np.array(years)
        yield Inputs(from_onnx(MODELS / "discharge" / "1" / "model.onnx"), x, 5, x.mean((0, 1)))


Source = Callable[[], Iterator[Inputs]]

SERIES: dict[str, Source] = {
    "motif pair, LSTM, T = 400": lambda: _case("lstm_motif_pair", 60, truth=True),
    "motifs, dropout and smoothing, LSTM, T = 400": lambda: _trained("smooth_motifs", motifs, 400, 5, 40),
    "motifs, two bidirectional LSTM layers, T = 150": lambda: _trained("stacked_motifs", motifs, 150, 5, 60),
    "event sums, GRU, T = 240": lambda: _trained("gru_events", events, 240, 1, 40),
    "event sums, GRU, T = 1,000": lambda: _trained("gru_events", events, 1000, 4, 12),
    "event sums, LSTM, T = 240": lambda: _trained("lstm_events", events, 240, 1, 40),
    "river, LSTM, T = 365": lambda: _case("lstm_river", 50, truth=False),
    "bundled `discharge`, T = 365": lambda: _rivers(40),
}
