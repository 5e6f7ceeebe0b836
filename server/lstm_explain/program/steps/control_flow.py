"""Runs the bodies of If, Loop and Scan forward and backward, iteration by iteration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from lstm_explain.cancellation import checkpoint, current_scope
from lstm_explain.errors import InputError
from lstm_explain.graph.ir import Array, Node
from lstm_explain.graph.session import max_runtime_bytes
from lstm_explain.operators import BatchLayout
from lstm_explain.program.body_wiring import BODIES, Sliced, Wiring, wiring_of
from lstm_explain.program.compile import Plan
from lstm_explain.program.passes import BackwardPass, ForwardPass, Iterations, Message
from lstm_explain.program.reachability import BackwardNode
from lstm_explain.program.steps.base import BackwardStep

BYTES_PER_ITERATION, BYTES_PER_ARRAY = 1024, 1024  # objects that hold arrays; half measured, half for the backward pass


class Body(Protocol):
    """The program of a body."""

    plan: Plan

    def forward(self, inputs: Mapping[str, Array]) -> ForwardPass: ...
    def backward(self, back: BackwardPass) -> None: ...


# --- forward -----------------------------------------------------------------------------------------------------


class ControlFlowForward:
    """bodies: by name. Saves `Iterations` for the backward pass."""

    def __init__(self, backward_node: BackwardNode, plan: Plan, bodies: Mapping[str, Body]) -> None:
        self.node, self.plan, self.bodies = backward_node.node, plan, bodies

    def __call__(self, done: ForwardPass) -> None:
        known = _Known(self.plan, done.values)
        outputs, done.tapes[self.node.name] = self._if(known) if self.node.op == "If" else self._loop(known)
        done.values.update(outputs)

    def specialised(self, done: ForwardPass) -> ControlFlowForward:
        return self

    def _if(self, known: _Known) -> tuple[dict[str, Array], Iterations]:
        node, (yes, no) = self.node, BODIES["If"]
        name = yes if bool(known[node.inputs[0]].reshape(-1)[0]) else no
        body = self.bodies[name]
        done = body.forward(known.around(body.plan))
        outputs = dict(zip(node.outputs, (done.values[o] for o in body.plan.graph.outputs), strict=True))
        return outputs, Iterations(name, [done], _size(done, {}))

    def _loop(self, known: _Known) -> tuple[dict[str, Array], Iterations]:
        node, body, wiring = self.node, self.bodies["body"], wiring_of(self.node)
        state = {c.entry: known[node.inputs[c.slot]] for c in wiring.carried}
        around = known.around(body.plan)
        passes: list[ForwardPass] = []
        is_loop, entries = node.op == "Loop", body.plan.entries
        most = _trip_count(node, wiring, known)
        going = not is_loop or not node.input(1) or bool(known[node.inputs[1]].reshape(-1)[0])
        size, most_kept = 0, _most_kept()
        while going and (most is None or len(passes) < most):
            checkpoint()
            step = len(passes)
            inputs = around | state | {s.inner: _taken(known[s.outer], s, step) for s in wiring.read}
            if is_loop:
                inputs |= {entries[0]: np.array(step, np.int64), entries[1]: np.array(True)}
            done = body.forward(inputs)
            passes.append(done)
            size += _size(done, inputs)
            if size > most_kept:
                raise InputError(
                    f"node {node.name!r} ({node.op}): {len(passes)} iterations take more than the {most_kept} bytes "
                    "of memory that they may take"
                )
            state = {c.entry: done.values[c.exit] for c in wiring.carried}
            going = not is_loop or bool(done.values[body.plan.graph.outputs[0]].reshape(-1)[0])
        outputs = {c.output: state[c.entry] for c in wiring.carried if c.output}
        outputs |= {w.outer: _stacked(self.plan, w, passes) for w in wiring.written if w.outer}
        return outputs, Iterations("body", passes, size)


class _Known:
    """Values of the enclosing graph: computed values or constants of the model."""

    def __init__(self, plan: Plan, values: Mapping[str, Array]) -> None:
        self.values, self.constants = values, plan.graph.constants

    def __getitem__(self, name: str) -> Array:
        return self.constants[name] if name in self.constants else self.values[name]

    def around(self, body: Plan) -> dict[str, Array]:
        """The values that the body reads from the enclosing graph."""
        own = set(body.entries)
        return {name: self[name] for name in body.graph.inputs if name not in own}


def _size(done: ForwardPass, given: Mapping[str, Array]) -> int:
    """Bytes that a body's pass saves, without its inputs."""
    inner = sum(tape.size for tape in done.tapes.values() if isinstance(tape, Iterations))
    return (
        BYTES_PER_ITERATION
        + BYTES_PER_ARRAY * len(done.values)
        + inner
        + sum(getattr(a, "nbytes", 0) for name, a in done.values.items() if name not in given)
    )


