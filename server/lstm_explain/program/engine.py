# SPDX-License-Identifier: Apache-2.0
"""One graph in one precision: its plans, its kernels, and explanations by a backward pass."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from lstm_explain.cancellation import may_take_long
from lstm_explain.errors import Error, InputError, ModelError
from lstm_explain.graph.data_dependent_sizes import sizes_are_fixed
from lstm_explain.graph.ir import Array, Graph, paths_of
from lstm_explain.graph.session import runtime_message
from lstm_explain.grouping import NO_GROUPS, Grouping
from lstm_explain.methods import Method
from lstm_explain.operators.cells import cells_of
from lstm_explain.operators.tape import SavedTensors
from lstm_explain.program.attribution import Attribution
from lstm_explain.program.compile import Plan, Purpose, compile_plan
from lstm_explain.program.head import Head
from lstm_explain.program.passes import BackwardPass, ForwardPass
from lstm_explain.program.program import KnownShapes, Program, Specialised
from lstm_explain.program.propagation import explain_one, explain_together
from lstm_explain.program.terms import saved_values as saved_values_of
from lstm_explain.program.through import Through
from lstm_explain.program.views import inner_names
from lstm_explain.target import Target, select

Passes = dict[Plan, ForwardPass]
DISAGREE = (
    ValueError,
    ArithmeticError,
    IndexError,
    MemoryError,
)  # the errors concern shapes that the model declares or that values determine
_SHAPE = attrgetter("shape")
MOST_PROGRAMS = 128  # limits the number of methods, whose parameters callers choose freely
MOST_PLANS = 32  # old plans are dropped, because plans hold sessions and callers choose captures freely


class Question(NamedTuple):
    """Targets in one output. head: the value that is explained for the output. groups: those that the answer is about,
    empty where it is about single entries. through: the units that relevance passes through, empty for all.
    """

    method: Method
    output: str
    head: Head
    targets: Sequence[Target]
    capture: Sequence[str]
    groups: Grouping = NO_GROUPS
    through: Through = ()

    @property
    def plain(self) -> bool:
        """Whether every target is a sum of entries of an output."""
        return all(target.measure is None or target.measure.linear for target in self.targets)


class Engine:
    """Safe to call from several threads."""

    def __init__(self, graph: Graph, gates: Mapping[str, int | None] | None = None) -> None:
        """gates: by node name, also as the report writes the names of nodes in bodies, the slot of the gate (None: no
        gate), where the graph does not show it.
        """
        self.graph = graph
        names = dict(paths_of(graph)) if gates else {}
        self.gates = {names.get(name, name): slot for name, slot in (gates or {}).items()}
        self.cells = cells_of(graph)
        values, nodes = {o for n in graph.nodes for o in n.outputs}, {n.name for n in graph.nodes}
        own = {name: cell for name, cell in self.cells.items() if name in nodes}
        self.views = frozenset(name for name in inner_names(own) if name not in values)
        self.finer = bool(self.cells)
        self.steady = sizes_are_fixed(graph)
        ours = any(cell.dtype == np.float64 or cell.batch_first for cell in self.cells.values())
        self.runtime_runs = not ours  # ONNX Runtime only has float32 and time-first cells
        self.known = KnownShapes()
        self._lock = threading.Lock()
        self._plans: OrderedDict[tuple[object, ...], Plan] = OrderedDict()
        self._programs: OrderedDict[tuple[object, ...], Program] = OrderedDict()

    @cached_property
    def as_written(self) -> Engine:
        """The engine of the graph with every repeat of its cells, for questions about values of single repeats."""
        assert self.graph.repeats is not None
        may_take_long()
        return Engine(self.graph.repeats.written(), self.gates)

    def explain(
        self, inputs: Mapping[str, Array], question: Question, passes: Passes | None = None
    ) -> list[Attribution]:
        """The answer for each target. inputs: checked, in the graph's own types. passes: earlier forward passes on
        these inputs; the function adds to it.
        """
        program = self._program_of(question)
        special = bool(question.capture or question.through)
        targets, output = question.targets, question.output
        if len(targets) == 1 and not special:
            return [self.explain_one(program, inputs, targets[0], output, passes)]
        axes = [target.batch_axis for target in targets]
        usual = len({*axes}) == 1 and not special
        key = (program, axes[0], *[array.shape for array in inputs.values()])
        known = self.known.specialised.get(key) if usual else None
        done = _pass_of(program, inputs, known, passes)
        selections = [select(target, done.values[output], output) for target in targets]
        known, over = self._prepared(key, program, done, known) if usual else (None, None)
        with shapes_agree():
            return explain_together(program, done, selections, axes, known, over)

    def explain_one(
        self,
        program: Program,
        inputs: Mapping[str, Array],
        target: Target,
        output: str,
        passes: Passes | None = None,
    ) -> Attribution:
        """Does the same as `explain` for one target without captures, with the program for shapes that have occurred
        before.
        """
        key = (program, target.batch_axis, *map(_SHAPE, inputs.values()))
        known = self.known.specialised.get(key)
        done = program.forward(inputs, known) if passes is None else _pass_of(program, inputs, known, passes)
        selection = select(target, done.values[output], output)
        over = None
        if known is None or known.shapes:
            known, over = self._prepared(key, program, done, known)
        try:
            return explain_one(program, done, selection, target.batch_axis, known, over)
        except DISAGREE as error:
            raise _disagreement(error) from error

    def _prepared(
        self, key: Hashable, program: Program, done: ForwardPass, known: Specialised | None
    ) -> tuple[Specialised | None, Callable[[BackwardPass], None] | None]:
        """The specialised program for the backward pass, and what specialises it for the next one; None each where
        there is none.
        """
        if known is not None:
            return (None if known.shapes and not known.holds(done) else known), None
        if not self.known.wants(key):
            return None, None
        may_take_long()
        return None, partial(self._specialise, key, program, done)

    def _specialise(self, key: Hashable, program: Program, done: ForwardPass, back: BackwardPass) -> None:
        self.known.add(key, program.specialised(done, back))

    def values(self, inputs: Mapping[str, Array], question: Question, passes: Passes) -> Mapping[str, Array]:
        """The values of the forward pass of the question's explanation, which the function adds to `passes`."""
        program = self._program_of(question)
        axes = [target.batch_axis for target in question.targets[:1]]
        known = self.known.specialised.get((program, *axes, *[array.shape for array in inputs.values()]))
        return _pass_of(program, inputs, known, passes).values

    def _program_of(self, question: Question) -> Program:
        return self.program(question.head, question.method, tuple(question.capture), question.through)

    def program(self, head: Head, method: Method, capture: tuple[str, ...] = (), through: Through = ()) -> Program:
        """The program for these arguments, compiled on first use. Raises UnsupportedOperator, MethodError."""
        named = {*capture, *(name for name, _ in through)}
        if self.graph.repeats is not None and not named.isdisjoint(self.graph.repeats.values):
            return self.as_written.program(head, method, capture, through)
        key = (head, method, capture, through)
        with self._lock:
            try:
                program = self._programs.get(key)
            except TypeError:  # a method that holds arrays has no hash
                return self._program(head, method, capture, through)
            if program is None:
                program = self._programs[key] = self._program(head, method, capture, through)
                if len(self._programs) > MOST_PROGRAMS:
                    self._programs.popitem(last=False)
            self._programs.move_to_end(key)
            return program

    def _program(self, head: Head, method: Method, capture: tuple[str, ...], through: Through) -> Program:
        saved = dict.fromkeys((*capture, *(name for name, _ in through)))
        plan = self._plan(head, method, tuple(name for name in saved if name not in self.views))
        inputs = tuple(self.graph.inputs)
        return Program(plan, self.cells, method, head, inputs, capture, through, steady=self.steady)

    def _plan(self, head: Head, method: Method, capture: tuple[str, ...]) -> Plan:
        rules, scaled, keep = method.rules, method.times_value, saved_tensors_for(method)
        spread = rules is not None and rules.bias_factor > 0
        relative = rules is not None and rules.relative is not None
        attention = rules is not None and rules.attention
        key = (head.value, keep, spread, relative, attention, scaled, capture)
        plan = self._plans.get(key)
        if plan is None:
            terms = saved_values_of(self.graph, head.value) if scaled else ()  # LRP saves them anyway
            saved_values = (*capture, *head.keep(self.graph), *terms)
            purpose = Purpose(rules is None, keep, spread, relative, attention, self.gates)
            plan = self._compiled(head, purpose, saved_values)
            self._plans[key] = plan
            if len(self._plans) > MOST_PLANS:
                self._plans.popitem(last=False)
        self._plans.move_to_end(key)
        return plan

    def _compiled(self, head: Head, purpose: Purpose, keep: Iterable[str]) -> Plan:
        may_take_long()
        try:
            return compile_plan(self.graph, [head.value], purpose, keep)
        except Error:
            raise
        except Exception as error:  # ONNX Runtime's own types are not public
            raise ModelError(f"the model cannot be prepared: {runtime_message(error)}") from error


