# SPDX-License-Identifier: Apache-2.0
"""Explains the samples of a batch whose prediction meets a condition, after one forward pass over all of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain.arithmetic import quiet_arithmetic
from lstm_explain.condition import FIELD, Condition, PredictedClass, Threshold, class_positions
from lstm_explain.errors import InputError, MethodError
from lstm_explain.explanation import Explanation, outputs_of
from lstm_explain.ledger import Ledger
from lstm_explain.measure import PATH, PROBABILITIES
from lstm_explain.methods import Counterfactual, Method
from lstm_explain.program.attribution import Rows, take_samples
from lstm_explain.program.engine import Passes, Question, shapes_agree
from lstm_explain.program.precision import batch_axes, same_values
from lstm_explain.runner.margins import MARGIN, margins
from lstm_explain.runner.model_runner import ExplainTask
from lstm_explain.runner.probability import probabilities
from lstm_explain.runner.scores import Scores
from lstm_explain.target import Target, of_samples, resolved

Array = npt.NDArray[Any]
FAILED = {">": "is not above", ">=": "is below", "<": "is not below", "<=": "is above"}
MEETS: Mapping[str, Callable[[Array, float], Any]] = {
    ">": np.greater, ">=": np.greater_equal, "<": np.less, "<=": np.less_equal,
}  # fmt: skip


@dataclass(frozen=True)
class Batch:
    """What is explained, and how. model: a Model, whose module imports this one. inputs: checked. passes: forward
    passes over them.
    """

    model: Any
    inputs: dict[str, Array]
    method: Method
    capture: Sequence[str]
    passes: Passes


@dataclass(frozen=True)
class Asked:
    """One target. output: the model's. task: the same question, or that of the model which computes its measure."""

    target: Target
    output: str
    task: ExplainTask


class Prediction:
    """The prediction for one target, and why samples do not meet a condition: one text per sample, empty where it does.

    Raises InputError where the condition does not apply to the output.
    """

    def __init__(self, asked: Asked, values: Mapping[str, Array], condition: Condition, batch: Batch) -> None:
        self.asked, self.values = asked, values
        self._names = tuple(batch.model.labels.classes.get(asked.output, ()))
        if isinstance(method := batch.method, Counterfactual):
            self.scores = margins(asked.task, method.name, method.threshold, values=values)
        elif method.explains_probability:
            self.scores = probabilities(asked.task, method.name, values=values)
        else:
            self.scores = Scores(asked.task, values=values)
        each = [self._reasons(clause) for clause in condition.clauses]
        self.reasons = tuple("; ".join(filter(None, sample)) for sample in zip(*each, strict=True))

    @cached_property
    def target(self) -> Target:
        """The target with the position, or the path, that it has in every sample."""
        return resolved(self.asked.target, self.scores.selection, self.asked.output)

    @property
    def quantity(self) -> str:
        """How the explained value relates to the output; see Explanation."""
        measure = self.asked.target.measure
        if measure is None or measure.linear or self.scores.quantity == MARGIN:
            return self.scores.quantity
        return measure.kind

    def _reasons(self, clause: Threshold | PredictedClass) -> list[str]:
        return self._class_reasons(clause) if isinstance(clause, PredictedClass) else self._number_reasons(clause)

    def _number_reasons(self, clause: Threshold) -> list[str]:
        values = np.asarray(self._probabilities if clause.quantity == "probability" else self.scores.explained)
        if clause.reference and len(clause.reference) not in (1, len(values)):
            problem = f"condition: there are {len(clause.reference)} references for {len(values)} samples"
            raise InputError(problem, field=FIELD)
        references = np.broadcast_to(clause.reference or 0.0, values.shape)
        compared = np.abs(values - references) if clause.reference else values
        meets = MEETS[clause.sign](compared, clause.number)
        failed, limit = FAILED[clause.sign], f"{clause.number:g}"
        return [
            ""
            if meets[i]
            else f"the change of {clause.quantity} from {reference:.4g} to {self._shown(i, value)} {failed} {limit}"
            if clause.reference
            else f"{clause.quantity} {self._shown(i, value)} {failed} {limit}"
            for i, (value, reference) in enumerate(zip(values.tolist(), references.tolist(), strict=True))
        ]

    def _shown(self, sample: int, value: float) -> str:
        """Returns the value, and whose it is."""
        index, measure = self.scores.selection.index, self.asked.target.measure
        what = self.asked.output
        if index is not None and (measure is None or measure.kind in PROBABILITIES):
            position = index[sample].tolist()
            named = position and position[-1] < len(self._names) and all(at == 0 for at in position[:-1])
            what = f'"{self._names[position[-1]]}"' if named else f"{what}{position or ''}"
        return f"{value:.4g} of {what}"

    @cached_property
    def _probabilities(self) -> Array:
        measure = self.asked.target.measure
        if measure is not None:
            if measure.kind != "probability":
                problem = f"condition: the target is a {measure.kind}, not a probability; compare `explained`"
                raise InputError(problem, field=FIELD)
            return self.scores.explained
        try:
            return probabilities(self.asked.task, FIELD, values=self.values).explained
        except MethodError as error:
            raise InputError(f"{error}; compare `explained`", field=FIELD) from None

    def _class_reasons(self, clause: PredictedClass) -> list[str]:
        rows, target = self.values[self.asked.output], self.asked.target
        rows = rows[None] if target.batch_axis is None else np.moveaxis(rows, target.batch_axis, 0)
        index = self.scores.selection.index if target.measure is None else None
        count = rows.shape[-1] if rows.ndim > 1 else 1
        single = rows.size == len(rows) * count
        if count == 1 or (index is None and not single):
            problem = (
                f"condition: output {self.asked.output!r} of shape {list(rows.shape[1:])} per sample has no classes"
            )
            raise InputError(problem, field=FIELD)
        wanted = class_positions(clause, self._names, count)
        scores = [row.reshape(-1) if single else row[tuple(index[i, :-1])] for i, row in enumerate(rows)]  # type: ignore[index]
        listed = " or ".join(map(self._class, sorted(wanted)))
        return [
            "" if (at in wanted) is not clause.negated
            else f"the predicted class is {self._class(at)}" + ("" if clause.negated else f", not {listed}")
            for at in (int(one.argmax()) for one in scores)
        ]  # fmt: skip

    def _class(self, at: int) -> str:
        return f'"{self._names[at]}"' if at < len(self._names) else str(at)


