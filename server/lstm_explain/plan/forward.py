"""Runs a plan forward."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.graph.session import run_session
from lstm_explain.plan import control
from lstm_explain.plan.compile import Plan, Segment
from lstm_explain.plan.live import Stop, values_by_slot
from lstm_explain.plan.small import fits, shaped
from lstm_explain.rules import Kind
from lstm_explain.rules.recurrent import Recurrent, Tape
from lstm_explain.watch import checkpoint


@dataclass
class Pass:
    """One forward pass: every kept value by name, and what our own nodes keep, by node name."""

    values: dict[str, Array]
    tapes: dict[str, Any] = field(default_factory=dict)


def bytes_of(held: object) -> int:
    """Bytes of all arrays in a forward pass, those on the tapes of recurrent nodes and bodies too."""
    if isinstance(held, np.ndarray):
        return held.nbytes
    if isinstance(held, Mapping):
        return sum(map(bytes_of, held.values()))
    if isinstance(held, (list, tuple)):
        return sum(map(bytes_of, held))
    return bytes_of(vars(held)) if isinstance(held, (Pass, Tape)) else bytes_of(getattr(held, "passes", ()))


Advance = Callable[[Pass], None]  # adds to a pass what one step of a plan makes


class OtherShape(Exception):  # noqa: N818 - a fact, not a fault
    """A value is of another shape than it was when the steps were written out."""


def run(plan: Plan, cells: Mapping[str, Recurrent], inputs: Mapping[str, Array]) -> Pass:
    """inputs: every input of the graph, checked. cells: our kernels by node name."""
    arrays = {name: np.asarray(a) for name, a in inputs.items()}  # ONNX Runtime takes no NumPy scalars
    return go(plan, [_advance(step, plan, cells) for step in plan.steps], arrays)


def go(plan: Plan, advances: Sequence[Advance], inputs: Mapping[str, Array]) -> Pass:
    """By the plan's steps as functions."""
    done = Pass(dict(inputs))
    for advance in advances:
        checkpoint()
        advance(done)
    for name in plan.constant_outputs:
        done.values[name] = plan.graph.constants[name]
    return done


def written_out(plan: Plan, cells: Mapping[str, Recurrent], done: Pass) -> list[Advance]:
    """The steps as they are for inputs of the shapes of `done`. They raise OtherShape for some others."""
    return [
        _of_shapes(step, done)
        if isinstance(step, Segment)
        else _at_rest(step, plan, cells, done) or _advance(step, plan, cells)
        for step in plan.steps
    ]


def _advance(step: Segment | Stop, plan: Plan, cells: Mapping[str, Recurrent]) -> Advance:
    if isinstance(step, Segment):
        return _segment(step)
    if step.kind is Kind.RECURRENT:
        return _recurrent(step, plan, cells[step.node.name])

    def walk_body(done: Pass) -> None:
        made, done.tapes[step.node.name] = control.run_node(step, plan, cells, done.values)
        done.values.update(made)

    return walk_body


def _segment(step: Segment) -> Advance:
    def in_runtime(done: Pass) -> None:
        feeds = {name: done.values[name] for name in step.inputs}
        done.values.update(zip(step.outputs, run_session(step.session, step.outputs, feeds), strict=True))

    small = step.small
    if small is None:
        return in_runtime

    def in_numpy(done: Pass) -> None:
        values = done.values
        if not fits(values, step.inputs):
            return in_runtime(done)
        for function, source, output in small:
            values[output] = function(values[source])
        return None

    return in_numpy


def _recurrent(step: Stop, plan: Plan, cell: Recurrent) -> Advance:
    def recur(done: Pass) -> None:
        values = values_by_slot(step.node, plan.graph, done.values, cell.reads)
        outputs, done.tapes[step.node.name] = cell.forward(values, plan.keep)
        done.values.update(outputs)

    return recur


def _of_shapes(step: Segment, done: Pass) -> Advance:
    """For a small segment, whose views that leave all elements in their order become one."""
    in_general, values = _segment(step), done.values
    if step.small is None or not fits(values, step.inputs):
        return in_general
    shapes = [(name, values[name].shape) for name in step.inputs]
    steps = shaped(step.small, {name: values[name] for name in step.inputs}, step.outputs)

    def in_numpy(done: Pass) -> None:
        values = done.values
        for name, shape in shapes:
            if values[name].shape != shape:
                return in_general(done)
        for function, source, output in steps:
            values[output] = function(values[source])
        return None

    return in_numpy


def _at_rest(step: Stop, plan: Plan, cells: Mapping[str, Recurrent], done: Pass) -> Advance | None:
    """For a recurrent node over whole sequences, from zeros: what `Recurrent.forward` checks and makes is made here."""
    if step.kind is not Kind.RECURRENT:
        return None
    node, cell, keep = step.node, cells[step.node.name], plan.keep
    name, source, lengths = node.name, node.inputs[0], node.input(4)
    x = done.values.get(source)
    if x is None or cell.given or cell.batch_first or x.dtype != cell.dtype or lengths in plan.graph.constants:
        return None
    shape, otherwise = x.shape, _recurrent(step, plan, cell)
    lens, states = cell.at_rest(*shape[:2])
    run = cell.ready(shape[0], lens, states, keep)

    def recur(done: Pass) -> None:
        values = done.values
        x = values[source]
        if x.shape != shape:
            raise OtherShape
        if lengths and (values[lengths].shape != shape[1:2] or (values[lengths] != shape[0]).any()):
            return otherwise(done)
        x = x if x.flags.c_contiguous and x.flags.writeable else np.array(x, order="C")
        outputs, done.tapes[name] = run(x)
        values.update(outputs)
        return None

    return recur
