# SPDX-License-Identifier: Apache-2.0
"""The one description that the clients' methods are generated from: method.proto, and the server's registry.

The proto says which methods there are, the names, types and comments of their parameters. The registry
(`lstm_explain.methods`) says what stands in no proto: defaults, bounds, and the words that pictures use. Where both say
something, they must agree.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import Field as DataclassField
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

from lstm_explain.methods import METHODS
from lstm_explain.methods.base import Promise, Words
from lstm_explain.methods.parameters import Parameter, parameter_of

ROOT = Path(__file__).resolve().parents[2]
PROTO = "lstm_explain/v1/method.proto"
# Of a scalar field, as proto calls its type.
SCALARS = {
    FieldDescriptorProto.TYPE_DOUBLE: "double",
    FieldDescriptorProto.TYPE_INT32: "int32",
    FieldDescriptorProto.TYPE_INT64: "int64",
    FieldDescriptorProto.TYPE_BOOL: "bool",
    FieldDescriptorProto.TYPE_STRING: "string",
}


class DescriptionError(Exception):
    """The proto and the registry contradict each other, or the proto has something that no template writes."""


@dataclass(frozen=True)
class Choice:
    """One word of an enum. wire: its name in the proto. default: whether the server takes it where none is set."""

    word: str
    wire: str
    number: int
    doc: str
    default: bool


@dataclass(frozen=True)
class Enum:
    """An enum without its zero, which stands for the server's default."""

    name: str
    doc: str
    choices: tuple[Choice, ...]


@dataclass(frozen=True)
class Field:
    """A parameter.

    kind: "scalar" (of the proto's type `type`), "enum", "record" or "union" (called `type`), "map" (of text to the
        record or union `type`), or "tensors" (a tensor per input).
    required: whether the server has no default for it.
    about: its bounds and label; None for what only programs set. default: the server's.
    sets: the parameter of the server that it is another notation of; empty for one of the same name.
    """

    name: str
    kind: str
    type: str
    doc: str
    required: bool = False
    about: Parameter | None = None
    default: object = None
    sets: str = ""

    @property
    def camel(self) -> str:
        return camel(self.name)

    @property
    def pascal(self) -> str:
        return pascal(self.name)


@dataclass(frozen=True)
class Record:
    """A message with parameters.

    name: the message's own. wire: its name with those of the messages around it. arm: its name in the oneof of its
        union; empty if it belongs to none.
    engine: the name of the server's class; that of the message if there is no such class.
    words: what pictures use, of a method.
    shares: whether a method's numbers are shares of the explained value.
    long: whether a method runs the model many times.
    unit: what a method gives one value to, where no parameter says it; empty for single cells.
    """

    name: str
    wire: str
    doc: str
    fields: tuple[Field, ...]
    arm: str = ""
    engine: str = ""
    words: Words | None = None
    shares: bool = True
    long: bool = False
    unit: str = ""

    @property
    def camel(self) -> str:
        return camel(self.arm)


@dataclass(frozen=True)
class Union:
    """A message that is one of several records."""

    name: str
    doc: str
    arms: tuple[Record, ...]


@dataclass(frozen=True)
class Description:
    """methods: the union of all methods.

    types: unions and records that parameters are made of, each before what uses it.
    """

    methods: Union
    types: tuple[Union | Record, ...]
    enums: tuple[Enum, ...]

    @property
    def unions(self) -> tuple[Union, ...]:
        """Methods last."""
        return (*(t for t in self.types if isinstance(t, Union)), self.methods)

    @property
    def records(self) -> tuple[Record, ...]:
        """Those that belong to no union."""
        return tuple(t for t in self.types if isinstance(t, Record))

    def is_union(self, name: str) -> bool:
        return any(union.name == name for union in self.unions)


def camel(name: str) -> str:
    """bias_factor is biasFactor."""
    return re.sub(r"_(\w)", lambda found: found[1].upper(), name)


def pascal(name: str) -> str:
    """bias_factor is BiasFactor."""
    return camel(f"_{name}")


def snake(name: str) -> str:
    """ProductRule is product_rule, and URL is u_r_l."""
    return re.sub(r"(?<=.)(?=[A-Z])", "_", name).lower()


