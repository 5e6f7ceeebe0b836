# SPDX-License-Identifier: Apache-2.0
"""The public class of the engine: a model that explains its predictions."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from lstm_explain.answers import Answers
from lstm_explain.arithmetic import quiet_arithmetic
from lstm_explain.condition import Clause, Condition, as_condition
from lstm_explain.conditional import explain_where
from lstm_explain.errors import InputError, MethodError
from lstm_explain.explanation import Explanation, Explanations, from_bits
from lstm_explain.footprint import Footprint
from lstm_explain.graph.preparation import prepare, whole_session
from lstm_explain.graph.session import run_session, runtime_message
from lstm_explain.grouping import NO_GROUPS, Grouping, Groups, InputGroups
from lstm_explain.inputs import Inputs, TensorSpec, Tokenizer, check_inputs, described, with_ids, word_numbers
from lstm_explain.labels import Labels
from lstm_explain.measured_models import MeasuredModels
from lstm_explain.methods import LRP, Method, method_from_name
from lstm_explain.program.axes import Axes, find_lengths
from lstm_explain.program.declared import spec_of
from lstm_explain.program.engine import Engine, Passes, Question
from lstm_explain.program.explained_values import ExplainedValues
from lstm_explain.program.gated_inputs import gated_inputs, warnings_of
from lstm_explain.program.head import Head
from lstm_explain.program.precision import Precision
from lstm_explain.program.report import NodeReport, Report, report
from lstm_explain.program.routes import Routes
from lstm_explain.program.through import Through, as_through
from lstm_explain.progress import Report as ProgressReport
from lstm_explain.progress import expect_targets, metered
from lstm_explain.repeats.folding import fold_repeats
from lstm_explain.runner.groups import find_groups, words_of
from lstm_explain.runner.model_runner import ExplainTask, ModelRunner
from lstm_explain.target import Target, as_target
from lstm_explain.target_sets import TargetLike, as_targets, each_target

Array = npt.NDArray[Any]
Arrays = dict[str, npt.NDArray[Any]]
NOWHERE: Mapping[str, Sequence[int]] = MappingProxyType({})


class Model:
    """A loaded model. Safe to call from several threads.

    inputs, outputs: TensorSpec by name. axes: by input, the axes of samples and time, as found in the graph; replace an
    entry that is wrong. Perturbation methods and IntegratedGradients use them. background: by input, samples for
    `Background()`; None if there are none. labels: names of classes and features, from model.yaml. tokenizers: by input
    that may be given as text.
    """

    def __init__(
        self, proto: onnx.ModelProto, gates: Mapping[str, int | None] | None = None, *, fold: bool = True
    ) -> None:
        """fold: whether the repeats of an unrolled cell run as one loop."""
        self._proto, graph = prepare(proto, functools.partial(fold_repeats, marks=gates or {}) if fold else None)
        self._engine = Engine(graph, gates)
        self.inputs = {name: spec_of(graph, name) for name in graph.inputs}
        self.outputs = {name: spec_of(graph, name) for name in graph.outputs}
        self._explained_values = ExplainedValues(self._engine)
        single = not any(s.dtype == np.float64 for s in (*self.inputs.values(), *self.outputs.values()))
        self._lock = threading.Lock()
        self._whole: ort.InferenceSession | None = None
        self._runner = ModelRunner(self._engine)
        self.labels = Labels()
        self.tokenizers: Mapping[str, Tokenizer] = {}
        self._precision = Precision(self._engine, self._runner.axes, single=single)
        self._answers = Answers(
            self._engine, self._runner, self._precision, self._explained_values, MeasuredModels(self), self.outputs
        )
        self._routes = Routes(self._engine, self._explained_values, self._precision, self._answers.gated)
        self.footprint = Footprint(self)

    def __repr__(self) -> str:
        name = f"{self.labels.model!r}, " if self.labels.model else ""
        return f"Model({name}{described(self.inputs)} → {described(self.outputs)})"

    @property
    def proto(self) -> onnx.ModelProto:
        """The model as it was read. Not to be changed."""
        return self._proto

    @property
    def runner(self) -> ModelRunner:
        """The runner that the methods with many runs share; `lstm_explain.evaluate` uses it too."""
        return self._runner

    @property
    def axes(self) -> dict[str, Axes]:
        return self._runner.axes

    @property
    def background(self) -> Mapping[str, Array] | None:
        return self._answers.background

    @background.setter
    def background(self, samples: Mapping[str, Array] | None) -> None:
        self._answers.background = samples

    @property
    def padding(self) -> dict[str, float]:
        """By input, the value that follows the end of a shorter sequence (such as the id of a padding token), as
        declared by the model's owner.

        Methods that run the model many times ignore such steps, as they ignore steps that lengths or a mask exclude.
        """
        return self._runner.padding

    @property
    def lengths(self) -> dict[str, str]:
        """Inputs that hold the lengths of sequences: by name, the input whose time steps they count."""
        return find_lengths(self._engine.graph)

    @property
    def default_output(self) -> str:
        """The output of a target that names none: the first that holds floating-point numbers, if any does."""
        return self._explained_values.default_output

    @property
    def hidden_units(self) -> int:
        """The hidden units of all recurrent nodes, both directions included; 1 where there is no such node."""
        return max(1, self.recurrent_units)

    @functools.cached_property
    def recurrent_units(self) -> int:
        return sum(cell.hidden * len(cell.directions) for cell in self._engine.cells.values())

    @property
    def steady(self) -> bool:
        """Whether the shapes of the inputs alone decide how much there is to compute, whatever their values are."""
        return self._engine.steady

    def report(self) -> Report:
        """Returns what happens at each node; `supported` says whether LRP can explain the default output."""
        found = report(self._engine.graph, self.axes, self._engine.gates)
        gated = self._runner.cached(gated_inputs, self._engine, self.head_of(self.default_output).value)
        return replace(found, warnings=[*found.warnings, *warnings_of(gated)])

    def predict(self, inputs: Inputs) -> Arrays:
        """Returns every output, computed by ONNX Runtime from the model as it is. Raises InputError.

        Our own kernels run the recurrent operators that ONNX Runtime does not support (float64, batch first).
        """
        checked = check_inputs(self.inputs, with_ids(inputs, self.tokenizers)[0])
        if not self._engine.runtime_runs:
            values = self._runner.predict(checked, Head(next(iter(self.outputs)), ()))
            return {name: values[name] for name in self.outputs}
        session = self.session()
        try:
            arrays = run_session(session, list(self.outputs), checked)
        except Exception as error:  # ONNX Runtime's own types are not public
            raise InputError(f"the model cannot run on these inputs: {runtime_message(error)}") from error
        return {n: from_bits(a, spec.dtype) for (n, spec), a in zip(self.outputs.items(), arrays, strict=True)}

    def session(self) -> ort.InferenceSession:
        """Returns ONNX Runtime's session for the whole model."""
        with self._lock:
            if self._whole is None:
                # A cell that is written out for hundreds of steps has hundreds of times as many nodes to optimise.
                self._whole = whole_session(self._proto, optimise=self._engine.graph.repeats is None)
            return self._whole

    def explain(
        self,
        inputs: Inputs,
        method: Method | str = LRP(),  # noqa: B008 - frozen
        target: Target | int | tuple[int, ...] | str = Target(),  # noqa: B008 - frozen
        capture: Sequence[str] = (),
        progress: ProgressReport | None = None,
        condition: Condition | Clause | str | None = None,
        groups: Groups | Grouping | None = None,
        through: Mapping[str, Sequence[int]] = NOWHERE,
    ) -> Explanation:
        """Returns the relevance of every input element for the target.

        inputs: one array for every input, of its shape; another width of floating-point numbers or integers is
        converted. An input with a tokenizer (from a model's folder) also takes a text, or a list with one per sample.
        method: or its name, for its default parameters. target: or an index, the name of a class, or text such as
        "logits:3". capture: names of inner values of the graph whose relevance is returned too; for an LSTM node also
        `<node>.cell`, `.hidden`, `.cell_input`, `.input_gate`, `.forget_gate` and `.output_gate`, step by step in the
        shape of its output Y. progress: called again and again, in this thread, with how often the model has run and
        how often it is now expected to; not for methods that are one pass. What it raises ends the explanation.
        condition: what a sample's prediction must meet to be explained, such as "probability > 0.8". groups: entries
        that belong together, such as `Groups(window=24)`: they are the players of Occlusion and ShapleySampling, and
        sums under other methods. through: by inner value or view, the units on its last axis that relevance passes
        through; that of other units is absorbed (docs/neurons.md). Raises InputError, TargetError, MethodError,
        UnsupportedOperator.
        """
        if progress is not None:
            with metered(progress):
                return self.explain(inputs, method, target, capture, None, condition, groups, through)
        if condition:
            return self.explain_many(inputs, method, (target,), capture, None, condition, groups, through)[0]
        method = method_from_name(method) if isinstance(method, str) else method
        if not isinstance(target, Target):
            target = as_target(target, self.outputs, self.labels.classes)
        arrays, tokens = with_ids(inputs, self.tokenizers)
        checked = self._checked(arrays, method)
        grouping = NO_GROUPS if groups is None else self._grouping(groups, inputs, checked, tokens)
        if grouping:
            method = method.over_groups()
        chosen = () if through is NOWHERE else as_through(through)
        special = capture or target.measure or grouping or chosen
        route = None if special else self._routes.find(method, target)
        if route is None:
            output, head = self._explained_values.of(method, target, capture, chosen)
            (found,) = self._answers.of(checked, Question(method, output, head, (target,), capture, grouping, chosen))
            return found.grouped(grouping).labelled(checked, tokens, self.axes, self.labels)
        output, program, notes = route
        # values that overflow are computed again in float64, or refused
        with quiet_arithmetic():
            answer = self._engine.explain_one(program, checked, target, output)
            if len(rows := self._precision.wanting(method, answer)):
                assert program.head is not None
                question = Question(method, output, program.head, (target,), ())
                answer = self._precision.mended(checked, question, answer, rows, {})
            explanation = self._answers.explanation(answer, method, target, output, notes)
            return explanation.labelled(checked, tokens, self.axes, self.labels)

    def explain_many(
        self,
        inputs: Inputs,
        method: Method | str = LRP(),  # noqa: B008 - frozen
        targets: Iterable[TargetLike] | str = (Target(),),
        capture: Sequence[str] = (),
        progress: ProgressReport | None = None,
        condition: Condition | Clause | str | None = None,
        groups: Groups | Grouping | None = None,
        through: Mapping[str, Sequence[int]] = NOWHERE,
    ) -> Explanations:
        """Does the same as `explain` for several targets, in one forward pass and one backward pass. targets: as for
        `explain`, and Every for an axis; or text such as "every class", "steps 0,6,23" or "logits:0; logits:2".
        """
        if progress is not None:
            with metered(progress):
                return self.explain_many(inputs, method, targets, capture, None, condition, groups, through)
        method = method_from_name(method) if isinstance(method, str) else method
        arrays, tokens = with_ids(inputs, self.tokenizers)
        checked = self._checked(arrays, method)
        grouping = NO_GROUPS if groups is None else self._grouping(groups, inputs, checked, tokens)
        if grouping:
            method = method.over_groups()
        passes: Passes = {}
        chosen = as_through(through)
        sets = as_targets(targets, self.outputs, self.labels.classes)
        targets = each_target(sets, lambda t: self._output(checked, method, t, capture, passes, chosen))
        required = as_condition(condition)
        if required is None:
            found = Explanations(self.explain_targets(checked, method, targets, capture, passes, grouping, chosen))
        elif grouping or chosen:
            given = "groups" if grouping else "through"
            raise InputError(f"{given} and a condition exclude each other", field=given)
        else:
            found = Explanations(explain_where(self, required, checked, method, targets, capture, passes))
        return found.labelled(checked, tokens, self.axes, self.labels)

    def explain_targets(
        self,
        checked: Arrays,
        method: Method,
        targets: Sequence[Target],
        capture: Sequence[str],
        passes: Passes,
        grouping: Grouping = NO_GROUPS,
        through: Through = (),
    ) -> list[Explanation]:
        """Returns an explanation per target of checked inputs. passes: earlier forward passes on these."""
        expect_targets(len(targets))
        at: dict[tuple[str, Head], list[int]] = {}  # targets at which one backward pass can begin
        for number, target in enumerate(targets):
            at.setdefault(self._explained_values.of(method, target, capture, through), []).append(number)
        explanations: dict[int, Explanation] = {}
        for (output, head), numbers in at.items():
            question = Question(method, output, head, [targets[n] for n in numbers], capture, grouping, through)
            explanations |= zip(numbers, self._answers.of(checked, question, passes), strict=True)
        return [explanations[number].grouped(grouping) for number in range(len(targets))]

    def task(self, checked: Arrays, method: Method, target: Target) -> ExplainTask:
        """Returns the question as methods with many runs receive it. checked: inputs."""
        return self._answers.task(checked, method, target)

    def _grouping(
        self, groups: Groups | Grouping, inputs: Inputs, checked: Arrays, tokens: Mapping[str, Array]
    ) -> Grouping:
        """Returns the groups of every input. inputs: as given."""
        if not isinstance(groups, Groups):
            found = groups or NO_GROUPS
            if not isinstance(found, Mapping) or not all(isinstance(one, InputGroups) for one in found.values()):
                raise InputError(f"groups is {groups!r}, expected Groups, such as Groups(window=24)", field="groups")
            return found
        words = words_of(word_numbers(inputs, self.tokenizers), tokens) if groups.words else {}
        return find_groups(groups, checked, self.axes, self.labels, words)

    def _output(
        self,
        checked: Arrays,
        method: Method,
        target: Target,
        capture: Sequence[str],
        passes: Passes,
        through: Through,
    ) -> tuple[str, Array]:
        """Returns the name and value of the target's output. passes: the function may add a forward pass."""
        output, head = self._explained_values.of(method, target, capture, through)
        with quiet_arithmetic():
            if method.propagates and not self._precision.starts_in_double(method):
                return output, self._engine.values(
                    checked, Question(method, output, head, (), capture, through=through), passes
                )[output]
            return output, self._runner.predict(checked, head)[output]

    def explained(self, method: Method, target: Target) -> tuple[str, Head]:
        """Returns the target's output, and the value that the method explains. Raises TargetError, MethodError."""
        return self._explained_values.of(method, target)

    def _checked(self, inputs: Mapping[str, npt.NDArray[Any]], method: Method) -> Arrays:
        """Returns the checked inputs. Raises MethodError if `method` is not a Method."""
        if not isinstance(method, Method):
            raise MethodError(f"method is {method!r}, expected a Method such as LRP()", field="method")
        return check_inputs(self.inputs, inputs)

    @property
    def engine(self) -> Engine:
        return self._engine

    def head_of(self, output: str) -> Head:
        """Returns the value that is explained for an output."""
        return self._explained_values.heads[output]

    @property
    def precision(self) -> Precision:
        """Chooses the precision of methods that are a backward pass."""
        return self._precision


__all__ = ["Axes", "Explanation", "Model", "NodeReport", "Report", "TensorSpec"]
