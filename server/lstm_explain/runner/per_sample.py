"""Some samples of a batch explained as if there were no others, and the answers joined."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lstm_explain.cancellation import current_scope
from lstm_explain.errors import Error, MethodError
from lstm_explain.graph.ir import Array
from lstm_explain.methods.base import BaselineMethod, Method
from lstm_explain.program.attribution import Attribution, joined_samples, place_samples, take_samples
from lstm_explain.runner.baselines import given_baselines
from lstm_explain.runner.model_runner import ExplainTask, Scores
from lstm_explain.target import Target, of_samples, weights_of_sample

Rows = Sequence[int]
Explain = Callable[[ExplainTask, Method], Attribution]
SAME = 1e-4  # how far the value explained may be from the one in the batch, relative to the largest of all


@dataclass(frozen=True)
class SampleGroup:
    """Samples that are explained together. rows: their places in the batch."""

    rows: Rows
    found: Attribution


def one_by_one(task: ExplainTask, method: Method, explain: Explain) -> Attribution:
    """Explains every sample by itself: taken from its batch, or where that is not possible, weighed alone in all of it.

    Raises MethodError where the latter would run the model on more samples than whoever watches allows.
    """
    scores = Scores(task)
    try:
        parts = [SampleGroup([row], explain(*cut(task, method, scores, [row]))) for row in range(scores.batch)]
    except Error:  # the model may take batches of one size only
        parts = []
    if parts and all(agrees(scores, part) for part in parts):
        return joined(task, scores, parts)
    del parts
    _check_samples(method, scores.batch)
    return _joined_whole(scores, (explain(_weighed(task, scores, row), method) for row in range(scores.batch)))


def too_many(method: Method, samples: int, most: int, why: str = "") -> MethodError:
    """samples: how many the model would be run on."""
    problem = f"{method.name} would run the model on {samples} samples, at most {most} are allowed"
    return MethodError(f"{problem}{why}", field="method")


def _check_samples(method: Method, batch: int) -> None:
    """That the whole batch goes through the model for each of its samples shows only now."""
    samples = batch * batch * method.fixed_runs
    watch = current_scope()
    if watch is not None and watch.most_samples is not None and samples > watch.most_samples:
        why = f": the model mixes the {batch} samples of a batch, and each of them takes all to be explained"
        raise too_many(method, samples, watch.most_samples, why)


def cut(task: ExplainTask, method: Method, scores: Scores, rows: Rows) -> tuple[ExplainTask, Method]:
    """The same question of these samples only. Inputs that all samples share stay whole."""
    at = np.asarray(rows)
    target, selection = task.target, scores.selection
    fixed = replace(target, index=selection.index, contrast=selection.contrast)
    axes = {name: batch_axis(task, name, scores.batch) for name in task.inputs}
    inputs = take_samples(task.inputs, axes, at)
    if isinstance(method, BaselineMethod) and method.baseline is not None:
        given = given_baselines(method.baseline, task.inputs, task.runner.reachable(task.head.value))
        method = method.against(take_samples(given, axes, at))
    return ExplainTask(task.runner, inputs, task.output, task.head, of_samples(fixed, at)), method


def agrees(scores: Scores, part: SampleGroup) -> bool:
    """Whether the samples alone have the scores that they have in the batch."""
    wanted, came = scores.explained[list(part.rows)], part.found.explained
    return came.shape == wanted.shape and bool(np.allclose(came, wanted, rtol=SAME, atol=SAME * _largest(scores)))


def joined(task: ExplainTask, scores: Scores, parts: Sequence[SampleGroup]) -> Attribution:
    """One answer for the batch. What goes to an input that samples share is added up."""
    found = [part.found for part in parts]

    def placed(arrays: Sequence[Mapping[str, Array]], name: str) -> Array:
        axis = batch_axis(task, name, scores.batch)
        there = [(part.rows, array[name]) for part, array in zip(parts, arrays, strict=True)]
        return place_samples(task.inputs[name].shape, axis, there)

    relevance = {name: placed([one.relevance for one in found], name) for name in task.inputs}
    order = np.argsort(np.concatenate([np.asarray(part.rows) for part in parts]))
    squares = [{name: error**2 for name, error in one.standard_error.items()} for one in found]
    whole = joined_samples(found, order, relevance, scores.selection, scores.values)
    whole.standard_error = {name: np.sqrt(placed(squares, name)) for name in squares[0]}
    return whole


def batch_axis(task: ExplainTask, name: str, batch: int) -> int | None:
    """Of an input; None where its samples share it."""
    axis, shape = task.runner.axes[name].batch, task.inputs[name].shape
    return axis if axis is not None and axis < len(shape) and shape[axis] == batch else None


def _weighed(task: ExplainTask, scores: Scores, row: int) -> ExplainTask:
    """The whole batch as one sample, of which only this row's output is explained."""
    weights, axis = scores.selection.weights, task.target.batch_axis
    assert axis is not None
    alone = weights_of_sample(weights, axis, row)
    target = Target(task.target.output, None, None, None, alone, task.target.pre_activation)
    return ExplainTask(task.runner, task.inputs, task.output, task.head, target, company=scores.batch)


def _joined_whole(scores: Scores, parts: Iterable[Attribution]) -> Attribution:
    """Each of the whole batch: a sample's relevance lies in places of its own, and adds up.

    One part is there at a time: they are as large as the batch, and as many as it has samples.
    """
    relevance: dict[str, Array] = {}
    found = []
    for part in parts:
        relevance = {name: array + relevance.get(name, 0) for name, array in part.relevance.items()}
        found.append(replace(part, relevance={}, values={}))
    return joined_samples(found, np.arange(len(found)), relevance, scores.selection, scores.values)


def _largest(scores: Scores) -> float:
    return float(np.abs(scores.explained).max(initial=0.0))
