# SPDX-License-Identifier: Apache-2.0
"""Converts methods between messages and the engine.

The members of the oneof have the names of the engine's methods, and their fields those of the methods' parameters. So a
new method needs a message, but no code here.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from lstm_explain.errors import MethodError
from lstm_explain.methods import METHODS, Method, override
from lstm_explain.methods.background import Background
from lstm_explain.methods.base import BaselineMethod
from lstm_explain.methods.composite import Composite, Rule, rule_from_name
from lstm_explain.runner.baselines import baseline_by_input
from lstm_explain.serving.wire.tensors import to_arrays, to_tensor
from lstm_explain_proto.lstm_explain.v1 import method_pb2

Field = FieldDescriptor
MAX_CACHED_BYTES = 64


def to_method(message: method_pb2.Method, default: Method) -> Method:
    """Returns the engine's method. Fields that the message leaves unset are those of `default`, if that is the same
    method.

    Raises MethodError, and InputError for an invalid baseline.
    """
    data = message.SerializeToString()
    if len(data) <= MAX_CACHED_BYTES and default.is_scalar:
        return _read_cached(data, default)
    return _read(message, default)


@functools.lru_cache(maxsize=256)
def _read_cached(data: bytes, default: Method) -> Method:
    """Caches methods, since callers use few different ones."""
    return _read(method_pb2.Method.FromString(data), default)


def _read(message: method_pb2.Method, default: Method) -> Method:
    name = message.WhichOneof("method")
    if name is None:
        return default
    chosen: Message = getattr(message, name)
    given: dict[str, Any] = {}
    for field, value in chosen.ListFields():
        parameter = METHODS[name].wire_names.get(field.name, field.name)
        if parameter in given:
            raise MethodError(f"{name}: {parameter} and {field.name} exclude each other", field=f"method.{field.name}")
        given[parameter] = _value(field, value, f"method.{name}")
    return override(default, name, given)


def from_method(method: Method) -> method_pb2.Method:
    """Returns the message with every parameter set. The caller must not change it."""
    return _cached_message(method) if method.is_scalar else _message(method)


def default_method(method: Method, inputs: Iterable[str]) -> method_pb2.Method:
    """Returns the message for a model's default method, whose baseline may be one plain number or list for all
    `inputs`.
    """
    if isinstance(method, BaselineMethod) and not isinstance(method.baseline, Background):
        baselines = baseline_by_input(method.baseline, list(inputs))
        method = method.with_baseline({name: np.asarray(value) for name, value in baselines.items()})
    return from_method(method)


@functools.lru_cache(maxsize=256)
def _cached_message(method: Method) -> method_pb2.Method:
    return _message(method)


def _message(method: Method) -> method_pb2.Method:
    message = method_pb2.Method()
    chosen = getattr(message, method.name)
    chosen.SetInParent()
    for field in chosen.DESCRIPTOR.fields:
        value = method.parameters().get(method.wire_names.get(field.name, field.name))
        if value is None or isinstance(value, Background) != (field.message_type is method_pb2.Background.DESCRIPTOR):
            continue
        if field.enum_type is not None:
            setattr(chosen, field.name, field.enum_type.values_by_name[_prefix(field) + str(value).upper()].number)
        elif isinstance(value, Background):  # without its samples, which are the model's, or known to the caller
            getattr(chosen, field.name).MergeFrom(method_pb2.Background(draws=value.draws, seed=value.seed))
        elif isinstance(value, Composite):
            _write_composite(getattr(chosen, field.name), value)
        elif field.message_type is method_pb2.Span.DESCRIPTOR:
            start, end = value
            getattr(chosen, field.name).MergeFrom(method_pb2.Span(start=start, end=end))
        elif isinstance(value, Mapping):
            getattr(chosen, field.name).extend(to_tensor(array, name) for name, array in value.items())
        else:
            setattr(chosen, field.name, value)
    return message


def _value(field: Field, value: Any, path: str) -> Any:
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return value if known is None else known.name.removeprefix(_prefix(field)).lower()
    if field.message_type is method_pb2.Composite.DESCRIPTOR:
        return _read_composite(value)
    if field.message_type is method_pb2.Span.DESCRIPTOR:
        return tuple(getattr(value, key) if value.HasField(key) else None for key in ("start", "end"))
    if field.message_type is method_pb2.Background.DESCRIPTOR:
        return _read_background(value, f"{path}.{field.name}")
    if field.message_type is not None:
        return to_arrays(value, f"{path}.{field.name}")
    return value


def _read_background(message: method_pb2.Background, path: str) -> Background:
    given = {field.name: value for field, value in message.ListFields() if field.name != "samples"}
    samples = to_arrays(message.samples, f"{path}.samples") if message.samples else None
    return Background(samples, **given)


def _read_composite(message: method_pb2.Composite) -> Composite:
    """Reads a composite. Rules have the names and parameters of the engine's."""
    rules = {key: _read_rule(key, rule) for key, rule in message.rules.items()}
    return Composite(rules, _read_rule("first", message.first) if message.HasField("first") else None)


def _read_rule(key: str, message: method_pb2.Rule) -> Rule:
    name = message.WhichOneof("rule")
    if name is None:
        raise MethodError(f"composite: no rule is set for {key!r}", field="method.composite")
    return rule_from_name(name, **{f.name: value for f, value in getattr(message, name).ListFields()})


def _write_composite(message: method_pb2.Composite, composite: Composite) -> None:
    message.SetInParent()
    for key, rule in composite.rules.items():
        _write_rule(message.rules[key], rule)
    if composite.first is not None:
        _write_rule(message.first, composite.first)


def _write_rule(message: method_pb2.Rule, rule: Rule) -> None:
    chosen = getattr(message, rule.name)
    chosen.SetInParent()
    for name, value in rule.parameters().items():
        setattr(chosen, name, value)


def _prefix(field: Field) -> str:
    """Returns the prefix of an enumeration's values by protobuf's style guide, which is the name of the enumeration."""
    assert field.enum_type is not None
    words = "".join(f"_{c}" if c.isupper() else c for c in field.enum_type.name).strip("_")
    return words.upper() + "_"
