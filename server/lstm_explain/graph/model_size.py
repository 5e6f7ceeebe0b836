"""How large a model is once its functions are written out: a file of a kilobyte can call for billions of nodes.

Each function that calls the one before it twice doubles what there is to inline, so this is counted before anything is.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from onnx import ModelProto, NodeProto

from lstm_explain.errors import ModelError
from lstm_explain.graph.protos import bodies_of

MOST_NODES = 50_000  # and as many initializers; a second of loading for every few thousand
MOST_BODIES = 1_000  # each is compiled apart, and has sessions of its own
MOST_DEPTH = 32  # of bodies inside bodies: readers of models go down them one call inside the other
MOST_NAMES = 2_000_000  # a microsecond each, in ONNX: inference.py takes only the outermost graph apart
MOST_COPIED = 1 << 28  # bytes that inlining adds to the file's own

Key = tuple[str, str, str]


@dataclass(frozen=True)
class Size:
    """nodes, bodies: those inside bodies too. depth: of bodies inside bodies. copied: bytes of nodes. names: for each
    body, of the values in the bodies and functions around it.
    """

    nodes: int = 0
    bodies: int = 0
    depth: int = 0
    copied: int = 0
    names: int = 0


@cache
def most_nodes() -> int:
    """LSTM_EXPLAIN_MAX_NODES, or what is loaded within some seconds."""
    return int(os.environ.get("LSTM_EXPLAIN_MAX_NODES", MOST_NODES))


def check_size(model: ModelProto) -> None:
    """Raises ModelError for a model that is too large once it is inlined, or whose functions call themselves."""
    size = _Sizes(model).of(model.graph.node)
    most = most_nodes()
    if size.nodes > most:
        raise ModelError(f"the model has {size.nodes} nodes, at most LSTM_EXPLAIN_MAX_NODES={most} are loaded")
    weights = len(model.graph.initializer) + len(model.graph.sparse_initializer)
    if weights > most:
        raise ModelError(f"the model has {weights} initializers, at most LSTM_EXPLAIN_MAX_NODES={most} are loaded")
    if size.bodies > MOST_BODIES:
        raise ModelError(f"the model has {size.bodies} bodies of If, Loop and Scan, at most {MOST_BODIES} are loaded")
    if size.depth > MOST_DEPTH:
        raise ModelError(f"the model's bodies are {size.depth} deep inside each other, at most {MOST_DEPTH} are loaded")
    if size.names > MOST_NAMES:
        raise ModelError(f"bodies of the model, and its functions, have too many values around bodies ({size.names})")
    if model.functions and size.copied > model.ByteSize() + MOST_COPIED:
        raise ModelError(f"the model has {size.copied} bytes once its functions are inlined")


class _Sizes:
    def __init__(self, model: ModelProto) -> None:
        functions = {(f.domain, f.name, f.overload): f.node for f in model.functions}
        self.known: dict[Key, Size] = {}
        for key in _callees_first(functions):
            self.known[key] = self.of(functions[key], len(functions[key]))

    def of(self, nodes: Iterable[NodeProto], around: int = 0) -> Size:
        """around: values that are known around the bodies of `nodes`, and that each of them is told of."""
        total, bodies, depth, copied, names = 0, 0, 0, 0, 0
        waiting = [(node, 0, around) for node in nodes]
        while waiting:
            node, level, around = waiting.pop()
            inside = bodies_of(node)
            called = self.known.get(_key(node))
            if called is not None:
                total, bodies, copied = total + called.nodes, bodies + called.bodies, copied + called.copied
                depth, names = max(depth, level + called.depth), names + called.names + called.bodies * around
            else:
                total, bodies, depth = total + 1, bodies + len(inside), max(depth, level)
                copied += 0 if inside else node.ByteSize()
                names += len(inside) * around
            for body in inside:
                known = around + len(body.node) + len(body.initializer)
                waiting += [(inner, level + 1, known) for inner in body.node]
        return Size(total, bodies, depth, copied, names)


def _key(node: NodeProto) -> Key:
    return node.domain, node.op_type, node.overload


def _callees_first(functions: dict[Key, Sequence[NodeProto]]) -> Iterator[Key]:
    """In an order in which all that a function calls comes before it."""
    done: set[Key] = set()
    for first in functions:
        path: dict[Key, Iterator[Key]] = {first: _calls(functions[first])} if first not in done else {}
        while path:
            key, calls = next(reversed(path.items()))
            called = next((c for c in calls if c in functions and c not in done), None)
            if called in path:
                raise ModelError(f"function {called[1]!r} calls itself, or a function that does")
            if called is not None:
                path[called] = _calls(functions[called])
            else:
                del path[key]
                done.add(key)
                yield key


def _calls(nodes: Iterable[NodeProto]) -> Iterator[Key]:
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        yield _key(node)
        waiting += [inner for body in bodies_of(node) for inner in body.node]