def explain_where(
    model: Any,
    condition: Condition,
    inputs: dict[str, Array],
    method: Method,
    targets: Sequence[Target],
    capture: Sequence[str],
    passes: Passes,
) -> list[Explanation]:
    """Returns an explanation per target, whose relevance is NaN for samples that do not meet the condition.

    model: a Model. inputs: checked. passes: earlier forward passes on these. Only the samples of which some target
    meets the condition are explained where samples can be taken from the batch, and only for the targets of which some
    sample does.
    """
    batch = Batch(model, inputs, method, capture, passes)
    with quiet_arithmetic():
        predictions = _predicted(condition, batch, targets)
    meets = np.array([[not reason for reason in one.reasons] for one in predictions])
    chosen, rows = np.flatnonzero(meets.any(axis=1)), np.flatnonzero(meets.any(axis=0))
    found: dict[int, Explanation] = {}
    if len(chosen):
        given = [predictions[t] for t in chosen]
        answers, rows = _explained(batch, given, rows)
        found = dict(zip(chosen.tolist(), answers, strict=True))
    return [_completed(batch, one, found.get(t), rows, meets[t]) for t, one in enumerate(predictions)]


def _predicted(condition: Condition, batch: Batch, targets: Sequence[Target]) -> list[Prediction]:
    """Runs the model forward once for all targets in an output."""
    known: dict[Hashable, Mapping[str, Array]] = {}
    predictions = []
    for target in targets:
        output, _ = batch.model.explained(batch.method, target)
        one = Asked(target, output, batch.model.task(batch.inputs, batch.method, target))
        key = (one.task.runner, one.task.head)
        if key not in known:
            known[key] = _values(batch, one.task)
        predictions.append(Prediction(one, known[key], condition, batch))
    return predictions


def _values(batch: Batch, task: ExplainTask) -> Mapping[str, Array]:
    """Returns the outputs and the explained value, if possible from a forward pass that the explanation goes on with:
    LRP takes as long as one or two forward passes of ONNX Runtime, so another one would be felt.
    """
    method, head, graph = batch.method, task.head, task.runner.engine.graph
    if not method.propagates or batch.model.precision.starts_in_double(method):
        return task.runner.predict(task.inputs, head)
    capture = batch.capture if task.runner is batch.model.runner else ()
    with shapes_agree():
        question = Question(method, task.output, head, (task.target,), capture)
        values = task.runner.engine.values(task.inputs, question, batch.passes)
    read = {*graph.outputs, head.value, *head.keep(graph), *(node.inputs[0] for node in head.views)}
    return {name: values[name] for name in read if name in values}


