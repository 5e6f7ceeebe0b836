# SPDX-License-Identifier: Apache-2.0
"""The TypeScript client: an interface per method, discriminated by its name, and a pair of functions for messages."""

from __future__ import annotations

from collections.abc import Iterator

from scripts.generate_methods.description import Description, Field, Record, Union, snake
from scripts.generate_methods.text import HEADER, doc_of, joined, wrapped

PATH = "client/typescript/src/method.ts"
TYPES = {"double": "number", "int32": "number", "int64": "number | bigint", "bool": "boolean", "string": "string"}


def files(description: Description) -> dict[str, str]:
    return {PATH: joined(_module(description))}


def _module(description: Description) -> Iterator[str]:
    yield f"// {HEADER}"
    yield ""
    yield "/** The methods as types. A parameter that is left out takes the server's default. */"
    yield ""
    yield 'import { InvalidRequest } from "./errors.js";'
    yield 'import type * as wire from "./generated/lstm_explain/v1/method.js";'
    yield 'import { choice, chosen, mapped, only, whole } from "./parameters.js";'
    yield 'import { allFromWire, allToWire, type TensorLike } from "./tensor.js";'
    yield ""
    yield "/** Tensors by the name of an input. */"
    yield "export type Baseline = Record<string, TensorLike>;"
    for enum in description.enums:
        yield from _doc(enum.doc, [f'"{c.word}": {c.doc}{" The default." * c.default}' for c in enum.choices])
        words = ", ".join(f'"{choice.word}"' for choice in enum.choices)
        yield f"export type {enum.name} = (typeof {_table(enum.name)})[number];"
        yield f"const {_table(enum.name)} = [{words}] as const;"
    for record in (*description.records, *description.methods.arms):
        yield from _interface(record, description)
    for union in description.unions:
        yield from _union(union, description)
    for record in description.records:
        yield from _record(record)


def _interface(record: Record, description: Description) -> Iterator[str]:
    yield from _doc(record.doc)
    yield f"export interface {record.name} {{"
    if record.arm:
        yield f'  name: "{record.camel}";'
    for field in record.fields:
        yield from _doc(doc_of(field, description.enums), indent="  ")
        yield f"  {_declared(field)};"
    yield "}"


def _declared(field: Field) -> str:
    types = {
        "scalar": TYPES.get(field.type, ""),
        "map": f"Record<string, {field.type}>",
        "tensors": "Baseline",
    }
    optional = "" if field.required or field.kind == "map" else "?"
    return f"{field.camel}{optional}: {types.get(field.kind, field.type)}"


def _union(union: Union, description: Description) -> Iterator[str]:
    yield from _doc(union.doc)
    yield f"export type {union.name} ="
    lines = []
    for arm in union.arms:
        if arm in description.methods.arms:
            lines.append(f"  | {arm.name}")
        else:
            parts = "; ".join([f'name: "{arm.camel}"', *(_declared(field) for field in arm.fields)])
            lines += [*wrapped(arm.doc, "  // "), f"  | {{ {parts} }}"]
    lines[-1] += ";"
    yield from lines
    own = union.name[0].lower() + union.name[1:]
    export, prefix = ("export ", "") if union is description.methods else ("", own)
    yield from _doc(f"The message of a {own}.")
    yield f"{export}function {_name(prefix, 'toWire')}({own}: {union.name}): wire.{union.name} {{"
    yield f"  switch ({own}.name) {{"
    for arm in union.arms:
        yield f'    case "{arm.camel}":'
        yield from _only(own, arm, ["name"], "      ")
        yield from _arm_message(arm, own)
    yield "    default:"
    unknown = f'there is no {own} "${{({own} as {{ name: unknown }}).name}}"'
    yield f'      throw new InvalidRequest(`{unknown}`, {{ field: "method" }});'
    yield from ("  }", "}")
    yield from _doc(f"The {own} of a message; undefined where there is none, or one that this client does not know.")
    argument = f"message: wire.{union.name} | undefined"
    yield f"{export}function {_name(prefix, 'fromWire')}({argument}): {union.name} | undefined {{"
    yield f"  const said = message?.{own};"
    yield "  switch (said?.$case) {"
    for arm in union.arms:
        yield f'    case "{arm.camel}":'
        pairs = [f'name: "{arm.camel}"', *(f"{f.camel}: {_decoded(f, 'said.value')}" for f in arm.fields)]
        yield from _object("      return ", pairs, ";")
    yield from ("  }", "  return undefined;", "}")


