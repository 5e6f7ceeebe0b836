# SPDX-License-Identifier: Apache-2.0
"""Measures how much of the explained value reaches the inputs, over a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lstm_explain.evaluate.data import Array, Data, Progress, batches, ignore_progress, labelled
from lstm_explain.methods import Method
from lstm_explain.model import Model
from lstm_explain.target import Target


@dataclass(frozen=True)
class Conservation:
    """The entries of the ledger, [samples] each: explained = inputs + initial_states + absorbed + residual."""

    explained: Array
    inputs: Array
    initial_states: Array
    absorbed: Array
    residual: Array

    def share(self, entry: str) -> float:
        """Returns the sum of the absolute entries, as a share of the sum of the absolute explained values."""
        return float(np.abs(getattr(self, entry)).sum() / max(np.abs(self.explained).sum(), np.finfo(float).tiny))

    @property
    def correlation(self) -> float:
        """Pearson's correlation of the explained value with the inputs' relevance; NaN where one of them is
        constant.
        """
        if np.ptp(self.explained) == 0 or np.ptp(self.inputs) == 0:
            return float("nan")
        return float(np.corrcoef(self.explained, self.inputs)[0, 1])


def conservation(
    model: Model,
    data: Data,
    methods: Sequence[Method] | Mapping[str, Method],
    target: Target = Target(),  # noqa: B008 - frozen
    *,
    progress: Progress = ignore_progress,
) -> dict[str, Conservation]:
    """Returns the ledgers of all samples, by the method's name."""
    named = labelled(methods)
    rows: dict[str, list[list[Array]]] = {name: [] for name in named}
    for batch in batches(data):
        for name, method in named.items():
            e = model.explain(batch, method, target)
            ledger = e.ledger
            rows[name].append([e.explained, ledger.inputs, ledger.initial_states, ledger.absorbed, ledger.residual])
            progress(name)
    return {name: Conservation(*(np.concatenate(p) for p in zip(*parts, strict=True))) for name, parts in rows.items()}
