# SPDX-License-Identifier: Apache-2.0
"""The LSTM: the layout of its weights, and the calls of its kernels, forward and backward."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.kernels import lstm, lstm_gradient, lstm_relevance
from lstm_explain.kernels.recurrent_matmul import pack
from lstm_explain.kernels.scalar_functions import CODES
from lstm_explain.methods import LRP
from lstm_explain.operators.cell_stabilisers import NO_SUMS, Sums, numbers, state_before
from lstm_explain.operators.direction import RULES, Direction
from lstm_explain.operators.formulas import in_dtype
from lstm_explain.operators.over_steps import lstm as lstm_formulas
from lstm_explain.operators.over_steps.without_kernels import WithoutKernels
from lstm_explain.operators.recurrent import Recurrent
from lstm_explain.operators.tape import DirectionBack, DirectionRun, Lengths, SavedTensors, Tape


class LSTMDirection(Direction):
    def prepare(self) -> None:
        H = self.hidden
        self.bias = self.B[: 4 * H] + self.B[4 * H :]
        self.Wt, self.W_all, self.W_c = pack(self.W.T), pack(self.W), pack(self.W[3 * H :])
        self.Rt, self.R_all, self.R_c = pack(self.R.T), pack(self.R), pack(self.R[3 * H :])
        self.b_c = self.bias[3 * H :].copy()
        usual = self.codes.tolist() == [CODES["sigmoid"], CODES["tanh"], CODES["tanh"]]
        self.slopes_from_z = not usual or self.clip > 0
        self.plain = lstm.is_plain.py_func(self.codes, self.clip, self.P, self.coupled)

    def ready(self, steps: int, lens: Lengths, keep: SavedTensors) -> DirectionRun:
        shape, wide = (steps, len(lens.steps), self.hidden), (steps, len(lens.steps), 4 * self.hidden)
        room, hidden_of, ends, finer = self.room, self.room(lens, shape), self.ends(lens), self.sums_in(keep)
        forward = self.kernel(
            lstm.forward, lens, self.codes, self.params, self.clip, self.coupled, self.Wt, self.Rt, self.bias, self.P
        )
        if keep is SavedTensors.SIGNALS:
            signals_of = room(lens, (3, *shape))

            def keep_signals(x: Array, states: list[Array], stop: Array) -> tuple[Tape, list[Array]]:
                h0, c0 = states
                c, signals, hidden = c0.copy(), signals_of(), hidden_of()
                forward(x, c, h0, signals, None, None, None, None, hidden, stop)
                return Tape(x, hidden, h0, lens, {"c0": c0, "signals": signals}, finer), ends(hidden, c)

            return keep_signals
        has_z, kind = keep is not SavedTensors.SLOPES or self.slopes_from_z, self.dtype
        z_of, cells_of = room(lens, wide if has_z else (0, 0, 0), finer), room(lens, shape, finer)
        gates_of, squashed_of = room(lens, wide), room(lens, shape)

        def keep_gates(x: Array, states: list[Array], stop: Array) -> tuple[Tape, list[Array]]:
            h0, c0 = states[0], in_dtype(states[1], finer)
            c, z, gates, cells, squashed, hidden = c0.copy(), z_of(), gates_of(), cells_of(), squashed_of(), hidden_of()
            forward(x, c, h0, None, z, gates, cells, squashed, hidden, stop)
            kept = {"c0": c0, "z": z, "gates": gates, "cells": cells, "squashed": squashed}
            return Tape(x, hidden, h0, lens, kept, finer), ends(hidden, in_dtype(c, kind))

        return keep_gates

    def predict(
        self, x: Array, states: list[Array], lens: Lengths, order: Array, hidden: Array, last: list[Array], stop: Array
    ) -> int:
        return lstm.predict(
            x, self.Wt, self.Rt, self.bias, self.P, *states, lens.steps, order, self.reverse, self.codes, self.params,
            self.clip, self.coupled, hidden, *last, stop,
        )  # fmt: skip

    def ready_back(self, steps: int, lens: Lengths, dtype: np.dtype[Any], lrp: LRP | None) -> DirectionBack:
        room = self.room(lens, (steps, len(lens.steps), self.W.shape[1]), dtype)
        if lrp is None:
            gradient = self.kernel(
                lstm_gradient.gradient, lens, self.codes, self.params, self.clip, self.coupled, self.R_all, self.W_all,
                self.P,
            )  # fmt: skip

            def gradients(tape: Tape, r_y: Array, r_ends: list[Array], _: Array, stop: Array) -> Array:
                kept, r_x = tape.kept, room()
                gradient(kept["z"], kept["gates"], kept["cells"], kept["squashed"], kept["c0"], r_y, *r_ends, r_x, stop)
                return r_x

            return gradients
        number = dtype.type
        settings = number(lrp.epsilon or 0), number(lrp.bias_factor), number(1 / self.units)
        if lrp.gate_rule == "all":
            sums = NO_SUMS if lrp.relative is None else self._sums_of_cell_input
            of_signals = self.kernel(
                lstm_relevance.relevance_all, lens, self.b_c, self.R_c, self.W_c, *settings, *sums[:3],
                *numbers(lrp, dtype),
            )  # fmt: skip

            def through_signals(tape: Tape, r_y: Array, r_ends: list[Array], lost: Array, _: Array) -> Array:
                r_x = room()
                of_signals(tape.x, tape.kept["signals"], tape.hidden, tape.h0, r_y, *r_ends, r_x, lost)
                return r_x

            return through_signals
        relative = lrp.relative is not None
        sums, has_terms = self._sums_of_gates if relative else NO_SUMS, relative and len(self.P) > 0
        shared = self.kernel(
            lstm_relevance.relevance_shared, lens, RULES[lrp.gate_rule], self.coupled, self.bias, self.R_all,
            self.W_all, self.P, *settings, *sums[:3], *numbers(lrp, dtype),
        )  # fmt: skip

        def through_gates(tape: Tape, r_y: Array, r_ends: list[Array], lost: Array, _: Array) -> Array:
            kept, r_x = tape.kept, room()
            shared(
                tape.x, self._peephole_terms(tape) if has_terms else None, kept["z"], kept["gates"], kept["cells"],
                kept["squashed"], tape.hidden, tape.h0, kept["c0"], r_y, *r_ends, r_x, lost,
            )  # fmt: skip
            return r_x

        return through_gates

    @cached_property
    def _sums_of_cell_input(self) -> Sums:
        return Sums.of(self.W, self.R, self.bias, 3 * self.hidden, 4 * self.hidden)

    @cached_property
    def _sums_of_gates(self) -> Sums:
        return Sums.of(self.W, self.R, self.bias, 0, 4 * self.hidden)

    def _peephole_terms(self, tape: Tape) -> Array:
        """[T, B, 4H]: how much peepholes add to the pre-activations, in magnitude."""
        cells, H = np.abs(tape.kept["cells"]), self.hidden
        before = state_before(cells, np.abs(tape.kept["c0"]), tape.lens, reverse=self.reverse)
        P, out = np.abs(self.P), np.zeros((*cells.shape[:2], 4 * H), tape.dtype)
        out[..., :H], out[..., H : 2 * H], out[..., 2 * H : 3 * H] = before * P[0], cells * P[1], before * P[2]
        return out


class LSTM(Recurrent):
    gates, state_slots = 4, (5, 6)
    default_activations = ("sigmoid", "tanh", "tanh")
    direction = LSTMDirection
    in_place = WithoutKernels(lstm_formulas.forward, lstm_formulas.backward)
