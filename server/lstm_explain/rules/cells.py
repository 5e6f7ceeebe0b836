"""The cells LSTM, GRU and RNN: their weights as the kernels want them, and their kernels, forward and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstm_explain.graph.ir import Array, Graph, Node
from lstm_explain.kernels import gru, gru_relevance, lstm, lstm_gradient, lstm_relevance, rnn
from lstm_explain.kernels.product import pack
from lstm_explain.kernels.scalar import CODES
from lstm_explain.rules.op import Kind, Op, add
from lstm_explain.rules.recurrent import STATE_SLOTS, Direction, Keep, Lengths, Recurrent, Tape
from lstm_explain.spec.method import LRP
from lstm_explain.threads import in_threads

RULES = {"all": 0, "half": 1, "prop": 2, "abs": 3}


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

    def forward(self, x: Array, states: list[Array], lens: Lengths, keep: Keep) -> tuple[Tape, list[Array]]:
        steps, batch, _ = x.shape
        h0, c0 = states
        c = c0.copy()
        shape = (steps, batch, self.hidden)
        if keep is Keep.SIGNALS:
            pre, old, new, hidden = self.room(lens, (4, *shape))
            kept, none = {"pre": pre, "old": old, "new": new}, self.none
            arrays = (pre, old, new, none, none, none, none, hidden)
        else:
            finer = self.sums_in(keep)
            c, c0, none = (array.astype(finer, copy=False) for array in (c, c0, self.none))
            hidden, wide = self.room(lens, shape), (steps, batch, 4 * self.hidden)
            has_z = keep is Keep.EVERYTHING or self.slopes_from_z
            kept = {
                "z": self.room(lens, wide, finer) if has_z else none,
                "gates": self.room(lens, wide),
                "cells": self.room(lens, shape, finer),
                "squashed": self.room(lens, shape),
            }
            arrays = (self.none, self.none, self.none, *kept.values(), hidden)
        in_threads(
            lambda order: lstm.forward(
                x, self.Wt, self.Rt, self.bias, self.P, c, h0, lens.steps, order, self.reverse, self.codes, self.params,
                self.clip, self.coupled, *arrays,
            ),
            lens.parts,
        )  # fmt: skip
        last = c.astype(x.dtype, copy=False)
        if not lens.whole:
            last = last * (lens.steps > 0)[:, None].astype(x.dtype)
        return Tape(x, hidden, h0, lens, {**kept, "c0": c0}, c.dtype), [self.last(hidden, lens), last]

    def backward(self, tape: Tape, r_y: Array, r_ends: list[Array], lrp: LRP | None) -> list[Array]:
        kept, lens, (r_h, r_c) = tape.kept, tape.lens, r_ends
        r_x = self.room(lens, tape.x.shape, r_h.dtype)
        lost = np.zeros(len(lens.steps))
        if lrp is None:
            z, gates, cells, squashed, c0 = (kept[n] for n in ("z", "gates", "cells", "squashed", "c0"))
            in_threads(
                lambda order: lstm_gradient.gradient(
                    z, gates, cells, squashed, c0, lens.steps, order, self.reverse, self.codes, self.params, self.clip,
                    self.coupled, self.R_all, self.W_all, self.P, r_y, r_h, r_c, r_x,
                ),
                lens.parts,
            )  # fmt: skip
            return [r_x, lost, r_h, r_c]
        number = r_h.dtype.type
        eps, delta, unit = number(lrp.epsilon), number(lrp.bias_factor), number(1 / self.units)
        if lrp.product_rule == "all":
            in_threads(
                lambda order: lstm_relevance.relevance_all(
                    tape.x, kept["pre"], kept["old"], kept["new"], tape.hidden, tape.h0, lens.steps, order,
                    self.reverse, self.b_c, self.R_c, self.W_c, eps, delta, unit, r_y, r_h, r_c, r_x, lost,
                ),
                lens.parts,
            )  # fmt: skip
            return [r_x, lost, r_h, r_c]
        z, gates, cells, squashed, c0 = (kept[n] for n in ("z", "gates", "cells", "squashed", "c0"))
        in_threads(
            lambda order: lstm_relevance.relevance_shared(
                RULES[lrp.product_rule], tape.x, z, gates, cells, squashed, tape.hidden, tape.h0, c0, lens.steps, order,
                self.reverse, self.coupled, self.bias, self.R_all, self.W_all, self.P, eps, delta, unit, r_y, r_h, r_c,
                r_x, lost,
            ),
            lens.parts,
        )  # fmt: skip
        return [r_x, lost, r_h, r_c]


class LSTM(Recurrent):
    gates, states = 4, 2
    default_activations = ("sigmoid", "tanh", "tanh")
    direction = LSTMDirection


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

    def forward(self, x: Array, states: list[Array], lens: Lengths, keep: Keep) -> tuple[Tape, list[Array]]:
        steps, batch, _ = x.shape
        shape, wide = (steps, batch, self.hidden), (steps, batch, 3 * self.hidden)
        finer = self.sums_in(keep)
        gates, hidden, inner = self.room(lens, wide), self.room(lens, shape), self.room(lens, shape, finer)
        has_z = keep is not Keep.SLOPES or self.slopes_from_z
        z = self.room(lens, wide if has_z else (0, 0, 0), finer)
        (h0,) = states
        in_threads(
            lambda order: gru.forward(
                x, self.Wt, self.Rt_zr, self.Rt_h, self.bias, self.Rb_h, h0, lens.steps, order, self.reverse,
                self.linear_before_reset, self.codes, self.params, self.clip, z, gates, inner, hidden,
            ),
            lens.parts,
        )  # fmt: skip
        kept = {"z": z, "gates": gates, "inner": inner}
        return Tape(x, hidden, h0, lens, kept, finer), [self.last(hidden, lens)]

    def backward(self, tape: Tape, r_y: Array, r_ends: list[Array], lrp: LRP | None) -> list[Array]:
        z, gates, inner = (tape.kept[n] for n in ("z", "gates", "inner"))
        lens, (r_h,) = tape.lens, r_ends
        r_x = self.room(lens, tape.x.shape, r_h.dtype)
        lost = np.zeros(len(lens.steps))
        if lrp is None:
            in_threads(
                lambda order: gru.gradient(
                    z, gates, inner, tape.hidden, tape.h0, lens.steps, order, self.reverse, self.linear_before_reset,
                    self.codes, self.params, self.clip, self.R_zr, self.R_h, self.W_all, r_y, r_h, r_x,
                ),
                lens.parts,
            )  # fmt: skip
            return [r_x, lost, r_h]
        rule, number = RULES[lrp.product_rule], r_h.dtype.type
        W = self.W_h if rule == 0 else self.W_all
        in_threads(
            lambda order: gru_relevance.relevance(
                rule, tape.x, z, gates, inner, tape.hidden, tape.h0, lens.steps, order, self.reverse,
                self.linear_before_reset, self.bias, self.Rb_h, self.R_zr, self.R_h, W, number(lrp.epsilon),
                number(lrp.bias_factor), r_y, r_h, r_x, lost,
            ),
            lens.parts,
        )  # fmt: skip
        return [r_x, lost, r_h]


class GRU(Recurrent):
    gates, states = 3, 1
    default_activations = ("sigmoid", "tanh")
    direction = GRUDirection


class RNNDirection(Direction):
    def prepare(self) -> None:
        self.Wt, self.W_all, self.Rt, self.R_all = pack(self.W.T), pack(self.W), pack(self.R.T), pack(self.R)
        self.bias = self.B[: self.hidden] + self.B[self.hidden :]

    def forward(self, x: Array, states: list[Array], lens: Lengths, keep: Keep) -> tuple[Tape, list[Array]]:
        shape, finer = (*x.shape[:2], self.hidden), self.sums_in(keep)
        z, hidden = self.room(lens, shape, finer), self.room(lens, shape)
        (h0,) = states
        in_threads(
            lambda order: rnn.forward(
                x, self.Wt, self.Rt, self.bias, h0, lens.steps, order, self.reverse, self.codes, self.params, self.clip,
                z, hidden,
            ),
            lens.parts,
        )  # fmt: skip
        return Tape(x, hidden, h0, lens, {"z": z}, finer), [self.last(hidden, lens)]

    def backward(self, tape: Tape, r_y: Array, r_ends: list[Array], lrp: LRP | None) -> list[Array]:
        z, lens, (r_h,) = tape.kept["z"], tape.lens, r_ends
        r_x = self.room(lens, tape.x.shape, r_h.dtype)
        lost = np.zeros(len(lens.steps))
        if lrp is None:
            in_threads(
                lambda order: rnn.gradient(
                    z, tape.hidden, lens.steps, order, self.reverse, self.codes, self.params, self.clip, self.R_all,
                    self.W_all, r_y, r_h, r_x,
                ),
                lens.parts,
            )  # fmt: skip
            return [r_x, lost, r_h]
        number = r_h.dtype.type
        eps, delta, unit = number(lrp.epsilon), number(lrp.bias_factor), number(1 / self.units)
        in_threads(
            lambda order: rnn.relevance(
                tape.x, z, tape.hidden, tape.h0, lens.steps, order, self.reverse, self.bias, self.R_all, self.W_all,
                eps, delta, unit, r_y, r_h, r_x, lost,
            ),
            lens.parts,
        )  # fmt: skip
        return [r_x, lost, r_h]


class RNN(Recurrent):
    gates, states = 1, 1
    default_activations = ("tanh",)
    direction = RNNDirection


CELLS: dict[str, type[Recurrent]] = {"LSTM": LSTM, "GRU": GRU, "RNN": RNN}


def check(node: Node) -> str:
    if node.attribute("direction", "forward") not in ("forward", "reverse", "bidirectional"):
        return f"direction {node.attribute('direction')!r} has no rule"
    unknown = [n for n in node.attribute("activations") or [] if n.lower() not in CODES]
    return f"activation {unknown[0]!r} has no rule" if unknown else ""


def cells_of(graph: Graph) -> dict[str, Recurrent]:
    """The kernels of every recurrent node whose weights are constants, by node name; those inside bodies too."""
    ours = [n for n in graph.nodes if n.op in CELLS and not check(n)]
    ours = [n for n in ours if all(name in graph.constants for name in needs_constants(n))]
    cells = {n.name: CELLS[n.op](n, graph) for n in ours}
    for body in (body for node in graph.nodes for body in node.bodies.values()):
        cells |= cells_of(body)
    return cells


def needs_constants(node: Node) -> list[str]:
    """Weights, which have to be constants of the model."""
    slots = (1, 2, 3, *range(7, len(node.inputs)))  # LSTM: peepholes; where quantised, scales and zero points
    return [node.input(slot) for slot in slots if node.input(slot)]


for _name in ("LSTM", "GRU", "RNN"):
    _options: dict[str, Any] = {"carries": (0, *STATE_SLOTS[_name]), "ignores": (4,), "check": check}
    add(_name, Op(Kind.RECURRENT, **_options))
