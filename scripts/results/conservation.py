# SPDX-License-Identifier: Apache-2.0
"""Conservation with `bias_factor` 1 (Arras et al. 2017, arXiv 1706.07206, section 3), and how their code spreads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import toy
import treebank
from bundled_models import HELD_OUT, weather
from common import MODELS, held, table
from corridor import wander

import lstm_explain as lx

Array = npt.NDArray[Any]
SENTENCES, WINDOWS, COMPARED = 512, 8, 64
EPSILONS = (1e-3, 1e-6, 1e-9, 0.0)


def run(data_folder: Path, progress: Callable[[str], None]) -> str:
    """Return the section of docs/results.md."""
    data = {
        "addition": [{"x": batch.x} for batch in toy.draw(seed=20190912)],
        "corridor": [{"x": wander(np.random.default_rng(2019), 1000).x}],
    }
    if found := weather(data_folder / "camels", HELD_OUT, WINDOWS):
        data["discharge"] = found
    path = data_folder / "sst" / "fine.test.txt"
    sentences = [s.ids for s in treebank.read(path)][::4][:SENTENCES] if path.is_file() else []
    if sentences:
        data["sentiment"] = [{"tokens": tokens} for _, tokens in treebank.batches(sentences)]
    rows, worst = [], 0.0
    for name, batches in data.items():
        progress(f"conservation with bias_factor 1: {name}")
        model = lx.load(MODELS / name / "1" / "model.onnx")
        for epsilon in EPSILONS:
            deviation, states = _deviation(model, batches, lx.LRP(epsilon=epsilon, bias_factor=1))
            plain, _ = _deviation(model, batches, lx.LRP(epsilon=epsilon))
            worst = max(worst, float(deviation.max()))
            cells = (f"{v:.1e}" for v in (np.median(deviation), deviation.max(), np.median(states), np.median(plain)))
            rows.append([name, f"{epsilon:g}", *(cell.replace("-", "−") for cell in cells)])
    claim = f"relevance is conserved in every sample within 0.1 % (largest deviation: {worst:.1e})".replace("-", "−")
    return f"""## Conservation with bias_factor 1

With `bias_factor=1`, biases and stabilisers absorb nothing: the inputs of each sum share them. Then the relevance of
the inputs and of the initial states must add up to the explained value, whatever ε is. Arras et al. use this to check
their implementation. Columns: the deviation |explained − inputs − initial states| of a sample, as median and largest
of all samples; the relevance of the initial states, as median of absolute values; and for comparison, the median
deviation with `bias_factor=0`, which is what biases and ε absorb. The unit is the mean |explained| of the data. The
product rule is all; the engine computes in float32, and in float64 where rounding would show.

{table(["model", "ε", "deviation, median", "largest", "initial states", "bias_factor 0"], rows)}
{held(claim, worst < 1e-3)}

