# SPDX-License-Identifier: Apache-2.0
"""A plan and a method as one list of steps, and the same steps specialised for shapes that repeat.

The backward pass starts at the explained value. Sums and linear maps pass on densities: G = R / stab(z) at a sum z,
then plain vector-Jacobian products. A density becomes relevance again only at a value that is not itself a sum. So a
sum with all the linear maps that feed it is one neuron with one stabiliser, however the exporter spelled it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from lstm_explain.cancellation import FORWARD, checkpoint, current_scope
from lstm_explain.errors import Error, InputError
from lstm_explain.graph.ir import Array
from lstm_explain.graph.session import runtime_message
from lstm_explain.methods import LRP, Method
from lstm_explain.operators import Kind
from lstm_explain.operators.formulas import times
from lstm_explain.operators.recurrent import Recurrent
from lstm_explain.program.compile import Plan, Segment
from lstm_explain.program.head import Head
from lstm_explain.program.magnitudes import magnitude_value
from lstm_explain.program.passes import BackwardPass, ForwardPass, Message, bytes_of, plus
from lstm_explain.program.reachability import BackwardNode
from lstm_explain.program.steps.base import BackwardStep
from lstm_explain.program.steps.control_flow import ControlFlowForward
from lstm_explain.program.steps.control_flow_backward import ControlFlowBackward
from lstm_explain.program.steps.layer_rules import check_keys, layer_steps, settings_of
from lstm_explain.program.steps.linear import Neuron, Scale
from lstm_explain.program.steps.pointwise import Activation, FirstOrder, Lookup, Weights
from lstm_explain.program.steps.product import Product
from lstm_explain.program.steps.recurrent import FromFixedStates, RecurrentBackward, RecurrentForward
from lstm_explain.program.steps.routing import ChainRule, Routing, merged
from lstm_explain.program.steps.segment import SegmentForward, SegmentOfShapes
from lstm_explain.program.straight_line import StraightLine
from lstm_explain.program.terms import Terms
from lstm_explain.program.through import (
    Through,
    ThroughRecurrent,
    ThroughValue,
    chosen_views,
    not_reached,
    producer_of,
)
from lstm_explain.program.views import inner_view

MOST_SHAPES = 512  # the number of different shapes that are kept for one method
TIMES_A_PASS = 4  # the memory of the forward pass, the backward pass and float64 together


class Program:
    """Runs a plan forward, and runs the backward pass of one method. Safe to call from several threads.

    cells: our kernels by node name. head: the value that is explained; None where the backward pass starts elsewhere.
    inputs, capture: the values whose relevance is returned. through: the units that relevance passes through. steady:
    whether the shapes of the inputs alone decide how much there is to compute. Raises MethodError for a composite that
    does not fit the graph.
    """

    def __init__(
        self,
        plan: Plan,
        cells: Mapping[str, Recurrent],
        method: Method,
        head: Head | None = None,
        inputs: Sequence[str] = (),
        capture: Sequence[str] = (),
        through: Through = (),
        *,
        steady: bool = True,
    ) -> None:
        self.plan, self.cells, self.method = plan, cells, method
        self.head, self.inputs, self.capture, self.steady = head, inputs, capture, steady
        self._given_outputs = [] if head is None else [name for name in plan.graph.outputs if name in plan.graph.inputs]
        self.quantity = "output" if head is None else head.quantity  # how the explained value relates to the output
        self.least = np.dtype(np.float64 if method.needs_float64 else np.float32)
        self.lrp = method.rules or LRP()
        self.hands_out_densities = plan.gradient and not method.times_value
        if head is not None and self.lrp.composite is not None:  # a body has only some of the nodes
            check_keys(plan.graph, self.lrp.composite)
        self._bodies = {
            node: {name: Program(body, cells, method) for name, body in bodies.items()}
            for node, bodies in plan.bodies.items()
        }
        self._forward = [self._forward_step(step) for step in plan.steps]
        self.chosen = chosen_views(through, cells)  # by recurrent node and view, the units
        layers = layer_steps(plan, self.lrp)
        self._back: list[BackwardStep | ThroughValue] = []
        at_values = {name: units for name, units in through if inner_view(name, cells) is None}
        for backward_node in reversed(plan.backward_nodes):
            for name in backward_node.carrying:
                if name in at_values:
                    own = producer_of(name, cells)
                    self._back.append(ThroughValue(name, at_values.pop(name), own, gradient=plan.gradient))
            self._back.append(layers.get(backward_node.node.name) or self._backward_step(backward_node))
        for name in at_values:
            raise not_reached(name)

    # --- forward ------------------------------------------------------------------------------------------------

    def forward(self, inputs: Mapping[str, Array], known: Specialised | None = None) -> ForwardPass:
        """Runs the plan on every input of the graph, checked. known: the specialised program for their shapes.

        Raises InputError where the graph cannot run on them, or would take more memory than the scope allows.
        """
        scope, done = current_scope(), ForwardPass(dict(inputs))
        steps: Sequence[Callable[[ForwardPass], None]] = self._forward if known is None else known.forward
        try:
            if scope is None:
                for step in steps:
                    step(done)
            else:
                with FORWARD:
                    for step in steps:
                        scope.check()
                        step(done)
        except Error:
            raise
        except Exception as error:  # ONNX Runtime's own types are not public
            raise InputError(f"the model cannot run on these inputs: {runtime_message(error)}") from error
        for name in self.plan.constant_outputs:
            done.values[name] = self.plan.graph.constants[name].copy()  # the caller may modify outputs
        for name in self._given_outputs:
            done.values[name] = inputs[name].copy()
        if not self.steady:
            _check_amount(done)
        return done

    def _forward_step(self, step: Segment | BackwardNode) -> SegmentForward | RecurrentForward | ControlFlowForward:
        if isinstance(step, Segment):
            return SegmentForward(step)
        name = step.node.name
        if step.kind is Kind.RECURRENT:
            return RecurrentForward(step, self.plan, self.cells[name])
        return ControlFlowForward(step, self.plan, self._bodies[name])

    # --- back ---------------------------------------------------------------------------------------------------

    def backward(self, back: BackwardPass, known: Specialised | None = None) -> None:
        """Runs the backward pass from the messages at the targets. known: the specialised program for the shapes of
        this pass.

        Raises SamplesMixed where samples cannot be told apart.
        """
        scope = current_scope()
        for step in self._back if known is None else known.back:
            if scope is not None:
                scope.check()
            step(back)

    @property
    def bodies(self) -> Mapping[str, Mapping[str, Program]]:
        """The programs of the bodies of control-flow nodes, by node name and attribute."""
        return self._bodies

    @cached_property
    def unread(self) -> frozenset[str]:
        """The magnitudes of sums that take no stabiliser."""
        betas = self.lrp.relative
        return frozenset(
            magnitude_value(b.node.outputs[0])
            for b in self.plan.backward_nodes
            if betas is not None and not getattr(betas, self.plan.sums.get(b.node.name, ""), 1.0)
        )

    @property
    def back_steps(self) -> Sequence[BackwardStep]:
        """The steps of the backward pass that pass nodes, in order."""
        return [step for step in self._back if isinstance(step, BackwardStep)]

    def backward_together(self, backs: Sequence[BackwardPass], known: Specialised | None = None) -> None:
        """`backward` from several targets of one forward pass, node by node."""
        for step in self._back if known is None else known.steps:
            if isinstance(step, RecurrentBackward):
                checkpoint()
                step.together(backs)
                continue
            for back in backs:
                checkpoint()
                step(back)

    def arrived(self, back: BackwardPass, value: str) -> Array | None:
        """The total that has arrived at a value, as the method reports it; None where nothing has arrived."""
        message = back.messages.get(value)
        return None if message is None else self.total(message, value, back)

    def total(self, message: Message, value: str, back: BackwardPass) -> Array | None:
        """The total of a message that has arrived at a value, as the method reports it."""
        relevance, density, amount = message.relevance, message.density, message.amount
        if density is None and amount is None:
            return relevance
        if density is not None and not self.hands_out_densities:
            density = times(density, back.done.values[value])
        return plus(plus(relevance, density), amount)

    def _backward_step(self, backward_node: BackwardNode) -> BackwardStep:
        plan, lrp, kind = self.plan, self.lrp, backward_node.kind
        match kind:
            case Kind.RECURRENT:
                settings = None if plan.gradient else settings_of(lrp, backward_node.node)
                chosen = self.chosen.get(backward_node.node.name)
                if chosen is not None and settings is not None:
                    return ThroughRecurrent(backward_node, self.cells[backward_node.node.name], settings, chosen)
                return RecurrentBackward(backward_node, self.cells[backward_node.node.name], settings)
            case Kind.CONTROL:
                return ControlFlowBackward(backward_node, self._bodies[backward_node.node.name])
            case Kind.LOOKUP:
                return Lookup(backward_node, squares=not self.method.times_value)
        if plan.gradient:
            return ChainRule(backward_node)
        match kind:
            case Kind.SUM | Kind.MAP:
                return Neuron(backward_node, plan, lrp)
            case Kind.SCALE:
                return Scale(backward_node, plan)
            case Kind.ACTIVATION:
                return Activation(backward_node)
            case Kind.WEIGHTS:
                return Weights(backward_node)
            case Kind.FIRST_ORDER:
                return FirstOrder(backward_node, plan)
            case Kind.ROUTING:
                return Routing(backward_node, plan)
            case Kind.PRODUCT:
                return Product(backward_node, plan.gates[backward_node.node.name], lrp)
        raise AssertionError(f"no step for {kind}")

    # --- specialised for shapes ---------------------------------------------------------------------------------

    def specialised(self, done: ForwardPass, back: BackwardPass) -> Specialised | None:
        """The steps specialised for the shapes of these completed passes; None where passes of the same shapes may
        differ.
        """
        if self.plan.bodies:
            return None
        met = [step for step in self.back_steps if any(name in back.messages for name in step.carrying)]
        steps = merged([step.specialised(back) for step in met])
        forward: list[SegmentForward | SegmentOfShapes | RecurrentForward | FromFixedStates | ControlFlowForward] = []
        fixed: dict[str, Array] = {}
        for ahead in self._forward:
            forward.append(ahead.specialised(done, fixed))
            if isinstance(forward[-1], SegmentOfShapes):
                fixed |= forward[-1].fixed
        lines = [ahead.line() for ahead in forward if isinstance(ahead, (SegmentOfShapes, FromFixedStates))]
        follow = len(lines) == len(forward)  # then the shapes of inputs determine all others
        shapes = [] if follow else self._open_shapes(done)
        calls = lines if follow else [ahead.__call__ for ahead in forward]
        known = Specialised(calls, [step.__call__ for step in steps], shapes, steps)
        known.straight = StraightLine.of(self, back, steps, known.terms)
        return known

    def _open_shapes(self, done: ForwardPass) -> list[tuple[str, tuple[int, ...]]]:
        """The shapes of the values that the backward pass reads, where the model does not declare them."""
        graph, values, backward_nodes = self.plan.graph, done.values, self.plan.backward_nodes
        names = dict.fromkeys(
            name
            for backward_node in backward_nodes
            for name in (*backward_node.node.inputs, *backward_node.node.outputs)
            if name not in self.inputs  # their shapes are known
        )
        segments = [step for step in self.plan.steps if isinstance(step, Segment)]
        inner = {o for s in segments if s.small for n in s.nodes for o in n.outputs}
        inner = inner.difference(*[s.outputs for s in segments])
        open_ones = [n for n in names if n in values and n not in inner and graph.type_of(n).static_shape is None]
        return [(name, values[name].shape) for name in open_ones]


@dataclass
class Specialised:
    """A program for inputs of one shape.

    shapes: the shapes of inner values, on which the backward pass relies. steps: those that `back` calls. terms: the
    terms of explained values, see `terms.scale`. straight: the backward pass from one target, where it is so simple.
    """

    forward: Sequence[Callable[[ForwardPass], None]]
    back: Sequence[Callable[[BackwardPass], None]]
    shapes: Sequence[tuple[str, tuple[int, ...]]]
    steps: Sequence[BackwardStep]
    terms: dict[bytes, Terms] = field(default_factory=dict)
    straight: StraightLine | None = None

    def holds(self, done: ForwardPass) -> bool:
        values = done.values
        for name, shape in self.shapes:  # noqa: SIM110 - twice as fast as `all`
            if values[name].shape != shape:
                return False
        return True


class KnownShapes:
    """Specialised programs, by program and shapes. They are compiled when a request with their shapes comes a second
    time.
    """

    def __init__(self) -> None:
        self.specialised: dict[Hashable, Specialised | None] = {}
        self._seen: set[Hashable] = set()
        self._lock = threading.Lock()

    def wants(self, key: Hashable) -> bool:
        """Whether `key` has occurred before without having been specialised."""
        with self._lock:
            if key in self.specialised:
                return False
            if len(self._seen) >= MOST_SHAPES:
                self.specialised.clear()
                self._seen.clear()
            before = key in self._seen
            self._seen.add(key)
            return before

    def add(self, key: Hashable, specialised: Specialised | None) -> None:
        self.specialised[key] = specialised

    def count(self) -> int:
        return sum(specialised is not None for specialised in self.specialised.values())


def _check_amount(done: ForwardPass) -> None:
    """Raises InputError where the rest of the work after this pass would take too much memory, which only the values of
    the inputs show.
    """
    scope = current_scope()
    if scope is None or scope.max_bytes is None:
        return
    size = TIMES_A_PASS * bytes_of(done)
    if size > scope.max_bytes:
        raise InputError(
            f"the request would take about {size:.3g} bytes of memory, {scope.max_bytes:.3g} are allowed",
            field="inputs",
        )
