# SPDX-License-Identifier: Apache-2.0
"""Judges, sample by sample and against fixed limits, whether an explanation can be relied on.

Every check is a row of `CHECKS`: what it measures, in units of the sample's reference value, and the largest value that
passes. The reference is the magnitude of the explained value. For what is missing or absorbed, it is at least FLOOR of
the sample's scale (`program/terms.py`): where an output crosses zero, neither need be small. An entry beyond the limit
always causes a warning, which says so where only the scale explains it. docs/methods.md gives the reason for each
limit, and docs/results.md the study that it comes from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lstm_explain.kernels.reductions import within
from lstm_explain.methods.base import Method, Promise
from lstm_explain.program.attribution import Attribution
from lstm_explain.program.limits import MAX_ABSORBED, MAX_ENTRY, MAX_RESIDUAL

FLOOR = 0.1  # share of the sample's scale: the smallest reference value
MAX_NAMED = 10  # samples that a warning lists


@dataclass(frozen=True)
class Check:
    """prefix: how its warnings begin; stable. promise: the check applies to methods that make this promise.
    limit: the largest figure that passes, in units of the reference.
    """

    prefix: str
    promise: Promise
    limit: float

    def is_for(self, method: Method) -> bool:
        return self.promise in method.promises


DIVERGES = Check("relevance diverges", Promise.SHARES, MAX_ENTRY)
INCOMPLETE = Check("relevance is incomplete", Promise.COMPLETE, MAX_RESIDUAL)
ABSORBED = Check("relevance is absorbed", Promise.MOST_ARRIVES, MAX_ABSORBED)
CHECKS = (DIVERGES, INCOMPLETE, ABSORBED)
CANCELS = "the terms of this value nearly cancel, so compare entries with each other rather than with it"


@dataclass(frozen=True)
class Finding:
    """A check that some samples of an answer fail. Each tuple has one entry per sample.

    samples: their positions in the batch. measured: the figure. ratios: the figure in units of the reference.
    explained: the value. inputs: for a check of single entries, the input that the largest entry belongs to; else empty
    strings. crosses_zero: whether the figure is only large because the value is close to zero.
    """

    check: Check
    samples: tuple[int, ...]
    measured: tuple[float, ...]
    ratios: tuple[float, ...]
    explained: tuple[float, ...]
    inputs: tuple[str, ...]
    crosses_zero: tuple[bool, ...]

    def of(self, start: int, end: int) -> Finding | None:
        """Returns the finding for the samples [start, end) as a batch of their own; None where all of these pass."""
        return self.at({sample: sample - start for sample in range(start, end)})

    def at(self, positions: Mapping[int, int]) -> Finding | None:
        """Returns the finding in a batch to which these samples move; None where all of these pass. positions: of each
        sample of that batch, by its position here.
        """
        kept = [i for i, sample in enumerate(self.samples) if sample in positions]
        if not kept:
            return None
        columns = (self.measured, self.ratios, self.explained, self.inputs, self.crosses_zero)
        moved = tuple(positions[self.samples[i]] for i in kept)
        return Finding(self.check, moved, *(tuple(column[i] for i in kept) for column in columns))  # type: ignore[arg-type]

    def text(self, method: Method, batch: int) -> str:
        """Returns the warning: which samples, what was measured, what to do."""
        worst = max(range(len(self.samples)), key=lambda i: (not self.crosses_zero[i], self.ratios[i]))
        value, figure = f"{self.explained[worst]:.3g}", f"{self.measured[worst]:.1e}"
        if self.check is DIVERGES:
            found = f"one entry of input {self.inputs[worst]!r} is {figure}, but the explained value is {value}"
        elif self.check is INCOMPLETE:
            found = f"{figure} is not accounted for, but the explained value is {value}"
        else:
            found = f"biases and stabilisers absorb {figure}, but the explained value is {value}"
        where = ""
        if batch > 1:
            where = f" in {_list(self.samples)} of {batch}"
            found = f"{found} (sample {self.samples[worst]})" if len(self.samples) > 1 else found
        advice = CANCELS if self.crosses_zero[worst] else method.advice(self.check.promise)
        return f"{self.check.prefix}{where}: {found}; {advice}"


def _list(samples: Sequence[int]) -> str:
    listed = ", ".join(map(str, samples[:MAX_NAMED]))
    more = len(samples) - MAX_NAMED
    return f"sample{'s' if len(samples) > 1 else ''} {listed}{f' and {more} more' if more > 0 else ''}"


def judge(method: Method, answer: Attribution) -> tuple[Finding, ...]:
    """Returns the checks that the answer fails."""
    if not method.promises:
        return ()
    explained, ledger = np.ascontiguousarray(answer.explained, np.float64), answer.ledger
    parts = (answer.peaks.values(), (ledger.residual,), (ledger.absorbed,))
    asked = [(check, arrays) for check, arrays in zip(CHECKS, parts, strict=True) if check.is_for(method)]
    if all(within(np.ascontiguousarray(a, np.float64), c.limit, explained) for c, arrays in asked for a in arrays):
        return ()  # the scale takes longer than all of this
    columns, names = np.array([*answer.peaks.values()]).reshape(-1, len(explained)), [*answer.peaks]
    figures = {DIVERGES: columns.max(axis=0, initial=0.0), INCOMPLETE: ledger.residual, ABSORBED: ledger.absorbed}
    value, floor = np.abs(explained), FLOOR * answer.scale()
    found = []
    for check, _ in asked:
        figure = np.abs(figures[check])
        reference = value if check is DIVERGES else np.maximum(value, floor)
        rows = np.flatnonzero(~(figure <= check.limit * reference))
        if len(rows):
            ratios = np.divide(figure[rows], reference[rows], out=np.full(len(rows), np.inf), where=reference[rows] > 0)
            inputs = [names[i] for i in columns[:, rows].argmax(axis=0)] if check is DIVERGES else [""] * len(rows)
            near = figure[rows] <= check.limit * floor[rows]
            samples, *numbers = (tuple(a.tolist()) for a in (rows, figure[rows], ratios, explained[rows]))
            found.append(Finding(check, samples, *numbers, tuple(inputs), tuple(near.tolist())))  # type: ignore[call-arg]
    return tuple(found)
