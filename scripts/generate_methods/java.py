# SPDX-License-Identifier: Apache-2.0
"""The Java client: a record per method in a sealed interface, and a class that reads and writes their messages."""

from __future__ import annotations

import re
from collections.abc import Iterator

from scripts.generate_methods.description import Description, Field, Record, Union, pascal
from scripts.generate_methods.text import HEADER, doc_of, joined, wrapped

FOLDER = "client/java/src/main/java/lstmexplain"
BOXED = {"double": "Double", "int32": "Integer", "int64": "Long", "bool": "Boolean", "string": "String"}
PLAIN = {"double": "double", "int32": "int", "int64": "long", "bool": "boolean", "string": "String"}
WIDTH = 100


def files(description: Description) -> dict[str, str]:
    return {
        f"{FOLDER}/Method.java": joined(_types(description)),
        f"{FOLDER}/MethodWire.java": joined(_wire(description)),
    }


# --- the types -------------------------------------------------------------------------------------------------------


def _types(description: Description) -> Iterator[str]:
    yield from (f"// {HEADER}", "package lstmexplain;", "", "import java.util.Map;", "")
    doc = f"{description.methods.doc} For a parameter that is null, the server uses its default."
    example = ["", "<pre>{@code", "new Method.Lrp().productRule(Method.ProductRule.HALF).epsilon(0.01)", "}</pre>"]
    yield from _doc(doc, "", example)
    yield "public sealed interface Method {"
    for enum in description.enums:
        yield ""
        yield from _doc(enum.doc, "  ")
        yield f"  enum {enum.name} {{"
        for i, choice in enumerate(enum.choices):
            yield from _doc(f"{choice.doc}{' The default.' * choice.default}", "    ")
            yield f"    {choice.word.upper()}{',' * (i + 1 < len(enum.choices))}"
        yield "  }"
    for type_ in description.types:
        if isinstance(type_, Union):
            yield ""
            yield from _doc(type_.doc, "  ")
            yield f"  sealed interface {type_.name} {{"
            for arm in type_.arms:
                yield from _record(arm, f" implements {type_.name}", "    ", description)
            yield "  }"
        else:
            yield from _record(type_, "", "  ", description)
    for arm in description.methods.arms:
        yield from _record(arm, " implements Method", "  ", description)
    yield "}"


def _record(record: Record, implements: str, indent: str, description: Description) -> Iterator[str]:
    yield ""
    params = [f"@param {field.camel} {doc_of(field, description.enums)}" for field in record.fields]
    yield from _doc(record.doc, indent, ["", *params] if params else [])
    components = ", ".join(f"{_type(field)} {field.camel}" for field in record.fields)
    head = f"{indent}record {record.name}({components}){implements} {{"
    if not record.fields:
        yield f"{head}}}"
        return
    if len(head) <= WIDTH:
        yield head
    else:
        yield from wrapped(
            f"{components}){implements} {{", f"{indent}record {record.name}(", WIDTH, following=indent + 4 * " "
        )
    inner, names = indent + "  ", [field.camel for field in record.fields]
    maps = [field for field in record.fields if field.kind in ("map", "tensors")]
    if maps:
        yield from _doc("Copies the maps.", inner)
        yield f"{inner}public {record.name} {{"
        yield from (f"{inner}  {field.camel} = Wire.copy({field.camel});" for field in maps)
        yield from (f"{inner}}}", "")
    if not any(field.required for field in record.fields):
        yield from _doc("Leaves every parameter to the server.", inner)
        yield f"{inner}public {record.name}() {{"
        yield f"{inner}  this({', '.join('Map.of()' if field in maps else 'null' for field in record.fields)});"
        yield f"{inner}}}"
    for i, field in enumerate(record.fields):
        yield ""
        yield from _doc(f"Returns the same with another {{@code {field.camel}}}.", inner)
        yield f"{inner}public {record.name} {field.camel}({_type(field, plain=True)} value) {{"
        yield f"{inner}  return new {record.name}({', '.join([*names[:i], 'value', *names[i + 1 :]])});"
        yield f"{inner}}}"
    yield f"{indent}}}"


def _type(field: Field, plain: bool = False) -> str:
    if field.kind == "scalar":
        return (PLAIN if plain or field.required else BOXED)[field.type]
    types = {"map": f"Map<String, {field.type}>", "tensors": "Map<String, Tensor>"}
    return types.get(field.kind, field.type)


def _doc(doc: str, indent: str, more: list[str] | None = None) -> Iterator[str]:
    """Javadoc."""
    text = _marked(doc)
    line = f"{indent}/** {text} */"
    if len(line) <= WIDTH and not more:
        yield line
        return
    yield f"{indent}/**"
    yield from wrapped(text, f"{indent} * ", WIDTH)
    for entry in more or ():
        marked = _marked(entry) if entry.startswith("@param") else entry
        yield from wrapped(marked, f"{indent} * ", WIDTH, following=f"{indent} *     ") or [f"{indent} *"]
    yield f"{indent} */"


