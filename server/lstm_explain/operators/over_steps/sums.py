# SPDX-License-Identifier: Apache-2.0
"""The weighted sums inside recurrent cells: their values at all steps, their stabilisers, and the ceiling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.methods import LRP
from lstm_explain.operators.array_api import namespace
from lstm_explain.operators.cell_stabilisers import HIGHEST
from lstm_explain.operators.formulas import At, settle
from lstm_explain.operators.over_steps.timeline import Timeline


def weighted(x: Array, W: Array, h: Array, R: Array, bias: Array) -> Array:
    """[T, B, G]: x W' + h R' + bias at all steps."""
    xp, kind = namespace(x), x.dtype
    return x @ xp.asarray(W.T.astype(kind)) + h @ xp.asarray(R.T.astype(kind)) + xp.asarray(bias.astype(kind))


@dataclass(frozen=True)
class Rules:
    """How sums divide one unit of relevance. lrp: LRP's parameters."""

    lrp: LRP

    def pre_activation(self, z: Array, terms: Array | None, bias: Any) -> tuple[Array, Array]:
        """Returns the density at a sum z of one unit of relevance, and what its bias and stabiliser keep of the
        unit.
        """
        relative = self.lrp.relative
        at = At(self.lrp.epsilon or 0.0) if relative is None else At(0.0, relative.pre_activations, terms)
        density, kept = settle(namespace(z).ones_like(z), z, at)
        return density, kept + density * bias

    def state(self, old: Array, new: Array) -> tuple[Array, Array, Array]:
        """Returns what a state old + new passes of one unit to its two terms, and what it keeps."""
        xp, relative, delta = namespace(old), self.lrp.relative, self.lrp.bias_factor
        total = old + new
        at = At(self.lrp.epsilon or 0.0)
        if relative is not None:
            at = At(0.0, relative.cells, xp.abs(old) + xp.abs(new)) if relative.cells else At()
        density, kept = settle(xp.ones_like(total), total, at)
        part = kept * (delta / 2) if delta else 0
        return old * density + part, new * density + part, kept * (1 - delta)

    def state_with_stabiliser(self, old: Array, new: Array) -> Array:
        """Returns the divisor of a state old + new."""
        xp, relative = namespace(old), self.lrp.relative
        assert relative is not None
        total = old + new
        if not relative.cells:
            return total
        over = relative.cells * xp.maximum(xp.abs(old) + xp.abs(new) - xp.abs(total), 0)
        return total + xp.where(total >= 0, over, -over)


class Ceiling:
    """Bounds how the density of relevance grows on its way back through a node (kernels/stabilisers.py, `limit`).

    The size of a density is sum_j |R_j / below_j| size_j, where size_j is the root mean square of state j over its
    sequence. read: what a step needs, [T, B, H] and [T, B, 1].
    """

    def __init__(self, lrp: LRP, time: Timeline, state: Array, below: Array, above: Array | None) -> None:
        assert lrp.relative is not None
        xp: Any = time.xp
        self.xp, self.ceiling = xp, lrp.relative.ceiling
        total = xp.sum(time.only_inside(state * state), axis=0)
        sizes = xp.sqrt(total / time.counts(total))
        unit = xp.where(below != 0, xp.expand_dims(sizes, axis=0) / xp.abs(xp.where(below != 0, below, 1)), 0)
        last = xp.broadcast_to(xp.astype(time.last, below.dtype), (time.steps, time.batch, 1))
        self.read = [unit, last, last * float(np.finfo(below.dtype).max)]
        if above is not None:
            self.read += [above, xp.sum(unit * xp.abs(above), axis=-1, keepdims=True)]
        self.start = xp.zeros((time.batch, 1), dtype=below.dtype)

    def limit(
        self, arrived: Array, along: Array | None, hidden: Array, read: list[Array]
    ) -> tuple[Array, Array | None, Array, Array]:
        """Returns one step. along, hidden [B, H]: relevance along the state and through hidden states; arrived [B, 1]:
        sizes of the densities from above so far. Returns arrived, along and hidden, bounded, and what that takes away,
        [B, H].

        At the last step everything comes from above: it counts as arrived, and there is no bound.
        """
        xp, unit, last, unbounded = self.xp, read[0], read[1], read[2]
        above, from_above = (read[3], read[4]) if len(read) > 3 else (None, None)

        def size(r: Array) -> Array:
            return xp.sum(unit * xp.abs(r), axis=-1, keepdims=True)

        through = size(hidden)
        of_along = None if along is None else size(along)
        carried = through if of_along is None else through + of_along
        if from_above is not None:
            arrived = arrived + from_above
        arrived = arrived + last * carried
        most = self.ceiling * arrived + unbounded
        together: Any = from_above
        if along is not None:
            together = of_along if above is None else size(along + above)
        room = most if together is None else most - together
        bounded = hidden * _part(xp, room, through)
        if along is None or of_along is None:
            return arrived, None, bounded, hidden - bounded
        room = most if from_above is None else most - from_above
        kept = along * xp.where(together > most, _part(xp, room, of_along), 1)
        return arrived, kept, bounded, (along + hidden) - (kept + bounded)


def _part(xp: Any, room: Array, size: Array) -> Array:
    """Returns the part of `size` for which there is room, at most 1."""
    least = float(np.finfo(size.dtype).smallest_normal)
    return xp.minimum(xp.maximum(room, 0) / xp.maximum(size, least), 1)


def has_ceiling(lrp: LRP | None) -> bool:
    return lrp is not None and lrp.relative is not None and lrp.relative.ceiling < HIGHEST
