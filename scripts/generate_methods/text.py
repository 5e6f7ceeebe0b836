"""What all templates share: the header of a generated file, and comments of a given width."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from scripts.generate_methods.description import Enum, Field

SOURCES = "proto/lstm_explain/v1/method.proto and the server's registry"
HEADER = f"Generated from {SOURCES} by `make proto`; do not edit."


def wrapped(doc: str, prefix: str, width: int = 120, *, following: str | None = None) -> list[str]:
    """Lines of a comment. following: what its further lines begin with, where that is not `prefix`."""
    return textwrap.wrap(
        doc,
        width,
        initial_indent=prefix,
        subsequent_indent=prefix if following is None else following,
        break_long_words=False,
        break_on_hyphens=False,
    )


def doc_of(field: Field, enums: Iterable[Enum]) -> str:
    """A parameter's comment; of a choice, with the one that the server takes by default."""
    for enum in enums:
        if enum.name == field.type:
            default = next(choice.word for choice in enum.choices if choice.default)
            return f'{field.doc or enum.doc} Default: "{default}".'
    return field.doc


def joined(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"
