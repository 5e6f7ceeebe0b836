# SPDX-License-Identifier: Apache-2.0
"""Runs the bodies of If, Loop and Scan forward: all iterations at once where that is possible, or one by one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lstm_explain.cancellation import checkpoint, current_scope
from lstm_explain.errors import Error, InputError
from lstm_explain.graph.body_wiring import BODIES, Sliced, Wiring, wiring_of
from lstm_explain.graph.ir import Array, Node
from lstm_explain.graph.session import max_runtime_bytes
from lstm_explain.program.compile import Plan, Segment
from lstm_explain.program.over_time.forward import BySizes, LoopForward, sizes, written_by
from lstm_explain.program.over_time.wiring import around_over_time, sequences_over_time, wiring_over_time
from lstm_explain.program.passes import ForwardPass, Iterations
from lstm_explain.program.reachability import BackwardNode
from lstm_explain.program.steps.base import Body

FEWEST_AT_ONCE = 4  # iterations that repay a session for all of them, if such a request comes again
BYTES_PER_ITERATION, BYTES_PER_ARRAY = 1024, 1024  # of the objects that hold arrays, forward and back


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

    def specialised(self, done: ForwardPass, _: Mapping[str, Array]) -> ControlFlowForward:
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
