"""One graph in one arithmetic: its plans, its kernels, and explanations by walking back."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lstm_explain.cancellation import current_scope, may_take_long, timed
from lstm_explain.errors import Error, InputError, ModelError
from lstm_explain.graph.data_dependent_sizes import sizes_are_fixed
from lstm_explain.graph.ir import Array, Graph
from lstm_explain.graph.session import runtime_message
from lstm_explain.methods import LRP, GradientTimesInput, Method
from lstm_explain.operators.cells import cells_of
from lstm_explain.operators.recurrent import SavedTensors
from lstm_explain.program.compile import Plan, Purpose, compile_plan
from lstm_explain.program.head import Head
from lstm_explain.program.inner_relevance import inner_names
from lstm_explain.program.passes import BackwardPass, ForwardPass, bytes_of
from lstm_explain.program.program import KnownShapes, Program, Specialised
from lstm_explain.program.propagation import Attribution, explain_one, explain_together
from lstm_explain.program.terms import saved_values as saved_values_of
from lstm_explain.target import Selection, Target, select

Passes = dict[Plan, ForwardPass]
TIMES_A_PASS = 4  # what the pass, the walk back and float64 take together
MOST_PROGRAMS = 128  # by methods, whose parameters callers choose freely
MOST_PLANS = 32  # a plan holds sessions, and callers choose captures freely: old plans go


class Question(NamedTuple):
    """Targets in one output. head: what is explained for it."""

    method: Method
    output: str
    head: Head
    targets: Sequence[Target]
    capture: Sequence[str]


class Engine:
    """Safe to call from several threads."""

    def __init__(self, graph: Graph, gates: Mapping[str, int | None] | None = None) -> None:
        """gates: slot of the gate (None: no gate) by node name, where it is not to be found from the graph."""
        self.graph = graph
        self.gates = dict(gates or {})
        self.cells = cells_of(graph)
        values, nodes = {o for n in graph.nodes for o in n.outputs}, {n.name for n in graph.nodes}
        own = {name: cell for name, cell in self.cells.items() if name in nodes}
        self.views = frozenset(name for name in inner_names(own) if name not in values)
        self.finer = bool(self.cells)
        self.steady = sizes_are_fixed(graph)
        ours = any(cell.dtype == np.float64 or cell.batch_first for cell in self.cells.values())
        self.runtime_runs = not ours  # its recurrent operators take float32 and time first only
        self.known = KnownShapes()
        self._lock = threading.Lock()
        self._plans: OrderedDict[tuple[object, ...], Plan] = OrderedDict()
        self._programs: OrderedDict[tuple[object, ...], Program] = OrderedDict()

    @timed("forward")
    def forward(self, program: Program, inputs: Mapping[str, Array], known: Specialised | None = None) -> ForwardPass:
        """known: the program for the shapes of `inputs`. Raises InputError where the graph cannot run on these."""
        try:
            done = program.forward(inputs) if known is None else program.forward_by(known.forward, inputs)
        except Error:
            raise
        except Exception as error:  # ONNX Runtime's own types are not public
            raise InputError(f"the model cannot run on these inputs: {runtime_message(error)}") from error
        if not self.steady:
            _check_amount(done)
        return done

    def explain(
        self, inputs: Mapping[str, Array], question: Question, passes: Passes | None = None
    ) -> tuple[ForwardPass, list[tuple[Selection, Attribution]]]:
        """inputs: checked, in the graph's own types. passes: earlier forward passes on these inputs, added to."""
        method, output, head, targets, capture = question
        program = self.program(head, method, tuple(capture))
        if len(targets) > 1 or capture:
            done = self._forward(program, inputs, None, passes)
            selections = [select(target, done.values[output], output) for target in targets]
            asked = [(s, target.batch_axis) for s, target in zip(selections, targets, strict=True)]
            with shapes_agree():
                return done, list(zip(selections, explain_together(program, done, asked), strict=True))
        (target,) = targets
        done, selection, answer = self.explain_one(program, inputs, target, output, passes)
        return done, [(selection, answer)]

    def explain_one(
        self,
        program: Program,
        inputs: Mapping[str, Array],
        target: Target,
        output: str,
        passes: Passes | None = None,
    ) -> tuple[ForwardPass, Selection, Attribution]:
        """As `explain`, of one target and without captures: by the program for shapes that have come before."""
        key = (program, target.batch_axis, *[array.shape for array in inputs.values()])
        known = self.known.get(key)
        done = self._forward(program, inputs, known, passes)
        selection = select(target, done.values[output], output)
        over: Callable[[BackwardPass], None] | None = None
        if known is not None and not known.holds(done):
            known = None
        elif known is None and self.known.wants(key):
            may_take_long()

            def over(back: BackwardPass) -> None:
                self.known.add(key, program.specialised(done, back))

        with shapes_agree():
            return done, selection, explain_one(program, done, selection, target.batch_axis, known, over)

    def _forward(
        self, program: Program, inputs: Mapping[str, Array], known: Specialised | None, passes: Passes | None
    ) -> ForwardPass:
        if passes is None:
            return self.forward(program, inputs, known)
        if program.plan not in passes:
            passes[program.plan] = self.forward(program, inputs, known)
        return passes[program.plan]

    def program(self, head: Head, method: Method, capture: tuple[str, ...] = ()) -> Program:
        """The program for these, made when first asked for. Raises UnsupportedOperator, MethodError."""
        key = (head, method, capture)
        with self._lock:
            try:
                program = self._programs.get(key)
            except TypeError:  # a method may hold arrays, and has no hash
                return self._program(head, method, capture)
            if program is None:
                program = self._programs[key] = self._program(head, method, capture)
                if len(self._programs) > MOST_PROGRAMS:
                    self._programs.popitem(last=False)
            self._programs.move_to_end(key)
            return program

    def _program(self, head: Head, method: Method, capture: tuple[str, ...]) -> Program:
        plan = self._plan(head, method, tuple(name for name in capture if name not in self.views))
        return Program(plan, self.cells, method, head, tuple(self.graph.inputs), capture)

    def _plan(self, head: Head, method: Method, capture: tuple[str, ...]) -> Plan:
        lrp = isinstance(method, LRP)
        spread = isinstance(method, LRP) and method.bias_factor > 0
        keep = saved_tensors_for(method)
        scaled = isinstance(method, GradientTimesInput)
        key = (head.value, keep, spread, scaled, capture)
        plan = self._plans.get(key)
        if plan is None:
            terms = saved_values_of(self.graph, head.value) if scaled else ()  # LRP keeps them without being asked
            saved_values = (*capture, *head.keep(self.graph), *terms)
            plan = self._compiled(head, Purpose(not lrp, keep, spread, self.gates), saved_values)
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


