# SPDX-License-Identifier: Apache-2.0
"""The rules of AttnLRP in attention, beside the rules to which a softmax is a gate, on three trained networks."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from common import DEFAULT, ROOT, table
from lookups import KEYS, Array, sequences

import lstm_explain as lx
from lstm_explain.calibration.measure import Bench, Measured
from lstm_explain.calibration.race import difference
from lstm_explain.evaluate.agreement import rank_correlation

FOLDER = ROOT / "scripts" / "results" / "attention"
KINDS = ("additive", "fusion", "hybrid")
SAMPLES = 200
ATTN = "LRP-attn, default stabiliser"
METHODS = {
    DEFAULT: lx.LRP(),
    ATTN: lx.LRP("attn"),
    "LRP-half, default stabiliser": lx.LRP("half"),
    "LRP-all, ε = 0.001": lx.LRP(epsilon=1e-3),
    "LRP-attn, ε = 0.001": lx.LRP("attn", epsilon=1e-3),
    "Gradient × Input": lx.GradientTimesInput(),
    "Integrated Gradients": lx.IntegratedGradients(),
    "Occlusion": lx.Occlusion(over="steps"),
}


def run(progress: Callable[[str], None]) -> str:
    """Return the section of docs/results.md."""
    rows, gains = [], []
    for kind, task in itertools.product(KINDS, KEYS):
        progress(f"attention: {kind}, {task}")
        model = lx.load(FOLDER / f"{kind}_{task}.onnx")
        x, answers, asked = sequences(task, SAMPLES, np.random.default_rng(7))
        bench = Bench(model, {"x": x}, lx.Target(), None, "steps")
        given = model.predict({"x": x})["y"][:, 0]
        fit = 1 - ((given - answers) ** 2).mean() / answers.var()
        others = [_by_step(model, x, method)[0] for method in (lx.Occlusion(), lx.ShapleySampling(permutations=25))]
        found: dict[str, Measured] = {}
        for label, method in METHODS.items():
            relevance, e = _by_step(model, x, method)
            found[label] = bench.of_method(method)
            matters = asked | (np.arange(x.shape[1]) == x.shape[1] - 1)
            size = np.abs(relevance)
            figures = [np.nanmean(rank_correlation(relevance, other)) for other in others]
            figures += [found[label].deletion.mean(), found[label].insertion.mean()]
            figures += [(size * matters).sum() / size.sum(), size[:, -1].sum() / size.sum()]
            figures.append(np.median(np.abs(e.ledger.absorbed) / np.abs(e.explained)))
            rows.append([f"{kind}, {task} (R² {fit:.3f})", label, *(f"{f:.2f}" for f in figures)])
        paired = difference(found[ATTN].faithfulness, found[DEFAULT].faithfulness)
        gains.append([f"{kind}, {task}", f"{paired.mean:+.3f} ± {paired.half:.3f}"])
    head = [
        "network", "method", "Occlusion", "Shapley", "fall", "rise", "on steps with the key", "on the asking step",
        "absorbed ÷ explained",
    ]  # fmt: skip
    return f"""## Attention

`product_rule="attn"` has the rules of AttnLRP in attention ([methods.md](methods.md#attention)); under the other rules,
a softmax is a gate. `training/attention.py` trained networks of three kinds: "additive", an LSTM whose last state asks
and whose states answer; "fusion", an LSTM and self-attention with gated residual connections and LayerNorm, as in a
temporal fusion transformer; and "hybrid", a selective scan and then self-attention, with residual connections and
RMSNorm, as in Jamba. The last step of a sequence asks for a key: what is the mean of the numbers beside it ("mean"), or
does it occur ("occurs")? Columns, over {SAMPLES} new sequences: the mean rank correlation of relevance per step with
Occlusion and with Shapley values (25 orders, each step replaced by zeros); the mean fall of the answer when the most
relevant steps are replaced by zeros, and its mean rise when they are put back, from one to half of them in geometric
steps, as in a [calibration](methods.md#calibration); the share of absolute relevance on the steps with the key that is
asked for, and on the asking step, which is one of them; and the median share that is absorbed.

{table(head, rows)}
What LRP-attn gains over LRP-all in fall + rise, both with the default stabiliser, paired, with its 95 % interval:

{table(["network", "gain"], gains)}"""


def _by_step(model: lx.Model, x: Array, method: lx.Method) -> tuple[Array, lx.Explanation]:
    e = model.explain({"x": x}, method)
    return e.relevance["x"].sum(axis=2), e
