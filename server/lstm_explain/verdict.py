"""Whether an answer can be acted on: judged sample by sample, against fixed limits.

Every check is a row of `CHECKS`: what it measures, in units of the sample's reference value, and the most that passes.
The reference is the magnitude of the explained value, but at least FLOOR of the sample's scale (`program/terms.py`):
where an output crosses zero, its relevance need not. docs/methods.md gives the reasons for each limit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lstm_explain.methods.base import Method, Promise
from lstm_explain.program.attribution import Attribution

MOST_ENTRY = 10.0  # magnitude of one element's relevance
MOST_LEFT = 0.05  # residual of a method that promises to account for the whole value
MOST_ABSORBED = 10.0  # what LRP's biases, constants and stabilisers keep
FLOOR = 0.1  # of the sample's scale: the least that counts as the explained value
MOST_NAMED = 10  # samples that a warning lists


@dataclass(frozen=True)
class Check:
    """prefix: with which its warnings begin; stable. promise: what a method has promised for which the check is made.
    most: in units of the reference.
    """

    prefix: str
    promise: Promise
    most: float

    def is_for(self, method: Method) -> bool:
        return self.promise in method.promises


DIVERGES = Check("relevance diverges", Promise.SHARES, MOST_ENTRY)
INCOMPLETE = Check("relevance is incomplete", Promise.COMPLETE, MOST_LEFT)
ABSORBED = Check("relevance is absorbed", Promise.MOST_ARRIVES, MOST_ABSORBED)
CHECKS = (DIVERGES, INCOMPLETE, ABSORBED)


@dataclass(frozen=True)
class Finding:
    """A check that some samples of an answer do not pass. One entry a sample in each of the tuples.

    samples: their places in the batch. measured: the figure as it is. ratios: the same in units of the reference.
    explained: the value. inputs: where, for an entry; else empty strings.
    """

    check: Check
    samples: tuple[int, ...]
    measured: tuple[float, ...]
    ratios: tuple[float, ...]
    explained: tuple[float, ...]
    inputs: tuple[str, ...]

    def of(self, start: int, end: int) -> Finding | None:
        """For the samples [start, end) as a batch of their own; None where all of these pass."""
        kept = [i for i, sample in enumerate(self.samples) if start <= sample < end]
        if not kept:
            return None
        measured, ratios, explained, inputs = (
            tuple(column[i] for i in kept) for column in (self.measured, self.ratios, self.explained, self.inputs)
        )
        places = tuple(self.samples[i] - start for i in kept)
        return Finding(self.check, places, measured, ratios, explained, inputs)  # type: ignore[arg-type]

    def text(self, method: Method, batch: int) -> str:
        """In words: which samples, what was measured, what to do."""
        worst = max(range(len(self.samples)), key=self.ratios.__getitem__)
        value, figure = f"{self.explained[worst]:.3g}", f"{self.measured[worst]:.1e}"
        if self.check is DIVERGES:
            found = f"one entry of input {self.inputs[worst]!r} is {figure}, where the explained value is {value}"
        elif self.check is INCOMPLETE:
            found = f"{figure} is not accounted for, where the explained value is {value}"
        else:
            found = f"biases and stabilisers keep {figure}, where the explained value is {value}"
        where = ""
        if batch > 1:
            where = f" in {_list(self.samples)} of {batch}"
            found = f"{found} (sample {self.samples[worst]})" if len(self.samples) > 1 else found
        return f"{self.check.prefix}{where}: {found}; {method.advice(self.check.promise)}"


def _list(samples: Sequence[int]) -> str:
    named = ", ".join(map(str, samples[:MOST_NAMED]))
    more = len(samples) - MOST_NAMED
    return f"sample{'s' if len(samples) > 1 else ''} {named}{f' and {more} more' if more > 0 else ''}"


def judge(method: Method, answer: Attribution) -> tuple[Finding, ...]:
    """What speaks against the answer. The usual request, of one sample that passes, costs a few comparisons."""
    if not method.promises:
        return ()
    if len(answer.explained) == 1:
        return _judge_one(method, answer)
    explained = np.asarray(answer.explained, np.float64)
    columns, names = np.array([*answer.peaks.values()]).reshape(-1, len(explained)), [*answer.peaks]
    figures = (columns.max(axis=0, initial=0.0), np.abs(answer.ledger.residual), np.abs(answer.ledger.absorbed))
    checks = [(check, figure) for check, figure in zip(CHECKS, figures, strict=True) if check.is_for(method)]
    if all((figure <= check.most * np.abs(explained)).all() for check, figure in checks):
        return ()
    reference = np.maximum(np.abs(explained), FLOOR * answer.scale())
    found = []
    for check, figure in checks:
        rows = np.flatnonzero(~(figure <= check.most * reference))
        if len(rows):
            ratios = np.divide(figure[rows], reference[rows], out=np.full(len(rows), np.inf), where=reference[rows] > 0)
            inputs = [names[i] for i in columns[:, rows].argmax(axis=0)] if check is DIVERGES else [""] * len(rows)
            samples, measured, *others = (tuple(a.tolist()) for a in (rows, figure[rows], ratios, explained[rows]))
            found.append(Finding(check, samples, measured, *others, tuple(inputs)))  # type: ignore[call-arg]
    return tuple(found)


def _judge_one(method: Method, answer: Attribution) -> tuple[Finding, ...]:
    """The same for one sample, without arrays: NumPy takes ten times as long over single numbers."""
    value, peaks, ledger = answer.explained.item(), answer.peaks, answer.ledger
    largest = max([peak[0] for peak in peaks.values()], default=0.0)
    figures = (largest, abs(ledger.residual.item()), abs(ledger.absorbed.item()))
    reference, found = abs(value), []
    if (
        largest <= MOST_ENTRY * reference
        and figures[1] <= MOST_LEFT * reference
        and figures[2] <= MOST_ABSORBED * reference
    ):
        return ()
    failed = [
        (check, figure)
        for check, figure in zip(CHECKS, figures, strict=True)
        if not figure <= check.most * reference and check.is_for(method)
    ]
    if not failed:  # the scale takes longer than all of this
        return ()
    reference = max(reference, FLOOR * answer.scale().item())
    for check, figure in failed:
        if not figure <= check.most * reference:
            name = max(peaks, key=lambda name: peaks[name][0]) if check is DIVERGES else ""
            ratio = figure / reference if reference else math.inf
            found.append(Finding(check, (0,), (float(figure),), (float(ratio),), (value,), (name,)))
    return tuple(found)
