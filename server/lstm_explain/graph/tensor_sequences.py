# SPDX-License-Identifier: Apache-2.0
"""Removes sequences of tensors whose length is known, which PyTorch writes for lists.

A value that is read from such a sequence is the value that was put into it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lstm_explain.graph.constant_folding import SEQUENCES as SEQUENCE_MAKERS
from lstm_explain.graph.ir import Graph, Node, ValueType
from lstm_explain.graph.node_writer import NodeWriter

MAX_PARTS = 10_000
Sequence = list[Callable[[NodeWriter], str]]  # Each item writes the nodes that compute it and returns its name.

SEQUENCE_READERS = {"SequenceAt", "SequenceLength", "ConcatFromSequence"}


def remove_sequences(graph: Graph) -> list[Node]:
    """Returns the nodes, with reads from sequences replaced. Nodes that cannot be replaced stay, with the sequences
    that they read.
    """
    known: dict[str, Sequence] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        writer = NodeWriter(graph, node)
        if node.op in SEQUENCE_MAKERS:
            sequence = _sequence(graph, node, known)
            if sequence is not None:
                known[node.outputs[0]] = sequence
            nodes.append(node)
        elif node.op in SEQUENCE_READERS and node.inputs[0] in known and _read(writer, known[node.inputs[0]]):
            nodes += writer.nodes
        else:
            nodes.append(node)
    return _still_read(graph, nodes)


def _still_read(graph: Graph, nodes: list[Node]) -> list[Node]:
    read, kept = set(graph.outputs), []
    for node in reversed(nodes):
        if node.op not in SEQUENCE_MAKERS or read.intersection(node.outputs):
            kept.append(node)
            read.update((*node.inputs, *node.captured))
    return kept[::-1]


def _sequence(graph: Graph, node: Node, known: dict[str, Sequence]) -> Sequence | None:
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


def _value(name: str) -> Callable[[NodeWriter], str]:
    return lambda writer: name


def _parts(graph: Graph, node: Node) -> Sequence | None:
    """Returns the items of a split: one per step (without the axis, if so requested), or parts of the given sizes."""
    kind, axis = graph.type_of(node.inputs[0]), node.attribute("axis", 0)
    extent = None if kind.shape is None else kind.shape[axis]
    sizes = graph.constants.get(node.input(1))
    if not isinstance(extent, int) or extent > MAX_PARTS or (node.input(1) and sizes is None):
        return None
    if sizes is None:
        whole = node.attribute("keepdims", 1)
        return [_step(node.inputs[0], axis, np.array([i] if whole else i)) for i in range(extent)]
    ends = np.cumsum(sizes) if sizes.ndim else np.arange(int(sizes), extent + int(sizes), int(sizes)).clip(max=extent)
    starts = [0, *ends[:-1].tolist()]
    return [_step(node.inputs[0], axis, np.arange(a, b)) for a, b in zip(starts, ends.tolist(), strict=True)]


def _step(source: str, axis: int, index: np.ndarray) -> Callable[[NodeWriter], str]:
    def write(w: NodeWriter) -> str:
        kind = w.graph.type_of(source)
        rank = (kind.rank or 0) - 1 + index.ndim
        return w.op("Gather", source, w.constant(index), kind=ValueType(kind.dtype, (None,) * rank), axis=axis)

    return write


def _read(w: NodeWriter, items: Sequence) -> bool:
    node, output = w.node, w.node.outputs[0]
    if node.op == "SequenceLength":
        w.graph.constants[output] = np.array(len(items), np.int64)
        return True
    if node.op == "SequenceAt":
        place = w.graph.constants.get(node.inputs[1])
        if place is None or not -len(items) <= int(place.item()) < len(items):
            return False
        w.op("Identity", items[int(place.item())](w), output=output)
        return True
    axis, kind = node.attribute("axis"), w.graph.type_of(output)
    names = [item(w) for item in items]
    if node.attribute("new_axis", 0):
        if w.node.opset < 13:
            names = [w.op("Unsqueeze", name, axes=[axis], kind=_wider(w, name)) for name in names]
        else:
            names = [w.op("Unsqueeze", n, w.constant(np.array([axis])), kind=_wider(w, n)) for n in names]
    w.op("Concat", *names, output=output, kind=kind, axis=axis)
    return bool(names)


def _wider(w: NodeWriter, name: str) -> ValueType:
    kind = w.graph.type_of(name)
    return ValueType(kind.dtype, None if kind.rank is None else (None,) * (kind.rank + 1))
