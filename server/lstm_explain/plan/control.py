"""Runs the bodies of If, Loop and Scan, forward and back, iteration by iteration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lstm_explain.errors import InputError
from lstm_explain.graph.ir import Array, Node
from lstm_explain.graph.session import most_bytes
from lstm_explain.plan import forward
from lstm_explain.plan.wiring import BODIES, Sliced, Wiring, wiring_of
from lstm_explain.rules import Lane, LaneLost
from lstm_explain.watch import checkpoint, watched

if TYPE_CHECKING:
    from lstm_explain.plan.backward import Message, Walk
    from lstm_explain.plan.compile import Plan
    from lstm_explain.plan.forward import Pass
    from lstm_explain.plan.live import Stop
    from lstm_explain.rules.recurrent import Recurrent


@dataclass(frozen=True)
class Iterations:
    """What a control-flow node did: the body that ran, and a forward pass an iteration. size: bytes that these keep."""

    plan: Plan
    passes: list[Pass]
    size: int


def run_node(
    stop: Stop, plan: Plan, cells: Mapping[str, Recurrent], values: Mapping[str, Array]
) -> tuple[dict[str, Array], Iterations]:
    """The node's outputs by name, and what the way back needs."""
    known = _Known(plan, values)
    if stop.node.op == "If":
        return _run_if(stop.node, plan, cells, known)
    return _run_loop(stop.node, plan, cells, known)


class _Known:
    """Values around a body: computed, or constants of the model."""

    def __init__(self, plan: Plan, values: Mapping[str, Array]) -> None:
        self.values, self.constants = values, plan.graph.constants

    def __getitem__(self, name: str) -> Array:
        return self.constants[name] if name in self.constants else self.values[name]

    def around(self, body: Plan) -> dict[str, Array]:
        """What the body reads from outside."""
        own = set(body.entries)
        return {name: self[name] for name in body.graph.inputs if name not in own}


def _run_if(
    node: Node, plan: Plan, cells: Mapping[str, Recurrent], known: _Known
) -> tuple[dict[str, Array], Iterations]:
    yes, no = BODIES["If"]
    body = plan.bodies[node.name][yes if bool(known[node.inputs[0]].reshape(-1)[0]) else no]
    done = forward.run(body, cells, known.around(body))
    outputs = dict(zip(node.outputs, (done.values[o] for o in body.graph.outputs), strict=True))
    return outputs, Iterations(body, [done], _size(done, {}))


def _run_loop(
    node: Node, plan: Plan, cells: Mapping[str, Recurrent], known: _Known
) -> tuple[dict[str, Array], Iterations]:
    body, wiring = plan.bodies[node.name]["body"], wiring_of(node)
    state = {c.entry: known[node.inputs[c.slot]] for c in wiring.carried}
    around = known.around(body)
    passes: list[Pass] = []
    is_loop = node.op == "Loop"
    most = _trip_count(node, wiring, known)
    going = not is_loop or not node.input(1) or bool(known[node.inputs[1]].reshape(-1)[0])
    size, most_kept = 0, _most_kept()
    while going and (most is None or len(passes) < most):
        checkpoint()
        step = len(passes)
        inputs = around | state | {s.inner: _taken(known[s.outer], s, step) for s in wiring.read}
        if is_loop:
            inputs |= {body.entries[0]: np.array(step, np.int64), body.entries[1]: np.array(True)}
        done = forward.run(body, cells, inputs)
        passes.append(done)
        size += _size(done, inputs)
        if size > most_kept:
            raise InputError(
                f"node {node.name!r} ({node.op}): {len(passes)} iterations take more than the {most_kept} bytes of "
                "memory that they may take"
            )
        state = {c.entry: done.values[c.exit] for c in wiring.carried}
        going = not is_loop or bool(done.values[body.graph.outputs[0]].reshape(-1)[0])
    outputs = {c.output: state[c.entry] for c in wiring.carried if c.output}
    outputs |= {w.outer: _stacked(plan, w, passes) for w in wiring.written if w.outer}
    return outputs, Iterations(body, passes, size)


BYTES_AN_ITERATION, BYTES_AN_ARRAY = 1024, 1024  # of what holds them: half of it measured, and as much on the way back


def _size(done: Pass, given: Mapping[str, Array]) -> int:
    """Bytes that a body's pass keeps, beside what it was given."""
    inner = sum(tape.size for tape in done.tapes.values() if isinstance(tape, Iterations))
    return (
        BYTES_AN_ITERATION
        + BYTES_AN_ARRAY * len(done.values)
        + inner
        + sum(getattr(a, "nbytes", 0) for name, a in done.values.items() if name not in given)
    )


