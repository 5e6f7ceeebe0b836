# SPDX-License-Identifier: Apache-2.0
"""Scores an output by its margin: how far the prediction is from turning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from lstm_explain.errors import MethodError
from lstm_explain.graph.ir import Array
from lstm_explain.program.head import Head
from lstm_explain.runner.model_runner import ExplainTask
from lstm_explain.runner.scores import Scores

MARGIN = "margin"  # the quantity that such scores explain


def margins(
    task: ExplainTask,
    method: str,
    threshold: float | None,
    *,
    begin_alike: bool = False,
    values: Mapping[str, Array] | None = None,
) -> Scores:
    """Scores of the target's entry minus the largest other entry on the last axis, or minus `threshold`.

    The value before the activation is scored, whose order is that of the output. An output of one entry that ends in a
    Sigmoid has the threshold 0. method: named in the MethodError where the output has neither classes nor a threshold.
    begin_alike, values: see Scores.
    """
    target = task.target
    if target.weights is not None or target.contrast is not None or target.measure is not None:
        raise MethodError(f"{method}: the target is a sum of entries, expected a single one", field="target")
    if task.head.views:  # axes before them need not be those of the output
        task = replace(task, head=Head(task.output, ()))

    def link(value: Array) -> Array:
        if threshold is not None:
            return value - threshold
        if value.ndim and value.shape[-1] > 1 and target.batch_axis not in (-1, value.ndim - 1):
            return _beyond_others(value)
        if task.head.quantity == "logit":
            return value
        problem = f"output {task.output!r} has no classes: set `threshold`, which the value must cross"
        raise MethodError(f"{method}: {problem}", field="method.threshold")

    return Scores(task, link, begin_alike=begin_alike, values=values, quantity=MARGIN)


def _beyond_others(scores: Array) -> Array:
    """Returns each entry minus the largest of the others on the last axis."""
    second, first = np.moveaxis(np.partition(scores, -2, axis=-1)[..., -2:], -1, 0)
    largest = scores == first[..., None]
    return scores - np.where(largest, second[..., None], first[..., None])
