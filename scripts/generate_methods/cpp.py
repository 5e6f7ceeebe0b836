# SPDX-License-Identifier: Apache-2.0
"""The C++ client: a struct per method in a variant, and a pair of functions for messages."""

from __future__ import annotations

from collections.abc import Iterator

from scripts.generate_methods.description import Description, Field, Record, Union, pascal, snake
from scripts.generate_methods.text import HEADER, joined, wrapped

FOLDER = "client/cpp"
TYPES = {
    "double": "double",
    "int32": "std::int32_t",
    "int64": "std::int64_t",
    "bool": "bool",
    "string": "std::string",
}


def files(description: Description) -> dict[str, str]:
    return {
        f"{FOLDER}/include/lstm_explain/method.hpp": joined(_header(description)),
        f"{FOLDER}/src/wire_method.cpp": joined(_wire(description)),
        f"{FOLDER}/conformance/method_fields.hpp": joined(_conformance(description)),
    }


# --- the types -------------------------------------------------------------------------------------------------------


def _header(description: Description) -> Iterator[str]:
    yield f"// {HEADER}"
    yield "/// @file"
    yield from wrapped(f"{description.methods.doc} A parameter that is not set takes the server's default.", "/// ")
    yield "#pragma once"
    yield ""
    yield from (f"#include <{name}>" for name in ("cstdint", "map", "optional", "string", "variant"))
    yield from ("", '#include "lstm_explain/tensor.hpp"', "", "namespace lstm_explain {")
    for enum in description.enums:
        yield ""
        yield from wrapped(enum.doc, "/// ")
        yield f"enum class {enum.name} {{"
        for choice in enum.choices:
            yield from wrapped(f"{choice.doc}{' The default.' * choice.default}", "  /// ")
            yield f"  {choice.word} = {choice.number},"
        yield "};"
    for type_ in description.types:
        if isinstance(type_, Union):
            yield ""
            yield from wrapped(type_.doc, "/// ")
            yield f"namespace {snake(type_.name)} {{"
            for arm in type_.arms:
                yield from _struct(arm)
            yield ""
            yield f"}}  // namespace {snake(type_.name)}"
            yield ""
            yield from _variant(type_, f"{snake(type_.name)}::")
        else:
            yield from _struct(type_)
    for arm in description.methods.arms:
        yield from _struct(arm)
    yield ""
    yield from _variant(description.methods, "")
    yield from ("", "}  // namespace lstm_explain")


def _struct(record: Record) -> Iterator[str]:
    yield ""
    yield from wrapped(record.doc, "/// ")
    if not record.fields:
        yield f"struct {record.name} {{}};"
        return
    yield f"struct {record.name} {{"
    for field in record.fields:
        yield from wrapped(field.doc, "  /// ")
        yield f"  {_type(field)} {field.name}{{}};"
    yield "};"


def _type(field: Field) -> str:
    type_ = TYPES.get(field.type, field.type)
    if field.kind == "map":
        return f"std::map<std::string, {type_}>"
    if field.kind == "tensors":
        return "Tensors"
    return type_ if field.required else f"std::optional<{type_}>"


def _variant(union: Union, scope: str) -> Iterator[str]:
    before = f"using {union.name} = std::variant<"
    names = ", ".join(f"{scope}{arm.name}" for arm in union.arms)
    yield from wrapped(f"{names}>;", before, following=" " * len(before))


# --- to and from messages --------------------------------------------------------------------------------------------


def _wire(description: Description) -> Iterator[str]:
    yield from (f"// {HEADER}", '#include "wire.hpp"', "", "namespace lstm_explain::wire {", "namespace {")
    yield ""
    yield "/// Zero of every enumeration is the server's default."
    yield "template <class Choice>"
    yield "std::optional<Choice> chosen(int number) {"
    yield "  return number == 0 ? std::nullopt : std::optional(static_cast<Choice>(number));"
    yield "}"
    for type_ in description.types:
        if isinstance(type_, Union):
            scope = f"{snake(type_.name)}::"
            yield from _encoder(type_, scope, description)
            yield from _decoders(type_, scope, description)
            yield ""
            visit = f"std::visit({type_.name}Encoder{{out}}, value);"
            yield f"void encode_{snake(type_.name)}(const {type_.name}& value, v1::{type_.name}* out) {{ {visit} }}"
            yield from _decode_union(type_, scope, f"decode_{snake(type_.name)}")
        else:
            yield from _record(type_, description)
    yield from _encoder(description.methods, "", description)
    yield from _decoders(description.methods, "", description)
    yield from ("", "}  // namespace", "")
    yield "void encode(const Method& method, v1::Method* out) { std::visit(MethodEncoder{out}, method); }"
    yield from _decode_union(description.methods, "", "decode")
    yield from ("", "}  // namespace lstm_explain::wire")


def _encoder(union: Union, scope: str, description: Description) -> Iterator[str]:
    yield ""
    yield f"struct {union.name}Encoder {{"
    yield f"  v1::{union.name}* out;"
    for arm in union.arms:
        yield ""
        if not arm.fields:
            yield f"  void operator()(const {scope}{arm.name}&) const {{ out->mutable_{arm.arm}(); }}"
            continue
        yield f"  void operator()(const {scope}{arm.name}& m) const {{"
        yield f"    auto* body = out->mutable_{arm.arm}();"
        yield from (f"    {_encoded(field, arm, description)}" for field in arm.fields)
        yield "  }"
    yield "};"