def _pass_of(
    program: Program, inputs: Mapping[str, Array], known: Specialised | None, passes: Passes | None
) -> ForwardPass:
    """The forward pass of the program's plan, taken from `passes` if it is there."""
    if passes is None:
        return program.forward(inputs, known)
    if program.plan not in passes:
        passes[program.plan] = program.forward(inputs, known)
    return passes[program.plan]


@contextmanager
def shapes_agree() -> Iterator[None]:
    """Raises ModelError where inner arrays have other shapes than the model declares, and InputError where they would
    take more memory than is available.
    """
    try:
        yield
    except DISAGREE as error:
        raise _disagreement(error) from error


def _disagreement(error: Exception) -> Error:
    if isinstance(error, MemoryError):
        return InputError(f"the relevance cannot be computed: {runtime_message(error)}")
    return ModelError(f"shapes in the model contradict each other: {error}")


def saved_tensors_for(method: Method) -> SavedTensors:
    """The tensors of recurrent nodes that the method reads."""
    if method.rules is None:
        return SavedTensors.SLOPES
    if method.rules.gate_rule == "all":
        return SavedTensors.SIGNALS
    return SavedTensors.GATES_FLOAT64 if method.needs_float64 else SavedTensors.GATES


def in_float64(inputs: Mapping[str, Array]) -> dict[str, Array]:
    return {n: a.astype(np.float64) if a.dtype.kind == "f" else a for n, a in inputs.items()}
