"""How much of the explained value reaches the inputs, over a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lstm_explain.evaluate.data import Array, Data, Progress, batches, labelled, nothing
from lstm_explain.methods import Method
from lstm_explain.model import Model
from lstm_explain.target import Target


@dataclass(frozen=True)
class Conservation:
    """The ledger's entries, [samples] each: explained = inputs + initial_states + absorbed + residual."""

    explained: Array
    inputs: Array
    initial_states: Array
    absorbed: Array
    residual: Array

    def share(self, entry: str) -> float:
        """The sum of absolute entries as a share of the sum of absolute explained values."""
        return float(np.abs(getattr(self, entry)).sum() / max(np.abs(self.explained).sum(), np.finfo(float).tiny))

    @property
    def correlation(self) -> float:
        """Pearson's, between what is explained and what reaches the inputs; NaN where one of them is constant."""
        if np.ptp(self.explained) == 0 or np.ptp(self.inputs) == 0:
            return float("nan")
        return float(np.corrcoef(self.explained, self.inputs)[0, 1])


def conservation(
    model: Model,
    data: Data,
    methods: Sequence[Method] | Mapping[str, Method],
    target: Target = Target(),  # noqa: B008 - frozen
    *,
    progress: Progress = nothing,
) -> dict[str, Conservation]:
    """By the method's name, the ledgers of all samples."""
    named = labelled(methods)
    rows: dict[str, list[list[Array]]] = {name: [] for name in named}
    for batch in batches(data):
        for name, method in named.items():
            e = model.explain(batch, method, target)
            ledger = e.ledger
            rows[name].append([e.explained, ledger.inputs, ledger.initial_states, ledger.absorbed, ledger.residual])
            progress(name)
    return {name: Conservation(*(np.concatenate(p) for p in zip(*parts, strict=True))) for name, parts in rows.items()}
