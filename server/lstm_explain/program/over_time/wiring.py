# SPDX-License-Identifier: Apache-2.0
"""Reads a Loop as a Scan, where its number of iterations is known before it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from lstm_explain.graph.body_wiring import Sliced, Wiring, wiring_of
from lstm_explain.graph.ir import Array, Graph, Node


def wiring_over_time(node: Node) -> Wiring | None:
    """Returns the wiring of a Scan, or of a Loop that ends after its trip count only; None for any other Loop.

    Where an iteration of a Loop gathers the element with its own number, it reads a sequence step by step.
    """
    wiring, body = wiring_of(node), node.bodies["body"]
    if node.op == "Scan":
        return wiring
    if not node.input(0) or not _goes_on(body):
        return None
    read = []
    for inner in body.nodes:
        if inner.op == "Gather" and inner.inputs[1] == body.inputs[0] and inner.inputs[0] in body.captured:
            outer = inner.inputs[0]
            rank = body.type_of(inner.outputs[0]).rank
            axis = int(inner.attribute("axis", 0))
            if outer not in body.constants and (axis >= 0 or rank is not None):
                read.append(Sliced(outer, inner.outputs[0], axis if axis >= 0 else axis + (rank or 0) + 1, False))
    return replace(wiring, read=tuple(read))


def _goes_on(body: Graph) -> bool:
    """Returns whether the condition of a Loop's body is true after every iteration in which it was true before."""
    producers, name = body.producers(), body.outputs[0]
    while name in producers and producers[name].op in ("Identity", "Cast"):
        name = producers[name].inputs[0]
    constant = body.constants.get(name)
    return name == body.inputs[1] if constant is None else bool(np.all(constant))


def around_over_time(node: Node, wiring: Wiring, around: Mapping[str, Array]) -> dict[str, Array]:
    """Returns the values of the enclosing graph that iterations read otherwise than element by element."""
    read = {s.inner for s in wiring.read}
    rest = [n for n in node.bodies["body"].nodes if read.isdisjoint(n.outputs)]
    used = {name for n in rest for name in (*n.inputs, *n.captured)} | set(node.bodies["body"].outputs)
    gathered = {s.outer for s in wiring.read if s.slot < 0}
    found = {name: array for name, array in around.items() if name in used or name not in gathered}
    if node.op == "Loop":
        found[node.bodies["body"].inputs[1]] = np.array(True)
    return found


def sequences_over_time(
    node: Node, wiring: Wiring, known: Callable[[str], Array], count: int
) -> dict[str, Array] | None:
    """Returns what iterations read step by step, by the body's names; None where something is shorter than they are
    many.
    """
    found = {s.inner: in_order(known(s.outer), s, count) for s in wiring.read}
    if node.op == "Loop":
        found[node.bodies["body"].inputs[0]] = np.arange(count)
    return found if all(len(rows) == count for rows in found.values()) else None


def in_order(sequence: Array, sliced: Sliced, count: int) -> Array:
    """Returns a sequence with its iterations along the first axis, in the order in which they run."""
    moved = np.moveaxis(sequence, sliced.axis, 0)
    return np.ascontiguousarray(moved[::-1] if sliced.backwards else moved[:count])


def put_in_order(rows: Array, sliced: Sliced, whole: tuple[int, ...]) -> Array:
    """Returns the reverse of `in_order`. whole: the shape of the sequence; what no iteration reads is zero."""
    ordered = np.moveaxis(rows[::-1] if sliced.backwards else rows, 0, sliced.axis)
    missing = whole[sliced.axis] - len(rows)
    if missing:
        ordered = np.pad(ordered, [(0, missing if axis == sliced.axis else 0) for axis in range(ordered.ndim)])
    return np.ascontiguousarray(ordered)
