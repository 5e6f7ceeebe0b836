# SPDX-License-Identifier: Apache-2.0
"""Methods by name, to and from their messages, whose fields the types of method_types.py have.

The server checks bounds; this module checks types and names.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, cast

import numpy as np
from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.message import Message

from lstm_explain_client.errors import InvalidRequest
from lstm_explain_client.method_base import Method, Parameters
from lstm_explain_client.method_types import METHODS, TYPES
from lstm_explain_client.tensors import as_array, from_wire, to_wire
from lstm_explain_proto.lstm_explain.v1 import method_pb2, tensor_pb2


def resolve(method: str | Method, parameters: Mapping[str, Any] | None) -> Method:
    """Returns the typed method for a name with its parameters. Raises InvalidRequest for an unknown name or
    parameter.
    """
    if isinstance(method, Method):
        if parameters:
            raise InvalidRequest("parameters belong inside a method that is given as an object", field="parameters")
        return method
    cls = METHODS.get(method) if isinstance(method, str) else None
    if cls is None:
        raise InvalidRequest(f"unknown method {method!r}, there are {', '.join(METHODS)}", field="method")
    known = [f.name for f in fields(cls)]
    for key in parameters or {}:
        if key not in known:
            wanted = ", ".join(known) or "none"
            raise InvalidRequest(f"{method}: unknown parameter {key!r}, it has {wanted}", field=f"method.{key}")
    return cls(**dict(parameters or {}))


def as_text(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Returns the parameters as text, which the server reads without knowing the method. Raises InvalidRequest where a
    parameter has no text form.
    """
    return {name: _as_text(name, value) for name, value in parameters.items()}


def _as_text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        problem = f"{name} is {value!r}, which has no text: name the method that the parameters belong to"
        raise InvalidRequest(problem, field=f"parameters[{name}]")
    return json.dumps(array.tolist())


def to_wire_method(method: Method) -> method_pb2.Method:
    """Returns the message for a method; raises InvalidRequest."""
    message = method_pb2.Method()
    body = _body(message, method)
    for key, value in method.parameters().items():
        try:
            _set(body, key, value)
        except InvalidRequest:
            raise
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidRequest(f"{method.name}: {key} is {value!r}: {error}", field=f"method.{key}") from error
    return message


def from_wire_method(message: method_pb2.Method) -> Method | None:
    """Returns the typed method of a message; None where no method is set, or one that this client does not know."""
    return cast(Method | None, _read(message))


def _set(body: Any, key: str, value: Any) -> None:
    """Raises TypeError, ValueError or OverflowError where the field takes no such value."""
    field = body.DESCRIPTOR.fields_by_name[key]
    if field.enum_type is not None:
        words = _words(field.enum_type)
        if value not in words:
            raise ValueError(f"it takes {', '.join(words)}")
        setattr(body, key, words[value])
    elif field.message_type is None:
        setattr(body, key, value)
    elif field.message_type is tensor_pb2.Tensor.DESCRIPTOR:
        arrays = _entries(value).items()
        body_tensors = getattr(body, key)
        body_tensors.extend(to_wire(as_array(array, f"method.{key}.{name}"), name) for name, array in arrays)
    elif field.message_type.GetOptions().map_entry:
        for name, entry in _entries(value).items():
            _write(getattr(body, key)[name], entry)
    else:
        _write(getattr(body, key), value)


def _write(message: Message, value: Parameters) -> None:
    body = _body(message, value)
    for key, part in value.parameters().items():
        _set(body, key, part)


def _body(message: Message, value: Parameters) -> Any:
    """Fills the message for `value`, or its member of the oneof, and marks it as present."""
    name = message.DESCRIPTOR.name
    if not isinstance(value, TYPES[name]):
        raise TypeError(f"it takes a {name}, not {value!r}")
    body = getattr(message, value.name) if value.name else message
    body.SetInParent()
    return body


def _entries(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError("it takes a dict by name")
    return value


def _read(message: Message) -> Parameters | None:
    """Returns None where nothing is set in the oneof, or a member that this client does not know."""
    types: tuple[type[Parameters], ...] = TYPES[message.DESCRIPTOR.name]
    cls, body = types[0], message
    if cls.name:
        name = message.WhichOneof(message.DESCRIPTOR.oneofs[0].name)
        known = {cls.name: cls for cls in types}
        if name not in known:
            return None
        cls, body = known[name], getattr(message, name)
    return cls(**{f.name: _get(body, f.name) for f in fields(cls)})


def _get(body: Any, key: str) -> Any:
    field, value = body.DESCRIPTOR.fields_by_name[key], getattr(body, key)
    if field.enum_type is not None:
        return next((word for word, number in _words(field.enum_type).items() if number == value), None)
    if field.message_type is tensor_pb2.Tensor.DESCRIPTOR:
        return {tensor.name: from_wire(tensor) for tensor in value} or None
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return {name: read for name, entry in value.items() if (read := _read(entry)) is not None}
    if not body.HasField(key):
        return None
    return value if field.message_type is None else _read(value)


@functools.cache
def _words(enum: EnumDescriptor) -> dict[str, int]:
    """Returns the numbers of an enum by their words: PRODUCT_RULE_ALL is "all". Zero, the server's default, has no
    word.
    """
    prefix = re.sub(r"(?<=.)(?=[A-Z])", "_", enum.name).upper() + "_"
    return {value.name.removeprefix(prefix).lower(): value.number for value in enum.values if value.number}