def _explained(batch: Batch, predictions: Sequence[Prediction], rows: Rows) -> tuple[list[Explanation], Rows]:
    """Returns the answers, and the samples that are in them: `rows`, or all."""
    count = predictions[0].scores.batch
    everybody = np.arange(count)
    axes = batch_axes(batch.model.axes, batch.inputs, count)
    if len(rows) < count and axes is not None and _separable(batch, axes, predictions):
        batch.passes.clear()  # their memory is that of the whole batch
        inputs = take_samples(batch.inputs, axes, rows)
        answers = _explain(batch, inputs, [_of_rows(one, rows) for one in predictions], {})
        if all(_predicts(answer, one, rows) for answer, one in zip(answers, predictions, strict=True)):
            return answers, rows
    return _explain(batch, batch.inputs, [_of_rows(one, everybody) for one in predictions], batch.passes), everybody


def _predicts(answer: Explanation, prediction: Prediction, rows: Rows) -> bool:
    """Returns whether these samples are predicted alone as they are in the batch."""
    output, axis = prediction.asked.output, prediction.asked.target.batch_axis
    assert axis is not None  # or samples cannot be taken from the batch
    alone, whole = answer.outputs[output], prediction.values[output].take(rows, axis)
    return alone.shape == whole.shape and same_values(alone, whole)


def _explain(batch: Batch, inputs: dict[str, Array], targets: Sequence[Target], passes: Passes) -> list[Explanation]:
    found: list[Explanation] = batch.model.explain_targets(inputs, batch.method, targets, batch.capture, passes)
    return found


def _separable(batch: Batch, axes: Mapping[str, int], predictions: Sequence[Prediction]) -> bool:
    """Returns whether a part of the batch can be explained alone, by its shapes and by what else belongs to samples."""
    free = all(isinstance(batch.model.inputs[name].shape[axis], str) for name, axis in axes.items())
    targets = [one.asked.target for one in predictions]
    given = any(t.measure is not None and not isinstance(t.measure.reference, (str, type(None))) for t in targets)
    whole = any(target.batch_axis is None for target in targets)
    return free and not given and not whole and not batch.capture and batch.method.is_scalar


def _of_rows(prediction: Prediction, rows: Rows) -> Target:
    measure = prediction.asked.target.measure
    if measure is not None and measure.kind not in (*PROBABILITIES, PATH):  # of the whole output, without a position
        return prediction.asked.target
    return of_samples(prediction.target, rows)


def _completed(
    batch: Batch, prediction: Prediction, answer: Explanation | None, rows: Rows, meets: npt.NDArray[np.bool_]
) -> Explanation:
    """Returns the explanation of the whole batch, from that of `rows`; None where no sample is explained."""
    count, kept = len(meets), meets[rows]
    if answer is not None and meets.all():
        answer.not_explained = prediction.reasons
        return answer
    placed_rows = rows[kept]
    double = any(s.dtype == np.float64 for s in (*batch.model.inputs.values(), *batch.model.outputs.values()))
    number = np.dtype(np.float64 if double else np.float32)
    axes = batch_axes(batch.model.axes, batch.inputs, count) or {}

    def per_sample(array: Array | None) -> Array:
        whole = np.full(count, np.nan)
        if array is not None:
            whole[placed_rows] = array[kept]
        return whole

    def like_input(name: str, array: Array | None) -> Array:
        whole = np.full(batch.inputs[name].shape, np.nan, number if array is None else array.dtype)
        axis = axes.get(name)
        if array is not None and axis is None and meets.any():  # shared by the samples, or of the only one
            return array
        if array is not None and axis is not None:
            whole[(slice(None),) * axis + (placed_rows,)] = array.compress(kept, axis)
        return whole

    nothing = np.full(count, np.nan)
    blank = Ledger(nothing, nothing, nothing, nothing, {})
    outputs, target, explained = (
        outputs_of(prediction.values, batch.model.outputs),
        prediction.target,
        prediction.scores.explained,
    )
    if answer is None:
        relevance = {name: like_input(name, None) for name in batch.inputs}
        found = Explanation(relevance, outputs, explained, {}, blank, batch.method, target)
        found.explained_quantity = prediction.quantity
    else:
        moved = {i: int(row) for i, row in enumerate(rows) if meets[row]}
        steps = None if answer.steps_used is None else np.nan_to_num(per_sample(answer.steps_used)).astype(np.int64)
        found = replace(
            answer,
            relevance={name: like_input(name, array) for name, array in answer.relevance.items()},
            outputs=outputs,
            explained=explained if answer.explained_quantity == prediction.quantity else per_sample(answer.explained),
            ledger=blank.replaced(lambda _, new: per_sample(new), answer.ledger),
            target=target,
            standard_error={name: like_input(name, array) for name, array in answer.standard_error.items()},
            findings=tuple(part for finding in answer.findings if (part := finding.at(moved))),
            steps_used=steps,
        )
    found.not_explained = prediction.reasons
    return found
