# SPDX-License-Identifier: Apache-2.0
"""Recognises unrolled loops over time: one cell per step, each of which reads the next position of one axis."""

from __future__ import annotations

from collections.abc import Mapping

from lstm_explain.graph.ir import Graph
from lstm_explain.graph.single_positions import position_of
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
        for slot, taken in enumerate(node.outputs):
            position = position_of(graph, node, slot)
            if taken and position is not None:
                found.setdefault((node.inputs[0], position.axis), {}).setdefault(position.place, taken)
    return found


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
