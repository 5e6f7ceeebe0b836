# SPDX-License-Identifier: Apache-2.0
"""Reads and writes the units that relevance passes through, as the command line and the Open Inference Protocol do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from lstm_explain.condition import LONGEST_SHOWN
from lstm_explain.errors import InputError

_UNIT = re.compile(r"[0-9]{1,18}")
EXPECTED = "NAME=UNIT,UNIT, such as lstm.cell=72,86"


def through_from_text(text: str) -> dict[str, tuple[int, ...]]:
    """Returns the units by value that `text` describes, such as "lstm.cell=72,86; final_states=3".

    Raises InputError.
    """
    return through_from_parts(filter(None, map(str.strip, text.split(";"))))


def through_from_parts(parts: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Does the same for parts such as "lstm.cell=72,86"."""
    found: dict[str, tuple[int, ...]] = {}
    for part in parts:
        name, _, listed = part.rpartition("=")
        name, units = name.strip(), [unit.strip() for unit in listed.split(",")]
        if not name or not all(map(_UNIT.fullmatch, units)):
            shown = part if len(part) <= LONGEST_SHOWN else f"{part[:LONGEST_SHOWN]} …"
            raise InputError(f"through: {shown!r} is not {EXPECTED}", field="through")
        if name in found:
            raise InputError(f"through: {name!r} occurs twice", field="through")
        found[name] = tuple(map(int, units))
    return found


def through_parts(through: Mapping[str, Sequence[int]]) -> list[str]:
    return [f"{name}={','.join(map(str, units))}" for name, units in through.items()]


def through_as_text(through: Mapping[str, Sequence[int]]) -> str:
    return "; ".join(through_parts(through))
