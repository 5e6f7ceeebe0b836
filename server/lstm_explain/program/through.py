# SPDX-License-Identifier: Apache-2.0
"""Relevance through chosen units only, as concept relevance propagation conditions it on neurons.

At a value of the graph, the relevance of all other units is set to zero before it is passed on (Achtibat et al. 2023,
"From attribution maps to human-understandable explanations through concept relevance propagation", equation 7). Inside
an LSTM node, this happens at every step: to the hidden state, the cell, a gate or the candidate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lstm_explain.errors import InputError
from lstm_explain.graph.ir import Array
from lstm_explain.methods import LRP
from lstm_explain.operators import BatchLayout
from lstm_explain.operators.formulas import times
from lstm_explain.operators.lstm_cell import LSTMDirection
from lstm_explain.operators.recurrent import Recurrent
from lstm_explain.operators.tape import BackwardResult, Tape
from lstm_explain.program.lstm_walk import walk
from lstm_explain.program.passes import CHANNELS, BackwardPass
from lstm_explain.program.reachability import BackwardNode
from lstm_explain.program.steps.base import BackwardStep
from lstm_explain.program.steps.recurrent import RecurrentBackward
from lstm_explain.program.views import inner_view

Through = tuple[tuple[str, tuple[int, ...]], ...]  # a value or a view, and the units that relevance passes through
Masks = Mapping[str, Array]  # by view, [directions, H]


def entry(name: str) -> str:
    """The entry of the ledger for the relevance that other units have."""
    return f"(other units of {name})"


class ThroughValue:
    """Sets the relevance of the other units of a value to zero. It runs before the step that passes it on.

    cell: the recurrent node whose output the value is, if it is one: the units of its second direction follow those of
    the first.
    """

    def __init__(self, name: str, units: Sequence[int], cell: Recurrent | None, *, gradient: bool) -> None:
        self.name, self.units, self.cell, self.gradient = name, list(units), cell, gradient
        self.carrying: Sequence[str] = (name,)

    def __call__(self, back: BackwardPass) -> None:
        message = back.messages.get(self.name)
        if message is None:
            raise not_reached(self.name)
        value = back.done.values[self.name]
        mask = self._mask(value.shape)
        if not self.gradient:
            parts = [message.relevance, message.amount]
            if message.density is not None:
                parts.append(times(message.density, value))
            for part in parts:
                if part is not None:
                    back.account.absorb(entry(self.name), part * (1 - mask).astype(part.dtype), message.layout)
        for channel in CHANNELS:
            array = getattr(message, channel)
            if array is not None:
                setattr(message, channel, array * mask.astype(array.dtype))

    def specialised(self, back: BackwardPass) -> ThroughValue:
        return self

    def _mask(self, shape: tuple[int, ...]) -> Array:
        """Returns an array that broadcasts to the shape: 1 for the units, 0 for others."""
        if not shape:
            raise InputError(f"through: {self.name!r} is a single number, it has no units", field="through")
        if self.cell is None:
            return one_of(self.name, shape[-1], self.units)
        directions, hidden = len(self.cell.directions), self.cell.hidden
        mask = one_of(self.name, directions * hidden, self.units).reshape(directions, hidden)
        if self.cell.batch_first:  # [B, T, directions, H] or [B, directions, H]
            return mask
        return mask[:, None]  # [T, directions, B, H] or [directions, B, H]


class ThroughRecurrent(RecurrentBackward):
    """The step of an LSTM node through whose cells, states or gates only some relevance passes.

    It goes through the steps in float64. chosen: the units, by view.
    """

    def __init__(
        self, backward_node: BackwardNode, cell: Recurrent, lrp: LRP, chosen: Mapping[str, Sequence[int]]
    ) -> None:
        super().__init__(backward_node, cell, lrp)
        self.masks = masks_of(self.name, cell, chosen)

    def __call__(self, back: BackwardPass) -> None:
        arrived = self._arrived(back)
        if arrived is None:
            raise not_reached(self.name)
        arriving, layout = arrived
        flow, removed = self._walked(back.done.tapes[self.name], arriving)
        inputs = {slot: array.astype(back.dtype) for slot, array in flow.inputs.items()}
        self._hand_on(back, BackwardResult(inputs, flow.absorbed), layout)
        own = None if layout is None else BatchLayout(0, layout.inner)
        for view, amounts in removed.items():
            back.account.absorb(entry(f"{self.name}.{view}"), amounts, own)

    def together(self, backs: Sequence[BackwardPass]) -> None:
        for back in backs:
            self(back)

    def specialised(self, back: BackwardPass) -> BackwardStep:
        return self

    def _walked(
        self, tapes: Sequence[Tape], arriving: Sequence[Array | None]
    ) -> tuple[BackwardResult, dict[str, Array]]:
        """Returns the relevance of the inputs, and by view what the masks took away, [batch]."""
        cell, lrp = self.cell, self.lrp
        assert lrp is not None
        y, *ends = (None if a is None else np.asarray(a, np.float64) for a in arriving)
        if cell.batch_first:
            y = None if y is None else y.transpose(1, 2, 0, 3)
            ends = [None if e is None else e.swapaxes(0, 1) for e in ends]
        walks = []
        for d, (direction, tape) in enumerate(zip(cell.directions, tapes, strict=True)):
            assert isinstance(direction, LSTMDirection)
            r_y = np.zeros(tape.hidden.shape) if y is None else y[:, d]
            own = {view: mask[d] for view, mask in self.masks.items()}
            walks.append(walk(direction, tape, r_y, [None if e is None else e[d] for e in ends], lrp, own))
        inputs = {0: sum((one.x for one in walks[1:]), walks[0].x)}
        for place, slot in enumerate(cell.state_slots):
            inputs[slot] = np.stack([one.states[place] for one in walks])
        removed = {view: sum((one.removed[view] for one in walks[1:]), walks[0].removed[view]) for view in self.masks}
        arrived = sum((a.sum(axis=(1, 3)).sum(axis=0) for a in (y,) if a is not None), np.zeros(len(tapes[0].h0)))
        arrived = sum((e.sum(axis=(0, 2)) for e in ends if e is not None), arrived)
        gone = inputs[0].sum(axis=(0, 2)) + sum(inputs[slot].sum(axis=(0, 2)) for slot in cell.state_slots)
        absorbed = arrived - gone - sum(removed.values())
        if cell.batch_first:
            inputs = {slot: array.swapaxes(0, 1) for slot, array in inputs.items()}
        return BackwardResult(inputs, absorbed), removed


def as_through(given: Mapping[str, Sequence[int]]) -> Through:
    """Returns the units by value or view, checked. Raises InputError."""
    if not isinstance(given, Mapping):
        raise InputError(f"through is {given!r}, expected a dict from the name of a value to units", field="through")
    found = []
    for name, units in given.items():
        numbers = np.asarray(units)
        if numbers.ndim != 1 or not numbers.size or numbers.dtype.kind not in "iu":
            raise InputError(
                f"through: the units of {name!r} are {units!r}, expected whole numbers, at least one", field="through"
            )
        found.append((name, tuple(dict.fromkeys(numbers.tolist()))))
    return tuple(found)


def chosen_views(through: Through, cells: Mapping[str, Recurrent]) -> dict[str, dict[str, tuple[int, ...]]]:
    """Returns the units of every view, by recurrent node and view."""
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, units in through:
        view = inner_view(name, cells)
        if view is not None:
            found.setdefault(view[0], {})[view[1]] = units
    return found


def producer_of(value: str, cells: Mapping[str, Recurrent]) -> Recurrent | None:
    """Returns the recurrent node that a value is an output of."""
    return next((cell for cell in cells.values() if value in cell.node.outputs), None)


def masks_of(node: str, cell: Recurrent, chosen: Mapping[str, Sequence[int]]) -> Masks:
    """chosen: units by view; those of the second direction follow those of the first. Raises InputError."""
    shape = (len(cell.directions), cell.hidden)
    return {view: one_of(f"{node}.{view}", shape[0] * shape[1], units).reshape(shape) for view, units in chosen.items()}


def one_of(name: str, count: int, units: Sequence[int]) -> Array:
    """Returns an array [count]: 1 for the units, 0 for others. Raises InputError."""
    for unit in units:
        if not 0 <= unit < count:
            raise InputError(f"through: {name!r} has the units 0 to {count - 1}, not {unit}", field="through")
    mask = np.zeros(count)
    mask[list(units)] = 1
    return mask


def not_reached(name: str) -> InputError:
    return InputError(f"through: the explained value does not depend on {name!r}", field="through")
