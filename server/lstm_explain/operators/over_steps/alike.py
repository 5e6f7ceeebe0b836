# SPDX-License-Identifier: Apache-2.0
"""The steps of sequences that begin alike, which run once up to the first difference: kernels/prefixes.py in NumPy,
except that sequences do not come together again.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from lstm_explain.cancellation import raise_if_stopped
from lstm_explain.graph.ir import Array
from lstm_explain.kernels.single_steps import differ
from lstm_explain.tracing.scan import Step


class Alike:
    """Stands in for the Timeline of a forward pass, whose argument x is then `inputs`.

    x [T, n, D]: neighbours are those that begin alike. lengths [n]. initial: the states, [n, H] each. hidden [T, n, H]:
    where not empty, receives the states at the steps of each sequence. inputs [rows, D]: those that differ from the
    neighbour's.
    """

    xp: Any = np

    def __init__(self, x: Array, lengths: Array, initial: Sequence[Array], hidden: Array, *, reverse: bool) -> None:
        steps, n, _ = x.shape
        in_order = slice(None, None, -1) if reverse else slice(None)
        self._hidden = hidden[in_order]
        self._runs = (np.arange(steps)[:, None] < lengths)[in_order]
        changes = np.empty((steps, n), np.bool_)
        differ(np.ascontiguousarray(x).view(np.int32), changes)
        new = changes[in_order]
        new[:, 1:] |= ~self._runs[:, :-1]
        new &= self._runs
        self.inputs = x[in_order][new]
        differs = new.copy()
        differs[:, 1:] |= self._runs[:, :-1] & ~self._runs[:, 1:]
        for state in initial:
            differs[0, 1:] |= (state[1:] != state[:-1]).any(axis=1)
        begins = np.logical_or.accumulate(differs)  # whether a group begins with the sequence
        begins[:, 0] = True
        self._group = begins.cumsum(axis=1) - 1  # of each sequence at each step
        before = np.concatenate([np.arange(n)[None], self._group[:-1]])
        row = new.cumsum().reshape(steps, n) - 1  # of inputs; anything where the sequence does not run
        # By group, one step after the other: the group before, the row of inputs, and those that do not run.
        self._before, self._row, self._stays = before[begins], row[begins], np.flatnonzero(~self._runs[begins])
        self._ends = [0, *begins.sum(axis=1).cumsum().tolist()]
        self._stay_from: list[int] = np.searchsorted(self._stays, self._ends).tolist()

    def forwards(self, step: Step, carried: Sequence[Array], read: Sequence[Array]) -> tuple[list[Array], list[Array]]:
        """Returns the last states of all sequences, and `hidden`."""
        states, (rows,) = list(carried), read
        for s, (start, end) in enumerate(pairwise(self._ends)):
            raise_if_stopped()
            if end - start != len(states[0]):  # groups only split
                states = [state.take(self._before[start:end], axis=0) for state in states]
            after, _ = step(states, [rows.take(self._row[start:end], axis=0)])
            stays = self._stays[self._stay_from[s] : self._stay_from[s + 1]]
            if len(stays):
                for a, b in zip(after, states, strict=True):
                    a[stays - start] = b[stays - start]
            states = after
            if len(self._hidden):
                runs = self._runs[s]
                self._hidden[s, runs] = states[0][self._group[s, runs]]
        return [state[self._group[-1]] for state in states], [self._hidden]
