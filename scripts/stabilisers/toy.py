# SPDX-License-Identifier: Apache-2.0
"""Arras et al.'s toy tasks: the six figures for the bundled one-cell networks and their other seeds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scripts.stabilisers.networks import Network, from_onnx
from scripts.stabilisers.rules import Array, Rule
from scripts.stabilisers.sources import MODELS

SEQUENCES, LENGTHS = 300, (4, 11)


class Toy:
    """One network of one task with its test sequences, by length."""

    def __init__(self, network: Network) -> None:
        self.network = network
        rng, by_length = np.random.default_rng(3), dict[int, list[tuple[Array, int, int]]]()
        for _ in range(SEQUENCES):
            steps = int(rng.integers(*LENGTHS))
            x = np.zeros((steps, 3))
            x[:, 0] = rng.uniform(-1, 1, steps)
            a, b = sorted(rng.choice(steps, 2, replace=False).tolist())
            x[a], x[b] = (0, x[a, 0], 0), (0, 0, x[b, 0])
            by_length.setdefault(steps, []).append((x, a, b))
        self.groups = [(network.run(np.array([x for x, _, _ in rows])), rows) for rows in by_length.values()]

    def figures(self, rule: Rule) -> Array:
        """ρ(n_a, R_a), ρ(n_b, R_b) and the share of absolute relevance on both, in per cent."""
        found = []
        for run, rows in self.groups:
            relevance, _ = self.network.relevance(run, np.zeros(len(rows), int), rule)
            for (x, a, b), steps in zip(rows, relevance.sum(2), strict=True):
                share = (abs(steps[a]) + abs(steps[b])) / max(1e-12, np.abs(steps).sum())
                found.append((steps[a], x[a, 1], steps[b], x[b, 2], share))
        r_a, n_a, r_b, n_b, share = np.array(found).T
        return 100 * np.array([np.corrcoef(r_a, n_a)[0, 1], np.corrcoef(r_b, n_b)[0, 1], share.mean()])


def toys(task: str) -> Iterator[Toy]:
    folder = MODELS / task
    for path in sorted([folder / "1" / "model.onnx", *folder.glob("seeds/**/*.onnx")]):
        yield Toy(from_onnx(path))
