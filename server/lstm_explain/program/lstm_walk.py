# SPDX-License-Identifier: Apache-2.0
"""LRP through the steps of one LSTM direction in float64 NumPy, with the kernels' rules: for views of its relevance,
and for relevance that passes through some of its units only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.methods import LRP
from lstm_explain.methods.stabiliser import Stabiliser
from lstm_explain.operators.formulas import At, settle, shared
from lstm_explain.operators.lstm_cell import LSTMDirection
from lstm_explain.operators.over_steps.lstm import inner_values
from lstm_explain.operators.over_steps.timeline import Timeline
from lstm_explain.operators.tape import Tape

# The content of each view: the total relevance of h_t, of c_t, of the gates and of the candidate g_t.
VIEWS = ("hidden", "cell", "input_gate", "output_gate", "forget_gate", "cell_input")
NO_MASKS: Mapping[str, Array] = MappingProxyType({})


@dataclass(frozen=True)
class Walked:
    """The backward pass through one direction.

    views: every view, [T, B, H], as it arrived. x: [T, B, D]. states: of the initial h and c, [B, H] each. removed: by
    view, [B], what its mask took away.
    """

    views: dict[str, Array]
    x: Array
    states: list[Array]
    removed: dict[str, Array]


def walk(
    direction: LSTMDirection,
    tape: Tape,
    r_y: Array,
    ends: Sequence[Array | None],
    lrp: LRP,
    masks: Mapping[str, Array] = NO_MASKS,
) -> Walked:
    """Returns the backward pass. r_y: [T, B, H], the relevance that arrives at every step. ends: [B, H], at the last
    states. masks: by view, [H], the part of its relevance that goes on, at every step.
    """
    if "gates" not in tape.kept:
        tape = _with_gates(direction, tape)
    steps, batch, hidden = tape.hidden.shape
    views = {view: np.zeros((steps, batch, hidden)) for view in VIEWS}
    removed = {view: np.zeros(batch) for view in masks}
    r_x = np.zeros(tape.x.shape)
    weights = _Weights(direction, lrp)
    rows = np.arange(batch)
    r_h, r_c = (np.zeros((batch, hidden)) if e is None else np.array(e) for e in ends)
    limit = None if lrp.relative is None else _Limit(lrp.relative, direction, tape)
    for s in range(steps - 1, -1, -1):
        runs = s < tape.lens.steps
        t = np.where(runs, tape.lens.steps - 1 - s if direction.reverse else s, 0)
        state = _state(direction, tape, s, t)
        if limit is not None:
            r_h, r_c = limit(state, runs, tape.lens.steps == s + 1, r_y[t, rows], r_h, r_c)
        found, new_h, new_c, new_x = _step(weights, state, r_h + r_y[t, rows], r_c, masks)
        for view, array in found.items():
            views[view][t[runs], rows[runs]] = array[runs]
        for view, mask in masks.items():
            removed[view] += np.where(runs, (found[view] * (1 - mask)).sum(axis=1), 0)
        r_x[t[runs], rows[runs]] = new_x[runs]
        r_h, r_c = (np.where(runs[:, None], new, old) for new, old in ((new_h, r_h), (new_c, r_c)))
    return Walked(views, r_x, [r_h, r_c], removed)


def _with_gates(direction: LSTMDirection, tape: Tape) -> Tape:
    """Returns the tape with what the other rules save, computed again from the hidden states."""
    x, hidden, h0, c0 = (_double(a) for a in (tape.x, tape.hidden, tape.h0, tape.kept["c0"]))
    time = Timeline(x, None if tape.lens.whole else tape.lens.steps, reverse=direction.reverse)
    v = inner_values(direction, time, x, time.before(hidden, h0), c0)
    wide = {"z": np.concatenate(v.z, axis=-1), "gates": np.concatenate(v.gates, axis=-1)}
    return replace(tape, kept={**wide, "cells": v.cell, "squashed": v.bent, "c0": c0})


@dataclass(frozen=True)
class _State:
    """One step of the forward pass, [B, H] each; z and gates by letter."""

    z: dict[str, Array]
    gates: dict[str, Array]
    c: Array
    squashed: Array
    c_before: Array
    h_before: Array
    x: Array

    @property
    def cell_terms(self) -> tuple[Array, Array]:
        return self.gates["f"] * self.c_before, self.gates["i"] * self.gates["g"]


def _state(direction: LSTMDirection, tape: Tape, s: int, t: Array) -> _State:
    kept, rows = tape.kept, np.arange(len(t))
    before = np.clip(t + 1 if direction.reverse else t - 1, 0, len(tape.hidden) - 1)
    z, gates = (dict(zip("iofg", np.split(_double(kept[k][t, rows]), 4, axis=1), strict=True)) for k in ("z", "gates"))
    h_before = tape.h0 if s == 0 else tape.hidden[before, rows]
    c_before = kept["c0"] if s == 0 else kept["cells"][before, rows]
    c, squashed = _double(kept["cells"][t, rows]), _double(kept["squashed"][t, rows])
    return _State(z, gates, c, squashed, _double(c_before), _double(h_before), _double(tape.x[t, rows]))


def _double(array: Array) -> Array:
    return np.asarray(array, np.float64)


class _Weights:
    """By gate's letter."""

    def __init__(self, direction: LSTMDirection, lrp: LRP) -> None:
        self.lrp, self.coupled, self.units = lrp, direction.coupled, direction.units
        self.W = dict(zip("iofg", np.split(_double(direction.W), 4), strict=True))
        self.R = dict(zip("iofg", np.split(_double(direction.R), 4), strict=True))
        self.b = dict(zip("iofg", np.split(_double(direction.bias), 4), strict=True))
        peepholes = _double(direction.P)
        self.P = dict(zip("iof", peepholes, strict=True)) if len(peepholes) else {}

    def neuron(self, gate: str, r: Array, at: _State) -> tuple[Array, Array]:
        """r / stab(z), and the share of bias and stabiliser that every incoming unit receives, [B, 1]."""
        density, kept = settle(r, at.z[gate], self._stabiliser(gate, at))
        kept = kept + density * self.b[gate]
        return density, self.lrp.bias_factor * kept / (self.units + (gate in self.P))

    def _stabiliser(self, gate: str, at: _State) -> At:
        if self.lrp.relative is None:
            return At(self.lrp.epsilon or 0.0)
        terms = np.abs(at.x) @ np.abs(self.W[gate]).T + np.abs(at.h_before) @ np.abs(self.R[gate]).T
        terms = terms + np.abs(self.b[gate])
        if gate in self.P:
            terms = terms + np.abs(self.P[gate] * (at.c if gate == "o" else at.c_before))
        return At(0.0, self.lrp.relative.pre_activations, terms)

    def at_cell(self, at: _State) -> At:
        if self.lrp.relative is None:
            return At(self.lrp.epsilon or 0.0)
        old, new = at.cell_terms
        return At(0.0, self.lrp.relative.cells, np.abs(old) + np.abs(new))


