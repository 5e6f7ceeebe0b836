"""What a replay is made of: steps over what has arrived at each value, views among them, which can be put together."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.plan.forward import Pass

Shape = tuple[int, ...]


@dataclass(slots=True)
class Course:
    """One explanation on its way. arrived: relevance or density, by value. absorbed [1]: by node. states [1]."""

    done: Pass
    arrived: dict[str, Array]
    absorbed: dict[str, Array] = field(default_factory=dict)
    states: Array | None = None

    def send(self, name: str, array: Array) -> None:
        earlier = self.arrived.get(name)
        self.arrived[name] = array if earlier is None else earlier + array


Step = Callable[[Course], None]


@dataclass(frozen=True)
class Call:
    """One node's step. targets: the values that it sends to."""

    step: Step
    targets: tuple[str, ...]


@dataclass(frozen=True)
class View:
    """Element i of what came to `source` goes to places[i] of `target`, of this shape; nothing comes to the others."""

    source: str
    target: str
    places: Array
    shape: Shape

    @property
    def targets(self) -> tuple[str, ...]:
        return (self.target,)

    def feeds(self, view: View) -> bool:
        return self.target == view.source

    @property
    def step(self) -> Step:
        source, target, shape, places = self.source, self.target, self.shape, self.places
        size, first = math.prod(shape), int(places[0])
        row = np.array_equal(places, np.arange(first, first + len(places)))
        if row and len(places) == size:
            return lambda course: course.send(target, course.arrived[source].reshape(shape))
        where = slice(first, first + len(places)) if row else places

        def put(course: Course) -> None:
            came = course.arrived[source]
            whole = np.zeros(size, came.dtype)
            whole[where] = came.ravel()
            course.send(target, whole.reshape(shape))

        return put


def merged(parts: Sequence[Call | View]) -> list[Call | View]:
    """Views that feed only each other, as one."""
    writers = Counter(name for part in parts for name in part.targets)
    together: list[Call | View] = []
    for part in parts:
        last = together[-1] if together else None
        if isinstance(part, View) and isinstance(last, View) and last.feeds(part) and writers[part.source] == 1:
            together[-1] = View(last.source, part.target, part.places[last.places], part.shape)
        else:
            together.append(part)
    return together
