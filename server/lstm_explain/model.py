"""The public class of the engine: a model that explains its predictions."""

from __future__ import annotations

import functools
import threading
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from lstm_explain.errors import InputError, MethodError, TargetError
from lstm_explain.explanation import Explanation, explanation_of, from_bits
from lstm_explain.footprint import Footprint
from lstm_explain.graph.ir import Graph
from lstm_explain.graph.preparation import prepare, whole_session
from lstm_explain.graph.session import run_session, runtime_message
from lstm_explain.inputs import TensorSpec, check_inputs
from lstm_explain.kernels.flush_to_zero import flush_to_zero
from lstm_explain.methods import LRP, Method, method_from_name
from lstm_explain.methods.base import BaselineMethod
from lstm_explain.program.attribution import Attribution
from lstm_explain.program.axes import Axes, doubts, find_lengths
from lstm_explain.program.engine import Engine, Question, shapes_agree
from lstm_explain.program.gated_inputs import gated_inputs, warnings_of
from lstm_explain.program.head import Head, default_output, explainable, head_of
from lstm_explain.program.precision import Precision
from lstm_explain.program.program import Program
from lstm_explain.program.report import NodeReport, Report, report
from lstm_explain.runner.dispatch import explain_by_runs, resolve_method
from lstm_explain.runner.model_runner import ExplainTask, ModelRunner
from lstm_explain.target import Target, as_target

MOST_ROUTES = 64  # from methods, whose parameters callers choose freely, and targets to programs


class Route(NamedTuple):
    """How a method explains an output. notes: for inputs that receive no relevance under the method."""

    output: str
    program: Program
    notes: tuple[str, ...]


