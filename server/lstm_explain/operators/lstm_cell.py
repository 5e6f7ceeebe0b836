# SPDX-License-Identifier: Apache-2.0
"""The LSTM: the layout of its weights, and the calls of its kernels, forward and backward."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.kernels import lstm, lstm_gradient, lstm_relevance
from lstm_explain.kernels.compilation import soon
from lstm_explain.kernels.lstm_states import next_states
from lstm_explain.kernels.recurrent_matmul import pack
from lstm_explain.kernels.scalar_functions import CODES
from lstm_explain.methods import LRP
from lstm_explain.operators.cell_stabilisers import Arguments, Numbers, Sums, arguments, state_before
from lstm_explain.operators.direction import RULES, Direction
from lstm_explain.operators.over_steps import lstm as lstm_formulas
from lstm_explain.operators.over_steps.without_kernels import WithoutKernels
from lstm_explain.operators.recurrent import Recurrent
from lstm_explain.operators.tape import DirectionBack, DirectionRun, Lengths, SavedTensors, Tape
from lstm_explain.threads import in_threads


class LSTMDirection(Direction):
    def prepare(self) -> None:
        H = self.hidden
        self.bias = self.B[: 4 * H] + self.B[4 * H :]
        self.Wt, self.W_all, self.W_c = pack(self.W.T), pack(self.W), pack(self.W[3 * H :])
        self.Rt, self.R_all, self.R_c = pack(self.R.T), pack(self.R), pack(self.R[3 * H :])
        self.b_c = self.bias[3 * H :].copy()
        self.none = np.zeros((0, 0, 0), self.dtype)
        usual = self.codes.tolist() == [CODES["sigmoid"], CODES["tanh"], CODES["tanh"]]
        self.slopes_from_z = not usual or self.clip > 0
        self.plain = lstm.is_plain.py_func(self.codes, self.clip, self.P, self.coupled)
        if self.plain:
            soon(next_states)

    def ready(self, steps: int, lens: Lengths, keep: SavedTensors) -> DirectionRun:
        shape, wide = (steps, len(lens.steps), self.hidden), (steps, len(lens.steps), 4 * self.hidden)
        finer, none = self.sums_in(keep), self.none
        if keep is SavedTensors.SIGNALS:
            four = self.room(lens, (4, *shape))

            def arrays() -> tuple[dict[str, Array], tuple[Array, ...], Array]:
                block = four()
                pre, old, new, hidden = block[0], block[1], block[2], block[3]
                kept = {"pre": pre, "old": old, "new": new}
                return kept, (pre, old, new, none, none, none, none, hidden), hidden
        else:
            has_z = keep is not SavedTensors.SLOPES or self.slopes_from_z
            none = none.astype(finer)
            z = self.room(lens, wide, finer) if has_z else lambda: none
            gates, cells, squashed = self.room(lens, wide), self.room(lens, shape, finer), self.room(lens, shape)

            def arrays() -> tuple[dict[str, Array], tuple[Array, ...], Array]:
                kept = {"z": z(), "gates": gates(), "cells": cells(), "squashed": squashed()}
                hidden = squashed()
                return kept, (self.none, self.none, self.none, *kept.values(), hidden), hidden

        def run(x: Array, states: list[Array], stop: Array) -> tuple[Tape, list[Array]]:
            h0, c0 = states
            c0 = c0 if c0.dtype is finer else c0.astype(finer)
            c, (kept, filled, hidden) = c0.copy(), arrays()
            in_threads(lstm.forward, [
                (
                    x, self.Wt, self.Rt, self.bias, self.P, c, h0, lens.steps, order, self.reverse, self.codes,
                    self.params, self.clip, self.coupled, *filled, stop,
                )
                for order in lens.parts
            ])  # fmt: skip
            last = c if c.dtype is x.dtype else c.astype(x.dtype, copy=False)
            if not lens.whole:
                last = last * (lens.steps > 0)[:, None].astype(x.dtype)
            kept["c0"] = c0
            return Tape(x, hidden, h0, lens, kept, finer), [self.last(hidden, lens), last]

        return run

    def predict(
        self, x: Array, states: list[Array], lens: Lengths, order: Array, hidden: Array, last: list[Array], stop: Array
    ) -> int:
        return lstm.predict(
            x, self.Wt, self.Rt, self.bias, self.P, *states, lens.steps, order, self.reverse, self.codes, self.params,
            self.clip, self.coupled, hidden, *last, stop,
        )  # fmt: skip

    def ready_back(self, steps: int, lens: Lengths, dtype: np.dtype[Any], lrp: LRP | None) -> DirectionBack:
        room, batch = self.room(lens, (steps, len(lens.steps), self.W.shape[1]), dtype), len(lens.steps)
        if lrp is None:

            def gradient(tape: Tape, r_y: Array, r_ends: list[Array], stop: Array) -> list[Array]:
                kept, r_x, lost, (r_h, r_c) = tape.kept, room(), np.zeros(batch), r_ends
                in_threads(lstm_gradient.gradient, [
                    (
                        kept["z"], kept["gates"], kept["cells"], kept["squashed"], kept["c0"], lens.steps, order,
                        self.reverse, self.codes, self.params, self.clip, self.coupled, self.R_all, self.W_all, self.P,
                        r_y, r_h, r_c, r_x, stop,
                    )
                    for order in lens.parts
                ])  # fmt: skip
                return [r_x, lost, r_h, r_c]

            return gradient
        number, rule = dtype.type, RULES[lrp.gate_rule]
        eps, delta, unit = number(lrp.epsilon or 0), number(lrp.bias_factor), number(1 / self.units)
        relative = arguments(lrp, 6, self.relative_all) if rule == 0 else arguments(lrp, 8, self.relative_shared)

        def relevance(tape: Tape, r_y: Array, r_ends: list[Array], _: Array) -> list[Array]:
            kept, r_x, lost, (r_h, r_c) = tape.kept, room(), np.zeros(batch), r_ends
            last = relative(tape)
            if rule == 0:
                in_threads(lstm_relevance.relevance_all, [
                    (
                        tape.x, kept["pre"], kept["old"], kept["new"], tape.hidden, tape.h0, lens.steps, order,
                        self.reverse, self.b_c, self.R_c, self.W_c, eps, delta, unit, r_y, r_h, r_c, r_x, lost,
                        *last,
                    )
                    for order in lens.parts
                ])  # fmt: skip
            else:
                in_threads(lstm_relevance.relevance_shared, [
                    (
                        rule, tape.x, kept["z"], kept["gates"], kept["cells"], kept["squashed"], tape.hidden, tape.h0,
                        kept["c0"], lens.steps, order, self.reverse, self.coupled, self.bias, self.R_all, self.W_all,
                        self.P, eps, delta, unit, r_y, r_h, r_c, r_x, lost, *last,
                    )
                    for order in lens.parts
                ])  # fmt: skip
            return [r_x, lost, r_h, r_c]

        return relevance

    def relative_all(self, tape: Tape, numbers: Numbers) -> Arguments:
        H = self.hidden
        sums = self.sums("cell input", lambda: Sums.of(self.W, self.R, self.bias, 3 * H, 4 * H))
        return *sums[:3], *numbers

    def relative_shared(self, tape: Tape, numbers: Numbers) -> Arguments:
        sums = self.sums("gates", lambda: Sums.of(self.W, self.R, self.bias, 0, 4 * self.hidden))
        beta, of_cell, ceiling = numbers
        return *sums[:3], self._peephole_terms(tape), beta, of_cell, beta, ceiling

    def _peephole_terms(self, tape: Tape) -> Array | None:
        """[T, B, 4H]: how much peepholes add to the pre-activations, in magnitude; None without peepholes."""
        if not len(self.P):
            return None
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
