# SPDX-License-Identifier: Apache-2.0
"""The backward pass of a program over traced arrays, from the target to the outputs of the compiled file."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstm_explain.compiled.forward import conditions_of, traced_pass
from lstm_explain.compiled.loops import LoopBack
from lstm_explain.compiled.recurrent_nodes import TracedRecurrent
from lstm_explain.compiled.targets import TARGET_INPUT, weights_of
from lstm_explain.errors import UnsupportedOperator
from lstm_explain.graph.data_dependent_sizes import depending_on_values
from lstm_explain.graph.ir import Array
from lstm_explain.operators import BatchLayout, SamplesMixed
from lstm_explain.program.passes import ForwardPass, Message
from lstm_explain.program.program import Program
from lstm_explain.program.steps.control_flow_backward import ControlFlowBackward
from lstm_explain.program.traced_passes import TracedAccount, TracedPass
from lstm_explain.target import Target
from lstm_explain.tracing.arrays import Trace, Traced
from lstm_explain.tracing.extents import UntraceableError
from lstm_explain.tracing.scan import scan

LEDGER = ("inputs", "initial_states", "absorbed", "residual")


@dataclass(frozen=True)
class Aim:
    """The target in one output. runtime: whether its index is an input of the file."""

    target: Target
    output: str
    runtime: bool


def traced_program(program: Program) -> Program:
    """Returns the program with recurrent nodes that run on traced arrays on the way back."""
    nodes: dict[str, Any] = {n.name: n for n in program.plan.graph.all_nodes()}
    cells: Any = {name: TracedRecurrent(nodes[name], cell) for name, cell in program.cells.items()}
    return Program(program.plan, cells, program.method, program.head, program.inputs)


class SamplesMixedError(UnsupportedOperator):
    """The samples of a batch cannot be told apart in a node's inputs."""


def walk_back(program: Program, back: TracedPass) -> None:
    """Runs the steps of the backward pass. Raises UnsupportedOperator where a node cannot be compiled."""
    of_values = depending_on_values(program.plan.graph)
    for step in program.back_steps:
        node = step.backward_node.node
        try:
            if isinstance(step, ControlFlowBackward) and node.op != "If":
                LoopBack(step, back, walk_back).run()
            else:
                step(back)
            _check_taken(back, of_values)
        except UntraceableError as error:
            raise UnsupportedOperator(node.name, node.op, f"cannot be compiled: {error}") from error
        except SamplesMixed as error:
            problem = "cannot be compiled: it mixes the positions of samples"
            raise SamplesMixedError(node.name, node.op, problem) from error


def _check_taken(back: TracedPass, of_values: Collection[str]) -> None:
    """Raises UntraceableError where numbers of the examples would be written into the file that other inputs change."""
    for name, numbers in back.taken.items():
        if name in of_values and len({example.tobytes() for example in numbers.values}) == 1:
            raise UntraceableError(f"it slices or shapes by {name}, which follows from an input but never changes here")


def named_results(
    relevance: dict[str, Traced], explained: Any, ledger: Sequence[Any], kind: np.dtype[Any]
) -> dict[str, Traced]:
    """Returns all outputs that are added to the model's, in one type."""
    found = {**relevance, "explained": explained}
    found |= {f"ledger/{name}": amounts for name, amounts in zip(LEDGER, ledger, strict=True)}
    return {name: array.astype(kind) for name, array in found.items()}


