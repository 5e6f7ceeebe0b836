# SPDX-License-Identifier: Apache-2.0
"""The plain recurrent cell: the layout of its weights, and the calls of its kernels, forward and backward."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.kernels import rnn
from lstm_explain.kernels.recurrent_matmul import pack
from lstm_explain.methods import LRP
from lstm_explain.operators.cell_stabilisers import NO_SUMS, Sums, numbers
from lstm_explain.operators.direction import Direction
from lstm_explain.operators.over_steps import rnn as rnn_formulas
from lstm_explain.operators.over_steps.without_kernels import WithoutKernels
from lstm_explain.operators.recurrent import Recurrent
from lstm_explain.operators.tape import DirectionBack, DirectionRun, Lengths, SavedTensors, Tape


class RNNDirection(Direction):
    def prepare(self) -> None:
        self.Wt, self.W_all, self.Rt, self.R_all = pack(self.W.T), pack(self.W), pack(self.R.T), pack(self.R)
        self.bias = self.B[: self.hidden] + self.B[self.hidden :]

    def ready(self, steps: int, lens: Lengths, keep: SavedTensors) -> DirectionRun:
        shape, finer = (steps, len(lens.steps), self.hidden), self.sums_in(keep)
        z_of, hidden_of = self.room(lens, shape, finer), self.room(lens, shape)
        ends = self.ends(lens)
        forward = self.kernel(rnn.forward, lens, self.codes, self.params, self.clip, self.Wt, self.Rt, self.bias)

        def run(x: Array, states: list[Array], stop: Array) -> tuple[Tape, list[Array]]:
            (h0,), z, hidden = states, z_of(), hidden_of()
            forward(x, h0, z, hidden, stop)
            return Tape(x, hidden, h0, lens, {"z": z}, finer), ends(hidden)

        return run

    def predict(
        self, x: Array, states: list[Array], lens: Lengths, order: Array, hidden: Array, last: list[Array], stop: Array
    ) -> int:
        return rnn.predict(
            x, self.Wt, self.Rt, self.bias, *states, lens.steps, order, self.reverse, self.codes, self.params,
            self.clip, hidden, *last, stop,
        )  # fmt: skip

    def ready_back(self, steps: int, lens: Lengths, dtype: np.dtype[Any], lrp: LRP | None) -> DirectionBack:
        room = self.room(lens, (steps, len(lens.steps), self.W.shape[1]), dtype)
        if lrp is None:
            gradient = self.kernel(rnn.gradient, lens, self.codes, self.params, self.clip, self.R_all, self.W_all)

            def gradients(tape: Tape, r_y: Array, r_ends: list[Array], _: Array, stop: Array) -> Array:
                r_x = room()
                gradient(tape.kept["z"], tape.hidden, r_y, *r_ends, r_x, stop)
                return r_x

            return gradients
        number, sums = dtype.type, NO_SUMS if lrp.relative is None else self._sums
        beta, _, ceiling = numbers(lrp, dtype)
        relevance = self.kernel(
            rnn.relevance, lens, self.bias, self.R_all, self.W_all, number(lrp.epsilon or 0),
            number(lrp.bias_factor), number(1 / self.units), *sums[:3], beta, ceiling,
        )  # fmt: skip

        def of_units(tape: Tape, r_y: Array, r_ends: list[Array], lost: Array, _: Array) -> Array:
            r_x = room()
            relevance(tape.x, tape.kept["z"], tape.hidden, tape.h0, r_y, *r_ends, r_x, lost)
            return r_x

        return of_units

    @cached_property
    def _sums(self) -> Sums:
        return Sums.of(self.W, self.R, self.bias, 0, self.hidden)


class RNN(Recurrent):
    gates, state_slots = 1, (5,)
    default_activations = ("tanh",)
    direction = RNNDirection
    in_place = WithoutKernels(rnn_formulas.forward, rnn_formulas.backward)
