# SPDX-License-Identifier: Apache-2.0
"""Conditions on a prediction: a sample that does not meet one is predicted, but not explained."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, get_args

from lstm_explain.errors import InputError

Quantity = Literal["probability", "explained"]
Sign = Literal[">", ">=", "<", "<="]
FIELD = "condition"
LONGEST_SHOWN = 200  # characters of a text that an error repeats
# Callers write these texts: every expression matches in one way only, or a short text could take hours.
_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_THRESHOLD = re.compile(
    rf"(?P<change>change(?: of)? ?)?(?P<quantity>{'|'.join(get_args(Quantity))})? ?(?P<sign>[<>]=?) ?"
    rf"(?P<number>{_NUMBER})(?: from (?P<reference>{_NUMBER}(?: ?, ?{_NUMBER})*))?"
)
_CLASS = re.compile(r"class is (?P<negated>not )?(?P<names>.+)")
# A class may be called "rock and roll": `and` separates only where a clause follows.
_AND = re.compile(r" and (?=(?:probability|explained|change)\b[^<=>]{0,20}[<>]|class is )")
EXPECTED = (
    "expected conditions such as 'probability > 0.8', 'explained <= -1.5', 'class is positive', "
    "'class is not 0 or 2' or 'change > 5 from 12.5', joined by 'and'"
)


@dataclass(frozen=True)
class Threshold:
    """Compares a number of the prediction with another.

    quantity: "probability", that of the target's entry of the output; or "explained", the value that the answer calls
        `explained`. sign: ">", ">=", "<" or "<=". reference: if there is one, the magnitude of the change from it is
        compared; a number, or one per sample.
    """

    quantity: Quantity
    sign: Sign
    number: float
    reference: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.quantity not in get_args(Quantity) or self.sign not in get_args(Sign):
            raise _wrong(f"{self.quantity!r} {self.sign!r}")
        if not isinstance(self.reference, tuple) or not all(map(_is_finite, (self.number, *self.reference))):
            raise InputError(
                f"condition: {self!r}, expected finite numbers, the reference a tuple of them", field=FIELD
            )

    def __str__(self) -> str:
        if not self.reference:
            return f"{self.quantity} {self.sign} {self.number!r}"
        return f"change of {self.quantity} {self.sign} {self.number!r} from {', '.join(map(repr, self.reference))}"


@dataclass(frozen=True)
class PredictedClass:
    """Requires that the largest entry of the output is that of one of these classes, or of none of them.

    classes: names, as in model.yaml, or positions on the last axis of the output.
    """

    classes: tuple[str | int, ...]
    negated: bool = False

    def __str__(self) -> str:
        return f"class is {'not ' if self.negated else ''}{' or '.join(map(str, self.classes))}"


Clause = Threshold | PredictedClass


@dataclass(frozen=True)
class Condition:
    """What a prediction must meet to be explained: all of these clauses."""

    clauses: tuple[Clause, ...]

    def __post_init__(self) -> None:
        clauses: Any = self.clauses  # callers without a type checker pass anything
        if not isinstance(clauses, tuple) or not clauses or not all(isinstance(one, Clause) for one in clauses):
            expected = "a tuple of Threshold and PredictedClass"
            raise InputError(f"condition: the clauses are {clauses!r}, expected {expected}", field=FIELD)

    def __str__(self) -> str:
        """The condition as `parse_condition` reads it."""
        return " and ".join(map(str, self.clauses))


def parse_condition(text: str) -> Condition | None:
    """Returns the condition that text states; None where there is no text. Raises InputError.

    Clauses are joined by `and`: `probability > 0.8` and `explained <= 3` (of the target), `class is positive`, `class
    is 0 or 2`, `class is not negative` (the predicted class, by name or position), `change > 5 from 12.5` and `change
    of probability > 0.1 from 0.4, 0.7` (the magnitude of the change from a number, or from one per sample).
    """
    words = " ".join(text.split())
    return Condition(tuple(map(_clause, _AND.split(words)))) if words else None


def as_condition(given: Condition | Clause | str | None) -> Condition | None:
    """Returns a condition, a clause or text as a condition. Raises InputError."""
    if given is None or isinstance(given, Condition):
        return given
    if isinstance(given, (Threshold, PredictedClass)):
        return Condition((given,))
    if not isinstance(given, str):
        raise _wrong(repr(given))
    return parse_condition(given)


def _clause(text: str) -> Clause:
    if found := _CLASS.fullmatch(text):
        names = [_name(one) for one in re.split(r" or | ?, ?", found["names"])]
        if not all(str(name) for name in names):
            raise _wrong(repr(text))
        return PredictedClass(tuple(names), bool(found["negated"]))
    found = _THRESHOLD.fullmatch(text)
    if found is None or bool(found["change"]) is not bool(found["reference"]):
        raise _wrong(repr(text))
    if found["quantity"] is None and not found["change"]:
        raise _wrong(repr(text))
    reference = tuple(float(one) for one in (found["reference"] or "").split(",") if one)
    return Threshold(found["quantity"] or "explained", found["sign"], float(found["number"]), reference)  # type: ignore[arg-type]


def _name(text: str) -> str | int:
    return int(text) if re.fullmatch(r"-?\d{1,18}", text) else text.strip("\"'")


def class_positions(clause: PredictedClass, names: Sequence[str], count: int) -> set[int]:
    """Returns the positions of the classes. names: of all classes, or empty. count: their number. Raises
    InputError.
    """
    found = set()
    for one in clause.classes:
        at = one if isinstance(one, int) else names.index(one) if one in names else None
        if at is None or not -count <= at < count:
            known = f"there are {', '.join(names)}" if names else f"there are {count}, without names"
            raise InputError(f"condition: there is no class {repr(one)[:LONGEST_SHOWN]}, {known}", field=FIELD)
        found.add(at % count)
    return found


def _is_finite(value: object) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def _wrong(given: str) -> InputError:
    return InputError(f"condition is {given[:LONGEST_SHOWN]}, {EXPECTED}", field=FIELD)