def read(proto: Path = ROOT / "proto") -> Description:
    """Raises DescriptionError."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "method.binpb"
        if protoc.main(["protoc", f"-I{proto}", "--include_source_info", f"--descriptor_set_out={out}", PROTO]):
            raise DescriptionError(f"protoc cannot read {PROTO}")
        file = FileDescriptorSet.FromString(out.read_bytes()).file[0]
    comments = {tuple(p.path): " ".join(p.leading_comments.split()) for p in file.source_code_info.location}
    unions = frozenset(message.name for message in file.message_type if _oneof(message))
    messages = {m.name: _Message(m, (4, i), comments, unions) for i, m in enumerate(file.message_type)}
    enums = {e.name: _enum(e, (5, i), comments) for i, e in enumerate(file.enum_type)}
    methods = messages.pop("Method")
    arms = tuple(_method(f.name, messages.pop(_short(f.type_name)), enums) for f in methods.proto.field)
    types = {name: message.type() for name, message in messages.items()}
    return Description(Union("Method", methods.doc, arms), tuple(_in_order(types)), tuple(enums.values()))


@dataclass(frozen=True)
class _Message:
    """path: where it stands in the file, as the comments are numbered. unions: the names of messages that are one."""

    proto: DescriptorProto
    path: tuple[int, ...]
    comments: dict[tuple[int, ...], str]
    unions: frozenset[str]

    @property
    def doc(self) -> str:
        return self.comments.get(self.path, "")

    def fields(self) -> tuple[Field, ...]:
        return tuple(self._field(f, self.comments.get((*self.path, 2, i), "")) for i, f in enumerate(self.proto.field))

    def type(self) -> Union | Record:
        """What a message that is no method stands for."""
        name = self.proto.name
        if name not in self.unions:
            return Record(name, name, self.doc, self.fields(), engine=name)
        nested = self._nested()
        arms = []
        for field in self.proto.field:
            arm = nested[_short(field.type_name)]
            own = arm.proto.name
            arms.append(Record(own, f"{name}.{own}", arm.doc, arm.fields(), arm=field.name, engine=own))
        return Union(name, self.doc, tuple(arms))

    def _nested(self) -> dict[str, _Message]:
        nested = enumerate(self.proto.nested_type)
        return {m.name: _Message(m, (*self.path, 3, i), self.comments, self.unions) for i, m in nested}

    def _field(self, field: FieldDescriptorProto, doc: str) -> Field:
        type_, many = _short(field.type_name), field.label == FieldDescriptorProto.LABEL_REPEATED
        entry = self._nested().get(type_)
        if entry is not None and entry.proto.options.map_entry:
            return Field(field.name, "map", _short(entry.proto.field[1].type_name), doc)
        if many and type_ == "Tensor":
            return Field(field.name, "tensors", type_, doc)
        if field.type in SCALARS and field.proto3_optional:
            return Field(field.name, "scalar", SCALARS[field.type], doc, required=doc.endswith("Required."))
        if field.type == FieldDescriptorProto.TYPE_ENUM and not many:
            return Field(field.name, "enum", type_, doc)
        if field.type == FieldDescriptorProto.TYPE_MESSAGE and not many:
            return Field(field.name, "union" if type_ in self.unions else "record", type_, doc)
        raise DescriptionError(f"{self.proto.name}.{field.name}: no template writes a field of this type")


def _method(name: str, message: _Message, enums: dict[str, Enum]) -> Record:
    if name not in METHODS:
        raise DescriptionError(f"the registry has no method {name}")
    engine = METHODS[name]
    known = {own.name: own for own in fields(engine)}
    if {*known, *engine.wire_names} != {own.name for own in message.fields()}:
        raise DescriptionError(f"{name}: the registry has the parameters {', '.join([*known, *engine.wire_names])}")
    found = []
    for own in message.fields():
        if own.name in engine.wire_names:
            found.append(replace(own, sets=engine.wire_names[own.name]))
            continue
        engine_field = known[own.name]
        found.append(replace(own, about=parameter_of(engine_field), default=_default(engine_field)))
    for own in found:
        _check(f"{name}.{own.name}", own, enums)
    return Record(
        name=message.proto.name,
        wire=message.proto.name,
        doc=message.doc,
        fields=tuple(found),
        arm=name,
        engine=engine.__name__,
        words=engine.words,
        shares=Promise.SHARES in engine.promises,
        long=not engine.propagates,
        unit=engine.unit or "",
    )


def _default(own: DataclassField[Any]) -> object:
    """What the server takes where the parameter is absent; None for nothing."""
    about = parameter_of(own)
    return about.absent if own.default is None and about is not None else own.default


def _check(where: str, own: Field, enums: dict[str, Enum]) -> None:
    """That the proto says of a parameter what the registry says."""
    if own.kind == "enum":
        choices = enums[own.type].choices
        if own.about is None or [choice.word for choice in choices] != list(own.about.choices):
            raise DescriptionError(f"{where}: the registry has other choices than {own.type}")
        if [choice.word for choice in choices if choice.default] != [own.default]:
            raise DescriptionError(f"{where}: the comment on the zero of {own.type} must name {own.default!r}")
    elif own.kind == "scalar":
        expected = "Default: none" if own.default is None else f"Default: {own.default:g}"
        if expected not in own.doc:
            raise DescriptionError(f"{where}: the comment must say {expected!r}")


def _enum(enum: EnumDescriptorProto, path: tuple[int, ...], comments: dict[tuple[int, ...], str]) -> Enum:
    prefix = snake(enum.name).upper() + "_"
    zero, *rest = (
        (value.name.removeprefix(prefix), value, comments.get((*path, 2, i), "")) for i, value in enumerate(enum.value)
    )
    choices = (Choice(w.lower(), v.name, v.number, doc, zero[2].endswith(f" {w}.")) for w, v, doc in rest)
    return Enum(enum.name, comments.get(path, ""), tuple(choices))


def _oneof(message: DescriptorProto) -> bool:
    return any(field.HasField("oneof_index") and not field.proto3_optional for field in message.field)


def _short(name: str) -> str:
    """.lstm_explain.v1.Rule.Gamma is Gamma."""
    return name.rpartition(".")[2]


def _in_order(types: dict[str, Union | Record]) -> Iterator[Union | Record]:
    """Each after the types that it uses."""
    left = dict(types)

    def with_parts(type_: Union | Record) -> Iterator[Union | Record]:
        records = type_.arms if isinstance(type_, Union) else (type_,)
        for own in (field for record in records for field in record.fields):
            if own.type in left:
                yield from with_parts(left.pop(own.type))
        yield type_

    while left:
        yield from with_parts(left.pop(next(iter(left))))
