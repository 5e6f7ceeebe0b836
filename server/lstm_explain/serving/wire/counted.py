"""How many parts a message has, counted before it is parsed.

Parsing holds the interpreter, and with it the loop, for a time that goes by the number of parts and not by bytes: a
tensor of 64 MiB is copied in hundredths of a second; 30 million empty strings in as many bytes take seconds, and
gigabytes.
"""

from __future__ import annotations

from google.protobuf.descriptor import Descriptor, FieldDescriptor

MOST_PARTS = 1 << 16  # of a message: fields, of messages inside it too, and numbers of packed fields
SMALL = 1 << 18  # bytes of a message that needs no counting: whatever it holds is parsed in milliseconds
NUMBERS = {"inference.InferTensorContents"}  # hold tensors as packed numbers, which go to arrays piece by piece

_BYTES_OF = {1: 8, 5: 4}  # by wire type
_VARINT, _DELIMITED, _GROUP_ENDS = 0, 2, 4
_TEXT = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)


def has_too_many_parts(data: bytes, kind: Descriptor, most: int = MOST_PARTS) -> bool:
    """Whether a message of that kind has more than `most` parts, looking at no more of them than that.

    What is no message may be either: the parser refuses it soon.
    """
    if len(data) <= SMALL:
        return False
    inside: list[tuple[int, int, Descriptor | None]] = [(0, len(data), kind)]
    count = 0
    while inside:
        at, end, message = inside.pop()
        fields = {} if message is None else message.fields_by_number
        while at < end:
            count += 1
            if count > most:
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
                elif field is not None and field.type not in _TEXT and _name(field) not in NUMBERS:
                    count += length
                at += length
            elif wire in _BYTES_OF:
                at += _BYTES_OF[wire]
            elif wire > _GROUP_ENDS:  # there is no such type
                break
    return count > most


def _name(field: FieldDescriptor) -> str:
    return "" if field.containing_type is None else str(field.containing_type.full_name)


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The number, and where it ends."""
    value, shift = 0, 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            break
        shift += 7
    return value, at
