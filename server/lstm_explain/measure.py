# SPDX-License-Identifier: Apache-2.0
"""What of a whole output is explained instead of an entry: an error, a norm, a probability, the score of a path."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain.errors import TargetError

ERRORS = ("mean_squared_error", "mean_absolute_error")
NORMS = ("l1_norm", "l2_norm")
PROBABILITIES = ("log_probability", "probability")
PATH = "path_score"
KINDS = (*ERRORS, *NORMS, *PROBABILITIES, PATH)
_CALL = re.compile(rf"(?P<kind>{'|'.join(KINDS)})(?:\((?P<arguments>[^()]*)\))?")


@dataclass(frozen=True, eq=False)
class Measure:
    """A number per sample of an output.

    kind: "mean_squared_error" or "mean_absolute_error" of the output against the reference, over all entries of a
        sample; "l1_norm" or "l2_norm" of all entries of a sample; "log_probability" or "probability" of the target's
        index, by a softmax over the last axis (of the value before the activation, where the output ends in Softmax
        or LogSoftmax). "path_score": the sum of a sample's entries [steps, labels] along a path of one label per step,
        the best path if the target has no index. The index holds the labels of a path, or of one path per sample,
        [batch, steps]; -1 after the last label stands for steps that do not count.
    reference: for an error: the name of an input, or an array of the output's shape or of that of one sample. For a
        path, an array [labels, labels] of what the best path gains from one label to the next, as a CRF has it; with
        one more row (of the first label) and one more column (of the last one) if there are such scores. The explained
        value does not contain them, because no input can receive them.
    ahead: for an error against an input: how many steps the output is ahead of it. Step t of the output is compared
        with step t + ahead of the input, as for a network that predicts the next step.
    blank: for a path: the label that CTC drops. The index then holds labels as CTC reads them, without blanks, and the
        best of the paths that are read so is explained.
    """

    kind: str
    reference: str | npt.NDArray[Any] | None = None
    ahead: int = 0
    blank: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise _wrong(f"the measure is {self.kind!r}, expected one of {', '.join(KINDS)}", "kind")
        if self.kind == PATH:
            if isinstance(self.reference, str):
                raise _wrong(f"the reference of a path is {self.reference!r}, expected an array", "reference")
        elif (self.reference is not None) is not (self.kind in ERRORS):
            needs = "needs a reference" if self.kind in ERRORS else "takes no reference"
            raise _wrong(f"{self.kind} {needs}", "reference")
        if self.reference is not None and not isinstance(self.reference, str):
            _check_numbers(self.reference, self.kind)
        if isinstance(self.ahead, bool) or not isinstance(self.ahead, (int, np.integer)) or self.ahead < 0:
            raise _wrong(f"ahead is {self.ahead!r}, expected a number of steps", "ahead")
        if self.ahead and not isinstance(self.reference, str):
            raise _wrong("ahead counts steps of an input, and the reference is none", "ahead")
        blank = self.blank
        if blank is not None and (isinstance(blank, bool) or not isinstance(blank, (int, np.integer)) or blank < 0):
            raise _wrong(f"blank is {blank!r}, expected a label", "blank")
        if blank is not None and self.kind != PATH:
            raise _wrong(f"{self.kind} takes no blank", "blank")

    @property
    def linear(self) -> bool:
        """Whether it is a sum of entries, which are known once the output is."""
        return self.kind == PATH


def _check_numbers(reference: Any, kind: str) -> None:
    """Raises TargetError. A transition may be minus infinity: no path takes it."""
    try:
        numbers = np.asarray(reference)
    except ValueError as error:  # rows of different lengths
        raise _wrong(f"the reference is no array: {error}", "reference") from None
    if numbers.dtype.kind not in "fiu":
        raise _wrong(f"the reference is of type {numbers.dtype}, expected numbers", "reference")
    if kind == PATH and (np.isnan(numbers) | np.isposinf(numbers)).any():
        raise _wrong("a transition is nan or infinite, expected numbers or minus infinity", "reference")


def _wrong(problem: str, field: str) -> TargetError:
    return TargetError(problem, field=f"target.measure.{field}")


def parse_measure(text: str) -> tuple[Measure, str] | None:
    """Returns the measure that text names, and its index as text; None where it names none.

    For example `l2_norm`, `mean_squared_error(x)`, `mean_squared_error(x, ahead=1)`, `log_probability(3)`,
    `probability(positive)`, `probability` (of the largest entry), `path_score` (of the best path), `path_score(2,2,0)`,
    `path_score(2,1,blank=0)`. Raises TargetError.
    """
    found = _CALL.fullmatch(text.strip())
    if found is None:
        return None
    kind, given = found["kind"], [part.strip() for part in (found["arguments"] or "").split(",") if part.strip()]
    if kind in PROBABILITIES:
        return Measure(kind), ",".join(given)
    if kind == PATH:
        blanks = [part.removeprefix("blank=") for part in given if part.startswith("blank=")]
        if len(blanks) > 1 or not all(blank.isdigit() for blank in blanks):
            raise _wrong(f"{text!r} is not {kind}(labels) or {kind}(labels,blank=0)", "blank")
        labels = ",".join(part for part in given if not part.startswith("blank="))
        return Measure(kind, blank=int(blanks[0]) if blanks else None), labels
    ahead = [part.removeprefix("ahead=") for part in given if part.startswith("ahead=")]
    names = [part for part in given if not part.startswith("ahead=")]
    if len(names) > 1 or len(ahead) > 1 or (ahead and not ahead[0].isdigit()):
        raise _wrong(f"{text!r} is not {kind}(input) or {kind}(input, ahead=1)", "reference")
    return Measure(kind, names[0] if names else None, int(ahead[0]) if ahead else 0), ""