def _most_kept() -> int:
    """Bytes that the iterations of a loop may save, since a loop may run for ever."""
    watch = current_scope()
    return max_runtime_bytes() if watch is None or watch.max_bytes is None else watch.max_bytes


def _trip_count(node: Node, wiring: Wiring, known: _Known) -> int | None:
    if node.op == "Scan":
        first = wiring.read[0]
        return int(known[first.outer].shape[first.axis])
    return int(known[node.inputs[0]].reshape(-1)[0]) if node.input(0) else None


def _taken(sequence: Array, sliced: Sliced, step: int) -> Array:
    position = sequence.shape[sliced.axis] - 1 - step if sliced.backwards else step
    return np.asarray(np.take(sequence, position, axis=sliced.axis), order="C")


def _stacked(plan: Plan, written: Sliced, passes: list[ForwardPass]) -> Array:
    parts = [p.values[written.inner] for p in passes]
    if not parts:  # no iteration: length 0, and the other extents as far as they are known
        kind = plan.graph.type_of(written.outer)
        shape = [d if isinstance(d, int) else 0 for d in kind.shape or (0,)]
        shape[written.axis] = 0
        return np.zeros(shape, kind.dtype or np.float32)
    return np.stack(parts[::-1] if written.backwards else parts, axis=written.axis)


# --- back --------------------------------------------------------------------------------------------------------


class ControlFlowBackward(BackwardStep):
    """Runs the backward pass through the iterations, last to first, and passes on what arrives at the body's inputs."""

    def __init__(self, backward_node: BackwardNode, bodies: Mapping[str, Body]) -> None:
        super().__init__(backward_node)
        self.bodies = bodies

    def __call__(self, back: BackwardPass) -> None:
        arrived = {name: back.messages.get(name) for name in self.carrying}
        if not any(arrived.values()):
            return
        record: Iterations = back.done.tapes[self.name]
        body = self.bodies[record.body]
        if self.backward_node.node.op == "If":
            inner = _inside(back, body, record.passes[0])
            for outer, name in zip(self.backward_node.node.outputs, body.plan.graph.outputs, strict=True):
                inner.receive(name, arrived.get(outer))
            body.backward(inner)
            self._hand_out(back, inner)
        else:
            self._loop(back, body, record, arrived)

    def specialised(self, back: BackwardPass) -> BackwardStep:
        return self

    def _loop(self, back: BackwardPass, body: Body, record: Iterations, arrived: dict[str, Message | None]) -> None:
        wiring = wiring_of(self.backward_node.node)
        state = {c.entry: arrived.get(c.output) for c in wiring.carried}
        read: dict[str, list[Message | None]] = {s.inner: [] for s in wiring.read}
        count = len(record.passes)
        for step in reversed(range(count)):
            inner = _inside(back, body, record.passes[step])
            for carried in wiring.carried:
                inner.receive(carried.exit, state[carried.entry])
            for written in wiring.written:
                message = arrived.get(written.outer)
                if message is not None:
                    position = count - 1 - step if written.backwards else step
                    inner.receive(written.inner, message.at(written.axis, position))
            body.backward(inner)
            state = {c.entry: inner.messages.get(c.entry) for c in wiring.carried}
            for sliced in wiring.read:
                read[sliced.inner].append(inner.messages.get(sliced.inner))
            self._hand_out(back, inner)
        for carried in wiring.carried:
            _give_start(back, self.backward_node.node.inputs[carried.slot], state[carried.entry])
        for sliced in wiring.read:
            _give_sequence(back, sliced, read[sliced.inner])

    def _hand_out(self, back: BackwardPass, inner: BackwardPass) -> None:
        """Sends messages to the values of the enclosing graph."""
        for name in self.backward_node.captured:
            back.receive(name, inner.messages.get(name))


def _inside(back: BackwardPass, body: Body, done: ForwardPass) -> BackwardPass:
    """A backward pass through one iteration of a body, which adds to the same account."""
    return BackwardPass(body.plan, done, back.batch, back.dtype, back.account)


def _give_start(back: BackwardPass, name: str, message: Message | None) -> None:
    if name in back.plan.live:
        back.receive(name, message)
    elif message is not None and not back.plan.gradient:
        back.keep_initial_state(message)


def _give_sequence(back: BackwardPass, sliced: Sliced, parts: list[Message | None]) -> None:
    """Concatenates the iterations' messages, which are given last first."""
    some = next((p for p in parts if p is not None), None)
    if some is None or sliced.outer not in back.plan.live:
        return
    layout = some.layout
    if layout is not None:
        layout = BatchLayout(layout.axis + (layout.axis >= sliced.axis), layout.inner)
    ordered = parts if sliced.backwards else parts[::-1]
    for channel in ("relevance", "density", "amount"):
        arrays = [None if p is None else getattr(p, channel) for p in ordered]
        known = next((a for a in arrays if a is not None), None)
        if known is not None:
            row = np.stack([np.zeros_like(known) if a is None else a for a in arrays], axis=sliced.axis)
            back.send(sliced.outer, layout, **{channel: row})
