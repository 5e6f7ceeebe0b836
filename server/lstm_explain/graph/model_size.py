# SPDX-License-Identifier: Apache-2.0
"""Limits the size of a model with its functions inlined: a file of one kilobyte can describe billions of nodes.

A function that calls the previous one twice doubles the number of nodes, so the size is computed before anything is
inlined.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from onnx import ModelProto, NodeProto

from lstm_explain.errors import ModelError
from lstm_explain.graph.protos import bodies_of

MAX_NODES = 50_000  # And as many initializers. Loading takes a second per few thousand nodes.
MAX_BODIES = 1_000  # Each is compiled separately and has its own sessions.
MAX_DEPTH = 32  # levels of nested bodies: code that reads models recurses into them.
MAX_NAMES = 2_000_000  # A microsecond each, in ONNX: shape_inference.py splits only the outermost graph.
MAX_COPIED = 1 << 28  # Bytes that inlining adds to the file.

Key = tuple[str, str, str]


@dataclass(frozen=True)
class Size:
    """nodes, bodies: including those inside bodies. depth: how deeply bodies are nested. copied: bytes of all nodes.
    names: summed over the bodies, the number of values in the bodies and functions that enclose each of them.
    """

    nodes: int = 0
    bodies: int = 0
    depth: int = 0
    copied: int = 0
    names: int = 0


@cache
def max_nodes() -> int:
    """LSTM_EXPLAIN_MAX_NODES; the default can be loaded within a few seconds."""
    return int(os.environ.get("LSTM_EXPLAIN_MAX_NODES", MAX_NODES))


def check_size(model: ModelProto) -> None:
    """Raises ModelError for a model that is too large with its functions inlined, or whose functions are recursive."""
    size = _Sizes(model).of(model.graph.node)
    limit = max_nodes()
    if size.nodes > limit:
        raise ModelError(f"the model has {size.nodes} nodes, at most LSTM_EXPLAIN_MAX_NODES={limit} are allowed")
    weights = len(model.graph.initializer) + len(model.graph.sparse_initializer)
    if weights > limit:
        raise ModelError(f"the model has {weights} initializers, at most LSTM_EXPLAIN_MAX_NODES={limit} are allowed")
    if size.bodies > MAX_BODIES:
        raise ModelError(f"the model has {size.bodies} bodies of If, Loop and Scan, at most {MAX_BODIES} are allowed")
    if size.depth > MAX_DEPTH:
        raise ModelError(f"bodies of the model are nested {size.depth} deep, at most {MAX_DEPTH} levels are allowed")
    if size.names > MAX_NAMES:
        raise ModelError(f"too many values enclose the bodies of the model and of its functions ({size.names})")
    if model.functions and size.copied > model.ByteSize() + MAX_COPIED:
        raise ModelError(f"the model would have {size.copied} bytes with its functions inlined")


class _Sizes:
    def __init__(self, model: ModelProto) -> None:
        functions = {(f.domain, f.name, f.overload): f.node for f in model.functions}
        self.sizes: dict[Key, Size] = {}
        for key in _callees_first(functions):
            self.sizes[key] = self.of(functions[key], len(functions[key]))

    def of(self, nodes: Iterable[NodeProto], enclosing: int = 0) -> Size:
        """enclosing: the number of values around the bodies of `nodes`; ONNX copies their names for each of these
        bodies.
        """
        total, bodies, depth, copied, names = 0, 0, 0, 0, 0
        pending = [(node, 0, enclosing) for node in nodes]
        while pending:
            node, level, enclosing = pending.pop()
            inside = bodies_of(node)
            called = self.sizes.get(_key(node))
            if called is not None:
                total, bodies, copied = total + called.nodes, bodies + called.bodies, copied + called.copied
                depth, names = max(depth, level + called.depth), names + called.names + called.bodies * enclosing
            else:
                total, bodies, depth = total + 1, bodies + len(inside), max(depth, level)
                copied += 0 if inside else node.ByteSize()
                names += len(inside) * enclosing
            for body in inside:
                visible = enclosing + len(body.node) + len(body.initializer)
                pending += [(inner, level + 1, visible) for inner in body.node]
        return Size(total, bodies, depth, copied, names)


def _key(node: NodeProto) -> Key:
    return node.domain, node.op_type, node.overload


def _callees_first(functions: dict[Key, Sequence[NodeProto]]) -> Iterator[Key]:
    """Yields the functions in an order in which everything that a function calls comes before it."""
    done: set[Key] = set()
    for first in functions:
        path: dict[Key, Iterator[Key]] = {first: _calls(functions[first])} if first not in done else {}
        while path:
            key, calls = next(reversed(path.items()))
            called = next((c for c in calls if c in functions and c not in done), None)
            if called in path:
                raise ModelError(f"function {called[1]!r} is recursive")
            if called is not None:
                path[called] = _calls(functions[called])
            else:
                del path[key]
                done.add(key)
                yield key


def _calls(nodes: Iterable[NodeProto]) -> Iterator[Key]:
    pending = list(nodes)
    while pending:
        node = pending.pop()
        yield _key(node)
        pending += [inner for body in bodies_of(node) for inner in body.node]
