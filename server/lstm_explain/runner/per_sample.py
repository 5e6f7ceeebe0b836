# SPDX-License-Identifier: Apache-2.0
"""Explains some samples of a batch as if there were no others, and combines the answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lstm_explain.cancellation import current_scope
from lstm_explain.errors import CostError, Error
from lstm_explain.graph.ir import Array
from lstm_explain.methods.background import Background
from lstm_explain.methods.base import BaselineMethod, Method
from lstm_explain.program.attribution import Attribution, joined_samples, place_samples, take_samples
from lstm_explain.runner.baselines import resolve_baselines
from lstm_explain.runner.model_runner import ExplainTask
from lstm_explain.runner.scores import Scores
from lstm_explain.target import Target, of_samples, resolved, weights_of_sample

Rows = Sequence[int]
Explain = Callable[[ExplainTask, Method], Attribution]
SCORE_TOLERANCE = 1e-4  # tolerance of the explained value outside its batch, relative to the largest of the batch


@dataclass(frozen=True)
class SampleGroup:
    """Samples that are explained together. rows: their positions in the batch."""

    rows: Rows
    result: Attribution


def explain_per_sample(task: ExplainTask, method: Method, explain: Explain) -> Attribution:
    """Explains every sample separately: selected from its batch, or where that is not possible, weighted within the
    batch.

    Raises CostError where the latter would run the model on more samples than the current scope allows.
    """
    scores = Scores(task)
    parts, agree = [], True
    try:
        for row in range(scores.batch):
            own, how = select_samples(task, method, scores, [row])
            found = explain(own, how)
            # Some methods explain another value, such as a margin.
            explained = found.explained if found.quantity == scores.quantity else Scores(own).explained
            agree = agree and scores_agree(scores, [row], explained)
            parts.append(SampleGroup([row], found))
    except Error:  # The model may accept only one batch size.
        agree = False
    if agree:
        return combine(task, scores, parts)
    del parts
    _check_samples(method, scores.batch)
    return _combine_whole(scores, (explain(_weighted(task, scores, row), method) for row in range(scores.batch)))


def too_many_samples(method: Method, samples: int, limit: int, reason: str = "") -> CostError:
    """samples: on how many the method would run the model."""
    problem = f"{method.name} would run the model on {samples} samples, at most {limit} are allowed"
    return CostError(f"{problem}{reason}", samples)


def _check_samples(method: Method, batch: int) -> None:
    """Only now is it known that the whole batch goes through the model for each of its samples."""
    samples = batch * batch * method.fixed_runs
    scope = current_scope()
    if scope is not None and scope.max_samples is not None and samples > scope.max_samples:
        reason = f": the model mixes the {batch} samples of a batch, so explaining each of them takes the whole batch"
        raise too_many_samples(method, samples, scope.max_samples, reason)


def select_samples(task: ExplainTask, method: Method, scores: Scores, rows: Rows) -> tuple[ExplainTask, Method]:
    """Returns the same question about these samples only. Inputs that all samples share stay whole."""
    at = np.asarray(rows)
    target, selection = task.target, scores.selection
    fixed = resolved(target, selection, target.output)
    axes = {name: batch_axis(task, name, scores.batch) for name in task.inputs}
    inputs = take_samples(task.inputs, axes, at)
    if isinstance(method, BaselineMethod) and not (method.baseline is None or isinstance(method.baseline, Background)):
        baselines = resolve_baselines(method.baseline, task.inputs, task.runner.reachable(task.head.value))
        method = method.with_baseline(take_samples(baselines, axes, at))
    groups = take_samples(task.groups, axes, at)
    return replace(task, inputs=inputs, target=of_samples(fixed, at), groups=groups), method


def scores_agree(scores: Scores, rows: Rows, explained: Array) -> bool:
    """Returns whether samples have the same explained value on their own, `explained`, as in the batch."""
    expected = scores.explained[list(rows)]
    tolerance = SCORE_TOLERANCE * float(np.abs(scores.explained).max(initial=0.0))
    return explained.shape == expected.shape and np.allclose(explained, expected, rtol=SCORE_TOLERANCE, atol=tolerance)


def combine(task: ExplainTask, scores: Scores, parts: Sequence[SampleGroup]) -> Attribution:
    """Returns one answer for the batch. Relevance of inputs that samples share is summed."""
    results = [part.result for part in parts]

    def placed(arrays: Sequence[Mapping[str, Array]], name: str) -> Array:
        axis = batch_axis(task, name, scores.batch)
        placements = [(part.rows, array[name]) for part, array in zip(parts, arrays, strict=True)]
        return place_samples(task.inputs[name].shape, axis, placements)

    relevance = {name: placed([result.relevance for result in results], name) for name in task.inputs}
    order = np.argsort(np.concatenate([np.asarray(part.rows) for part in parts]))
    squares = [{name: error**2 for name, error in result.standard_error.items()} for result in results]
    whole = joined_samples(results, order, relevance, scores.selection, scores.values)
    whole.standard_error = {name: np.sqrt(placed(squares, name)) for name in squares[0]}
    return whole


def batch_axis(task: ExplainTask, name: str, batch: int) -> int | None:
    """Returns the batch axis of an input; None where its samples share it."""
    axis, shape = task.runner.axes[name].batch, task.inputs[name].shape
    return axis if axis is not None and axis < len(shape) and shape[axis] == batch else None


def _weighted(task: ExplainTask, scores: Scores, row: int) -> ExplainTask:
    """Returns the whole batch as one sample, of which only the output of this row is explained."""
    weights, axis = scores.selection.weights, task.target.batch_axis
    assert axis is not None
    alone = weights_of_sample(weights, axis, row)
    target = Target(task.target.output, None, None, None, alone, task.target.pre_activation)
    return replace(task, target=target, context_size=scores.batch)


def _combine_whole(scores: Scores, parts: Iterable[Attribution]) -> Attribution:
    """Combines answers that each cover the whole batch: their relevance does not overlap, so it is summed.

    Only one of them is in memory at a time: each is as large as the batch, and there is one per sample.
    """
    relevance: dict[str, Array] = {}
    errors: dict[str, Array] = {}
    results = []
    for part in parts:
        relevance = {name: array + relevance.get(name, 0) for name, array in part.relevance.items()}
        errors = {name: np.hypot(array, errors.get(name, 0)) for name, array in part.standard_error.items()}
        results.append(replace(part, relevance={}, values={}, standard_error={}))
    whole = joined_samples(results, np.arange(len(results)), relevance, scores.selection, scores.values)
    whole.standard_error = errors
    return whole
