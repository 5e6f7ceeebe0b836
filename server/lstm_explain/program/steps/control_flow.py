# SPDX-License-Identifier: Apache-2.0
"""Runs the bodies of If, Loop and Scan forward and backward, iteration by iteration."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from lstm_explain.cancellation import checkpoint, current_scope
from lstm_explain.errors import Error, InputError
from lstm_explain.graph.ir import Array, Node
from lstm_explain.graph.session import max_runtime_bytes
from lstm_explain.operators import Kind
from lstm_explain.program.body_wiring import BODIES, Sliced, Wiring, wiring_of
from lstm_explain.program.compile import Plan, Segment
from lstm_explain.program.over_time.backward import Arriving, LoopBackward, arriving_at, give_rows
from lstm_explain.program.over_time.forward import BySizes, LoopForward, sizes, written_by
from lstm_explain.program.over_time.wiring import around_over_time, sequences_over_time, wiring_over_time
from lstm_explain.program.passes import (
    CHANNELS,
    BackwardPass,
    ForwardPass,
    Iterations,
    Message,
    Stacked,
    stacked_layout,
)
from lstm_explain.program.reachability import BackwardNode
from lstm_explain.program.steps.base import BackwardStep

FEWEST_AT_ONCE = 16  # iterations that repay a session for all of them
FEWEST_SPECIALISED, MOST_SPECIALISED = 8, 16  # iterations that repay it; kinds of iterations of one node
BYTES_PER_ITERATION, BYTES_PER_ARRAY = 1024, 1024  # of the objects that hold arrays, forward and back


class Body(Protocol):
    """The program of a body."""

    plan: Plan

    @property
    def back_steps(self) -> Sequence[BackwardStep]: ...
    @property
    def unread(self) -> frozenset[str]: ...
    def forward(self, inputs: Mapping[str, Array]) -> ForwardPass: ...
    def backward(self, back: BackwardPass, known: Any = None) -> None: ...
    def specialised(self, done: ForwardPass, back: BackwardPass) -> Any: ...


# --- forward -----------------------------------------------------------------------------------------------------


class ControlFlowForward:
    """bodies: by name. Saves `Iterations` for the backward pass."""

    def __init__(self, backward_node: BackwardNode, plan: Plan, bodies: Mapping[str, Body]) -> None:
        self.node, self.plan, self.bodies = backward_node.node, plan, bodies
        self.at_once = BySizes[LoopForward]()
        whole = self.node.op != "If" and all(isinstance(s, Segment) for b in bodies.values() for s in b.plan.steps)
        self._wiring = wiring_over_time(self.node) if whole else None

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
        if self._wiring is not None and (_trip_count(node, wiring, known) or 0) >= FEWEST_AT_ONCE:
            found = self._at_once(self._wiring, known)
            if found is not None:
                return found
        state = {c.entry: known[node.inputs[c.slot]] for c in wiring.carried}
        around = known.around(body.plan)
        passes: list[ForwardPass] = []
        is_loop, entries = node.op == "Loop", body.plan.entries
        most = _trip_count(node, wiring, known)
        going = _begins(node, known)
        size = 0
        while going and (most is None or len(passes) < most):
            checkpoint()
            step = len(passes)
            inputs = around | state | {s.inner: _taken(known[s.outer], s, step) for s in wiring.read}
            if is_loop:
                inputs |= {entries[0]: np.array(step, np.int64), entries[1]: np.array(True)}
            done = body.forward(inputs)
            passes.append(done)
            size += _size(done, inputs)
            self._check_size(len(passes), size)
            state = {c.entry: done.values[c.exit] for c in wiring.carried}
            going = not is_loop or bool(done.values[body.plan.graph.outputs[0]].reshape(-1)[0])
        outputs = {c.output: state[c.entry] for c in wiring.carried if c.output}
        outputs |= {w.outer: _stacked(self.plan, w, passes) for w in wiring.written if w.outer}
        return outputs, Iterations("body", passes, size)

    def _at_once(self, wiring: Wiring, known: _Known) -> tuple[dict[str, Array], Iterations] | None:
        """Runs all iterations in one call; returns None for a loop that cannot run so."""
        node, body = self.node, self.bodies["body"].plan
        count = _trip_count(node, wiring_of(node), known) or 0
        if not _begins(node, known):
            return None
        self._check_size(count, _overhead(count, 0))  # callers choose the trip count of a Loop
        sequences = sequences_over_time(node, wiring, known.__getitem__, count)
        if sequences is None:
            return None
        starts, everything = {c.entry: known[node.inputs[c.slot]] for c in wiring.carried}, known.around(body)
        around = around_over_time(node, wiring, everything)
        gathered = {name: array for name, array in everything.items() if name not in around}
        key = sizes([starts, {name: array[0, ...] for name, array in sequences.items()}, around])
        whole = self.at_once.get(key, lambda: self._over_time(wiring, body, starts, sequences, around))
        if whole is None:
            return None
        self._check_size(count, count * whole.bytes_per_iteration + _overhead(count, len(whole.saved)))
        try:
            last, record = whole.run(starts, sequences, around, gathered)
        except Error:
            raise
        except Exception:  # ONNX Runtime's own types are not public
            self.at_once.give_up(key)
            return None
        size = sum(record.values[name].nbytes for name in whole.saved)
        size += _overhead(count, len(whole.saved))
        self._check_size(count, size)
        outputs = {c.output: last[c.entry] for c in wiring.carried if c.output}
        outputs |= {w.outer: written_by(record, w) for w in wiring.written if w.outer}
        return outputs, Iterations("body", record, size)

    def _over_time(self, wiring: Wiring, body: Plan, *given: Mapping[str, Array]) -> LoopForward | None:
        """Returns None for a body of no node, or one that ONNX Runtime (whose types are not public) rejects."""
        try:
            (segment,) = body.steps
            assert isinstance(segment, Segment)
            unread = self.bodies["body"].unread | ({body.graph.outputs[0]} if self.node.op == "Loop" else set())
            return LoopForward(wiring, body, segment, *given, unread=unread)
        except Exception:
            return None

    def _check_size(self, iterations: int, size: int) -> None:
        """Raises InputError if the iterations save more than they may, since a loop may run for ever."""
        scope = current_scope()
        most = max_runtime_bytes() if scope is None or scope.max_bytes is None else scope.max_bytes
        if size > most:
            raise InputError(
                f"node {self.node.name!r} ({self.node.op}): {iterations} iterations take more than the {most} bytes of "
                "memory that they may take"
            )


class _Known:
    """Values of the enclosing graph: computed values or constants of the model."""

    def __init__(self, plan: Plan, values: Mapping[str, Array]) -> None:
        self.values, self.constants = values, plan.graph.constants

    def __getitem__(self, name: str) -> Array:
        return self.constants[name] if name in self.constants else self.values[name]

    def around(self, body: Plan) -> dict[str, Array]:
        """Returns the values that the body reads from the enclosing graph."""
        own = set(body.entries)
        return {name: self[name] for name in body.graph.inputs if name not in own}


def _size(done: ForwardPass, given: Mapping[str, Array]) -> int:
    """Returns the bytes that a body's pass saves, without its inputs."""
    inner = sum(tape.size for tape in done.tapes.values() if isinstance(tape, Iterations))
    arrays = sum(getattr(a, "nbytes", 0) for name, a in done.values.items() if name not in given)
    return _overhead(1, len(done.values)) + inner + arrays


