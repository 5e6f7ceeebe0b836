# SPDX-License-Identifier: Apache-2.0
"""Runs all iterations of a loop in one call of ONNX Runtime, which also returns what the backward pass reads.

Only what leads from state to state is a loop. Everything else, magnitudes included, is computed for all iterations at
once: before the loop from the sequences, and behind it from the states of all iterations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence, Set
from typing import Generic, Protocol, TypeVar

import numpy as np

from lstm_explain.graph.body_wiring import Sliced, Wiring
from lstm_explain.graph.empty_sequences import guard_empty_sequences
from lstm_explain.graph.ir import Array
from lstm_explain.graph.session import open_session, run_session
from lstm_explain.graph.unsigned_weights import make_weights_unsigned
from lstm_explain.program.compile import Plan, Segment
from lstm_explain.program.over_time.schedule import COUNT, Iteration, Schedule
from lstm_explain.program.passes import Stacked

MOST_KEPT, MOST_BYTES = 8, 1 << 26  # sessions of one node, and the bytes of their weights, which each of them copies


class Sized(Protocol):
    """A session with its size in bytes."""

    size: int


Made = TypeVar("Made", bound=Sized)


class LoopForward:
    """For inputs of fixed shapes, apart from the number of iterations.

    segment: the one part that the body consists of. starts, sequences: by the body's names, the first values of states
    and what is read step by step, iterations first. around: values of the enclosing graph. unread: what the
    backward pass does not read of the segment's outputs. Raises whatever ONNX Runtime raises.
    """

    def __init__(
        self,
        wiring: Wiring,
        body: Plan,
        segment: Segment,
        starts: Mapping[str, Array],
        sequences: Mapping[str, Array],
        around: Mapping[str, Array],
        *,
        unread: Set[str],
    ) -> None:
        self.wiring = wiring
        self.exits = {c.entry: c.exit for c in wiring.carried}
        self.constants = {name: body.graph.constants[name] for name in body.constant_outputs}
        saved = dict.fromkeys([*segment.outputs, *self.exits.values()])
        self.saved = [n for n in saved if n not in self.constants and n not in unread and n not in sequences]
        iteration = Iteration(
            [n.proto for n in segment.nodes if not sequences.keys() & n.outputs],
            segment.constants,
            list(self.exits.items()),
            self.saved,
            {name: (array.dtype, array.shape[1:]) for name, array in sequences.items()},
            {name: (array.dtype, array.shape) for name, array in around.items()},
            {name: (array.dtype, array.shape) for name, array in starts.items()},
            body.graph.opsets,
            max(body.graph.ir_version, 4),
            backwards=False,
        )
        schedule = Schedule(iteration)
        kinds = [schedule.types[name] for name in self.saved if name in schedule.types]
        self.bytes_per_iteration = sum(dtype.itemsize * math.prod(shape) for dtype, shape in kinds)
        guard_empty_sequences(schedule.model)
        make_weights_unsigned(schedule.model)
        self.inputs, self.around, self._results = schedule.inputs, schedule.around, schedule.results
        model = schedule.model.SerializeToString()
        self.size, self.session = len(model), open_session(model, flush=True)
        self._taken = {i.name for i in self.session.get_inputs()}
        self._found = [o.name for o in self.session.get_outputs()]

    def run(
        self,
        starts: Mapping[str, Array],
        sequences: Mapping[str, Array],
        around: Mapping[str, Array],
        gathered: Mapping[str, Array],
    ) -> tuple[dict[str, Array], Stacked]:
        """Returns the last value of each state, and what all iterations save. gathered: values of the enclosing graph
        that iterations read element by element.
        """
        count = len(next(iter(sequences.values())))
        feeds: dict[str, Array] = {COUNT: np.array([count], np.int64)}
        feeds |= {f"start::{name}": array for name, array in starts.items()}
        feeds |= {name: sequences[name] for name in self.inputs} | {name: around[name] for name in self.around}
        arrays = run_session(self.session, None, {n: a for n, a in feeds.items() if n in self._taken})
        found = dict(zip(self._found, arrays, strict=True))
        last = {name: found[f"last::{name}"] for name in starts}
        values = {**sequences, **{n: found[result] for n, result in zip(self.saved, self._results, strict=True)}}
        return last, Stacked(count, values, dict(starts), self.exits, around, gathered, self.constants)


def written_by(record: Stacked, sliced: Sliced) -> Array:
    """Returns a value that all iterations write, as the node's output."""
    constant = record.constants.get(sliced.inner)
    rows = record.values[sliced.inner] if constant is None else np.stack([constant] * record.count)
    return np.ascontiguousarray(np.moveaxis(rows[::-1] if sliced.backwards else rows, 0, sliced.axis))


class BySizes(Generic[Made]):
    """The most recent sessions, by the sizes that they serve; None for sizes that they cannot serve. Safe to use from
    several threads.
    """

    def __init__(self) -> None:
        self._made: dict[Hashable, Made | None] = {}

    def get(self, key: Hashable, make: Callable[[], Made | None]) -> Made | None:
        known = self._made
        if key not in known:
            made = make()
            sizes = [m.size for m in (made, *known.values()) if m is not None]
            if len(known) >= MOST_KEPT or sum(sizes) > MOST_BYTES:
                known = {}
            known[key] = made
            self._made = known
            return made
        return known[key]

    def give_up(self, key: Hashable) -> None:
        self._made[key] = None


def sizes(arrays: Sequence[Mapping[str, Array]]) -> tuple[object, ...]:
    """Returns a key that is equal for arrays of the same names, types and shapes."""
    return tuple((name, a.dtype, a.shape) for some in arrays for name, a in some.items())