def _only(source: str, record: Record, more: list[str], indent: str) -> Iterator[str]:
    """The check that refuses keys that are no fields."""
    names = ", ".join(f'"{name}"' for name in (*more, *(field.camel for field in record.fields)))
    path = f"method.{record.camel or snake(record.name)}"
    line = f'{indent}only({source}, [{names}], "{path}");'
    if len(line) <= 120:
        yield line
        return
    yield f"{indent}only("
    yield from (f"{indent}  {argument}," for argument in (source, f"[{names}]", f'"{path}"'))
    yield f"{indent});"


def _arm_message(arm: Record, own: str) -> Iterator[str]:
    pairs = [f"{field.camel}: {_encoded(field, arm, own)}" for field in arm.fields]
    value = f"{{ {', '.join(pairs)} }}" if pairs else "{}"
    line = f'      return {{ {own}: {{ $case: "{arm.camel}", value: {value} }} }};'
    if len(line) <= 100:
        yield line
        return
    yield from ("      return {", f"        {own}: {{", f'          $case: "{arm.camel}",')
    yield from _object("          value: ", pairs, ",")
    yield from ("        },", "      };")


def _record(record: Record) -> Iterator[str]:
    own = record.name[0].lower() + record.name[1:]
    yield ""
    yield f"function {own}ToWire({own}: {record.name}): wire.{record.name} {{"
    yield from _only(own, record, [], "  ")
    yield from _object("  return ", [f"{f.camel}: {_encoded(f, record, own)}" for f in record.fields], ";")
    yield "}"
    yield ""
    yield f"function {own}FromWire(message: wire.{record.name} | undefined): {record.name} | undefined {{"
    pairs = [f"{f.camel}: {_decoded(f, 'message')}" for f in record.fields]
    yield from _object("  return message && ", pairs, ";")
    yield "}"


def _object(before: str, pairs: list[str], after: str) -> Iterator[str]:
    """An object literal: on one line with one entry at most."""
    indent = " " * (len(before) - len(before.lstrip()))
    if len(pairs) < 2:
        yield f"{before}{{ {pairs[0]} }}{after}" if pairs else f"{before}{{}}{after}"
        return
    yield f"{before}{{"
    yield from (f"{indent}  {pair}," for pair in pairs)
    yield f"{indent}}}{after}"


def _encoded(field: Field, owner: Record, source: str) -> str:
    value = f"{source}.{field.camel}"
    path = f'"method.{owner.camel or snake(owner.name)}.{field.name}"'
    to_wire = f"{field.type[0].lower()}{field.type[1:]}ToWire"
    return {
        "scalar": f"whole({value})" if field.type == "int64" else value,
        "enum": f"choice({_table(field.type)}, {value}, {path})",
        "tensors": f"allToWire({value} ?? {{}}, {path})",
        "map": f"mapped({value}, {to_wire})",
    }.get(field.kind, f"{value} && {to_wire}({value})")


def _decoded(field: Field, source: str) -> str:
    value = f"{source}.{field.camel}"
    from_wire = f"{field.type[0].lower()}{field.type[1:]}FromWire"
    return {
        "scalar": f"{value} ?? 0" if field.required else value,
        "enum": f"chosen({_table(field.type)}, {value})",
        "tensors": f"allFromWire({value})",
        "map": f"mapped({value}, {from_wire})",
    }.get(field.kind, f"{from_wire}({value})")


def _table(enum: str) -> str:
    return f"{snake(enum).upper()}_WORDS"


def _name(prefix: str, name: str) -> str:
    return f"{prefix}{name[0].upper()}{name[1:]}" if prefix else name


def _doc(doc: str, more: list[str] | None = None, indent: str = "") -> Iterator[str]:
    if not indent:
        yield ""
    if not doc:
        return
    line = f"{indent}/** {doc} */"
    if len(line) <= 120 and not more:
        yield line
        return
    yield f"{indent}/**"
    yield from wrapped(doc, f"{indent} * ")
    for entry in more or ():
        yield from wrapped(entry, f"{indent} * - ", following=f"{indent} *   ")
    yield f"{indent} */"
