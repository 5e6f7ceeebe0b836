# SPDX-License-Identifier: Apache-2.0
"""Encoded messages that every client has to decode and encode again: every field of every message of the protos.

A field that a oneof or a nested message can hold in several ways occurs in each of them; fields with presence also
occur with the value of an absent field.
"""

from __future__ import annotations

import functools
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from lstm_explain_proto.lstm_explain.v1 import explanation_pb2, model_pb2, operation_pb2

NUMBERS = {FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64}
NUMBERS |= {FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64}
FLOATS = {FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT}


def roots() -> list[Descriptor]:
    """The types that calls send and receive, each once."""
    files = [stubs.DESCRIPTOR for stubs in (explanation_pb2, model_pb2, operation_pb2)]
    services = [service for file in files for service in file.services_by_name.values()]
    methods = [method for service in services for method in service.methods]
    return list(dict.fromkeys(t for m in methods for t in (m.input_type, m.output_type)))


def messages() -> Iterator[tuple[str, Message]]:
    """The messages by name (`explain-request-0` and so on): for each type the first one, and those that cover something
    new.
    """
    seen: set[tuple[str, Any]] = set()
    for root in roots():
        stem, number = re.sub(r"(?<!^)(?=[A-Z])", "-", root.name).lower(), 0
        for message in variants(root):
            facts = {(root.full_name, None), *_facts(message)}
            if not facts <= seen:
                yield f"{stem}-{number}", message
                number += 1
            seen |= facts


def _facts(message: Message) -> Iterator[tuple[str, Any]]:
    """Every field that is set, with its value unless it is a message."""
    for field, value in message.ListFields():
        values = value if field.is_repeated else [value]
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            yield field.full_name, str(value)
        else:
            yield field.full_name, None
            for held in values:
                yield from _facts(held)


def write(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    index = []
    for name, message in messages():
        (folder / f"{name}.bin").write_bytes(message.SerializeToString(deterministic=True))
        reported = json_format.MessageToDict(message, preserving_proto_field_name=True)
        (folder / f"{name}.json").write_text(json.dumps(reported, indent=1, ensure_ascii=False) + "\n")
        index.append({"name": name, "message": message.DESCRIPTOR.full_name})
    (folder / "index.json").write_text(json.dumps(index, indent=1) + "\n")


@functools.cache
def variants(kind: Descriptor) -> list[Message]:
    """Messages of a type in which every field is set in every way at least once; then the empty one."""
    made = []
    rounds = max((len(_ways(field)) for field in kind.fields), default=1)
    choices = max((len(oneof.fields) for oneof in kind.oneofs), default=1)
    for choice in range(choices):
        for turn in range(max(rounds, 1)):
            message = message_factory.GetMessageClass(kind)()
            for field in kind.fields:
                group = field.containing_oneof
                if group is None or len(group.fields) == 1 or group.fields[choice % len(group.fields)] is field:
                    _set(message, field, turn)
            made.append(message)
    made.append(message_factory.GetMessageClass(kind)())
    encoded = {message.SerializeToString(deterministic=True): message for message in made}
    return list(encoded.values())


def _ways(field: FieldDescriptor) -> list[Any]:
    """The values that a single field takes in turn; for a repeated field, a list of all of them."""
    if field.message_type is None:
        plain = [_plain(field)]
        return [plain] if field.is_repeated else [*plain, field.default_value] if field.has_presence else plain
    if field.message_type.GetOptions().map_entry:
        return [None]
    ways = variants(field.message_type)
    return [ways] if field.is_repeated else ways


def _plain(field: FieldDescriptor) -> Any:
    """A value that distinguishes fields."""
    if field.enum_type is not None:
        return field.enum_type.values[-1].number
    if field.cpp_type in NUMBERS:
        return -1000 - field.number if field.cpp_type == FieldDescriptor.CPPTYPE_INT64 else 1000 + field.number
    if field.cpp_type in FLOATS:
        return field.number + 0.1
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return True
    return bytes([0, 128, 255, field.number]) if field.type == FieldDescriptor.TYPE_BYTES else f"{field.name} ÿ 很好"


def _set(message: Message, field: FieldDescriptor, turn: int) -> None:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        _set_entry(getattr(message, field.name), field.message_type)
        return
    ways = _ways(field)
    value = ways[turn % len(ways)]
    if field.is_repeated:
        getattr(message, field.name).extend(value)
    elif field.message_type is not None:
        getattr(message, field.name).CopyFrom(value)
    else:
        setattr(message, field.name, value)


def _set_entry(held: Any, entry: Descriptor) -> None:
    """Sets one entry, because the order of several is not defined."""
    key, value = _plain(entry.fields_by_name["key"]), entry.fields_by_name["value"]
    if value.message_type is not None:
        held[key].CopyFrom(variants(value.message_type)[0])
    else:
        held[key] = _plain(value)
