# SPDX-License-Identifier: Apache-2.0
"""The engine's internal answer for a batch, and functions that select, join and replace its samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain.ledger import Ledger
from lstm_explain.operators import BatchLayout
from lstm_explain.program.account import rows_of
from lstm_explain.target import Selection

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.intp]


@dataclass(slots=True)
class Attribution:
    """The answer to one target. Fields that are not described here are those of Explanation.

    peaks: by input, [batch], the largest magnitude of a sample's relevance. scale: returns [batch], the scale on which
    an explained value counts as small (`program/terms.py`); called only where a check fails. selection: the resolved
    target. values, tapes: those of the forward pass; the values include the model's outputs. quantity: how `explained`
    relates to the output. layouts: where the samples lie in the arrays of relevance, including captured ones. usual:
    whether it is known that every sample keeps to the limits of LRP (limits.py). apart: the answer for each sample,
    where each had a backward pass of its own.
    """

    relevance: dict[str, Array]
    explained: Array
    captured: dict[str, Array]
    ledger: Ledger
    peaks: Mapping[str, Array]
    scale: Callable[[], Array]
    selection: Selection
    values: Mapping[str, Array]
    quantity: str
    tapes: Mapping[str, Any]
    layouts: Mapping[str, BatchLayout | None]
    standard_error: dict[str, Array]
    usual: bool = False
    apart: Sequence[Attribution] = ()
    notes: tuple[str, ...] = ()
    steps_used: Array | None = None


# --- inputs ----------------------------------------------------------------------------------------------------------


def take_samples(arrays: Mapping[str, Array], axes: Mapping[str, int | None], rows: Rows) -> dict[str, Array]:
    """Returns the arrays of these samples, which lie along `axes`; an array without an axis is shared and stays
    whole.
    """
    return {
        name: array if (axis := axes[name]) is None else np.ascontiguousarray(array.take(rows, axis))
        for name, array in arrays.items()
    }


def place_samples(shape: Sequence[int], axis: int | None, parts: Sequence[tuple[Sequence[int], Array]]) -> Array:
    """Returns an array of `shape` with the samples of each part in their rows. The parts of a shared array are added
    up.
    """
    whole = np.zeros(shape, np.result_type(*[array for _, array in parts]))
    for rows, array in parts:
        if axis is None:
            whole += array
        else:
            whole[(slice(None),) * axis + (list(rows),)] = array
    return whole


# --- answers ---------------------------------------------------------------------------------------------------------


def joined(answers: Sequence[Attribution], selection: Selection, values: Mapping[str, Array]) -> Attribution:
    """Returns the answer for a batch whose samples were explained one by one, each with the whole batch as input. Their
    relevance does not overlap, so it is summed. selection, values: those of the batch.
    """

    def added(field: str) -> dict[str, Array]:
        first = getattr(answers[0], field)
        return {name: sum((getattr(a, field)[name] for a in answers[1:]), first[name]) for name in first}

    whole = joined_samples(answers, np.arange(len(answers)), added("relevance"), selection, values)
    whole.captured, whole.apart = added("captured"), tuple(answers)
    return whole


def joined_samples(
    answers: Sequence[Attribution],
    order: Rows,
    relevance: dict[str, Array],
    selection: Selection,
    values: Mapping[str, Array],
) -> Attribution:
    """Returns the answer for a batch from the answers for its parts; sample i is at position order[i] of the
    concatenated parts.

    relevance, selection, values: those of the batch.
    """
    names = dict.fromkeys(name for a in answers for name in a.peaks)
    peaks = {n: [a.peaks.get(n, np.zeros(len(a.explained))) for a in answers] for n in names}
    scales = [a.scale for a in answers]
    steps = [a.steps_used for a in answers if a.steps_used is not None]
    return Attribution(
        relevance,
        np.concatenate([a.explained for a in answers])[order],
        {},
        Ledger.joined([a.ledger for a in answers], order),
        {name: np.concatenate(arrays)[order] for name, arrays in peaks.items()},
        lambda: np.concatenate([scale() for scale in scales])[order],
        selection,
        values,
        answers[-1].quantity,
        {},
        {},
        {},
        notes=tuple(dict.fromkeys(note for a in answers for note in a.notes)),
        steps_used=np.concatenate(steps)[order] if steps else None,
    )


def with_samples(answer: Attribution, rows: Rows, other: Attribution) -> Attribution:
    """Returns the answer in which the samples `rows` come from `other`, an answer for the same batch."""
    if len(rows) == len(answer.explained):
        return replace(other, selection=answer.selection, values=answer.values)
    if answer.apart and other.apart:
        chosen = set(rows.tolist())
        alone = [other.apart[n] if n in chosen else one for n, one in enumerate(answer.apart)]
        return joined(alone, answer.selection, answer.values)
    layouts = {name: layout for name, layout in answer.layouts.items() if layout is not None}
    return put(answer, rows, _taken(other, rows, layouts), layouts)


def put(answer: Attribution, rows: Rows, other: Attribution, layouts: Mapping[str, BatchLayout]) -> Attribution:
    """Returns the answer in which the samples `rows` come from `other`, an answer for these samples alone.

    An array of relevance without a layout of samples is zero, because no relevance has reached it.
    """
    batch = len(answer.explained)

    def placed(old: Mapping[str, Array], new: Mapping[str, Array]) -> dict[str, Array]:
        made = {}
        for name, array in old.items():
            made[name] = np.array(array, np.float64, order="C")
            if name in layouts:
                there = _by_sample(made[name], layouts[name], batch)
                there[:, rows] = new[name].reshape(len(there), len(rows), -1)
        return made

    def in_place(old: Any, new: Any) -> Array:
        made = np.zeros(batch) if old is None else np.array(old, np.float64)
        made[rows] = 0.0 if new is None else new
        return made

    inputs = dict.fromkeys([*answer.peaks, *other.peaks])
    return replace(
        answer,
        relevance=placed(answer.relevance, other.relevance),
        explained=in_place(answer.explained, other.explained),
        captured=placed(answer.captured, other.captured),
        ledger=answer.ledger.replaced(in_place, other.ledger),
        peaks={name: in_place(answer.peaks.get(name), other.peaks.get(name)) for name in inputs},
        usual=False,
    )


def _taken(answer: Attribution, rows: Rows, layouts: Mapping[str, BatchLayout]) -> Attribution:
    """Returns the answer for these samples."""

    def few(arrays: Mapping[str, Array]) -> dict[str, Array]:
        return {n: _by_sample(a, layouts[n], batch)[:, rows] if n in layouts else a for n, a in arrays.items()}

    batch = len(answer.explained)
    return replace(
        answer,
        relevance=few(answer.relevance),
        captured=few(answer.captured),
        explained=answer.explained[rows],
        ledger=answer.ledger.take(rows),
        peaks={name: peaks[rows] for name, peaks in answer.peaks.items()},
        usual=False,
    )


def _by_sample(array: Array, layout: BatchLayout, batch: int) -> Array:
    """Returns a view [before, batch, after] of a contiguous array."""
    return array.reshape(rows_of(array.shape, layout, batch))
