# SPDX-License-Identifier: Apache-2.0
"""The steps of one direction of a recurrent node: their order, and where each sequence ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lstm_explain.cancellation import raise_if_stopped
from lstm_explain.graph.ir import Array
from lstm_explain.operators.array_api import is_numpy, namespace
from lstm_explain.tracing.scan import Step, scan, without_tiny_states


class Timeline:
    """x [T, B, D]: the input. lengths [B], or None where all sequences are as long as the array. reverse: whether each
    sequence is processed from its end.

    inside [T, B, 1]: whether the position belongs to the sequence; None where all do. last: whether the direction ends
    there, of a shape that broadcasts to [T, B, 1].
    """

    def __init__(self, x: Any, lengths: Any, *, reverse: bool) -> None:
        self.trace, self.reverse, self.lengths = None if is_numpy(x) else x.trace, reverse, lengths
        self.xp: Any = namespace(x)
        self.steps, self.batch = x.shape[:2]
        position = self.xp.reshape(self.xp.arange(self.steps), (self.steps, 1, 1))
        self.first_of_array = position == 0
        self.inside: Any | None = None
        if lengths is None:
            self.end = position == self.steps - 1
        else:
            until = self.xp.reshape(self.xp.astype(lengths, self.xp.int64), (1, self.batch, 1))
            self.inside, self.end = position < until, position == until - 1
        self.last = self.first_of_array if reverse else self.end

    def before(self, states: Array, initial: Array) -> Array:
        """[T, B, H]: the state that each step starts from. states [T, B, H]; initial [B, H]."""
        xp, start = self.xp, self.xp.expand_dims(initial, axis=0)
        if not self.reverse:
            return xp.concat([start, states[:-1]], axis=0)
        shifted = xp.concat([states[1:], start], axis=0)
        return shifted if self.lengths is None else xp.where(self.end, start, shifted)

    def only_inside(self, array: Any) -> Any:
        """[T, B, ...] with zeros after the end of a sequence."""
        return array if self.inside is None else self.xp.where(self.inside, array, 0)

    def counts(self, like: Array) -> Any:
        """Returns the steps of each sequence, at least one: a number, or [B, 1]."""
        if self.lengths is None:
            return self.steps
        return self.xp.astype(self.xp.reshape(self.xp.maximum(self.lengths, 1), (self.batch, 1)), like.dtype)

    def forwards(self, step: Step, carried: Sequence[Any], read: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Returns a loop in the order of the recurrence."""
        return self._loop(step, carried, read, backwards=self.reverse)

    def backwards(self, step: Step, carried: Sequence[Any], read: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Returns a loop in the opposite order, last step first, whose states fade to zero."""
        if self.trace is not None:  # NumPy computes with flush-to-zero instead
            step = without_tiny_states(step)
        return self._loop(step, carried, read, backwards=not self.reverse)

    def _loop(
        self, step: Step, carried: Sequence[Any], read: Sequence[Any], *, backwards: bool
    ) -> tuple[list[Any], list[Any]]:
        inside = self.inside
        if inside is None:
            return self._scan(step, carried, read, backwards=backwards)

        def held(states: list[Any], elements: list[Any]) -> tuple[list[Any], list[Any]]:
            """States stay as they are at positions outside their sequence."""
            after, results = step(states, elements[:-1])
            return [self.xp.where(elements[-1], a, b) for a, b in zip(after, states, strict=True)], results

        last, stacked = self._scan(held, carried, [*read, inside], backwards=backwards)
        return last, [self.only_inside(s) for s in stacked]

    def _scan(
        self, step: Step, carried: Sequence[Any], read: Sequence[Any], *, backwards: bool
    ) -> tuple[list[Any], list[Any]]:
        if self.trace is not None:
            return scan(self.trace, step, carried, read, backwards=backwards)
        if not self.steps:
            _, results = step(list(carried), [np.zeros(a.shape[1:], a.dtype) for a in read])
            return list(carried), [np.zeros((0, *r.shape), r.dtype) for r in results]
        states, found = list(carried), []
        for t in range(self.steps - 1, -1, -1) if backwards else range(self.steps):
            raise_if_stopped()
            states, results = step(states, [a[t] for a in read])
            found.append(results)
        return states, [np.stack(r) for r in zip(*(found[::-1] if backwards else found), strict=True)]