def _most_kept() -> int:
    """What the iterations of a loop may keep: a loop may go on for ever."""
    watch = watched()
    return most_bytes() if watch is None or watch.most_bytes is None else watch.most_bytes


def _trip_count(node: Node, wiring: Wiring, known: _Known) -> int | None:
    if node.op == "Scan":
        first = wiring.read[0]
        return int(known[first.outer].shape[first.axis])
    return int(known[node.inputs[0]].reshape(-1)[0]) if node.input(0) else None


def _taken(sequence: Array, sliced: Sliced, step: int) -> Array:
    position = sequence.shape[sliced.axis] - 1 - step if sliced.backwards else step
    return np.asarray(np.take(sequence, position, axis=sliced.axis), order="C")


def _stacked(plan: Plan, written: Sliced, passes: list[Pass]) -> Array:
    parts = [p.values[written.inner] for p in passes]
    if not parts:  # no iteration: of length 0, the other extents as far as they are known
        kind = plan.graph.type_of(written.outer)
        shape = [d if isinstance(d, int) else 0 for d in kind.shape or (0,)]
        shape[written.axis] = 0
        return np.zeros(shape, kind.dtype or np.float32)
    return np.stack(parts[::-1] if written.backwards else parts, axis=written.axis)


# --- back --------------------------------------------------------------------------------------------------------


def walk_node(walk: Walk, stop: Stop, messages: list[Message | None]) -> None:
    """Walks back through the iterations, last to first, and hands on what arrives at the body's inputs."""
    arrived = dict(zip(stop.node.outputs, messages, strict=True))
    record: Iterations = walk.done.tapes[stop.node.name]
    if stop.node.op == "If":
        inner = walk.inside(record.plan, record.passes[0])
        for outer, name in zip(stop.node.outputs, record.plan.graph.outputs, strict=True):
            inner.receive(name, arrived.get(outer))
        inner.run()
        _hand_out(walk, stop, inner)
    else:
        _walk_loop(walk, stop, record, arrived)


def _walk_loop(walk: Walk, stop: Stop, record: Iterations, arrived: dict[str, Message | None]) -> None:
    wiring = wiring_of(stop.node)
    state = {c.entry: arrived.get(c.output) for c in wiring.carried}
    read: dict[str, list[Message | None]] = {s.inner: [] for s in wiring.read}
    count = len(record.passes)
    for step in reversed(range(count)):
        inner = walk.inside(record.plan, record.passes[step])
        for carried in wiring.carried:
            inner.receive(carried.exit, state[carried.entry])
        for written in wiring.written:
            message = arrived.get(written.outer)
            if message is not None:
                position = count - 1 - step if written.backwards else step
                inner.receive(written.inner, message.at(written.axis, position))
        inner.run()
        state = {c.entry: inner.messages.get(c.entry) for c in wiring.carried}
        for sliced in wiring.read:
            read[sliced.inner].append(inner.messages.get(sliced.inner))
        _hand_out(walk, stop, inner)
    for carried in wiring.carried:
        _give_start(walk, stop, stop.node.inputs[carried.slot], state[carried.entry])
    for sliced in wiring.read:
        _give_sequence(walk, sliced, read[sliced.inner])


def _hand_out(walk: Walk, stop: Stop, inner: Walk) -> None:
    """To the values around the body."""
    for name in stop.captured:
        walk.receive(name, inner.messages.get(name))


def _give_start(walk: Walk, stop: Stop, name: str, message: Message | None) -> None:
    if name in walk.plan.live:
        walk.receive(name, message)
    elif message is not None and not walk.plan.gradient:
        walk.keep_initial_state(message)


def _give_sequence(walk: Walk, sliced: Sliced, parts: list[Message | None]) -> None:
    """Puts the iterations' messages (last first) in a row again."""
    some = next((p for p in parts if p is not None), None)
    if some is None or sliced.outer not in walk.plan.live:
        return
    lane = some.lane
    if lane is not None:
        lane = Lane(lane.axis + (lane.axis >= sliced.axis), lane.inner)
    ordered = parts if sliced.backwards else parts[::-1]
    for channel in ("relevance", "density", "amount"):
        arrays = [None if p is None else getattr(p, channel) for p in ordered]
        known = next((a for a in arrays if a is not None), None)
        if known is not None:
            row = np.stack([np.zeros_like(known) if a is None else a for a in arrays], axis=sliced.axis)
            walk.send(sliced.outer, lane, **{channel: row})


def sliced_lane(lane: Lane | None, axis: int) -> Lane | None:
    """Where samples lie once `axis` is gone."""
    if lane is None:
        return None
    if lane.axis == axis:
        raise LaneLost
    return Lane(lane.axis - (lane.axis > axis), lane.inner)
