# SPDX-License-Identifier: Apache-2.0
"""Runs one direction of a recurrent node in NumPy, where its kernels are not compiled yet (kernels/compilation.py)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.methods import LRP
from lstm_explain.operators.direction import Direction
from lstm_explain.operators.over_steps.alike import Alike
from lstm_explain.operators.over_steps.received import Received
from lstm_explain.operators.over_steps.timeline import Timeline
from lstm_explain.operators.tape import Lengths, SavedTensors, Tape


@dataclass(frozen=True)
class WithoutKernels:
    """See direction.InPlaceOfKernels. over_steps, back_over_steps: `forward` and `backward` of lstm.py, gru.py or
    rnn.py.
    """

    over_steps: Callable[..., tuple[Array, list[Array]]]
    back_over_steps: Callable[..., Received]

    def forward(
        self, direction: Direction, x: Array, states: list[Array], lens: Lengths, keep: SavedTensors
    ) -> tuple[Tape, list[Array]]:
        kind, finer = x.dtype, direction.sums_in(keep)
        wide, initial = x.astype(finer, copy=False), [s.astype(finer, copy=False) for s in states]
        hidden, last = self.over_steps(direction, _timeline(direction, wide, lens), wide, initial)
        hidden = hidden.astype(kind, copy=False)
        last = [np.where(lens.steps[:, None] > 0, s, 0).astype(kind, copy=False) for s in last]
        kept = dict(zip(("c0",), initial[1:], strict=False))
        return Tape(x, hidden, states[0], lens, kept, finer, complete=False), last

    def predict(
        self,
        direction: Direction,
        x: Array,
        states: list[Array],
        lens: Lengths,
        order: Array,
        hidden: Array,
        last: list[Array],
    ) -> None:
        steps = lens.steps[order]
        order, steps = order[steps > 0], steps[steps > 0]
        if not len(order):
            return
        initial = [state[order] for state in states]
        found = np.empty((len(hidden), len(order), hidden.shape[2]), hidden.dtype)
        neighbours = x[:, order] if (np.diff(order) != 1).any() else x[:, order[0] : order[-1] + 1]
        alike = Alike(neighbours, steps, initial, found, reverse=direction.reverse)
        _, ends = self.over_steps(direction, alike, alike.inputs, initial)
        for whole, end in zip(last, ends, strict=True):
            whole[order] = end
        if len(hidden):
            hidden[:, order] = np.where(lens.over(len(x))[:, order, None], 0, found)

    def backward(
        self,
        direction: Direction,
        lrp: LRP | None,
        tape: Tape,
        lens: Lengths,
        r_y: Array,
        r_ends: list[Array],
        lost: Array,
    ) -> Array:
        passes = len(lens.steps) // len(tape.lens.steps)
        initial = [tape.h0, *([tape.kept["c0"]] if "c0" in tape.kept else [])]

        def again(array: Array, axis: int) -> Array:
            """Once for each pass, in the type of the backward pass."""
            array = array.astype(tape.dtype, copy=False)
            return array if passes == 1 else np.concatenate([array] * passes, axis)

        x, hidden = again(tape.x, 1), again(tape.hidden, 1)
        time, states = _timeline(direction, x, lens), [again(s, 0) for s in initial]
        received = self.back_over_steps(direction, time, lrp, x, hidden, states, r_y if len(r_y) else None, r_ends)
        if received.absorbed is not None:
            lost += np.asarray(received.absorbed, np.float64)
        for end, state in zip(r_ends, received.states, strict=True):
            end[:] = state
        return received.x


def _timeline(direction: Direction, x: Array, lens: Lengths) -> Timeline:
    return Timeline(x, None if lens.whole else lens.steps, reverse=direction.reverse)
