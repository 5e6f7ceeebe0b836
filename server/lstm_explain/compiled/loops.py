# SPDX-License-Identifier: Apache-2.0
"""Loop and Scan nodes of the model in a compiled file.

Forward, the node also returns what its body computes in every iteration and the way back reads. The way back is a Scan
over the iterations, last first, whose states are the messages at the body's states, those at the values that the body
reads from the graph around it, and the account.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from lstm_explain.errors import UnsupportedOperator
from lstm_explain.graph.body_wiring import wiring_of
from lstm_explain.graph.ir import Array, Node
from lstm_explain.graph.protos import copy_of
from lstm_explain.operators import BatchLayout
from lstm_explain.program.compile import Segment
from lstm_explain.program.passes import CHANNELS, ForwardPass, Iterations, Message, sliced_layout, stacked_layout
from lstm_explain.program.program import Program
from lstm_explain.program.steps.control_flow_backward import ControlFlowBackward, give_start
from lstm_explain.program.traced_passes import TracedPass
from lstm_explain.tracing.arrays import Trace, Traced
from lstm_explain.tracing.scan import scan, without_tiny_states

Slot = tuple[str, str]  # a value of the body, and a channel of the message at it
MOST_TRIALS = 6  # walks until the messages that iterations exchange are known


# --- forward ---------------------------------------------------------------------------------------------------------


def each(node: Node, value: str) -> str:
    """Returns the name of the value of a body in all iterations, [iterations, ...]."""
    return f"{node.name}::each::{value}"


def saved_values(body: Program, record: Iterations) -> list[str]:
    """Returns the values that an iteration computes or starts from, without those of the graph around the body."""
    own = set(body.plan.entries)
    return [name for name in record.passes[0].values if name in own or name not in body.plan.graph.inputs]


def with_saved_values(node: Node, body: Program, saved: Sequence[str]) -> Node:
    """Returns the node with a further output for each of these values. Raises UnsupportedOperator."""
    nodes, constants = list[Node](), dict[str, Array]()
    for step in body.plan.steps:
        if not isinstance(step, Segment):
            problem = f"cannot be compiled: its body contains {step.node.name!r} ({step.node.op})"
            raise UnsupportedOperator(node.name, node.op, problem)
        nodes += step.nodes
        constants |= step.constants
    proto = copy_of(node.proto)
    graph: onnx.GraphProto = next(a.g for a in proto.attribute if a.name == "body")
    entries = [value.name for value in graph.input]
    made = {o for n in nodes for o in n.outputs if o}
    read = {name for n in nodes for name in n.inputs if name} | {value.name for value in graph.output} | set(saved)
    own = {name for name in read - made - set(entries) if name in constants}
    names = {name: f"{node.name}/{name}" for name in (*made, *own)}
    body_nodes = []
    for inner in nodes:
        copy = copy_of(inner.proto)
        copy.name = f"{node.name}/{inner.name}"
        copy.input[:] = [names.get(name, name) for name in copy.input]
        copy.output[:] = [names.get(name, name) for name in copy.output]
        body_nodes.append(copy)
    outputs = [value.name for value in graph.output]
    results = [f"{node.name}/result/{i}" for i in range(len(outputs) + len(saved))]
    for name, result in zip([*outputs, *saved], results, strict=True):
        body_nodes.append(helper.make_node("Identity", [names.get(name, name)], [result], name=result))
    del graph.node[:], graph.initializer[:], graph.value_info[:], graph.sparse_initializer[:]
    graph.node.extend(body_nodes)
    graph.initializer.extend(numpy_helper.from_array(constants[name], names[name]) for name in sorted(own))
    kinds = list(graph.output)
    del graph.output[:]
    for kind, result in zip(kinds, results, strict=False):
        kind.name = result
        graph.output.append(kind)
    graph.output.extend(onnx.ValueInfoProto(name=result) for result in results[len(outputs) :])
    first = 1 if node.op == "Loop" else 0
    missing = len(outputs) - first - len(proto.output)
    proto.output.extend(f"{node.name}::unused::{i}" for i in range(missing))
    proto.output.extend(each(node, name) for name in saved)
    for attribute in proto.attribute:
        if attribute.name in ("scan_output_axes", "scan_output_directions"):
            attribute.ints.extend([0] * len(saved))
    return replace(node, proto=proto, outputs=tuple(proto.output), bodies={})


def pruned(node: onnx.NodeProto, read: set[str]) -> onnx.NodeProto:
    """Returns a node of `with_saved_values` without the further outputs that nothing reads."""
    gone = [i for i, name in enumerate(node.output) if "::each::" in name and name not in read]
    if node.op_type not in ("Loop", "Scan") or not gone:
        return node
    node = copy_of(node)
    graph = next(a.g for a in node.attribute if a.name == "body")
    first = 1 if node.op_type == "Loop" else 0
    for i in reversed(gone):
        del node.output[i], graph.output[first + i]
        for attribute in node.attribute:
            if attribute.name in ("scan_output_axes", "scan_output_directions"):
                attribute.ints.pop()
    needed = {value.name for value in graph.output}
    kept = []
    for inner in reversed(graph.node):
        if needed.intersection(inner.output):
            kept.append(inner)
            needed.update(inner.input)
    copies = [copy_of(inner) for inner in kept[::-1]]
    del graph.node[:]
    graph.node.extend(copies)
    return node


# --- back ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Record:
    """What the way back reads of the iterations: by name, each saved value, [iterations, ...]."""

    values: Mapping[str, Any]


def recorded(
    trace: Trace, node: Node, body: Program, records: Sequence[Iterations], rename: Callable[[str], str]
) -> Record:
    """records: the iterations in each example. Raises UnsupportedOperator where there was none."""
    if not all(record.passes for record in records):
        raise UnsupportedOperator(node.name, node.op, "cannot be compiled: it runs no iteration on the examples")
    values = {
        name: Traced(
            trace, tuple(np.stack([p.values[name] for p in r.passes]) for r in records), rename(each(node, name))
        )
        for name in saved_values(body, records[0])
    }
    return Record(values)


class LoopBack:
    """The way back through one Loop or Scan. walk: runs the steps of a body's program."""

    def __init__(self, step: ControlFlowBackward, back: TracedPass, walk: Any) -> None:
        self.step, self.back, self.walk, self.trace = step, back, walk, back.trace
        self.node = step.backward_node.node
        self.body: Any = step.bodies["body"]
        self.wiring = wiring_of(self.node)
        self.record: Record = back.done.tapes[step.name]
        self.arrived = {name: back.messages.get(name) for name in step.carrying}
        self.account: Any = back.account
        self.layouts: dict[str, BatchLayout | None] = {}
        self.used: set[str] = set()

    def run(self) -> None:
        """Sends messages to the node's inputs and to the values that its body reads."""
        if not any(self.arrived.values()):
            return
        xp, account = self.trace.namespace, self.account
        elements = self._elements()
        states, around, read = self._exchanged(elements)
        starts = [self._start(slot) for slot in states]
        starts += [xp.zeros_like(self.back.done.values[name], dtype=self.back.dtype) for name, _ in around]
        starts += [account.absorbed, account.initial_states]
        names = [name for name in elements if name in self.used]
        shapes = {  # of these, nothing but the shape is read
            name: Traced(self.trace, tuple(v[0] for v in x.values), each(self.node, f"{name}::unread"))
            for name, x in self.record.values.items()
        }

        def step(carried: list[Any], at: list[Any]) -> tuple[list[Any], list[Any]]:
            given = {**shapes, **dict(zip(names, at, strict=True))}
            inner = self._iteration(states, carried, given, carried[-2], carried[-1])
            found = [self._channel(inner, slot) for slot in states]
            more = [a + self._channel(inner, slot) for a, slot in zip(carried[len(states) :], around, strict=False)]
            return [*found, *more, account.absorbed, account.initial_states], [
                self._channel(inner, slot) for slot in read
            ]

        last, steps = scan(self.trace, without_tiny_states(step), starts, [elements[n] for n in names], backwards=True)
        account.absorbed, account.initial_states = last[-2:]
        at_start = self._messages(states, last)
        for carried in self.wiring.carried:
            give_start(self.back, self.node.inputs[carried.slot], at_start.get(carried.entry))
        for name, message in self._messages(around, last[len(states) :]).items():
            self.back.receive(name, message)
        for sliced in self.wiring.read:
            if sliced.outer not in self.back.plan.live:
                continue
            for (name, channel), array in zip(read, steps, strict=True):
                if name == sliced.inner:
                    row = xp.moveaxis(xp.flip(array, axis=0) if sliced.backwards else array, 0, sliced.axis)
                    layout = stacked_layout(self.layouts[name], sliced.axis)
                    self.back.send(sliced.outer, layout, **{channel: row})

    def _elements(self) -> dict[str, Any]:
        """By name, what an iteration may read: saved values, and messages at the outputs written step by step."""
        found, xp = dict[str, Any](self.record.values), self.trace.namespace
        for written in self.wiring.written:
            message = self.arrived.get(written.outer)
            for channel in CHANNELS:
                array: Any = None if message is None else getattr(message, channel)
                if array is not None:
                    rows = xp.moveaxis(array, written.axis, 0)
                    found[f"{written.outer}::{channel}"] = xp.flip(rows, axis=0) if written.backwards else rows
        return found

    def _exchanged(self, elements: Mapping[str, Any]) -> tuple[list[Slot], list[Slot], list[Slot]]:
        """Returns the messages that iterations pass on, at states; those at values around the body; and those at
        sequences.
        """
        entries = {c.entry for c in self.wiring.carried}
        slots = set[Slot]()
        for carried in self.wiring.carried:
            message = self.arrived.get(carried.output) if carried.output else None
            if message is not None:
                self.layouts[carried.entry] = message.layout
                slots |= {(carried.entry, c) for c in CHANNELS if getattr(message, c) is not None}
        sequences = [s.inner for s in self.wiring.read]
        for _ in range(MOST_TRIALS):
            inner = self._trial(sorted(slots), elements)
            found = {(name, c) for name, m in inner.messages.items() for c in CHANNELS if getattr(m, c) is not None}
            for name, message in inner.messages.items():
                self.layouts.setdefault(name, message.layout)
                if name in entries and self.layouts[name] != message.layout:
                    raise UnsupportedOperator(self.node.name, self.node.op, "cannot be compiled: its samples move")
            more = {slot for slot in found if slot[0] in entries}
            if more <= slots:
                around = [slot for slot in sorted(found) if slot[0] in self.step.backward_node.captured]
                return sorted(slots), around, [slot for slot in sorted(found) if slot[0] in sequences]
            slots |= more
        raise UnsupportedOperator(self.node.name, self.node.op, "cannot be compiled: its messages do not settle")

    def _trial(self, slots: list[Slot], elements: Mapping[str, Any]) -> TracedPass:
        """Returns one iteration whose nodes are thrown away."""
        writer, account = self.trace.writer, self.account
        before = account.absorbed, account.initial_states
        placeholders = {name: writer.fresh("trial") for name in elements}
        states = {slot: writer.fresh("trial") for slot in slots}
        writer.open_body([*placeholders.values(), *states.values()])
        given = {
            name: Traced(self.trace, tuple(v[0] for v in x.values), placeholders[name]) for name, x in elements.items()
        }
        carried = [
            Traced(self.trace, tuple(np.zeros(v.shape, self.back.dtype) for v in given[name].values), states[name, c])
            for name, c in slots
        ]
        inner = self._iteration(slots, carried, given, *before)
        for slot in [(name, c) for name, m in inner.messages.items() for c in CHANNELS if getattr(m, c) is not None]:
            _ = self._channel(inner, slot).name  # so that the nodes of zeros are counted too
        used = {name for node in writer.close_body() for name in node.input}
        self.used |= {name for name, placeholder in placeholders.items() if placeholder in used}
        for array in (
            m for message in inner.messages.values() for c in CHANNELS if (m := getattr(message, c)) is not None
        ):
            self.used |= {name for name, placeholder in placeholders.items() if array.name == placeholder}
        account.absorbed, account.initial_states = before
        return inner

    def _iteration(
        self, slots: list[Slot], carried: Sequence[Any], given: Mapping[str, Any], absorbed: Any, initial: Any
    ) -> TracedPass:
        """Returns a completed pass through one iteration."""
        self.account.absorbed, self.account.initial_states = absorbed, initial
        around = {n: self.back.done.values[n] for n in self.step.backward_node.captured if n in self.back.done.values}
        values: Any = {**self._outer(), **around, **{n: x for n, x in given.items() if n in self.record.values}}
        inner: Any = self.back.inside(self.body.plan, ForwardPass(values))
        messages = self._messages(slots, carried)
        for state in self.wiring.carried:
            inner.receive(state.exit, messages.get(state.entry))
        for written in self.wiring.written:
            message = self.arrived.get(written.outer)
            channels = {c: given[key] for c in CHANNELS if (key := f"{written.outer}::{c}") in given}
            if message is not None and channels:
                inner.send(written.inner, sliced_layout(message.layout, written.axis), **channels)
        self.walk(self.body, inner)
        return inner

    def _outer(self) -> dict[str, Any]:
        """Returns the values of the graph around the body that it reads."""
        own = set(self.body.plan.entries)
        known, constants = self.back.done.values, self.back.plan.graph.constants
        return {
            n: known[n] if n in known else self.trace.constant(constants[n])
            for n in self.body.plan.graph.inputs
            if n not in own and (n in known or n in constants)
        }

    def _start(self, slot: Slot) -> Any:
        """Returns what arrives at a state from outside."""
        name, channel = slot
        output = next(c.output for c in self.wiring.carried if c.entry == name)
        message = self.arrived.get(output) if output else None
        array: Any = None if message is None else getattr(message, channel)
        if array is not None:
            return self.trace.namespace.astype(array, self.back.dtype)
        shape = self.record.values[name].shape[1:]
        return self.trace.namespace.zeros(shape, dtype=self.back.dtype)

    def _channel(self, inner: TracedPass, slot: Slot) -> Any:
        """Returns what has arrived at a value of an iteration, in the shape of the value."""
        name, channel = slot
        message = inner.messages.get(name)
        array: Any = None if message is None else getattr(message, channel)
        if array is None:
            return self.trace.namespace.zeros_like(inner.done.values[name], dtype=self.back.dtype)
        return self.trace.namespace.astype(array, self.back.dtype)

    def _messages(self, slots: Sequence[Slot], arrays: Sequence[Any]) -> dict[str, Message]:
        found: dict[str, Message] = {}
        for (name, channel), array in zip(slots, arrays, strict=False):
            message = found.setdefault(name, Message(layout=self.layouts.get(name)))
            setattr(message, channel, array)
        return found