def _marked(doc: str) -> str:
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        doc = doc.replace(character, entity)
    return re.sub(r"`([^`]*)`", r"{@code \1}", doc)


# --- to and from messages --------------------------------------------------------------------------------------------


def _wire(description: Description) -> Iterator[str]:
    yield from (f"// {HEADER}", "package lstmexplain;", "")
    yield from _doc("Methods, and what their parameters are made of, to and from their messages.", "")
    yield from ("final class MethodWire {", "  private MethodWire() {}")
    for union in description.unions:
        yield from _union(union, description)
    for record in description.records:
        yield ""
        yield f"  static {_message(record)} encode({_name(record, description)} value) {{"
        yield f"    var body = {_message(record)}.newBuilder();"
        yield from ("    write(value, body);", "    return body.build();", "  }")
        yield from _functions(record, description, "decode")
    yield "}"


def _union(union: Union, description: Description) -> Iterator[str]:
    name = union.name if union is description.methods else f"Method.{union.name}"
    message = f"lstmexplain.v1.{union.name}"
    yield ""
    yield f"  static {message} encode({name} value) {{"
    yield f"    var out = {message}.newBuilder();"
    for i, arm in enumerate(union.arms):
        builder = f"out.get{pascal(arm.arm)}Builder()"
        own = f"value instanceof {_name(arm, description)}"
        yield f"    {'} else ' * (i > 0)}if ({own} m) {{" if arm.fields else f"    {'} else ' * (i > 0)}if ({own}) {{"
        yield f"      write(m, {builder});" if arm.fields else f"      {builder};"
    yield from ("    }", "    return out.build();", "  }", "")
    yield from _doc("Null where nothing is set, or something that this client does not know.", "  ")
    yield f"  static {name} decode({message} message) {{"
    yield f"    return switch (message.get{union.name}Case()) {{"
    for arm in union.arms:
        value = f"read(message.get{pascal(arm.arm)}())" if arm.fields else f"new {_name(arm, description)}()"
        yield f"      case {arm.arm.upper()} -> {value};"
    yield f"      case {union.name.upper()}_NOT_SET -> null;"
    yield from ("    };", "  }")
    for arm in union.arms:
        if arm.fields:
            yield from _functions(arm, description, "read")


def _functions(record: Record, description: Description, read: str) -> Iterator[str]:
    name = _name(record, description)
    yield ""
    yield f"  private static void write({name} m, {_message(record)}.Builder body) {{"
    for field in record.fields:
        condition = field.kind in ("scalar", "enum", "record", "union") and not field.required
        line = _encoded(field)
        yield from (
            (f"    if (m.{field.camel}() != null) {{", f"      {line}", "    }") if condition else (f"    {line}",)
        )
    yield from ("  }", "")
    yield f"  {'private ' * (read == 'read')}static {name} {read}({_message(record)} body) {{"
    yield f"    return new {name}("
    for i, field in enumerate(record.fields):
        yield f"        {_decoded(field)}{',' if i + 1 < len(record.fields) else ');'}"
    yield "  }"


def _encoded(field: Field) -> str:
    value = f"m.{field.camel}()"
    return {
        "scalar": f"body.set{field.pascal}({value});",
        "enum": f"body.set{field.pascal}(lstmexplain.v1.{field.type}.valueOf(Wire.name({value})));",
        "tensors": f"body.addAll{field.pascal}(Wire.encode({value}));",
        "map": f"{value}.forEach((key, entry) -> body.put{field.pascal}(key, encode(entry)));",
    }.get(field.kind, f"body.set{field.pascal}(encode({value}));")


def _decoded(field: Field) -> str:
    value = f"body.get{field.pascal}()"
    if field.required:
        return value
    return {
        "scalar": f"body.has{field.pascal}() ? {value} : null",
        "enum": f"Wire.constant(Method.{field.type}.class, {value})",
        "tensors": f"Wire.decode(body.get{field.pascal}List())",
        "map": f"Wire.mapped(body.get{field.pascal}Map(), MethodWire::decode)",
    }.get(field.kind, f"body.has{field.pascal}() ? decode({value}) : null")


def _message(record: Record) -> str:
    return f"lstmexplain.v1.{record.wire}"


def _name(record: Record, description: Description) -> str:
    """The record from outside of Method.java."""
    for union in description.unions:
        if record in union.arms and union is not description.methods:
            return f"Method.{union.name}.{record.name}"
    return f"Method.{record.name}"
