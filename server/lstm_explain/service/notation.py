"""Targets and parameters as text: on the command line and in protocols whose parameters are text."""

from __future__ import annotations

from collections.abc import Collection

from lstm_explain.errors import TargetError


def parse_target(text: str, outputs: Collection[str]) -> tuple[str | None, int | tuple[int, ...] | None]:
    """Output and index of `3`, `1,0`, `logits` or `logits:1,0`; None for what is not said. Raises TargetError.

    An output's name may hold a colon itself.
    """
    if text in outputs:
        return text, None
    output, colon, index = text.rpartition(":")
    if colon and output not in outputs:
        raise TargetError(f"there is no output {output!r}, there are {', '.join(outputs)}", field="target.output")
    try:
        position = tuple(int(part) for part in index.split(","))
    except ValueError:
        raise TargetError(f"target {text!r} is not an index, an output, or output:index", field="target") from None
    return output if colon else None, position[0] if len(position) == 1 else position


def parse_value(text: str) -> int | float | bool | str:
    """A parameter's value: a whole number, a number, true or false, or else the text itself."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text, text)
