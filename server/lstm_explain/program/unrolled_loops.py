# SPDX-License-Identifier: Apache-2.0
"""Recognises unrolled loops over time: one cell per step, each of which reads the next position of one axis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lstm_explain.graph.ir import Graph, Node
from lstm_explain.operators.axis_rules import NOWHERE, Labels, Origins

FEWEST = 3  # the fewest steps: any two parts that are combined look like two steps
LOOKED_AT = 16  # steps that are followed
MOST_READERS = 4  # the most values on one axis of an input that are examined
MOST_TRIED = 64  # the most values in total, since following one takes time proportional to the size of the graph

Picks = dict[int, str]  # by position, the value that was read there


def stepped_axes(graph: Graph, labels: Mapping[str, Labels]) -> list[Origins]:
    """Returns the axes of the inputs whose positions are read one by one, where each result depends on the previous
    one.
    """
    found: list[Origins] = []
    tried: dict[Origins, int] = {}
    for (value, axis), picks in _picks(graph).items():
        label = labels.get(value, ())
        origins = label[axis] if axis < len(label) else NOWHERE
        if not origins or origins in found or tried.get(origins, 0) >= MOST_READERS or len(picks) < FEWEST:
            continue
        if sum(tried.values()) >= MOST_TRIED:
            break
        tried[origins] = tried.get(origins, 0) + 1
        if sorted(picks) == list(range(len(picks))) and _is_chain(graph, picks):
            found.append(origins)
    return found


def _picks(graph: Graph) -> dict[tuple[str, int], Picks]:
    """Maps a value and an axis to the results of reading single positions of it by Gather, Slice or Split."""
    found: dict[tuple[str, int], Picks] = {}
    for node in graph.nodes:
        for axis, place, taken in _places(graph, node):
            rank = graph.type_of(node.inputs[0]).rank
            if rank and -rank <= axis < rank:
                found.setdefault((node.inputs[0], axis % rank), {}).setdefault(place, taken)
    return found


def _places(graph: Graph, node: Node) -> Iterator[tuple[int, int, str]]:
    if node.op == "Gather":
        index = graph.constants.get(node.input(1))
        axis = int(node.attribute("axis", 0))
        if index is not None and index.size == 1:
            yield axis, _from_front(graph, node, axis, int(index.reshape(-1)[0])), node.outputs[0]
    elif node.op == "Slice":
        yield from _slice(graph, node)
    elif node.op == "Split" and len(node.outputs) >= FEWEST:
        sizes = graph.constants.get(node.input(1))
        given = node.attribute("split") if sizes is None else sizes.reshape(-1).tolist()
        axis = int(node.attribute("axis", 0))
        if all(s == 1 for s in given or ()) and (given or _extent(graph, node, axis) == len(node.outputs)):
            yield from ((axis, place, taken) for place, taken in enumerate(node.outputs) if taken)


def _slice(graph: Graph, node: Node) -> Iterator[tuple[int, int, str]]:
    if node.opset < 10:
        starts, ends, axes = (node.attribute(name) for name in ("starts", "ends", "axes"))
    else:
        arrays = [graph.constants.get(node.input(slot)) for slot in (1, 2, 3)]
        starts, ends, axes = (None if a is None else a.reshape(-1).tolist() for a in arrays)
    axes = axes or list(range(len(starts or ())))
    if starts and ends and len(starts) == len(ends) == len(axes) == 1:
        axis = int(axes[0])
        start = _from_front(graph, node, axis, int(starts[0]))
        end = int(ends[0]) if ends[0] >= 0 or starts[0] >= 0 else start + int(ends[0]) - int(starts[0])
        if end - start == 1:
            yield axis, start, node.outputs[0]


def _from_front(graph: Graph, node: Node, axis: int, place: int) -> int:
    extent = _extent(graph, node, axis)
    return place + extent if place < 0 and extent is not None else place


def _extent(graph: Graph, node: Node, axis: int) -> int | None:
    shape = graph.type_of(node.inputs[0]).shape
    extent = shape[axis] if shape is not None and -len(shape) <= axis < len(shape) else None
    return extent if isinstance(extent, int) else None


def _is_chain(graph: Graph, picks: Picks) -> bool:
    """Returns whether values depend on step 0, then on 0 and 1, then on 0 to 2, and so on, or likewise from the other
    end.
    """
    count = min(len(picks), LOOKED_AT)
    depends = {picks[place]: 1 << place for place in range(count)}
    seen = set(depends.values())
    for node in graph.nodes:
        mask = 0
        for name in (*node.inputs, *node.captured) if node.bodies else node.inputs:
            mask |= depends.get(name, 0)
        if mask:
            seen.add(mask)
            for name in node.outputs:
                depends[name] = depends.get(name, 0) | mask
    whole = (1 << count) - 1
    onwards = all((1 << k) - 1 in seen for k in range(2, count + 1))
    return onwards or all(whole ^ ((1 << k) - 1) in seen for k in range(count - 1))
