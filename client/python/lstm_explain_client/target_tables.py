# SPDX-License-Identifier: Apache-2.0
"""Puts the relevance for several targets into tables: target by step, and feature by step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstm_explain_client import naming, views
from lstm_explain_client.explained_batch import Array, ExplainedBatch


@dataclass(frozen=True, eq=False)
class Table:
    """One input of one sample for several targets. relevance: [steps, rows]. rows: names of the targets or features.
    steps: a label per step, or None. total: what the sum over the rows is called.
    """

    name: str
    relevance: Array
    rows: list[str]
    steps: Sequence[Any] | None
    total: str


def by_target(explanations: Sequence[ExplainedBatch], sample: int, steps: Sequence[Any] | None) -> Iterator[Table]:
    """Yield a table of targets by time steps for every input: the sum over the features."""
    explanations = explained(explanations, sample)
    for name, _, labels, parts in _views(explanations, sample, steps):
        names = [naming.target_name(one, sample) for one in explanations]
        yield Table(name, np.stack([part.sum(axis=1) for part in parts], axis=1), names, labels, "all targets")


def summed(explanations: Sequence[ExplainedBatch], sample: int, steps: Sequence[Any] | None) -> Iterator[Table]:
    """Yield a table of features by time steps for every input: the sum over the targets."""
    for name, features, labels, parts in _views(explained(explanations, sample), sample, steps):
        yield Table(name, np.sum(parts, axis=0), features, labels, "all features")


def explained(explanations: Sequence[ExplainedBatch], sample: int) -> list[ExplainedBatch]:
    """Return the explanations for the targets for which a condition, if there is one, left the sample in."""
    return [one for one in explanations if not one.why_not(sample)]


def _views(
    explanations: Sequence[ExplainedBatch], sample: int, steps: Sequence[Any] | None
) -> Iterator[tuple[str, list[str], Sequence[Any] | None, list[Array]]]:
    """Name, features, labels of the steps, and for each target the relevance [steps, features] of every input."""
    for same in zip(*(views.pictures(one, sample) for one in explanations), strict=True):
        first = same[0]
        parts = [view.relevance.reshape(len(view.relevance), -1).astype(np.float64) for view in same]
        if first.tokens is not None:
            kept = [i for i, token in enumerate(first.tokens) if token]
            words = [f"{first.tokens[i]}" for i in kept]
            yield first.name, [first.name], words, [part[kept] for part in parts]
        else:
            labels: Sequence[Any] | None = steps if steps is not None and len(steps) == len(first.relevance) else None
            yield first.name, first.labels, ["all steps"] if first.unit == "features" else labels, parts
