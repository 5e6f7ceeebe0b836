# SPDX-License-Identifier: Apache-2.0
"""Reads the part of YAML that a configuration needs: text, numbers, lists and mappings of limited size.

It refuses the rest of YAML (dates, binary data, references, objects), and values that a protobuf message cannot hold:
text that is not valid Unicode, and integers beyond 64 bits.
"""

from __future__ import annotations

from typing import Any

import yaml

from lstm_explain.errors import ModelError

MAX_CHARACTERS = 1 << 20
MAX_NODES = 100_000
MAX_DEPTH = 20
MAX_NUMBER_LENGTH = 64  # characters
INTEGER_BOUND = 1 << 63

_TAG = "tag:yaml.org,2002:"
_DATE = _TAG + "timestamp"
_SCALARS = frozenset(_TAG + kind for kind in ("str", "int", "float", "bool", "null"))
_TAGS: dict[type[yaml.Event], frozenset[str]] = {
    yaml.ScalarEvent: _SCALARS,
    yaml.SequenceStartEvent: frozenset({_TAG + "seq"}),
    yaml.MappingStartEvent: frozenset({_TAG + "map"}),
}
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C, if PyYAML was built with it


class _Loader(_Base):  # type: ignore[misc]
    """Resolves unquoted numbers, true, false and null; an unquoted date is an error, see `_date`."""


_Loader.yaml_implicit_resolvers = {
    first: kept
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    if (kept := [(tag, expression) for tag, expression in resolvers if tag in _SCALARS or tag == _DATE])
}


def read_yaml(text: str, name: str) -> tuple[yaml.Node | None, Any]:
    """Returns the document as a tree of nodes and as Python objects. Raises ModelError with the file's `name` and a
    line.
    """
    try:
        _refuse_excess(text, name)
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            return root, None if root is None else loader.construct_document(root)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = str(getattr(error, "problem", None) or error).partition("\n")[0]
        raise _error(name, mark, f"not YAML: {problem[:500]}") from error
    except (ValueError, OverflowError) as error:  # PyYAML raises these for an escape that is not a character
        raise ModelError(f"{name}:1: not YAML: {error}") from error


def _refuse_excess(text: str, name: str) -> None:
    """Refuses documents that take far more time or memory than their size suggests, and values that are not plain.
    Raises ModelError, YAMLError.
    """
    if len(text) > MAX_CHARACTERS:
        raise ModelError(f"{name}:1: {len(text)} characters, more than {MAX_CHARACTERS}")
    depth = count = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):  # a few lines of these can expand to gigabytes
            raise _error(name, event.start_mark, "aliases are not allowed")
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent):
            count += 1
            if count > MAX_NODES:
                raise _error(name, event.start_mark, f"more than {MAX_NODES} values")
            tag: str | None = event.tag
            if tag not in (None, "!") and tag not in _TAGS[type(event)]:
                raise _error(name, event.start_mark, f"the tag {str(tag)[:100]!r} is not allowed")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise _error(name, event.start_mark, "nested too deeply")


def _text(loader: Any, node: yaml.ScalarNode) -> str:
    try:
        node.value.encode()
    except UnicodeEncodeError:
        raise _problem("text with an unpaired surrogate, which is not a Unicode character", node) from None
    return str(node.value)


def _integer(loader: Any, node: yaml.ScalarNode) -> int:
    number = _number(yaml.SafeLoader.construct_yaml_int, loader, node)
    if not -INTEGER_BOUND <= number < INTEGER_BOUND:
        raise _problem(f"the integer {node.value} exceeds 64 bits", node)
    return int(number)


def _float(loader: Any, node: yaml.ScalarNode) -> float:
    return float(_number(yaml.SafeLoader.construct_yaml_float, loader, node))


def _bool(loader: Any, node: yaml.ScalarNode) -> bool:
    return bool(_number(yaml.SafeLoader.construct_yaml_bool, loader, node))


def _date(loader: Any, node: yaml.ScalarNode) -> None:
    raise _problem(f"{node.value[:100]!r} is a date, which no key takes; in quotes it is text", node)


def _number(construct: Any, loader: Any, node: yaml.ScalarNode) -> Any:
    if len(node.value) > MAX_NUMBER_LENGTH:
        raise _problem(f"a number of {len(node.value)} characters, more than {MAX_NUMBER_LENGTH}", node)
    try:
        return construct(loader, node)
    except (ValueError, KeyError, IndexError, OverflowError):
        raise _problem(f"{node.value!r} is not a valid {node.tag.removeprefix(_TAG)}", node) from None


def _problem(problem: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(problem=problem, problem_mark=node.start_mark)


def _error(name: str, mark: Any, problem: str) -> ModelError:
    return ModelError(f"{name}:{1 if mark is None else mark.line + 1}: {problem}")


for _kind, _construct in {
    "str": _text,
    "int": _integer,
    "float": _float,
    "bool": _bool,
    "timestamp": _date,
}.items():
    _Loader.add_constructor(_TAG + _kind, _construct)
