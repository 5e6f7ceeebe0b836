"""Operators that pick or place elements by indices."""

from __future__ import annotations

import numpy as np

from lstm_explain.graph.ir import Array, Node
from lstm_explain.rules.op import Kind, Lane, LaneLost, Op, Site, add

Shape = tuple[int, ...]


def _read_or_look_up(node: Node, live: tuple[int, ...]) -> Kind:
    """Indices that an input supplies pick from constants like an embedding; from live data they only steer."""
    return Kind.LOOKUP if live == (1,) else Kind.ROUTING


# --- one index an element ----------------------------------------------------------------------------------------


def _places(shape: Shape, indices: Array, axis: int) -> tuple[Array, ...]:
    """For every element of `indices`, its place in an array of `shape`: the index along `axis`, its own elsewhere."""
    places = list(np.ogrid[tuple(slice(n) for n in indices.shape)])
    places[axis] = indices % shape[axis]
    return tuple(places)


def _gather_elements(s: Site, slot: int, g: Array) -> Array:
    if slot == 1:
        return g
    r = np.zeros(s.shape(0), g.dtype)
    np.add.at(r, _places(r.shape, s.x(1), s.attribute("axis", 0) % r.ndim), g)
    return r


def _other_axes_lane(s: Site, slot: int, lane: Lane, out: Shape, shape: Shape, batch: int) -> Lane:
    """Elements move along one axis only."""
    if s.attribute("axis", 0) % len(out) == lane.axis or out[lane.axis] != shape[lane.axis]:
        raise LaneLost
    return lane


def _gather_elements_lane(s: Site, slot: int, lane: Lane, out: Shape, shape: Shape, batch: int) -> Lane:
    return lane if slot == 1 else _other_axes_lane(s, slot, lane, out, shape, batch)


add(
    "GatherElements",
    Op(_read_or_look_up, _gather_elements, alone=(1,), reads=("s", "steer1", "shapes"), lane=_gather_elements_lane),
)