class _Limit:
    """The ceiling on the density of relevance, as in kernels/stabilisers.py."""

    def __init__(self, stabiliser: Stabiliser, direction: LSTMDirection, tape: Tape) -> None:
        kept, lens = tape.kept, tape.lens
        cells = np.where(lens.over(len(tape.x))[..., None], 0, _double(kept["cells"]))
        self.sizes = np.sqrt((cells**2).sum(axis=0) / np.maximum(lens.steps, 1)[:, None])
        self.stabiliser, self.arrived = stabiliser, np.zeros(len(lens.steps))

    def __call__(
        self, at: _State, runs: Array, last: Array, above: Array, hidden: Array, carried: Array
    ) -> tuple[Array, Array]:
        """hidden, carried: relevance that came back through hidden states and along the cell, bounded. [B, H] each."""
        below = np.abs(at_sum(self.stabiliser.cells, *at.cell_terms))
        unit = np.divide(self.sizes, below, out=np.zeros_like(below), where=below != 0)

        def size(relevance: Array) -> Array:
            return (unit * np.abs(relevance)).sum(axis=1)

        from_above = size(above)
        self.arrived += np.where(last, from_above + size(carried) + size(hidden), np.where(runs, from_above, 0))
        most, together = self.stabiliser.ceiling * self.arrived, size(above + carried)
        keep_hidden = np.clip((most - together) / np.maximum(size(hidden), 1e-300), 0, 1)
        too_much = together > most
        keep_along = np.where(too_much, np.clip((most - from_above) / np.maximum(size(carried), 1e-300), 0, 1), 1)
        free = (last | ~runs)[:, None]
        return hidden * np.where(free, 1, keep_hidden[:, None]), carried * np.where(free, 1, keep_along[:, None])


def at_sum(beta: float, old: Array, new: Array) -> Array:
    """The stabilised sum of a cell's two terms."""
    z = old + new
    return z + beta * (np.abs(old) + np.abs(new) - np.abs(z)) * np.where(z >= 0, 1, -1)


def _step(
    w: _Weights, at: _State, r_h: Array, r_c: Array, masks: Mapping[str, Array]
) -> tuple[dict[str, Array], Array, Array, Array]:
    """The views at one step, and the relevance of h and c one step before, and of x. Rules as in
    kernels/lstm_relevance.py.
    """
    found: dict[str, Array] = {}

    def through(view: str, relevance: Array) -> Array:
        found[view] = relevance
        return relevance * masks[view] if view in masks else relevance

    (r_o, r_s), _ = shared(w.lrp, through("hidden", r_h), at.gates["o"], at.squashed, 0)
    densities = {"o": w.neuron("o", through("output_gate", r_o), at)}
    r_cell = through("cell", r_c + r_s + _through_peephole(w, "o", densities, at.c))
    density, kept = settle(r_cell, at.c, w.at_cell(at))
    part = 0.5 * w.lrp.bias_factor * kept
    (r_f, r_before), _ = shared(w.lrp, at.gates["f"] * at.c_before * density + part, at.gates["f"], at.c_before, 0)
    (r_i, r_g), _ = shared(w.lrp, at.gates["i"] * at.gates["g"] * density + part, at.gates["i"], at.gates["g"], 0)
    r_i, r_f, r_g = through("input_gate", r_i), through("forget_gate", r_f), through("cell_input", r_g)
    if w.coupled:  # f = 1 - i has no weights of its own
        r_i, r_f = r_i + r_f, np.zeros_like(r_f)
    for gate, r in (("i", r_i), ("f", r_f), ("g", r_g)):
        densities[gate] = w.neuron(gate, r, at)
    r_before = r_before + sum(_through_peephole(w, gate, densities, at.c_before) for gate in "if")
    back = sum(density @ w.R[gate] for gate, (density, _) in densities.items())
    to_x = sum(density @ w.W[gate] for gate, (density, _) in densities.items())
    given = sum(each.sum(axis=1, keepdims=True) for _, each in densities.values())
    return found, at.h_before * back + given, r_before, at.x * to_x + given


def _through_peephole(w: _Weights, gate: str, densities: Mapping[str, tuple[Array, Array]], c: Array) -> Array:
    if gate not in w.P:
        return np.zeros_like(c)
    density, each = densities[gate]
    return w.P[gate] * c * density + each
