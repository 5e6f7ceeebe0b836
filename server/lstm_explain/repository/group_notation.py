# SPDX-License-Identifier: Apache-2.0
"""Reads and writes groups of entries as the command line and the Open Inference Protocol do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lstm_explain.errors import InputError
from lstm_explain.grouping import ChangePoints, Groups
from lstm_explain.repository.text_notation import parse_value

EXPECTED = "window=24, words, change_points, change_points=5, features, or features.NAME=FIRST,SECOND"


def groups_from_text(text: str) -> Groups:
    """Returns the groups that `text` describes, such as "window=24; features.weather=rain,wind". Raises InputError.

    Its parts are separated by semicolons: `window=STEPS`, `words`, `change_points` or `change_points=SEGMENTS`,
    `features` for the groups of the model, and `features.NAME=FIRST,SECOND` for a group of features.
    """
    fields: dict[str, Any] = {}
    given: set[str] = set()
    for part in filter(None, (piece.strip() for piece in text.split(";"))):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if key in given or key in fields:
            raise InputError(f"groups: {key} is given twice in {text!r}", field="groups")
        given.add(key)
        if key == "window" and value:
            fields["window"] = parse_value(value)
        elif key == "words" and not equals:
            fields["words"] = True
        elif key == "change_points":
            segments: Any = parse_value(value) if equals else ChangePoints.segments
            fields["change_points"] = ChangePoints(segments)
        elif key == "features" and not equals:
            fields["features"] = True
        elif key.startswith("features.") and value and fields.get("features") is not True:
            members = [member.strip() for member in value.split(",")]
            fields.setdefault("features", {})[key.removeprefix("features.")] = members
        else:
            raise InputError(f"groups: {part!r} is none of {EXPECTED}", field="groups")
    return Groups(**fields)


def groups_as_text(groups: Groups) -> str:
    """Returns the groups in the same notation, with what it lacks: the input of features, and a penalty."""
    return "; ".join(_parts(groups))


def _parts(groups: Groups) -> Iterator[str]:
    if groups.window is not None:
        yield f"window={groups.window}"
    if groups.words:
        yield "words"
    if (cuts := groups.change_points) is not None:
        penalty = "" if cuts.penalty is None else f" with penalty {cuts.penalty:g}"
        yield f"change_points={cuts.segments}{penalty}"
    if isinstance(groups.features, Mapping):
        yield from _features("features", groups.features)
    elif groups.features:
        yield "features"


def _features(prefix: str, features: Mapping[str, Any]) -> Iterator[str]:
    for name, members in features.items():
        if isinstance(members, Mapping):
            yield from _features(f"{prefix}.{name}", members)
        else:
            yield f"{prefix}.{name}={','.join(map(str, members))}"