def _check_amount(done: ForwardPass) -> None:
    """Raises InputError where what is to follow this pass would take too much: of a model whose inputs' values decide
    on that, nobody can tell before.
    """
    watch = current_scope()
    size = TIMES_A_PASS * bytes_of(done)
    if watch is not None and watch.most_bytes is not None and size > watch.most_bytes:
        raise InputError(
            f"the request would take about {size:.3g} bytes of memory, {watch.most_bytes:.3g} are allowed",
            field="inputs",
        )


class shapes_agree:  # noqa: N801 - a context manager, and on the way of every request: contextlib's costs several times this
    """Raises ModelError where arrays inside turn out to have other shapes than the model lets expect, InputError where
    they would take more memory than there is.
    """

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (ValueError, ArithmeticError, IndexError)):  # of shapes that it declares, or values decide
            raise ModelError(f"shapes in the model contradict each other: {error}") from error
        if isinstance(error, MemoryError):
            raise InputError(f"the relevance cannot be computed: {runtime_message(error)}") from error


def saved_tensors_for(method: Method) -> SavedTensors:
    """What the method looks at in recurrent nodes."""
    if not isinstance(method, LRP):
        return SavedTensors.SLOPES
    return SavedTensors.SIGNALS if method.product_rule == "all" else SavedTensors.EVERYTHING


def in_float64(inputs: Mapping[str, Array]) -> dict[str, Array]:
    return {n: a.astype(np.float64) if a.dtype.kind == "f" else a for n, a in inputs.items()}
