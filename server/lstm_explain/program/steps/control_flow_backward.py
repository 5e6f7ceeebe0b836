# SPDX-License-Identifier: Apache-2.0
"""Runs the bodies of If, Loop and Scan backward: all iterations at once where that is possible, or last to first."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

from lstm_explain.graph.body_wiring import Sliced, Wiring, wiring_of
from lstm_explain.operators import Kind
from lstm_explain.program.over_time.backward import Arriving, LoopBackward, arriving_at, give_rows
from lstm_explain.program.over_time.forward import BySizes, sizes
from lstm_explain.program.over_time.wiring import wiring_over_time
from lstm_explain.program.passes import CHANNELS, BackwardPass, Iterations, Message, Stacked, stacked_layout
from lstm_explain.program.reachability import BackwardNode
from lstm_explain.program.steps.base import BackwardStep, Body

FEWEST_SPECIALISED, MOST_SPECIALISED = 8, 16  # iterations that repay it; kinds of iterations of one node


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
