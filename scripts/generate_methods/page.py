# SPDX-License-Identifier: Apache-2.0
"""The page: what its form offers, and what it calls the parts of an answer."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

from scripts.generate_methods.description import Description, Enum, Field, Record
from scripts.generate_methods.text import HEADER, joined

NOT_OFFERED = ("groups",)  # the form cannot divide the input into groups
PATH = "server/lstm_explain/serving/web/static/method_table.js"


def files(description: Description) -> dict[str, str]:
    return {PATH: joined(_module(description))}


def _module(description: Description) -> Iterator[str]:
    yield f"// {HEADER}"
    yield ""
    yield "/**"
    yield " * The methods, as lstm_explain/v1/method.proto has them in JSON; last those whose numbers are no shares of"
    yield " * the explained value. held: what the ledger's `absorbed` and `residual` are under the method. unit: what"
    yield " * it gives one value to, where no parameter says it. long: it runs the model many times."
    yield " */"
    yield "export const METHODS = ["
    for method in sorted(description.methods.arms, key=lambda method: not method.shares):
        yield from _method(method, description.enums)
    yield "];"


def _method(method: Record, enums: tuple[Enum, ...]) -> Iterator[str]:
    assert method.words is not None
    yield "  {"
    yield f"    key: {_quoted(method.camel)},"
    yield f"    name: {_quoted(method.words.label)},"
    yield f"    hint: {_quoted(method.words.hint)},"
    yield f"    held: [{_quoted(method.words.absorbed)}, {_quoted(method.words.residual)}],"
    if method.long:
        yield "    long: true,"
    if method.unit:
        yield f"    unit: {_quoted(method.unit)},"
    offered = [field for field in method.fields if field.about is not None]
    if not offered:
        yield "    parameters: [],"
    else:
        yield "    parameters: ["
        for field in offered:
            yield from _choice(field, enums) if field.kind == "enum" else [f"      {_number(field)},"]
        yield "    ],"
    yield "  },"


def _number(field: Field) -> str:
    assert field.about is not None
    parts = [f"key: {_quoted(field.camel)}", f"label: {_quoted(field.about.label)}", 'kind: "number"']
    whole = isinstance(field.default, int)
    parts.append("step: 1" if whole else 'step: "any"')
    # How many runs are too many is the server's to say, in its answer.
    bounds = (("min", field.about.least), ("max", math.inf if whole else field.about.most))
    parts += [f"{name}: {bound:g}" for name, bound in bounds if math.isfinite(bound)]
    if field.about.absent is not None or field.default is None:
        parts.append("optional: true")
        if field.default is not None:
            parts.append(f'placeholder: "{field.default:g}"')
    else:
        parts.append(f"initial: {field.default:g}")
    return f"{{ {', '.join(parts)} }}"


def _choice(field: Field, enums: tuple[Enum, ...]) -> Iterator[str]:
    assert field.about is not None
    (enum,) = (enum for enum in enums if enum.name == field.type)
    yield "      {"
    yield f"        key: {_quoted(field.camel)},"
    yield f"        label: {_quoted(field.about.label)},"
    yield '        kind: "choice",'
    yield "        options: ["
    for choice in enum.choices:
        if choice.word in NOT_OFFERED:
            continue
        yield f"          [{_quoted(choice.wire)}, {_quoted(field.about.choices[choice.word])}],"
    yield "        ],"
    yield "      },"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
