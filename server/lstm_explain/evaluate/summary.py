# SPDX-License-Identifier: Apache-2.0
"""Combines all measures of one model on one data set, for the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstm_explain.errors import InputError
from lstm_explain.evaluate.agreement import Agreement, agreement
from lstm_explain.evaluate.conservation import Conservation, conservation
from lstm_explain.evaluate.curves import Curves, deletion, insertion
from lstm_explain.evaluate.data import Array, Batch, labelled
from lstm_explain.evaluate.plot import line_chart
from lstm_explain.evaluate.randomisation import DRAWS, Randomisation, randomisation
from lstm_explain.methods.base import Baseline, Method, Players
from lstm_explain.model import Model
from lstm_explain.target import Target


@dataclass(frozen=True)
class Summary:
    """randomisation: None unless it was requested."""

    deletion: Curves
    insertion: Curves
    conservation: dict[str, Conservation]
    agreement: Agreement
    randomisation: Randomisation | None

    def rows(self) -> Iterator[tuple[str, list[float | None]]]:
        """Yields the areas under deletion and insertion, and the absorbed and residual shares, of each method."""
        areas = self.deletion.auc(), self.insertion.auc()
        for name in areas[0]:
            ledgers = self.conservation.get(name)
            shares = [None, None] if ledgers is None else [ledgers.share("absorbed"), ledgers.share("residual")]
            yield name, [areas[0][name], areas[1][name], *shares]

    def as_json(self) -> dict[str, Any]:
        def curves(found: Curves) -> dict[str, Any]:
            means = {**found.curves, "random": found.random, **{f"reverse {n}": c for n, c in found.reverse.items()}}
            return {
                "fractions": found.fractions.tolist(),
                "mean": {n: c.mean.tolist() for n, c in means.items()},
                "auc": found.auc(),
            }

        checked = self.randomisation
        return {
            "deletion": curves(self.deletion),
            "insertion": curves(self.insertion),
            "conservation": {
                n: {entry: c.share(entry) for entry in ("inputs", "initial_states", "absorbed", "residual")}
                for n, c in self.conservation.items()
            },
            "agreement": {"names": self.agreement.names, "correlation": self.agreement.correlation.tolist()},
            "randomisation": checked
            and {
                "nodes": checked.nodes,
                "correlation": {n: c.tolist() for n, c in checked.correlation.items()},
                "spread": {n: s.tolist() for n, s in checked.spread.items()},
            },
        }

    def chart(self) -> str:
        """Returns the deletion curves as SVG."""
        found = self.deletion
        lines = {**{n: c.mean.tolist() for n, c in found.curves.items()}, "random": found.random.mean.tolist()}
        return line_chart(found.fractions.tolist(), lines, "deletion", "share deleted, most relevant first", "score")


def count_steps(batches: int, methods: int, *, randomise: bool, nodes: int) -> int:
    """Returns how often `progress` is called, at most."""
    return batches * (2 * (methods + 1) + 2 * methods) + (DRAWS * nodes if randomise else 0)


def split(model: Model, inputs: Batch, size: int) -> list[dict[str, Array]]:
    """Batches of at most `size` samples. Raises InputError where the inputs have different numbers of samples."""
    counts = {
        n: a.shape[axis] for n, a in inputs.items() if (axis := model.axes[n].batch) is not None and a.ndim > axis
    }
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise InputError(f"inputs have different numbers of samples: {listed}")
    total = next(iter(counts.values()), 1)
    starts = range(0, total, size)
    return [
        {n: _rows(a, model.axes[n].batch if n in counts else None, s, size) for n, a in inputs.items()} for s in starts
    ]


def _rows(array: Array, axis: int | None, start: int, size: int) -> Array:
    if axis is None:
        return array
    return np.ascontiguousarray(array.take(np.arange(start, min(start + size, array.shape[axis])), axis))


def summarise(
    model: Model,
    data: Sequence[Batch],
    methods: Sequence[Method] | Mapping[str, Method],
    target: Target,
    *,
    baseline: Baseline = None,
    over: Players = "steps",
    seed: int = 0,
    randomise: bool = False,
    progress: Callable[[str], None],
) -> Summary:
    """Computes all measures; `progress` is called with the name of each piece that is done."""
    named = labelled(methods)
    shared: dict[str, Any] = {"baseline": baseline, "over": over, "seed": seed, "progress": progress}
    return Summary(
        deletion(model, data, named, target, **shared),
        insertion(model, data, named, target, **shared),
        conservation(model, data, named, target, progress=progress),
        agreement(model, data, named, target, over=over, progress=progress),
        randomisation(model, data, named, target, over=over, seed=seed, progress=progress) if randomise else None,
    )