def _overhead(iterations: int, arrays: int) -> int:
    """Returns the bytes of the objects that hold so many arrays of each iteration."""
    return iterations * (BYTES_PER_ITERATION + BYTES_PER_ARRAY * arrays)


def _begins(node: Node, known: _Known) -> bool:
    """Returns whether the condition of a Loop is true at the start."""
    return node.op == "Scan" or not node.input(1) or bool(known[node.inputs[1]].reshape(-1)[0])


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
        self.known: dict[Hashable, Any] = {}  # specialised bodies, by what arrives at an iteration
        self.at_once = BySizes[LoopBackward]()
        self._wiring = None if backward_node.node.op == "If" else wiring_over_time(backward_node.node)

    def __call__(self, back: BackwardPass) -> None:
        arrived = {name: back.messages.get(name) for name in self.carrying}
        if not any(arrived.values()):
            return
        record: Iterations = back.done.tapes[self.name]
        body = self.bodies[record.body]
        if self.backward_node.node.op == "If":
            inner = back.inside(body.plan, record.passes[0])
            for outer, name in zip(self.backward_node.node.outputs, body.plan.graph.outputs, strict=True):
                inner.receive(name, arrived.get(outer))
            body.backward(inner)
            self._hand_out(back, inner)
        elif not self._at_once(back, body, record, arrived):
            self._loop(back, body, record, arrived)

    def specialised(self, back: BackwardPass) -> BackwardStep:
        return self

    def _at_once(self, back: BackwardPass, body: Body, record: Iterations, arrived: dict[str, Message | None]) -> bool:
        """Returns whether all iterations could run in one call."""
        stacked = record.given
        if isinstance(stacked, list):
            return False
        wiring = self._wiring
        assert wiring is not None
        arriving = arriving_at(wiring, arrived)
        if not arriving.only(back.dtype):
            return False
        first = [stacked.first(), stacked.around]
        key = (back.batch, back.dtype, sizes(first), arriving.kinds)
        known = self.at_once.get(key, lambda: self._traced(back, body, wiring, stacked, arriving))
        leaving = None if known is None else known.run(back, stacked, arriving)
        if leaving is None:
            return False
        for carried in wiring.carried:
            give_start(back, self.backward_node.node.inputs[carried.slot], leaving.starts.get(carried.entry))
        for sliced in wiring.read:
            if sliced.inner in leaving.read and sliced.outer in back.plan.live:
                whole = back.done.values[sliced.outer].shape
                give_rows(back, sliced, leaving.read[sliced.inner], whole)
        for name, message in leaving.around.items():
            back.receive(name, message)
        return True

    def _traced(
        self, back: BackwardPass, body: Body, wiring: Wiring, record: Stacked, arriving: Arriving
    ) -> LoopBackward | None:
        """Returns None for a body that cannot be traced, or that ONNX Runtime (whose types are not public) rejects."""
        if any(b.kind in (Kind.RECURRENT, Kind.CONTROL) for b in body.plan.backward_nodes):
            return None
        read = {s.inner for s in wiring.read}
        steps = [step for step in body.back_steps if read.isdisjoint(step.backward_node.node.outputs)]
        try:
            return LoopBackward(body.plan, steps, wiring, self.backward_node.captured, back, record, arriving)
        except Exception:
            return None

    def _loop(self, back: BackwardPass, body: Body, record: Iterations, arrived: dict[str, Message | None]) -> None:
        wiring = wiring_of(self.backward_node.node)
        state = {c.entry: arrived.get(c.output) for c in wiring.carried}
        read: dict[str, list[Message | None]] = {s.inner: [] for s in wiring.read}
        count = len(record.passes)
        for step in reversed(range(count)):
            inner = back.inside(body.plan, record.passes[step])
            for carried in wiring.carried:
                inner.receive(carried.exit, state[carried.entry])
            for written in wiring.written:
                message = arrived.get(written.outer)
                if message is not None:
                    position = count - 1 - step if written.backwards else step
                    part = message.at(written.axis, position)
                    if part.carries_any:  # often only the last step is read
                        inner.receive(written.inner, part)
            self._iterate(body, inner, more=step)
            state = {c.entry: inner.messages.get(c.entry) for c in wiring.carried}
            for sliced in wiring.read:
                read[sliced.inner].append(inner.messages.get(sliced.inner))
            self._hand_out(back, inner)
        for carried in wiring.carried:
            give_start(back, self.backward_node.node.inputs[carried.slot], state[carried.entry])
        for sliced in wiring.read:
            _give_sequence(back, sliced, read[sliced.inner])

    def _iterate(self, body: Body, inner: BackwardPass, more: int) -> None:
        """Runs the backward pass through one iteration. more: how many follow, for which the body is specialised when
        the same messages arrive.
        """
        messages = inner.messages
        if not messages:
            return
        key = (inner.batch, inner.dtype, *((name, message.channels) for name, message in messages.items()))
        known = self.known.get(key)
        if known is not None and known.holds(inner.done):
            body.backward(inner, known)
            return
        body.backward(inner)
        if known is None and more >= FEWEST_SPECIALISED and len(self.known) < MOST_SPECIALISED:
            self.known[key] = body.specialised(inner.done, inner)

    def _hand_out(self, back: BackwardPass, inner: BackwardPass) -> None:
        """Sends messages to the values of the enclosing graph."""
        for name in self.backward_node.captured:
            back.receive(name, inner.messages.get(name))


def give_start(back: BackwardPass, name: str, message: Message | None) -> None:
    if name in back.plan.live:
        back.receive(name, message)
    elif message is not None and not back.plan.gradient:
        back.keep_initial_state(message)


def _give_sequence(back: BackwardPass, sliced: Sliced, parts: list[Message | None]) -> None:
    """Concatenates the iterations' messages, which are given last first."""
    some = next((p for p in parts if p is not None), None)
    if some is None or sliced.outer not in back.plan.live:
        return
    layout = stacked_layout(some.layout, sliced.axis)
    ordered = parts if sliced.backwards else parts[::-1]
    for channel in CHANNELS:
        arrays = [None if p is None else getattr(p, channel) for p in ordered]
        known = next((a for a in arrays if a is not None), None)
        if known is not None:
            row = np.stack([np.zeros_like(known) if a is None else a for a in arrays], axis=sliced.axis)
            back.send(sliced.outer, layout, **{channel: row})
