"""Takes away sequences of tensors whose length is known, as PyTorch writes them for lists.

What is put into one and what is taken out are the same values.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lstm_explain.graph.constant_folding import SEQUENCES as MAKING
from lstm_explain.graph.ir import Graph, Node, ValueType
from lstm_explain.graph.node_writer import Spelling

MOST_PARTS = 10_000
Sequence = list[Callable[[Spelling], str]]  # each item: writes the nodes that compute it, and names it

READING = {"SequenceAt", "SequenceLength", "ConcatFromSequence"}


def without_sequences(graph: Graph) -> list[Node]:
    """The nodes, with those on sequences replaced; what is not understood stays, and what that reads."""
    known: dict[str, Sequence] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        spelling = Spelling(graph, node)
        if node.op in MAKING:
            made = _made(graph, node, known)
            if made is not None:
                known[node.outputs[0]] = made
            nodes.append(node)
        elif node.op in READING and node.inputs[0] in known and _read(spelling, known[node.inputs[0]]):
            nodes += spelling.nodes
        else:
            nodes.append(node)
    return _still_read(graph, nodes)


def _still_read(graph: Graph, nodes: list[Node]) -> list[Node]:
    read, kept = set(graph.outputs), []
    for node in reversed(nodes):
        if node.op not in MAKING or read.intersection(node.outputs):
            kept.append(node)
            read.update((*node.inputs, *node.captured))
    return kept[::-1]


def _made(graph: Graph, node: Node, known: dict[str, Sequence]) -> Sequence | None:
    if node.op == "SequenceEmpty":
        return []
    if node.op == "SequenceConstruct":
        return [_value(name) for name in node.inputs]
    if node.op == "SplitToSequence":
        return _parts(graph, node)
    items = known.get(node.inputs[0])
    place = node.input(2 if node.op == "SequenceInsert" else 1)
    if items is None or (place and place not in graph.constants):
        return None
    if node.op == "SequenceErase":
        at = int(graph.constants[place].item()) if place else -1
        return [item for i, item in enumerate(items) if i != at % len(items)]
    at = int(graph.constants[place].item()) if place else len(items)
    return [*items[:at], _value(node.inputs[1]), *items[at:]]


def _value(name: str) -> Callable[[Spelling], str]:
    return lambda spelling: name


def _parts(graph: Graph, node: Node) -> Sequence | None:
    """A part each step (without the axis, if so asked), or of the sizes given."""
    kind, axis = graph.type_of(node.inputs[0]), node.attribute("axis", 0)
    extent = None if kind.shape is None else kind.shape[axis]
    sizes = graph.constants.get(node.input(1))
    if not isinstance(extent, int) or extent > MOST_PARTS or (node.input(1) and sizes is None):
        return None
    if sizes is None:
        whole = node.attribute("keepdims", 1)
        return [_step(node.inputs[0], axis, np.array([i] if whole else i)) for i in range(extent)]
    ends = np.cumsum(sizes) if sizes.ndim else np.arange(int(sizes), extent + int(sizes), int(sizes)).clip(max=extent)
    starts = [0, *ends[:-1].tolist()]
    return [_step(node.inputs[0], axis, np.arange(a, b)) for a, b in zip(starts, ends.tolist(), strict=True)]


def _step(source: str, axis: int, index: np.ndarray) -> Callable[[Spelling], str]:
    def write(s: Spelling) -> str:
        kind = s.graph.type_of(source)
        rank = (kind.rank or 0) - 1 + index.ndim
        return s.op("Gather", source, s.constant(index), kind=ValueType(kind.dtype, (None,) * rank), axis=axis)

    return write


def _read(s: Spelling, items: Sequence) -> bool:
    node, output = s.node, s.node.outputs[0]
    if node.op == "SequenceLength":
        s.graph.constants[output] = np.array(len(items), np.int64)
        return True
    if node.op == "SequenceAt":
        place = s.graph.constants.get(node.inputs[1])
        if place is None or not -len(items) <= int(place.item()) < len(items):
            return False
        s.op("Identity", items[int(place.item())](s), output=output)
        return True
    axis, kind = node.attribute("axis"), s.graph.type_of(output)
    names = [item(s) for item in items]
    if node.attribute("new_axis", 0):
        if s.node.opset < 13:
            names = [s.op("Unsqueeze", name, axes=[axis], kind=_wider(s, name)) for name in names]
        else:
            names = [s.op("Unsqueeze", n, s.constant(np.array([axis])), kind=_wider(s, n)) for n in names]
    s.op("Concat", *names, output=output, kind=kind, axis=axis)
    return bool(names)


def _wider(s: Spelling, name: str) -> ValueType:
    kind = s.graph.type_of(name)
    return ValueType(kind.dtype, None if kind.rank is None else (None,) * (kind.rank + 1))
