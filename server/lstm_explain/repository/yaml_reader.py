"""YAML as far as a configuration needs it: plain text, numbers, lists and mappings, each of a bounded size.

What YAML has beyond that (dates, binary data, references, objects) is refused, and so is what cannot be sent on as a
message: text that is no Unicode, whole numbers beyond 64 bits.
"""

from __future__ import annotations

from typing import Any

import yaml

from lstm_explain.errors import ModelError

MOST_CHARACTERS = 1 << 20
MOST_NODES = 100_000
DEEPEST = 20
LONGEST_NUMBER = 64  # characters
LARGEST = 1 << 63

_TAG = "tag:yaml.org,2002:"
_DATE = _TAG + "timestamp"
_SCALARS = frozenset(_TAG + kind for kind in ("str", "int", "float", "bool", "null"))
_TAGS: dict[type[yaml.Event], frozenset[str]] = {
    yaml.ScalarEvent: _SCALARS,
    yaml.SequenceStartEvent: frozenset({_TAG + "seq"}),
    yaml.MappingStartEvent: frozenset({_TAG + "map"}),
}
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where PyYAML was built with it


class _Loader(_Base):  # type: ignore[misc]
    """Of what stands without quotes, numbers, true, false and null are no text; a date is an error, see `_date`."""


_Loader.yaml_implicit_resolvers = {
    first: kept
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    if (kept := [(tag, expression) for tag, expression in resolvers if tag in _SCALARS or tag == _DATE])
}


def read_yaml(text: str, name: str) -> tuple[yaml.Node | None, Any]:
    """The document as a tree of nodes and as Python's objects. Raises ModelError with the file's `name` and a line."""
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
    except (ValueError, OverflowError) as error:  # of PyYAML itself, for an escape that stands for no character
        raise ModelError(f"{name}:1: not YAML: {error}") from error


def _refuse_excess(text: str, name: str) -> None:
    """What would take far more time or memory than its size tells, and what is no plain value. Raises ModelError,
    YAMLError.
    """
    if len(text) > MOST_CHARACTERS:
        raise ModelError(f"{name}:1: {len(text)} characters, more than {MOST_CHARACTERS}")
    depth = count = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):  # a few lines of these can stand for gigabytes
            raise _error(name, event.start_mark, "aliases are not allowed")
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent):
            count += 1
            if count > MOST_NODES:
                raise _error(name, event.start_mark, f"more than {MOST_NODES} values")
            tag: str | None = event.tag
            if tag not in (None, "!") and tag not in _TAGS[type(event)]:
                raise _error(name, event.start_mark, f"the tag {str(tag)[:100]!r} is not allowed")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise _error(name, event.start_mark, "nested too deeply")


def _text(loader: Any, node: yaml.ScalarNode) -> str:
    try:
        node.value.encode()
    except UnicodeEncodeError:
        raise _problem("text with half of a surrogate pair, which is no Unicode character", node) from None
    return str(node.value)


def _whole_number(loader: Any, node: yaml.ScalarNode) -> int:
    number = _number(yaml.SafeLoader.construct_yaml_int, loader, node)
    if not -LARGEST <= number < LARGEST:
        raise _problem(f"the whole number {node.value} is beyond 64 bits", node)
    return int(number)


def _fraction(loader: Any, node: yaml.ScalarNode) -> float:
    return float(_number(yaml.SafeLoader.construct_yaml_float, loader, node))


def _truth(loader: Any, node: yaml.ScalarNode) -> bool:
    return bool(_number(yaml.SafeLoader.construct_yaml_bool, loader, node))


def _date(loader: Any, node: yaml.ScalarNode) -> None:
    raise _problem(f"{node.value[:100]!r} is a date, which nothing here takes; in quotes it is text", node)


def _number(construct: Any, loader: Any, node: yaml.ScalarNode) -> Any:
    if len(node.value) > LONGEST_NUMBER:
        raise _problem(f"a number of {len(node.value)} characters, more than {LONGEST_NUMBER}", node)
    try:
        return construct(loader, node)
    except (ValueError, KeyError, IndexError, OverflowError):
        raise _problem(f"{node.value!r} is not of its type, {node.tag.removeprefix(_TAG)}", node) from None


def _problem(problem: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(problem=problem, problem_mark=node.start_mark)


def _error(name: str, mark: Any, problem: str) -> ModelError:
    return ModelError(f"{name}:{1 if mark is None else mark.line + 1}: {problem}")


for _kind, _construct in {
    "str": _text,
    "int": _whole_number,
    "float": _fraction,
    "bool": _truth,
    "timestamp": _date,
}.items():
    _Loader.add_constructor(_TAG + _kind, _construct)
