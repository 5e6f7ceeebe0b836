"""One way back at batch 1: what a forward pass kept, and what arrives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.engine import Pair
from lstm_explain.kernels import lstm_relevance
from lstm_explain.rules.recurrent import Direction, Keep, Tape

EPSILON = 0.001
SCALARS = ("eps", "delta", "unit")
KERNELS: dict[str, Callable[..., Any]] = {
    "all": lstm_relevance.relevance_all,
    "half": lstm_relevance.relevance_shared,
}


class NotHereError(Exception):
    """A rival that nobody has built, or that cannot do what is measured."""


@dataclass(frozen=True)
class Way:
    """rule: all or half. steps: whether there are any to go. r_h, r_c [1, H]: what arrives at the last states."""

    rule: str
    direction: Direction
    tape: Tape
    steps: bool
    r_h: np.ndarray
    r_c: np.ndarray

    @classmethod
    def of(cls, pair: Pair, x: np.ndarray, rule: str, *, steps: bool) -> Way:
        (cell,) = pair.model._engine.cells.values()
        (direction,) = cell.directions
        _, (tape,) = cell.forward({0: x}, Keep.SIGNALS if rule == "all" else Keep.EVERYTHING)
        r_h = np.ones((1, cell.hidden), tape.dtype)
        return cls(rule, direction, tape, steps, r_h, np.zeros_like(r_h))

    def given(self) -> dict[str, Any]:
        """What the kernel is given, by name and in its order, but for what it fills."""
        d, tape = self.direction, self.tape
        lens = tape.lens.steps if self.steps else np.zeros_like(tape.lens.steps)
        walk = {"lens": lens, "order": tape.lens.order, "reverse": False}
        rest = {"eps": EPSILON, "delta": 0.0, "unit": 1 / d.units, "r_y": np.zeros((0, 0, 0), tape.dtype)}
        states = {"hidden": tape.hidden, "h0": tape.h0}
        if self.rule == "all":
            kept = {name: tape.kept[name] for name in ("pre", "old", "new")}
            return {"x": tape.x, **kept, **states, **walk, "bias": d.b_c, "R": d.R_c, "W": d.W_c, **rest}
        kept = {name: tape.kept[name] for name in ("z", "gates", "cells", "squashed")}
        weights = {"bias": d.bias, "R": d.R_all, "W": d.W_all, "P": d.P}
        begin = {"rule": 1, "x": tape.x, **kept, **states, "c0": tape.kept["c0"]}
        return {**begin, **walk, "coupled": False, **weights, **rest}
