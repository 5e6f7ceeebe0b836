# SPDX-License-Identifier: Apache-2.0
"""Answers questions about checked inputs by a backward pass, by many runs of the model, or by a model that measures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy.typing as npt

from lstm_explain.arithmetic import quiet_arithmetic
from lstm_explain.errors import MethodError
from lstm_explain.explanation import Explanation, explanation_of
from lstm_explain.inputs import TensorSpec
from lstm_explain.measured_models import MeasuredModels
from lstm_explain.methods import Method
from lstm_explain.methods.base import BaselineMethod
from lstm_explain.program.attribution import Attribution
from lstm_explain.program.axes import doubts
from lstm_explain.program.engine import Engine, Passes, Question, shapes_agree
from lstm_explain.program.explained_values import ExplainedValues
from lstm_explain.program.gated_inputs import gated_inputs, warnings_of
from lstm_explain.program.precision import Precision
from lstm_explain.program.views import captured_axes
from lstm_explain.runner.dispatch import explain_by_runs, resolve_method
from lstm_explain.runner.model_runner import ExplainTask, ModelRunner
from lstm_explain.target import Target

Arrays = dict[str, npt.NDArray[Any]]


class Answers:
    """The answers of one model. outputs: by name.

    background: by input, samples for `Background()`; None if there are none.
    """

    def __init__(
        self,
        engine: Engine,
        runner: ModelRunner,
        precision: Precision,
        explained_values: ExplainedValues,
        measured: MeasuredModels,
        outputs: Mapping[str, TensorSpec],
    ) -> None:
        self._engine, self._runner, self._precision, self._measured = engine, runner, precision, measured
        self._explained_values, self._outputs = explained_values, outputs
        self.background: Mapping[str, npt.NDArray[Any]] | None = None

    def of(self, checked: Arrays, question: Question, passes: Passes | None = None) -> list[Explanation]:
        """Returns an explanation for each target of the question. checked: inputs. passes: earlier forward passes on
        them.
        """
        method, output, _, targets, capture, groups, _ = question
        if not question.plain:
            return self._measured.explain(checked, question, self.of)
        if method.propagates:
            with quiet_arithmetic():
                answers, notes = self._precision.explain(checked, question, passes), self.gated(method, output)
                return [self.explanation(a, method, t, output, notes) for t, a in zip(targets, answers, strict=True)]
        if capture:
            raise MethodError(f"{method.name} says nothing of inner values: no capture", field="capture")
        if isinstance(method, BaselineMethod):
            method = method.with_background(self.background)
        explanations, numbers = [], {name: own.numbers for name, own in groups.items()}
        for target in targets:
            task = replace(self.task(checked, method, target), groups=numbers)
            with quiet_arithmetic(), shapes_agree():
                answer = explain_by_runs(task, method)
                explanations.append(self.explanation(answer, resolve_method(task, method), target, output, ()))
        return explanations

    def task(self, checked: Arrays, method: Method, target: Target) -> ExplainTask:
        """Returns the question as methods with many runs receive it. checked: inputs."""
        output, head = self._explained_values.of(method, target)
        if target.measure is not None and not target.measure.linear:
            return self._measured.task(checked, method, target, output)
        return ExplainTask(self._runner, checked, output, head, target)

    def gated(self, method: Method, output: str) -> tuple[str, ...]:
        """Returns a note for each input that receives no relevance under the method."""
        rules = method.rules
        if rules is None or rules.gate_rule != "all":
            return ()
        head = self._explained_values.heads[output]
        gated = self._runner.cached(gated_inputs, self._engine, head.value, rules.attention)
        return warnings_of(gated, rules.product_rule)

    def explanation(
        self, answer: Attribution, method: Method, target: Target, output: str, notes: tuple[str, ...]
    ) -> Explanation:
        """Returns the explanation as the caller receives it. It has a note for each guessed axis of an input, because
        pictures and sums per step use these axes under any method, and then `notes`. method: as used.
        """
        axes = self._runner.axes
        for one in axes.values():
            if not one.certain:
                answer.notes = (*answer.notes, *doubts({name: axes[name] for name in self._runner.reachable(output)}))
                break
        if notes:
            answer.notes = (*answer.notes, *notes)
        single = self._precision.single and method.propagates
        found = explanation_of(answer, self._outputs, method, target, output, single=single)
        if found.captured:
            cells, layouts = self._engine.cells, answer.layouts
            found.captured_axes = {
                name: captured_axes(name, array.shape, cells, layouts.get(name))
                for name, array in found.captured.items()
            }
        return found
