# SPDX-License-Identifier: Apache-2.0
"""The Rust client: its methods are the messages that prost writes; here are their names and conversions."""

from __future__ import annotations

from collections.abc import Iterator

from scripts.generate_methods.description import Description, Enum, Field, Record, Union, pascal, snake
from scripts.generate_methods.text import HEADER, joined, wrapped

FOLDER = "client/rust"
READERS = {
    "double": "as_f64()",
    "int32": "as_i64().map(|n| n as i32)",
    "int64": "as_i64()",
    "bool": "as_bool()",
    "string": "as_str().map(String::from)",
}


def files(description: Description) -> dict[str, str]:
    return {
        f"{FOLDER}/src/method.rs": joined(_module(description)),
        f"{FOLDER}/conformance/src/method.rs": joined(_conformance(description)),
    }


def _module(description: Description) -> Iterator[str]:
    yield f"// {HEADER}"
    yield ""
    yield "//! The methods, which are the protocol's own messages, and what makes a method or a rule of each."
    yield ""
    yield "use crate::proto;"
    yield ""
    names = [arm.name for arm in description.methods.arms] + [enum.name for enum in description.enums]
    names += [record.name for record in description.records]
    modules = [snake(union.name) for union in description.unions if union.name != "Method"]
    yield from _use("pub use crate::proto", [*sorted(names), "method::Method", *sorted(modules)])
    for union in description.unions:
        for arm in union.arms:
            yield ""
            yield from _conversion(union, arm)


def _conversion(union: Union, arm: Record) -> Iterator[str]:
    own = snake(union.name)
    arm_name = pascal(arm.arm)
    if union.name == "Method":
        yield f"impl From<{arm.name}> for Method {{"
        yield f"    fn from({own}: {arm.name}) -> Self {{"
        yield f"        Method::{arm_name}({own})"
    else:
        yield f"impl From<{own}::{arm.name}> for proto::{union.name} {{"
        yield f"    fn from({own}: {own}::{arm.name}) -> Self {{"
        yield f"        Self {{ {own}: Some({own}::{union.name}::{arm_name}({own})) }}"
    yield "    }"
    yield "}"


def _use(path: str, names: list[str]) -> Iterator[str]:
    line = f"{path}::{{{', '.join(names)}}};"
    if len(line) <= 120:
        yield line
        return
    yield f"{path}::{{"
    yield from wrapped(", ".join(names) + ",", "    ")
    yield "};"


def _conformance(description: Description) -> Iterator[str]:
    used = {field.type for arm in description.methods.arms for field in arm.fields if field.kind == "enum"}
    names = sorted(
        [arm.name for arm in description.methods.arms] + [e.name for e in description.enums if e.name in used]
    )
    yield f"// {HEADER}"
    yield ""
    yield "//! Methods out of the cases' JSON. No case has a parameter that has parameters of its own."
    yield ""
    yield from _use("use lstm_explain_client", sorted([*names, "Method"]))
    yield "use serde_json::Value;"
    yield ""
    yield "use crate::check::Failure;"
    yield "use crate::request::{known, tensors, word};"
    yield ""
    yield "pub fn method(name: &str, parameters: &Value) -> Result<Method, Failure> {"
    yield "    Ok(match name {"
    for arm in description.methods.arms:
        yield from _case(arm, description.enums)
    yield '        _ => return Err(Failure(format!("unknown method {name:?}"))),'
    yield "    })"
    yield "}"


def _case(arm: Record, enums: tuple[Enum, ...]) -> Iterator[str]:
    plain = [field for field in arm.fields if field.kind in ("scalar", "enum", "tensors")]
    listed = ", ".join(f'"{field.name}"' for field in plain)
    yield f'        "{arm.arm}" => {{'
    yield f"            known(parameters, &[{listed}])?;"
    if not arm.fields:
        yield f"            {arm.name} {{}}.into()"
    else:
        yield f"            {arm.name} {{"
        for field in plain:
            yield f"                {field.name}: {_read(field, enums)},"
        if len(plain) < len(arm.fields):
            yield "                ..Default::default()"
        yield "            }"
        yield "            .into()"
    yield "        }"


def _read(field: Field, enums: tuple[Enum, ...]) -> str:
    value = f'parameters["{field.name}"]'
    if field.kind == "scalar":
        return f"{value}.{READERS[field.type]}"
    if field.kind == "tensors":
        return f"tensors(&{value})?"
    return f'word(&{value}, "{snake(field.type).upper()}", {field.type}::from_str_name)?'