{_spreads(sentences[:: max(1, len(sentences) // COMPARED)], progress)}"""


def _deviation(model: lx.Model, batches: list[dict[str, Array]], method: lx.LRP) -> tuple[Array, Array]:
    """What inputs and initial states miss of the explained value, and the states' part, of every sample, in units of
    the mean absolute explained value.
    """
    missed, states, values = [], [], []
    for batch in batches:
        e = model.explain(batch, method, lx.Target())
        inputs = sum(_per_sample(model, name, r) for name, r in e.relevance.items())
        missed.append(np.abs(e.explained - inputs - e.ledger.initial_states))
        states.append(np.abs(e.ledger.initial_states))
        values.append(np.abs(e.explained))
    mean = np.concatenate(values).mean()
    return np.concatenate(missed) / mean, np.concatenate(states) / mean


def _per_sample(model: lx.Model, name: str, relevance: Array) -> Array:
    batch = model.axes[name].batch or 0
    return np.moveaxis(relevance.astype(np.float64), batch, 0).reshape(relevance.shape[batch], -1).sum(axis=1)


# --- how the stabiliser of the cell state is spread ------------------------------------------------------------------


@dataclass(frozen=True)
class Direction:
    """One direction of the model's LSTM: weights with gates i, o, f, c."""

    W: Array
    R: Array
    b: Array


def _spreads(rows: list[list[int]], progress: Callable[[str], None]) -> str:
    if not rows:
        return "The comparison with the released code is omitted because the treebank is missing.\n"
    progress("how the stabiliser of the cell state is spread")
    model, weights = treebank.load(), _weights()
    agree, differ = [], []
    for ids in rows:
        e = model.explain({"tokens": np.array([ids])}, lx.LRP(epsilon=1e-3, bias_factor=1))
        index, scale = int(e.outputs["logits"].argmax()), float(np.abs(e.relevance["tokens"]).max())
        ours, theirs = (word_relevance(weights, ids, index, over_all=over_all) for over_all in (False, True))
        agree.append(float(np.abs(ours - e.relevance["tokens"][0]).max()) / scale)
        differ.append(100 * float(np.abs(theirs - ours).max()) / scale)
    close = f"{max(agree):.1e}".replace("-", "−")
    middle, most = f"{np.median(differ):.2g}", f"{max(differ):.2g}"
    return f"""\
The code that the authors released (github.com/ArrasL/LRP_for_LSTM) spreads the stabiliser of the cell state
differently. The cell state c = f · c' + i · g has two terms per unit, and here each term receives half of the ε of its
own unit.
Their code calls the function for linear layers with an identity matrix and `bias_nb_units` 2d, so all 2d terms of the
layer share the ε of every unit. Both conserve relevance, and they differ only with a `bias_factor` above 0. A float64
implementation of both in this script, on {len(rows)} test sentences and the predicted class (`sentiment`, ε = 0.001,
`bias_factor=1`), gives the numbers of the engine with our spread (within {close} of the largest relevance of a
sentence). With theirs, the largest difference of a word is {middle} % of the largest relevance of its sentence at the
median, and {most} % at most.
"""


def _weights() -> Mapping[str, Array]:
    graph = onnx.load(MODELS / "sentiment" / "1" / "model.onnx").graph
    return {w.name: onnx.numpy_helper.to_array(w).astype(np.float64) for w in graph.initializer}


def word_relevance(weights: Mapping[str, Array], ids: list[int], index: int, *, over_all: bool) -> Array:
    """[words]: LRP-all with ε = 0.001 and bias_factor 1 of one class. over_all: as the released code spreads it."""
    x = weights["embedding.weight"][ids]
    cells = []
    for d, order in ((0, 1), (1, -1)):
        b = weights["lstm.B"][d].reshape(2, -1).sum(axis=0)
        cells.append((Direction(weights["lstm.W"][d], weights["lstm.R"][d], b), order))
    passes = [forward(cell, x[::order]) for cell, order in cells]
    h = np.concatenate([steps[-1][3] for steps in passes])
    w, b = weights["classifier.weight"][index], weights["classifier.bias"][index]
    score = np.array([w @ h + b])
    R_h = linear(h, w[None], np.array([b]), score, score)
    total = np.zeros(len(ids))
    for (cell, order), steps, R in zip(cells, passes, np.split(R_h, 2), strict=True):
        total += backward(cell, x[::order], steps, R, over_all=over_all).sum(axis=1)[::order]
    return total


def forward(cell: Direction, x: Array) -> list[tuple[Array, Array, Array, Array]]:
    """Of every step: kept = f · c_{t-1}, added = i · g, the pre-activation of g, and h."""
    h = c = np.zeros(cell.R.shape[1])
    steps = []
    for v in x:
        z = cell.W @ v + cell.R @ h + cell.b
        i, o, f, g = np.split(z, 4)
        kept, added = c / (1 + np.exp(-f)), np.tanh(g) / (1 + np.exp(-i))
        c = kept + added
        h = np.tanh(c) / (1 + np.exp(-o))
        steps.append((kept, added, g, h))
    return steps


def backward(
    cell: Direction, x: Array, steps: list[Any], R_h: Array, *, over_all: bool, epsilon: float = 1e-3
) -> Array:
    """[steps, features]."""
    units = len(R_h)
    Wg, Rg, b = cell.W[-units:], cell.R[-units:], cell.b[-units:]
    R_c, R_x = np.zeros(units), np.zeros(x.shape)
    for t in reversed(range(len(x))):
        kept, added, g, _ = steps[t]
        c = kept + added
        density = (R_c + R_h) / (c + epsilon * np.where(c >= 0, 1, -1))
        shared = density * epsilon * np.where(c >= 0, 1, -1)
        share = np.full(units, shared.sum() / (2 * units)) if over_all else shared / 2
        R_c, R_g = kept * density + share, added * density + share
        before = steps[t - 1][3] if t else np.zeros(units)
        both = linear(np.concatenate([x[t], before]), np.hstack([Wg, Rg]), b, g, R_g)
        R_x[t], R_h = both[: x.shape[1]], both[x.shape[1] :]
    return R_x


def linear(a: Array, W: Array, b: Array, z: Array, R: Array, epsilon: float = 1e-3) -> Array:
    """The epsilon-rule with bias_factor 1."""
    added = epsilon * np.where(z >= 0, 1, -1)
    density = R / (z + added)
    return np.asarray(a * (W.T @ density) + ((b + added) * density).sum() / len(a))
