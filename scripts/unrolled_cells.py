# SPDX-License-Identifier: Apache-2.0
"""Compares explanations of unrolled cells with Occlusion: walked step by step as they are written, and as one loop.

Prints a row for each kind of cell, over samples: the mean correlation of the relevance of steps with the effect of
their occlusion, and the share of equal signs among the fifth of the steps with the largest effect; and how much these
change when the repeats of the cell run as one loop, with the standard error of the change.
"""

from __future__ import annotations

import sys

import numpy as np

import lstm_explain as lx
from lstm_explain.model import Model
from tests.graph_builder import AnyArray
from tests.recurrent_kinds import KINDS, WIDTH, recurrent_kind

STEPS, SAMPLES, SEEDS = 24, 24, 10
TARGET = lx.Target(index=0)
METHODS = {"all": lx.LRP(), "half": lx.LRP("half")}


def agreement(kind: str, method: lx.Method, *, fold: bool) -> AnyArray:
    """Returns the correlation and the share of equal signs of each sample, [2, samples]."""
    found = []
    for seed in range(SEEDS):
        model = Model(recurrent_kind(kind, "unrolled", STEPS, seed), fold=fold)
        x = {"x": np.random.default_rng(seed + 50).standard_normal((SAMPLES, STEPS, WIDTH)).astype(np.float32)}
        effects = model.explain(x, lx.Occlusion(), TARGET).relevance["x"].sum(axis=2)
        for own, effect in zip(model.explain(x, method, TARGET).relevance["x"].sum(axis=2), effects, strict=True):
            top = np.argsort(-np.abs(effect))[: STEPS // 5]
            found.append((np.corrcoef(own, effect)[0, 1], np.mean(np.sign(own[top]) == np.sign(effect[top]))))
    return np.array(found).T


def main() -> None:
    print("| cell | rule | correlation, as written | difference as a loop | equal signs, as written | difference |")
    print("|---|---|---:|---:|---:|---:|")
    for kind in sys.argv[1:] or KINDS:
        for name, method in METHODS.items():
            written, loop = (agreement(kind, method, fold=fold) for fold in (False, True))
            change = loop - written
            errors = change.std(axis=1) / np.sqrt(change.shape[1])
            cells = (
                f"{mean:.3f} | {difference:+.3f} ± {error:.3f}"
                for mean, difference, error in zip(written.mean(axis=1), change.mean(axis=1), errors, strict=True)
            )
            print(f"| {kind} | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
