# SPDX-License-Identifier: Apache-2.0
"""Counts the fields of a serialised message before it is parsed, to refuse messages that would take long to parse.

Parsing holds the interpreter, and with it the event loop, for a time that depends on the number of fields rather than
bytes: a tensor of 64 MiB is copied in hundredths of a second, while 30 million empty strings of the same size take
seconds and gigabytes.
"""

from __future__ import annotations

from google.protobuf.descriptor import Descriptor, FieldDescriptor

MAX_FIELDS = 1 << 16  # fields of a message, including those of nested messages and the numbers of packed fields
SMALL_BYTES = 1 << 18  # a message of at most this many bytes is always parsed in milliseconds
EXEMPT = {"inference.InferTensorContents"}  # holds tensors as packed numbers, which become arrays piece by piece

_FIXED_BYTES = {1: 8, 5: 4}  # by wire type
_VARINT, _DELIMITED, _GROUP_ENDS = 0, 2, 4
_TEXT = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)


def has_too_many_fields(data: bytes, kind: Descriptor) -> bool:
    """Returns whether a message of this type has more than MAX_FIELDS fields; stops counting there.

    For data that is not a message, either result is fine: the parser refuses it soon.
    """
    if len(data) <= SMALL_BYTES:
        return False
    inside: list[tuple[int, int, Descriptor | None]] = [(0, len(data), kind)]
    count = 0
    while inside:
        at, end, message = inside.pop()
        fields = {} if message is None else message.fields_by_number
        while at < end:
            count += 1
            if count > MAX_FIELDS:
                return True
            tag, at = _varint(data, at, end)
            wire = tag & 7
            if wire == _VARINT:
                _, at = _varint(data, at, end)
            elif wire == _DELIMITED:
                length, at = _varint(data, at, end)
                field = fields.get(tag >> 3)
                if field is not None and field.message_type is not None:
                    inside.append((at, min(at + length, end), field.message_type))
                elif field is not None and field.type not in _TEXT and _name(field) not in EXEMPT:
                    count += length
                at += length
            elif wire in _FIXED_BYTES:
                at += _FIXED_BYTES[wire]
            elif wire > _GROUP_ENDS:  # no such wire type
                break
    return count > MAX_FIELDS


def _name(field: FieldDescriptor) -> str:
    return "" if field.containing_type is None else str(field.containing_type.full_name)


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Returns the number at this position, and the position after it."""
    value, shift = 0, 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            break
        shift += 7
    return value, at