def _decoders(union: Union, scope: str, description: Description) -> Iterator[str]:
    for arm in union.arms:
        if arm.fields:
            yield ""
            yield f"{scope}{arm.name} decode_{arm.arm}(const v1::{arm.wire.replace('.', '_')}& m) {{"
            yield f"  {scope}{arm.name} out;"
            yield from (f"  {_decoded(field, description)}" for field in arm.fields)
            yield from ("  return out;", "}")


def _decode_union(union: Union, scope: str, name: str) -> Iterator[str]:
    yield ""
    yield f"std::optional<{union.name}> {name}(const v1::{union.name}& message) {{"
    yield f"  switch (message.{snake(union.name)}_case()) {{"
    for arm in union.arms:
        value = f"decode_{arm.arm}(message.{arm.arm}())" if arm.fields else f"{scope}{arm.name}{{}}"
        yield f"    case v1::{union.name}::k{pascal(arm.arm)}: return {value};"
    yield f"    case v1::{union.name}::{snake(union.name).upper()}_NOT_SET: break;"
    yield from ("  }", "  return std::nullopt;", "}")


def _record(record: Record, description: Description) -> Iterator[str]:
    yield ""
    yield f"void encode_{snake(record.name)}(const {record.name}& m, v1::{record.name}* body) {{"
    yield from (f"  {_encoded(field, record, description)}" for field in record.fields)
    yield "}"
    yield ""
    yield f"{record.name} decode_{snake(record.name)}(const v1::{record.name}& m) {{"
    yield f"  {record.name} out;"
    yield from (f"  {_decoded(field, description)}" for field in record.fields)
    yield from ("  return out;", "}")


def _encoded(field: Field, owner: Record, description: Description) -> str:
    name, path = field.name, f'"method.{owner.arm or snake(owner.name)}.{field.name}"'
    if field.kind == "tensors":
        return f"encode(m.{name}, {path}, body->mutable_{name}());"
    encode = f"encode_{snake(field.type)}"
    if field.kind == "map":
        entry = f"&(*body->mutable_{name}())[checked(key, {path})]"
        return f"for (const auto& [key, value] : m.{name}) {{\n    {encode}(value, {entry});\n  }}"
    if field.required:
        return f"body->set_{name}(m.{name});"
    if field.kind == "scalar":
        value = f"checked(*m.{name}, {path})" if field.type == "string" else f"*m.{name}"
        return f"if (m.{name}) body->set_{name}({value});"
    if field.kind == "enum":
        return f"if (m.{name}) body->set_{name}(static_cast<v1::{field.type}>(*m.{name}));"
    return f"if (m.{name}) {encode}(*m.{name}, body->mutable_{name}());"


def _decoded(field: Field, description: Description) -> str:
    name, decode = field.name, f"decode_{snake(field.type)}"
    if field.kind == "tensors":
        return f"out.{name} = decode_all(m.{name}());"
    if field.kind == "enum":
        return f"out.{name} = chosen<{field.type}>(m.{name}());"
    if field.kind == "map":
        loop = f"for (const auto& [key, value] : m.{name}())"
        if description.is_union(field.type):
            return f"{loop} {{\n    if (const auto read = {decode}(value)) out.{name}.emplace(key, *read);\n  }}"
        return f"{loop} out.{name}.emplace(key, {decode}(value));"
    if field.required:
        return f"out.{name} = m.{name}();"
    value = f"m.{name}()" if field.kind == "scalar" else f"{decode}(m.{name}())"
    return f"if (m.has_{name}()) out.{name} = {value};"


# --- the conformance runner ------------------------------------------------------------------------------------------


def _conformance(description: Description) -> Iterator[str]:
    yield f"// {HEADER}"
    yield "/// The names of methods, parameters and choices in the cases. No case has a parameter that has parameters."
    yield "#pragma once"
    yield from ("", "#include <string>", "#include <utility>", "#include <vector>", "")
    yield from ('#include "lstm_explain/method.hpp"', "", "namespace conformance {")
    for arm in description.methods.arms:
        plain = [field.name for field in arm.fields if field.kind in ("scalar", "enum", "tensors")]
        yield ""
        yield "template <class F>"
        if not plain:
            yield f"void fields(lstm_explain::{arm.name}&, F) {{}}"
            continue
        yield f"void fields(lstm_explain::{arm.name}& m, F f) {{"
        yield from (f'  f("{name}", m.{name});' for name in plain)
        yield "}"
    yield ""
    yield "inline const std::vector<std::pair<std::string, lstm_explain::Method>> METHODS = {"
    yield from (f'    {{"{arm.arm}", lstm_explain::{arm.name}{{}}}},' for arm in description.methods.arms)
    yield "};"
    yield ""
    yield "/// The names of the choices by number; the first is the server's default."
    yield "template <class Choice>"
    yield "inline const std::vector<std::string> WORDS;"
    for enum in description.enums:
        words = ", ".join(['""', *(f'"{choice.word}"' for choice in enum.choices)])
        yield "template <>"
        yield f"inline const std::vector<std::string> WORDS<lstm_explain::{enum.name}> = {{{words}}};"
    yield from ("", "}  // namespace conformance")
