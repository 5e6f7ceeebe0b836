"""Where float32 was not enough: for which samples, and float64's answers in the place of theirs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain.ledger import Ledger
from lstm_explain.methods.propagation import Answer
from lstm_explain.plan.axes import Axes
from lstm_explain.spec.method import LRP, Method
from lstm_explain.target import Target

WORST_RESIDUAL = 5e-5  # share of the explained value that float32 may leave unaccounted for
BEYOND_DOUBLE = 1e7  # a residual so many times the explained value means cancellation that float64 cannot follow either
OF_DOUBLE = 1e-11  # share of what cancels that float64 may leave
Array = npt.NDArray[Any]
Rows = npt.NDArray[np.intp]
NOBODY: Rows = np.zeros(0, np.intp)


def wanting(method: Method, answer: Answer) -> Rows:
    """Samples of which float32 left more than rounding over, and no more than float64 can mend."""
    if not isinstance(method, LRP):
        return NOBODY
    if len(answer.explained) == 1:  # NumPy takes ten times as long over one number
        residual, value = float(answer.ledger.residual[0]), float(answer.explained[0])
        if abs(residual) <= WORST_RESIDUAL * abs(value):
            return NOBODY
    left, explained = np.abs(answer.ledger.residual), np.abs(answer.explained)
    mendable = (WORST_RESIDUAL * explained < left) & (left <= BEYOND_DOUBLE * explained)
    if method.product_rule != "all":  # the way back was in float64: what cancelled there cancels again
        ledger = answer.ledger
        mendable &= left > OF_DOUBLE * np.maximum(np.abs(ledger.inputs), np.abs(ledger.absorbed))
    return np.flatnonzero(~np.isfinite(left) | mendable)


def batch_axes(axes: Mapping[str, Axes], inputs: Mapping[str, Array], batch: int) -> dict[str, int] | None:
    """By input, where the samples lie; None where that is not so of every input."""
    found = {name: axes[name].batch for name in inputs}
    known = {n: a for n, a in found.items() if a is not None and a < inputs[n].ndim and inputs[n].shape[a] == batch}
    return known if len(known) == len(inputs) else None


def same_values(finer: Array, coarse: Array) -> bool:
    """Whether some samples alone have the explained values that they had in the batch."""
    known = np.isfinite(coarse)
    largest = float(np.abs(coarse[known]).max(initial=0.0))
    return bool(np.allclose(finer[known], coarse[known], rtol=1e-2, atol=1e-3 * largest))


def of_samples(target: Target, rows: Rows) -> Target:
    """index, contrast: one position a sample."""
    index, contrast = (None if at is None else np.asarray(at)[rows] for at in (target.index, target.contrast))
    return replace(target, index=index, contrast=contrast)


def put(answer: Answer, rows: Rows, finer: Answer, axes: Mapping[str, int]) -> Answer:
    """The answer, with that of `finer` for the samples `rows`."""
    relevance = {}
    for name, array in answer.relevance.items():
        relevance[name] = array.astype(np.float64)
        relevance[name][(slice(None),) * axes[name] + (rows,)] = finer.relevance[name]

    def in_place(old: Any, new: Any) -> Array:
        made = np.zeros(len(answer.explained)) if old is None else np.array(old, np.float64)
        made[rows] = 0.0 if new is None else new
        return made

    mine, theirs = answer.ledger, finer.ledger
    nodes = dict.fromkeys([*mine.by_node, *theirs.by_node])
    ledger = Ledger(
        in_place(mine.inputs, theirs.inputs),
        in_place(mine.initial_states, theirs.initial_states),
        in_place(mine.absorbed, theirs.absorbed),
        in_place(mine.residual, theirs.residual),
        {name: in_place(mine.by_node.get(name), theirs.by_node.get(name)) for name in nodes},
    )
    inputs = dict.fromkeys([*answer.peaks, *finer.peaks])
    peaks = {name: in_place(answer.peaks.get(name), finer.peaks.get(name)) for name in inputs}
    return Answer(relevance, in_place(answer.explained, finer.explained), answer.captured, ledger, peaks, answer.scale)