class Walk:
    """The backward pass of a program over traced arrays. least: the narrowest type that it computes in."""

    def __init__(
        self,
        trace: Trace,
        program: Program,
        passes: Sequence[ForwardPass],
        examples: Sequence[Mapping[str, Array]],
        aim: Aim,
        least: np.dtype[Any],
    ) -> None:
        self.trace, self.aim, self.least = trace, aim, least
        self.program = traced_program(program)
        for name in program.inputs:
            own = Traced(trace, tuple(np.asarray(e[name]) for e in examples), name)
            for axis in range(own.ndim):
                sizes = tuple(v.shape[axis] for v in own.values)
                if len(set(sizes)) > 1 and sizes not in trace.extents:
                    trace.extents[sizes] = own._measured(axis)
        self.done = traced_pass(trace, program, passes)
        self.values: dict[str, Any] = self.done.values
        self.conditions = conditions_of(program, passes)
        self.chosen: Traced | None = None
        if aim.runtime:
            batch = [
                1 if aim.target.batch_axis is None else v.shape[aim.target.batch_axis]
                for v in self.value(aim.output).values
            ]
            self.chosen = Traced(trace, tuple(np.zeros(n, np.int64) for n in batch), TARGET_INPUT)

    def value(self, name: str) -> Traced:
        constants = self.program.plan.graph.constants
        return self.trace.constant(constants[name]) if name in constants else self.values[name]

    def results(self) -> dict[str, Traced]:
        """By the name of the output."""
        try:
            back = self.begun()
            walk_back(self.program, back)
        except SamplesMixedError:
            return self._one_by_one()
        account: Any = back.account
        relevance, total = self._arrived(back)
        states, absorbed, explained = account.initial_states, account.absorbed, back.explained
        ledger = (total, states, absorbed, explained - total - states - absorbed)
        return named_results(relevance, explained, ledger, self.kind)

    @property
    def kind(self) -> np.dtype[Any]:
        """The type of the explained value."""
        assert self.program.head is not None
        return self.value(self.program.head.value).dtype

    def _arrived(self, back: TracedPass) -> tuple[dict[str, Traced], Any]:
        """Returns the relevance of the inputs, by the name of the output, and its total for each sample."""
        account: Any = back.account
        found, total = dict[str, Traced](), account.per_sample(0.0, None)
        for name in self.program.inputs:
            relevance: Any = self.program.arrived(back, name)
            if relevance is None:
                relevance = self.trace.namespace.zeros(self.value(name).shape, dtype=back.dtype)
            else:
                total = total + account.per_sample(relevance, back.messages[name].layout)
            found[f"relevance/{name}"] = relevance.astype(back.dtype)
        return found, total

    def _one_by_one(self) -> dict[str, Traced]:
        """Returns the same with a backward pass for each sample, as a Scan, where a node mixes the positions of
        samples.
        """
        xp, (weights, batch) = self.trace.namespace, self._weights()
        axis = (self.aim.target.batch_axis or 0) % weights.ndim
        names = [f"relevance/{name}" for name in self.program.inputs]
        place = xp.reshape(xp.arange(batch), tuple(batch if a == axis else 1 for a in range(weights.ndim)))

        def step(states: list[Any], read: list[Any]) -> tuple[list[Any], list[Any]]:
            back = self._pass(xp.where(place == read[0], weights, 0), None, 1)
            walk_back(self.program, back)
            found, total = self._arrived(back)
            account: Any = back.account
            amounts = [back.explained, total, account.initial_states, account.absorbed]
            return [state + found[name] for state, name in zip(states, names, strict=True)], amounts

        start = [xp.zeros(self.value(name).shape, dtype=weights.dtype) for name in self.program.inputs]
        relevance, amounts = scan(self.trace, step, start, [xp.arange(batch)], backwards=False)
        explained, total, states, absorbed = (xp.reshape(a, (batch,)) for a in amounts)
        ledger = (total, states, absorbed, explained - total - states - absorbed)
        return named_results(dict(zip(names, relevance, strict=True)), explained, ledger, self.kind)

    def begun(self) -> TracedPass:
        """Returns the pass of the whole batch, about to start at the target."""
        weights, batch = self._weights()
        axis = self.aim.target.batch_axis
        alone = isinstance(batch, int) and batch == 1
        layout = None if alone or axis is None else BatchLayout(axis % weights.ndim)
        return self._pass(weights, layout, 1 if axis is None else batch)

    def _weights(self) -> tuple[Any, Any]:
        """Returns the weights of the output's elements, and the number of samples."""
        xp, aim = self.trace.namespace, self.aim
        weights, batch = weights_of(aim.target, self.value(aim.output), aim.output, self.chosen)
        weights = xp.astype(weights, np.promote_types(self.kind, self.least))
        for name, (_, taken) in self.conditions.items():  # another branch than the one that is compiled: no answer
            condition = Traced(self.trace, tuple(np.array([taken]) for _ in range(self.trace.examples)), name)
            weights = xp.where(xp.reshape(condition, (1,) * weights.ndim) == taken, weights, np.nan)
        return weights, batch

    def _pass(self, weights: Any, layout: BatchLayout | None, batch: Any) -> TracedPass:
        xp, program, head = self.trace.namespace, self.program, self.program.head
        assert head is not None
        if head.views:
            weights, layout = head.through(program.plan.graph, self.values, weights, layout, batch)
        account: Any = TracedAccount(self.trace, batch, weights.dtype)
        back = TracedPass(self.trace, program.plan, self.done, batch, weights.dtype, account)
        seed = weights * xp.astype(self.value(head.value), weights.dtype)
        density = program.plan.gradient or head.value in program.plan.first_order
        message = Message(None, weights, None, layout) if density else Message(seed, None, None, layout)
        back.messages[head.value] = message
        back.explained = account.per_sample(seed, layout)
        return back
