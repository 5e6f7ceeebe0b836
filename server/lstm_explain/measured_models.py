# SPDX-License-Identifier: Apache-2.0
"""Explains measures of outputs: each is a model of its own, the given one with a small graph behind the output."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain.errors import InputError, TargetError
from lstm_explain.explanation import Explanation
from lstm_explain.graph.measures import Place, measured
from lstm_explain.ledger import Ledger
from lstm_explain.measure import ERRORS, PROBABILITIES
from lstm_explain.methods import Method
from lstm_explain.program.axes import Axes
from lstm_explain.program.engine import Question
from lstm_explain.runner.margins import MARGIN
from lstm_explain.runner.model_runner import ExplainTask
from lstm_explain.target import Target

Array = npt.NDArray[Any]
GIVEN = "target/reference"  # the input that holds a given reference, and its line of the ledger
MOST_MODELS = 8  # of one model; each holds its weights again


class MeasuredModels:
    """The measures of one model, which it does not keep alive. Safe to call from several threads."""

    def __init__(self, model: Any) -> None:
        self._model, self._make = weakref.proxy(model), type(model)
        self._lock = threading.Lock()
        self._built: OrderedDict[Hashable, tuple[Any, str]] = OrderedDict()

    def explain(
        self,
        inputs: dict[str, Array],
        question: Question,
        others: Callable[[dict[str, Array], Question], list[Explanation]],
    ) -> list[Explanation]:
        """Returns the answers to a question some of whose targets have measures. inputs: checked. others: answers
        questions without measures.
        """
        alone = [question._replace(targets=(target,)) for target in question.targets]
        return [others(inputs, one)[0] if one.plain else self._explain(inputs, one) for one in alone]

    def _explain(self, inputs: dict[str, Array], question: Question) -> Explanation:
        """Returns the answer to a question whose one target has a measure.

        A given reference is a constant of the question: the ledger has its share among what is absorbed.
        """
        method, output, _, (target,), capture, groups, through = question
        model, inputs, own, place = self._placed(inputs, target, output)
        measure, name = target.measure, own.output
        assert measure is not None
        assert name is not None
        try:
            found: Explanation = model.explain(inputs, method, own, capture, groups=groups, through=dict(through))
        except InputError as error:
            if not error.field.startswith(f"inputs.{GIVEN}"):
                raise
            problem = str(error).replace(f"input {GIVEN!r}", "the reference")
            raise TargetError(problem, field="target.measure.reference") from None
        del found.outputs[name]
        if place.reference and (here := found.outputs[output].shape) != (there := inputs[place.reference].shape):
            problem = f"output {output!r} has shape {here}, its reference has {there}"
            raise TargetError(problem, field="target.measure.reference")
        if place.reference == GIVEN:
            found.ledger = _with_constant(found.ledger, found.relevance.pop(GIVEN), place.batch_axis)
        if found.explained_quantity != MARGIN:
            found.explained_quantity = measure.kind
        found.target = Target(output, found.target.index, target.batch_axis, measure=measure)
        return found

    def task(self, inputs: dict[str, Array], method: Method, target: Target, output: str) -> ExplainTask:
        """Returns the question for the measure of an output, asked of the model that computes it."""
        model, inputs, own, _ = self._placed(inputs, target, output)
        output, head = model.explained(method, own)
        return ExplainTask(model.runner, inputs, output, head, own)

    def _placed(
        self, inputs: dict[str, Array], target: Target, output: str
    ) -> tuple[Any, dict[str, Array], Target, Place]:
        """Returns the model that computes the target's measure, with its inputs and its target."""
        measure = target.measure
        assert measure is not None
        place = self._place(target, output)
        model, name = self._of(measure.kind, place)
        if place.reference == GIVEN:
            assert not isinstance(measure.reference, str)
            inputs = {**inputs, GIVEN: self._given(np.asarray(measure.reference), place, inputs)}
        if measure.kind in PROBABILITIES:
            own = replace(target, output=name, measure=None, pre_activation=True)
        else:
            own = Target(name, (), None if target.batch_axis is None else 0)
        return model, inputs, own, place

    def _place(self, target: Target, output: str) -> Place:
        measure, model = target.measure, self._model
        assert measure is not None
        if target.contrast is not None or target.weights is not None:
            raise TargetError("a measure takes no contrast and no weights", field="target.measure")
        value, rank = output, len(model.outputs[output].shape)
        if measure.kind in PROBABILITIES:
            value = self._scores(output)
        elif target.index is not None:
            raise TargetError(f"{measure.kind} is of a whole sample: no index", field="target.index")
        if not isinstance(measure.reference, str):
            return Place(value, rank, target.batch_axis, GIVEN if measure.kind in ERRORS else "")
        reference = measure.reference
        spec = model.inputs.get(reference)
        if spec is None or spec.dtype.kind != "f" or len(spec.shape) != rank:
            problem = f"there is no input {reference!r} of floating-point numbers with {rank} axes"
            raise TargetError(problem, field="target.measure.reference")
        time = model.axes[reference].time
        if measure.ahead and time is None:
            raise TargetError(f"input {reference!r} has no time axis", field="target.measure.ahead")
        return Place(value, rank, target.batch_axis, reference, measure.ahead, time)

    def _scores(self, output: str) -> str:
        """Returns the scores whose softmax is meant: the value before a final Softmax or LogSoftmax, else the
        output.
        """
        head, graph = self._model.head_of(output), self._model.engine.graph
        if head.value == output:
            return output
        ends = {node.op for node in graph.nodes if head.value in node.inputs}
        if not ends & {"Softmax", "LogSoftmax"} or head.views:
            problem = f"output {output!r} ends in {', '.join(sorted(ends))}, expected scores or a Softmax"
            raise TargetError(problem, field="target.measure.kind")
        value: str = head.value
        return value

    def _of(self, kind: str, place: Place) -> tuple[Any, str]:
        """Returns the model with this measure, and the output that holds it."""
        model = self._model
        key = (kind, place)
        with self._lock:
            if key not in self._built:
                proto, name = measured(model.proto, kind, place)
                made = self._make(proto, model.engine.gates)
                made.axes.update(model.axes)
                if place.reference == GIVEN:
                    made.axes[GIVEN] = Axes(place.batch_axis, None)
                made.padding.update(model.padding)
                made.background = model.background
                self._built[key] = made, name
                if len(self._built) > MOST_MODELS:
                    self._built.popitem(last=False)
            self._built.move_to_end(key)
            return self._built[key]

    def _given(self, reference: Array, place: Place, inputs: Mapping[str, Array]) -> Array:
        """Returns a given reference for the whole batch."""
        axis = place.batch_axis
        if axis is None or reference.ndim != place.rank - 1:
            return reference
        axes = self._model.axes
        sizes = [a.shape[b] for n, a in inputs.items() if (b := axes[n].batch) is not None and b < a.ndim]
        return np.repeat(np.expand_dims(reference, axis), sizes[0] if sizes else 1, axis)


def _with_constant(ledger: Ledger, relevance: Array, batch_axis: int | None) -> Ledger:
    """Returns the ledger in which this relevance is absorbed, not that of an input."""
    samples = relevance[None] if batch_axis is None else np.moveaxis(relevance, batch_axis, 0)
    share = samples.reshape(len(samples), -1).sum(axis=1, dtype=np.float64)
    by_node = {**ledger.by_node, GIVEN: share}
    return replace(ledger, inputs=ledger.inputs - share, absorbed=ledger.absorbed + share, by_node=by_node)