class Model:
    """A loaded model. Safe to call from several threads.

    inputs, outputs: TensorSpec by name. axes: by input, the axes of samples and time, as found in the graph; replace an
    entry that is wrong. Perturbation methods and IntegratedGradients use them. background: by input, samples for
    `Background()`; None if there are none.
    """

    def __init__(self, proto: onnx.ModelProto, gates: Mapping[str, int | None] | None = None) -> None:
        self._proto, graph = prepare(proto)
        self._engine = Engine(graph, gates)
        self.inputs = {name: _spec(graph, name) for name in graph.inputs}
        self.outputs = {name: _spec(graph, name) for name in graph.outputs}
        self._default_output = default_output(graph)
        self._explainable = {name for name in self.outputs if explainable(graph, name)}
        self._values = set(graph.inputs).union(o for n in graph.nodes for o in n.outputs if o)
        producers = graph.producers()
        self._heads = {name: head_of(graph, name, producers) for name in self.outputs}
        single = not any(s.dtype == np.float64 for s in (*self.inputs.values(), *self.outputs.values()))
        self._lock = threading.Lock()
        self._whole: ort.InferenceSession | None = None
        self._runner = ModelRunner(self._engine)
        self.background: Mapping[str, npt.NDArray[Any]] | None = None
        self._precision = Precision(self._engine, self._runner.axes, single=single)
        self._routes: dict[Hashable, Route] = {}
        self.footprint = Footprint(self)

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
        return self._default_output

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
        """What happens at each node; `supported` says whether LRP can explain the default output."""
        found = report(self._engine.graph, self.axes, self._engine.gates)
        gated = self._runner.cached(gated_inputs, self._engine, self._heads[self._default_output].value)
        return replace(found, warnings=[*found.warnings, *warnings_of(gated)])

    def predict(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Every output, computed by ONNX Runtime from the model as it is. Raises InputError.

        Our own kernels run the recurrent operators that ONNX Runtime does not support (float64, batch first).
        """
        checked = check_inputs(self.inputs, inputs)
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
        """ONNX Runtime's session for the whole model."""
        with self._lock:
            if self._whole is None:
                self._whole = whole_session(self._proto)
            return self._whole

    def explain(
        self,
        inputs: Mapping[str, npt.NDArray[Any]],
        method: Method | str = LRP(),  # noqa: B008 - frozen
        target: Target | int | tuple[int, ...] | str = Target(),  # noqa: B008 - frozen
        capture: Sequence[str] = (),
    ) -> Explanation:
        """Relevance of every input element for the target.

        inputs: one array for every input, of its shape; another width of floating-point numbers or integers is
        converted. method: or its name, for its default parameters.
        target: or an index, or text such as "logits:3". capture: names of inner values of the graph whose
        relevance is returned too; for an LSTM node also `<node>.cell`, `.hidden`, `.cell_input`, `.input_gate`,
        `.forget_gate` and `.output_gate`, step by step in the shape of its output Y. Raises InputError, TargetError,
        MethodError, UnsupportedOperator.
        """
        if isinstance(method, str):
            method = method_from_name(method)
        if not isinstance(target, Target):
            target = as_target(target, self.outputs)
        checked = self._checked(inputs, method)
        route = None if capture else self._route(method, target)
        if route is None:
            output, head = self._explained(method, target, capture)
            return self._answers(checked, Question(method, output, head, (target,), capture))[0]
        output, program, notes = route
        # values that overflow are computed again in float64, or refused
        with flush_to_zero(), np.errstate(all="ignore"):
            answer = self._engine.explain_one(program, checked, target, output)
            if len(rows := self._precision.wanting(method, answer)):
                assert program.head is not None
                question = Question(method, output, program.head, (target,), ())
                answer = self._precision.mended(checked, question, answer, rows, {})
            return self._explanation(answer, method, target, output, notes)

    def _route(self, method: Method, target: Target) -> Route | None:
        """None where one backward pass is not enough."""
        try:
            key = (method, target.output, target.pre_activation)
            known = self._routes.get(key)
        except (AttributeError, TypeError):  # not a Target, or a method that holds arrays and so has no hash
            return None
        if known is None and method.propagates and not self._precision.starts_in_double(method):
            output, head = self._explained(method, target, ())
            if len(self._routes) >= MOST_ROUTES:
                self._routes.clear()
            known = self._routes[key] = Route(output, self._engine.program(head, method), self._gated(method, output))
        return known

    def explain_many(
        self,
        inputs: Mapping[str, npt.NDArray[Any]],
        method: Method = LRP(),  # noqa: B008 - frozen
        targets: Iterable[Target] = (Target(),),
        capture: Sequence[str] = (),
    ) -> list[Explanation]:
        """`explain` for several targets (all classes, say): one forward pass and one backward pass."""
        checked = self._checked(inputs, method)
        targets = list(targets)
        at: dict[tuple[str, Head], list[int]] = {}  # targets at which one backward pass can begin
        for number, target in enumerate(targets):
            at.setdefault(self._explained(method, target, capture), []).append(number)
        explanations: dict[int, Explanation] = {}
        for (output, head), numbers in at.items():
            question = Question(method, output, head, [targets[n] for n in numbers], capture)
            explanations |= zip(numbers, self._answers(checked, question), strict=True)
        return [explanations[number] for number in range(len(targets))]

    def _checked(self, inputs: Mapping[str, npt.NDArray[Any]], method: Method) -> dict[str, npt.NDArray[Any]]:
        """The checked inputs. Raises MethodError if `method` is not a Method."""
        if not isinstance(method, Method):
            raise MethodError(f"method is {method!r}, expected a Method such as LRP()", field="method")
        return check_inputs(self.inputs, inputs)

    def _explained(self, method: Method, target: Target, capture: Sequence[str]) -> tuple[str, Head]:
        """The output that the target names, and the value that is explained for it. Raises where there is none."""
        if not isinstance(target, Target):
            raise TargetError(f"target is {target!r}, expected a Target", field="target")
        output = self.default_output if target.output is None else target.output
        if output not in self.outputs:
            raise TargetError(f"no output {output!r}, there are {', '.join(self.outputs)}", field="target.output")
        if output not in self._explainable:
            problem = f"output {output!r} is of type {self.outputs[output].dtype}, expected floating-point numbers"
            raise TargetError(problem, field="target.output")
        for name in capture:
            if name in self._engine.views and not method.gates:
                raise MethodError(f"capture: only LRP says something of {name!r}", field="capture")
            if name not in self._values and name not in self._engine.views:
                raise InputError(f"capture: the model has no value {name!r} that depends on an input", field="capture")
        head = self._heads[output]
        if target.pre_activation or head.value == output:
            return output, head
        if method.before_activation:
            raise MethodError(
                f"{method.name} explains the value before the activation that output {output!r} ends in, and has no "
                "rule for the activation itself; set pre_activation to true, or use a gradient or perturbation method "
                "such as integrated_gradients or occlusion",
                field="target.pre_activation",
            )
        return output, Head(output, ())

    def _answers(self, checked: dict[str, npt.NDArray[Any]], question: Question) -> list[Explanation]:
        """An explanation for each target of the question."""
        method, output, head, targets, capture = question
        if method.propagates:
            with flush_to_zero(), np.errstate(all="ignore"):
                answers, notes = self._precision.explain(checked, question), self._gated(method, output)
                return [self._explanation(a, method, t, output, notes) for t, a in zip(targets, answers, strict=True)]
        if capture:
            raise MethodError(f"{method.name} says nothing of inner values: no capture", field="capture")
        if isinstance(method, BaselineMethod):
            method = method.with_background(self.background)
        explanations = []
        for target in targets:
            task = ExplainTask(self._runner, checked, output, head, target)
            with flush_to_zero(), np.errstate(all="ignore"), shapes_agree():
                answer = explain_by_runs(task, method)
                explanations.append(self._explanation(answer, resolve_method(task, method), target, output, ()))
        return explanations

    def _gated(self, method: Method, output: str) -> tuple[str, ...]:
        """A note for each input that receives no relevance under the method."""
        if method.rules is None or method.rules.product_rule != "all":
            return ()
        return warnings_of(self._runner.cached(gated_inputs, self._engine, self._heads[output].value))

    def _explanation(
        self, answer: Attribution, method: Method, target: Target, output: str, notes: tuple[str, ...]
    ) -> Explanation:
        """The explanation as the caller receives it. It has a note for each guessed axis of an input, because pictures
        and sums per step use these axes under any method, and then `notes`. method: as used.
        """
        for axes in self._runner.axes.values():
            if not axes.certain:
                explained = {name: self.axes[name] for name in self._runner.reachable(output)}
                answer.notes = (*answer.notes, *doubts(explained))
                break
        if notes:
            answer.notes = (*answer.notes, *notes)
        single = self._precision.single and method.propagates
        return explanation_of(answer, self.outputs, method, target, output, single=single)

    @property
    def engine(self) -> Engine:
        return self._engine

    def head_of(self, output: str) -> Head:
        """The value that is explained for an output."""
        return self._heads[output]

    @property
    def precision(self) -> Precision:
        """Chooses the precision of methods that are a backward pass."""
        return self._precision


def _spec(graph: Graph, name: str) -> TensorSpec:
    kind = graph.type_of(name)
    shape = () if kind.shape is None else kind.shape
    named = tuple(f"d{i}" if d is None else d for i, d in enumerate(shape))
    return TensorSpec(np.dtype(np.float32) if kind.dtype is None else kind.dtype, named)


__all__ = ["Axes", "Explanation", "Model", "NodeReport", "Report", "TensorSpec"]
