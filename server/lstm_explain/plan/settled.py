"""What of a walk is the same every time: sites without the values of a pass, and what kind of message comes where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from lstm_explain.graph.ir import Array
from lstm_explain.plan.backward import Message, Walk
from lstm_explain.plan.course import Course, Shape
from lstm_explain.plan.live import Stop
from lstm_explain.rules import Site

Messages = Sequence[Message | None]


class Moving(Exception):  # noqa: N818 - a fact, not a fault
    """The function looks at values of the pass."""


class Fixed(Site):
    """A site that knows constants and shapes only, and so is one for all passes."""

    __slots__ = ("_shapes",)

    def __init__(self, walk: Walk, stop: Stop) -> None:
        super().__init__(stop.node, walk.plan.graph, stop.live, {}, walk.dtype)
        site = walk.site(stop)
        self._shapes: dict[int, Shape] = {}
        for slot, name in enumerate(stop.node.inputs):
            with suppress(AssertionError):  # not kept, since nothing asks for it
                self._shapes[slot] = site.shape(slot) if name else ()

    def _value(self, name: str) -> Array:
        if name not in self._constants:
            raise Moving
        return super()._value(name)

    def shape(self, slot: int) -> Shape:
        return self._shapes[slot]


def site_for(walk: Walk, stop: Stop, tried: Callable[[Site], object]) -> Fixed | None:
    """The node's site for all passes; None where `tried` takes more than that."""
    fixed = Fixed(walk, stop)
    try:
        tried(fixed)
    except Moving:
        return None
    return fixed


def sites(walk: Walk, stop: Stop, fixed: Fixed | None) -> Callable[[Course], Site]:
    if fixed is not None:
        return lambda course: fixed
    node, graph, live, dtype = stop.node, walk.plan.graph, stop.live, walk.dtype
    return lambda course: Site(node, graph, live, course.done.values, dtype)


def channel_of(messages: Messages) -> str | None:
    """The one kind of message that has come; None where there are several."""
    channels = ("relevance", "density", "amount")
    kinds = {c for m in messages if m is not None for c in channels if getattr(m, c) is not None}
    return kinds.pop() if len(kinds) == 1 else None


def arrival_at(stop: Stop, messages: Messages) -> Callable[[Course], Any]:
    """What a vector-Jacobian product is given: an array, or a tuple with one or None an output."""
    if len(messages) == 1:
        (only,) = stop.carrying
        return lambda course: course.arrived[only]
    names = [name if message else None for name, message in zip(stop.carrying, messages, strict=True)]
    return lambda course: tuple(None if name is None else course.arrived[name] for name in names)


def given_to(messages: Messages) -> Any:
    arrays = [None if m is None else m.some() for m in messages]
    return arrays[0] if len(arrays) == 1 else tuple(arrays)
