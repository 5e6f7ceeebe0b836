# SPDX-License-Identifier: Apache-2.0
"""The GRU: the layout of its weights, and the calls of its kernels, forward and backward."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.kernels import gru, gru_relevance
from lstm_explain.kernels.recurrent_matmul import pack
from lstm_explain.kernels.scalar_functions import CODES
from lstm_explain.methods import LRP
from lstm_explain.operators.cell_stabilisers import NO_SUMS, Sums, numbers
from lstm_explain.operators.direction import RULES, Direction
from lstm_explain.operators.over_steps import gru as gru_formulas
from lstm_explain.operators.over_steps.without_kernels import WithoutKernels
from lstm_explain.operators.recurrent import Recurrent
from lstm_explain.operators.tape import DirectionBack, DirectionRun, Lengths, SavedTensors, Tape


class GRUDirection(Direction):
    def prepare(self) -> None:
        H = self.hidden
        R_zr, R_h = self.R[: 2 * H], self.R[2 * H :]
        self.Wt, self.W_all, self.W_h = pack(self.W.T), pack(self.W), pack(self.W[2 * H :])
        self.Rt_zr, self.Rt_h, self.R_zr, self.R_h = pack(R_zr.T), pack(R_h.T), pack(R_zr), pack(R_h)
        self.bias = self.B[: 3 * H] + self.B[3 * H :]
        self.Rb_h = self.B[5 * H :].copy()
        if self.linear_before_reset:  # the reset gate scales this bias too
            self.bias[2 * H :] = self.B[2 * H : 3 * H]
        usual = self.codes.tolist() == [CODES["sigmoid"], CODES["tanh"]]
        self.slopes_from_z = not usual or self.clip > 0

    def ready(self, steps: int, lens: Lengths, keep: SavedTensors) -> DirectionRun:
        shape, wide = (steps, len(lens.steps), self.hidden), (steps, len(lens.steps), 3 * self.hidden)
        finer, has_z = self.sums_in(keep), keep is not SavedTensors.SLOPES or self.slopes_from_z
        gates_of, hidden_of, inner_of = self.room(lens, wide), self.room(lens, shape), self.room(lens, shape, finer)
        z_of = self.room(lens, wide if has_z else (0, 0, 0), finer)
        ends = self.ends(lens)
        forward = self.kernel(
            gru.forward, lens, self.linear_before_reset, self.codes, self.params, self.clip, self.Wt, self.Rt_zr,
            self.Rt_h, self.bias, self.Rb_h,
        )  # fmt: skip

        def run(x: Array, states: list[Array], stop: Array) -> tuple[Tape, list[Array]]:
            (h0,), z, gates, inner, hidden = states, z_of(), gates_of(), inner_of(), hidden_of()
            forward(x, h0, z, gates, inner, hidden, stop)
            return Tape(x, hidden, h0, lens, {"z": z, "gates": gates, "inner": inner}, finer), ends(hidden)

        return run

    def predict(
        self, x: Array, states: list[Array], lens: Lengths, order: Array, hidden: Array, last: list[Array], stop: Array
    ) -> int:
        return gru.predict(
            x, self.Wt, self.Rt_zr, self.Rt_h, self.bias, self.Rb_h, *states, lens.steps, order, self.reverse,
            self.linear_before_reset, self.codes, self.params, self.clip, hidden, *last, stop,
        )  # fmt: skip

    def ready_back(self, steps: int, lens: Lengths, dtype: np.dtype[Any], lrp: LRP | None) -> DirectionBack:
        room = self.room(lens, (steps, len(lens.steps), self.W.shape[1]), dtype)
        if lrp is None:
            gradient = self.kernel(
                gru.gradient, lens, self.linear_before_reset, self.codes, self.params, self.clip, self.R_zr, self.R_h,
                self.W_all,
            )  # fmt: skip

            def gradients(tape: Tape, r_y: Array, r_ends: list[Array], _: Array, stop: Array) -> Array:
                kept, r_x = tape.kept, room()
                gradient(kept["z"], kept["gates"], kept["inner"], tape.hidden, tape.h0, r_y, *r_ends, r_x, stop)
                return r_x

            return gradients
        rule, number, relative = RULES[lrp.gate_rule], dtype.type, lrp.relative is not None
        sums = (
            *(self._sums_of_gates if relative and rule else NO_SUMS)[:3],
            *(self._sums_of_candidate if relative else NO_SUMS),
        )
        relevance = self.kernel(
            gru_relevance.relevance, lens, rule, self.linear_before_reset, self.bias, self.Rb_h, self.R_zr, self.R_h,
            self.W_all if rule else self.W_h, number(lrp.epsilon or 0), number(lrp.bias_factor), *sums,
            *numbers(lrp, dtype),
        )  # fmt: skip

        def of_units(tape: Tape, r_y: Array, r_ends: list[Array], lost: Array, _: Array) -> Array:
            kept, r_x = tape.kept, room()
            relevance(tape.x, kept["z"], kept["gates"], kept["inner"], tape.hidden, tape.h0, r_y, *r_ends, r_x, lost)
            return r_x

        return of_units

    @cached_property
    def _sums_of_gates(self) -> Sums:
        return Sums.of(self.W, self.R, self.bias, 0, 2 * self.hidden)

    @cached_property
    def _sums_of_candidate(self) -> Sums:
        return Sums.of(self.W, self.R, self.bias, 2 * self.hidden, 3 * self.hidden, self.Rb_h)


class GRU(Recurrent):
    gates, state_slots = 3, (5,)
    default_activations = ("sigmoid", "tanh")
    direction = GRUDirection
    in_place = WithoutKernels(gru_formulas.forward, gru_formulas.backward)
