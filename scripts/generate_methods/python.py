# SPDX-License-Identifier: Apache-2.0
"""The Python client: a frozen dataclass per method. Its messages are read and written by their descriptors."""

from __future__ import annotations

from collections.abc import Iterator

from scripts.generate_methods.description import Description, Enum, Field, Record, Union
from scripts.generate_methods.text import HEADER, doc_of, joined, wrapped

FOLDER = "client/python/lstm_explain_client"
TYPES = {"double": "float", "int32": "int", "int64": "int", "bool": "bool", "string": "str"}


def files(description: Description) -> dict[str, str]:
    return {f"{FOLDER}/method_types.py": joined(_module(description))}


def _module(description: Description) -> Iterator[str]:
    yield '"""The methods as types. A parameter at None takes the server\'s default; an answer has every parameter set.'
    yield ""
    yield HEADER
    yield '"""'
    yield ""
    yield "from __future__ import annotations"
    yield ""
    yield "from collections.abc import Mapping"
    yield "from dataclasses import dataclass, field"
    yield "from typing import Any, ClassVar, Literal"
    yield ""
    yield "from lstm_explain_client.method_base import Method, Parameters, Record"
    yield ""
    for enum in description.enums:
        yield from _enum(enum)
    for type_ in description.types:
        yield from _union(type_, description) if isinstance(type_, Union) else _class(type_, "Record", description)
    for method in description.methods.arms:
        yield from _class(method, "Method", description)
    yield ""
    yield ""
    yield "METHODS: dict[str, type[Method]] = {"
    yield "    cls.name: cls"
    yield "    for cls in ("
    yield from (f"        {arm.engine}," for arm in description.methods.arms)
    yield "    )"
    yield "}"
    yield "# The classes that a message stands for: one, or those of its oneof."
    yield "TYPES: dict[str, tuple[type[Parameters], ...]] = {"
    yield '    "Method": tuple(METHODS.values()),'
    for type_ in description.types:
        names = [arm.engine for arm in type_.arms] if isinstance(type_, Union) else [type_.engine]
        yield f'    "{type_.name}": ({", ".join(names)}{"," if len(names) == 1 else ""}),'
    yield "}"
    yield ""
    public = [arm.engine for union in description.unions for arm in union.arms]
    public += [type_.name for type_ in description.types]
    yield "__all__ = ["
    yield from (f'    "{name}",' for name in sorted(public, key=lambda name: (not name.isupper(), name)))
    yield "]"


def _enum(enum: Enum) -> Iterator[str]:
    yield from wrapped(f"{enum.doc}", "# ")
    for choice in enum.choices:
        default = " (the default)" if choice.default else ""
        yield from wrapped(f'"{choice.word}"{default}: {choice.doc}', "# ")
    words = ", ".join(f'"{choice.word}"' for choice in enum.choices)
    yield f"{enum.name} = Literal[{words}]"


def _union(union: Union, description: Description) -> Iterator[str]:
    yield ""
    yield ""
    yield "@dataclass(frozen=True)"
    yield f"class {union.name}(Parameters):"
    yield from _docstring(union.doc, (), description)
    for arm in union.arms:
        yield from _class(arm, union.name, description)


def _class(record: Record, base: str, description: Description) -> Iterator[str]:
    arrays = any(field.kind == "tensors" for field in record.fields)
    yield ""
    yield ""
    yield "@dataclass(frozen=True, eq=False)" if arrays else "@dataclass(frozen=True)"
    yield f"class {record.engine}({base}):"
    yield from _docstring(record.doc, record.fields, description)
    if record.arm or record.fields:
        yield ""
    if record.arm:
        yield f'    name: ClassVar[str] = "{record.arm}"'
    if record.words:
        yield f'    absorbed: ClassVar[str] = "{record.words.absorbed}"'
        yield f'    residual: ClassVar[str] = "{record.words.residual}"'
    if record.unit:
        yield f'    unit: ClassVar[str] = "{record.unit}"'
    yield from (f"    {_declared(field)}" for field in record.fields)


def _docstring(doc: str, fields: tuple[Field, ...], description: Description) -> Iterator[str]:
    first, *rest = wrapped(doc, "    ", following="    ")
    if not rest and not fields and len(first) <= 114:
        yield f'    """{first.strip()}"""'
        return
    first, *rest = wrapped(f'"""{doc}', "    ")
    yield first
    yield from rest
    if fields:
        yield ""
    for own in fields:
        yield from wrapped(f"{own.name}: {doc_of(own, description.enums)}", "    ", following="        ")
    yield '    """'


def _declared(field: Field) -> str:
    if field.kind == "map":
        return f"{field.name}: Mapping[str, {field.type}] = field(default_factory=dict)"
    type_ = "Mapping[str, Any]" if field.kind == "tensors" else TYPES.get(field.type, field.type)
    return f"{field.name}: {type_}" if field.required else f"{field.name}: {type_} | None = None"
