# SPDX-License-Identifier: Apache-2.0
"""Several targets of one request: a list, or every entry of an output along one of its axes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lstm_explain_client.errors import InvalidRequest
from lstm_explain_client.target import Index, Target, resolve, to_wire_target
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2

STEPS, CLASSES = 0, -1
_AXES = {"class": CLASSES, "classes": CLASSES, "step": STEPS, "steps": STEPS}
_NUMBERS = r"-?\d+(?: *, *-?\d+)*"
_FORM = re.compile(
    rf"(?:(?P<output>.+):)?(?:(?P<index>{_NUMBERS})"
    rf"|(?:every (?P<all>class|step)|(?P<some>classes|steps) (?P<entries>{_NUMBERS}))(?: at (?P<at>{_NUMBERS}))?)"
)


@dataclass(frozen=True, eq=False)
class Every:
    """A target for every entry of an output along one of its axes.

    axis: counted in the output of one sample (the output without its batch axis): -1, the last one, for classes; 0 for
        the steps of a forecast or of scores per step.
    entries: positions on the axis; default: all.
    target: what the targets have in common: output, batch axis, pre_activation and, as `index`, one position on the
        other axes. Without an index, each of the other axes must have one entry, except that the last one may have
        more: every target is then the largest entry on it.
    """

    axis: int = CLASSES
    entries: Sequence[int] = ()
    target: Target | Mapping[str, Any] | None = None


TargetLike = Target | Index | Mapping[str, Any]
TargetsLike = str | Every | Iterable["TargetLike | Every | str | None"]


def to_wire_targets(targets: TargetsLike) -> list[explanation_pb2.TargetSet]:
    """Convert the argument of `explain_many(targets=…)` to its messages; raise InvalidRequest if that is impossible.

    Words, separated by semicolons, are `3`, `1,0`, `every class`, `every step`, `classes 0,2` and `steps 0,6,23`. After
    the last four, `at 5` is a position on the other axes; an output and a colon may precede each of them.
    """
    given = [targets] if isinstance(targets, (str, Every)) else targets
    return [_message(one) for some in given for one in (_from_words(some) if isinstance(some, str) else [some])]


def _message(given: TargetLike | Every | None) -> explanation_pb2.TargetSet:
    if not isinstance(given, Every):
        target = resolve(given)
        return explanation_pb2.TargetSet(target=None if target is None else to_wire_target(target))
    every = explanation_pb2.Every(axis=given.axis, entries=given.entries)
    shared = resolve(given.target)
    if shared is not None:
        every.target.CopyFrom(to_wire_target(shared))
    return explanation_pb2.TargetSet(every=every)


def _from_words(text: str) -> list[Target | Every]:
    return [_parsed(part.strip(), text) for part in text.split(";") if part.strip()]


def _parsed(text: str, whole: str) -> Target | Every:
    found = _FORM.fullmatch(text)
    if found is None:
        expected = "indices, or words such as 'every class', 'steps 0,6,23' or 'scores:every class at 5'"
        raise InvalidRequest(f"targets is {whole!r}; expected {expected}", field="targets")
    if found["index"]:
        return Target(output=found["output"], index=_numbers(found["index"]))
    shared = Target(output=found["output"], index=_numbers(found["at"]) if found["at"] else None)
    entries = _numbers(found["entries"]) if found["entries"] else ()
    return Every(_AXES[found["all"] or found["some"]], entries, shared)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))
