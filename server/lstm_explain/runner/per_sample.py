"""Some samples of a batch explained as if no others were there, and the answers put together again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lstm_explain.cancellation import current_scope
from lstm_explain.errors import Error, MethodError
from lstm_explain.graph.ir import Array
from lstm_explain.ledger import Ledger
from lstm_explain.methods.base import BaselineMethod, Method
from lstm_explain.program.propagation import Attribution, judged_together
from lstm_explain.runner.baselines import given_baselines
from lstm_explain.runner.model_runner import ExplainTask, MethodResult, Scores
from lstm_explain.target import Target, of_samples

Rows = Sequence[int]
Explain = Callable[[ExplainTask, Method], MethodResult]
SAME = 1e-4  # how far the value explained may be from the one in the batch, relative to the largest of all


@dataclass(frozen=True)
class SampleGroup:
    """Samples that are explained together. rows: their places in the batch."""

    rows: Rows
    found: MethodResult


def one_by_one(task: ExplainTask, method: Method, explain: Explain) -> MethodResult:
    """Every sample by itself, cut out of its batch; where that cannot be, weighed alone in the whole batch.

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
    inputs = {name: _taken(task, name, array, at, scores.batch) for name, array in task.inputs.items()}
    if isinstance(method, BaselineMethod) and method.baseline is not None:
        given = given_baselines(method.baseline, task.inputs, task.runner.reachable(task.head.value))
        baseline = {name: _taken(task, name, array, at, scores.batch) for name, array in given.items()}
        method = method.against(baseline)
    return ExplainTask(task.runner, inputs, task.output, task.head, of_samples(fixed, at)), method


def agrees(scores: Scores, part: SampleGroup) -> bool:
    """Whether the samples alone have the scores that they have in the batch."""
    wanted, came = scores.explained[list(part.rows)], part.found.answer.explained
    return came.shape == wanted.shape and bool(np.allclose(came, wanted, rtol=SAME, atol=SAME * _largest(scores)))


def joined(task: ExplainTask, scores: Scores, parts: Sequence[SampleGroup]) -> MethodResult:
    """One answer for the batch. What goes to an input that samples share is added up."""
    answers = [part.found.answer for part in parts]
    relevance = {name: _placed(task, name, [a.relevance[name] for a in answers], parts) for name in task.inputs}
    order = np.argsort(np.concatenate([np.asarray(part.rows) for part in parts]))
    errors = [part.found.standard_error for part in parts]
    spread = {name: np.sqrt(_placed(task, name, [e[name] ** 2 for e in errors], parts)) for name in errors[0]}
    notes = tuple(dict.fromkeys(note for part in parts for note in part.found.notes))
    answer = _answer(relevance, answers, order)
    return MethodResult(scores.values, scores.selection, answer, spread, parts[0].found.quantity, notes)


def _taken(task: ExplainTask, name: str, array: Array, rows: Array, batch: int) -> Array:
    axis = batch_axis(task, name, batch)
    return array if axis is None else np.ascontiguousarray(array.take(rows, axis))


def batch_axis(task: ExplainTask, name: str, batch: int) -> int | None:
    """Of an input; None where its samples share it."""
    axis, shape = task.runner.axes[name].batch, task.inputs[name].shape
    return axis if axis is not None and axis < len(shape) and shape[axis] == batch else None


def _placed(task: ExplainTask, name: str, arrays: Sequence[Array], parts: Sequence[SampleGroup]) -> Array:
    whole = np.zeros(task.inputs[name].shape, np.result_type(*arrays))
    axis = batch_axis(task, name, sum(len(part.rows) for part in parts))
    for array, part in zip(arrays, parts, strict=True):
        if axis is None:
            whole += array
        else:
            whole[(slice(None),) * axis + (list(part.rows),)] = array
    return whole


def _answer(relevance: dict[str, Array], answers: Sequence[Attribution], order: Array) -> Attribution:
    def row(arrays: Sequence[Array]) -> Array:
        return np.concatenate(arrays)[order]

    nodes = dict.fromkeys(name for answer in answers for name in answer.ledger.by_node)
    missing = [np.zeros(len(answer.explained)) for answer in answers]
    by_node = {
        name: row([a.ledger.by_node.get(name, zero) for a, zero in zip(answers, missing, strict=True)])
        for name in nodes
    }
    ledger = Ledger(
        row([a.ledger.inputs for a in answers]),
        row([a.ledger.initial_states for a in answers]),
        row([a.ledger.absorbed for a in answers]),
        row([a.ledger.residual for a in answers]),
        by_node,
    )
    return Attribution(relevance, row([a.explained for a in answers]), {}, ledger, *judged_together(answers, order))


def _weighed(task: ExplainTask, scores: Scores, row: int) -> ExplainTask:
    """The whole batch as one sample, of which only this row's output is explained."""
    weights, axis = scores.selection.weights, task.target.batch_axis
    assert axis is not None
    alone = np.zeros_like(weights)
    at = (slice(None),) * (axis % weights.ndim) + (row,)
    alone[at] = weights[at]
    target = Target(task.target.output, None, None, None, alone, task.target.pre_activation)
    return ExplainTask(task.runner, task.inputs, task.output, task.head, target, company=scores.batch)


def _joined_whole(scores: Scores, parts: Iterable[MethodResult]) -> MethodResult:
    """Each of the whole batch: a sample's relevance lies in places of its own, and adds up.

    One part is there at a time: they are as large as the batch, and as many as it has samples.
    """
    relevance: dict[str, Array] = {}
    notes: dict[str, None] = {}
    answers, quantity = [], scores.quantity
    for part in parts:
        relevance = {name: array + relevance.get(name, 0) for name, array in part.answer.relevance.items()}
        answers.append(replace(part.answer, relevance={}))
        notes.update(dict.fromkeys(part.notes))
        quantity = part.quantity
    answer = _answer(relevance, answers, np.arange(len(answers)))
    return MethodResult(scores.values, scores.selection, answer, {}, quantity, tuple(notes))


def _largest(scores: Scores) -> float:
    return float(np.abs(scores.explained).max(initial=0.0))
