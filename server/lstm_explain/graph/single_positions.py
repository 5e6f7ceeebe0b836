# SPDX-License-Identifier: Apache-2.0
"""Which outputs of Gather, Slice and Split are one position on one axis of what the node reads, as an unrolled loop
reads its steps.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from lstm_explain.graph.ir import Graph, Node


class Position(NamedTuple):
    """kept: whether the axis stays, with extent 1. place: counts from the end where it is negative, since the extent is
    not known.
    """

    axis: int
    place: int
    kept: bool


def position_of(graph: Graph, node: Node, slot: int) -> Position | None:
    """Returns the position of operand 0 that is all of output `slot`; None where the output is no single position, or
    where which one depends on an input.
    """
    reader = READERS.get(node.op)
    return None if reader is None else reader(graph, node, slot)


def _gathered(graph: Graph, node: Node, _: int) -> Position | None:
    indices = graph.constants.get(node.inputs[1])
    if indices is None or indices.size != 1 or indices.ndim > 1:
        return None
    return _position(graph, node, node.attribute("axis", 0), int(indices.reshape(-1)[0]), kept=indices.ndim == 1)


def _sliced(graph: Graph, node: Node, _: int) -> Position | None:
    names = ("starts", "ends", "axes", "steps")
    parts: list[Any] = [node.attribute(name) for name in names]
    if len(node.inputs) > 1:
        parts = [graph.constants.get(node.input(1 + i)) for i in range(len(names))]
        if any(name and part is None for name, part in zip(node.inputs[1:], parts, strict=False)):
            return None
    starts, ends, axes, steps = parts
    if starts is None or ends is None or np.size(starts) != 1 or (steps is not None and np.any(np.asarray(steps) != 1)):
        return None
    start, end, axis = (int(np.reshape(part, -1)[0]) for part in (starts, ends, [0] if axes is None else axes))
    extent = _extent(graph, node, axis)
    found = _position(graph, node, axis, start, kept=True)
    last = _position(graph, node, axis, (end if extent is None else min(end, extent)) - 1, kept=True) if end else None
    return found if found == last else None


def _split(graph: Graph, node: Node, slot: int) -> Position | None:
    sizes = graph.constants.get(node.input(1)) if node.input(1) else node.attribute("split")
    if node.input(1) and sizes is None:
        return None
    axis = node.attribute("axis", 0)
    if sizes is None and _extent(graph, node, axis) != len(node.outputs):
        return None
    return _position(graph, node, axis, slot, kept=True) if sizes is None or np.all(np.asarray(sizes) == 1) else None


READERS = {"Gather": _gathered, "Slice": _sliced, "Split": _split}


def _position(graph: Graph, node: Node, axis: int, place: int, *, kept: bool) -> Position | None:
    """Counts from the front where it can. Returns None outside of the value, and where the axis counts from the end of
    an unknown rank.
    """
    rank, extent = graph.type_of(node.inputs[0]).rank, _extent(graph, node, axis)
    if extent is not None:
        place += extent if place < 0 else 0
        if not 0 <= place < extent:
            return None
    if rank is None:
        return Position(axis, place, kept) if axis >= 0 else None
    return Position(axis % rank, place, kept) if -rank <= axis < rank else None


def _extent(graph: Graph, node: Node, axis: int) -> int | None:
    shape = graph.type_of(node.inputs[0]).shape
    extent = shape[axis] if shape is not None and -len(shape) <= axis < len(shape) else None
    return extent if isinstance(extent, int) else None
