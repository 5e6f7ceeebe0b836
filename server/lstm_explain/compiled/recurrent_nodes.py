# SPDX-License-Identifier: Apache-2.0
"""The backward pass of a whole recurrent node: both directions, and the layouts of its operands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lstm_explain.graph.ir import Node
from lstm_explain.methods import LRP
from lstm_explain.operators.gru_cell import GRU
from lstm_explain.operators.lstm_cell import LSTM
from lstm_explain.operators.over_steps import gru, lstm, rnn
from lstm_explain.operators.over_steps.received import Received
from lstm_explain.operators.over_steps.timeline import Timeline
from lstm_explain.operators.recurrent import Recurrent
from lstm_explain.operators.rnn_cell import RNN
from lstm_explain.operators.tape import BackwardResult

Backward = Callable[..., Received]
BACKWARD: dict[type[Recurrent], Backward] = {LSTM: lstm.backward, GRU: gru.backward, RNN: rnn.backward}


@dataclass(frozen=True)
class Operands:
    """The inputs of a node by slot, and its hidden states Y."""

    inputs: dict[int, Any]
    y: Any


class TracedRecurrent:
    """Stands for the kernels of a node (`Recurrent`) on the way back."""

    def __init__(self, node: Node, cell: Recurrent) -> None:
        self.node, self.cell = node, cell
        self.state_slots, self.batch_first = cell.state_slots, cell.batch_first

    def ready_back(self, _: Operands, lrp: LRP | None) -> Callable[[Operands, list[Any | None]], BackwardResult]:
        return lambda operands, arriving: self._backward(operands, arriving, lrp)

    def _backward(self, operands: Operands, arriving: list[Any | None], lrp: LRP | None) -> BackwardResult:
        cell, inputs = self.cell, operands.inputs
        dtype = next(a for a in arriving if a is not None).dtype
        x, y, (r_y, *r_ends) = inputs[0], operands.y, arriving
        xp = x.trace.namespace
        if cell.batch_first:
            x, y = xp.permute_dims(x, (1, 0, 2)), xp.permute_dims(y, (1, 2, 0, 3))
            r_y = None if r_y is None else xp.permute_dims(r_y, (1, 2, 0, 3))
            r_ends = [None if r is None else xp.permute_dims(r, (1, 0, 2)) for r in r_ends]
        x, y, lengths = xp.astype(x, dtype), xp.astype(y, dtype), inputs.get(4)
        steps, batch = x.shape[:2]
        shape = (batch, cell.hidden)
        parts: list[Received] = []
        for d, direction in enumerate(cell.directions):
            time = Timeline(x, lengths, reverse=direction.reverse)
            initial = [self._state(xp, inputs.get(slot), d, shape, dtype) for slot in cell.state_slots]
            ends = [xp.zeros(shape, dtype=dtype) if r is None else xp.astype(r[d], dtype) for r in r_ends]
            if lengths is not None:
                ends = [xp.where(xp.reshape(lengths > 0, (batch, 1)), r, 0) for r in ends]
            arrived = None if r_y is None else time.only_inside(xp.astype(r_y[:, d], dtype))
            rule = BACKWARD[type(cell)]
            parts.append(rule(direction, time, lrp, x, y[:, d], initial, arrived, ends))
        total = parts[0].x
        for part in parts[1:]:
            total = total + part.x
        found: dict[int, Any] = {0: total}
        spreads = lrp is not None and lrp.bias_factor > 0
        for number, slot in enumerate(cell.state_slots):
            if slot in cell.given or spreads:
                found[slot] = xp.stack([p.states[number] for p in parts], axis=0)
        if cell.batch_first:
            found = {slot: xp.permute_dims(r, (1, 0, 2)) for slot, r in found.items()}
        absorbed: Any = xp.zeros((batch,), dtype=dtype)
        for part in parts:
            if part.absorbed is not None:
                absorbed = absorbed + part.absorbed
        if lengths is not None and lrp is not None:
            absorbed = absorbed + self._past_the_end(xp, r_y, r_ends, lengths, steps)
        return BackwardResult(found, absorbed)

    def _state(self, xp: Any, value: Any | None, d: int, shape: Any, dtype: Any) -> Any:
        if value is None:
            return xp.zeros(shape, dtype=dtype)
        value = xp.permute_dims(value, (1, 0, 2)) if self.batch_first else value
        return xp.astype(value[d], dtype)

    def _past_the_end(self, xp: Any, r_y: Any | None, r_ends: list[Any | None], lengths: Any, steps: Any) -> Any:
        """[B]: the relevance of outputs that are zero because their sequence has ended."""
        lost: Any = 0
        if r_y is not None:
            over = xp.reshape(xp.arange(steps), (steps, 1)) >= xp.astype(lengths, xp.int64)
            lost = xp.sum(xp.where(over, xp.sum(r_y, axis=(1, 3)), 0), axis=0)
        for end in r_ends:
            if end is not None:
                lost = lost + xp.where(lengths == 0, xp.sum(end, axis=(0, 2)), 0)
        return lost
