# SPDX-License-Identifier: Apache-2.0
"""The short way from a method and a target to the program that answers, for requests that need one backward pass."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import NamedTuple

from lstm_explain.methods import Method
from lstm_explain.program.engine import Engine
from lstm_explain.program.explained_values import ExplainedValues
from lstm_explain.program.precision import Precision
from lstm_explain.program.program import Program
from lstm_explain.target import Target

MOST_ROUTES = 64  # from methods, whose parameters callers choose freely, and targets to programs


class Route(NamedTuple):
    """How a method explains an output. notes: for inputs that receive no relevance under the method."""

    output: str
    program: Program
    notes: tuple[str, ...]


class Routes:
    """The routes of one model. notes: of a method and an output, see Route."""

    def __init__(
        self,
        engine: Engine,
        explained_values: ExplainedValues,
        precision: Precision,
        notes: Callable[[Method, str], tuple[str, ...]],
    ) -> None:
        self._engine, self._explained_values, self._precision, self._notes = engine, explained_values, precision, notes
        self._known: dict[Hashable, Route] = {}
        self._latest: tuple[Method | None, str | None, bool, Route | None] = (None, None, False, None)

    def find(self, method: Method, target: Target) -> Route | None:
        """Returns None where one backward pass is not enough."""
        try:
            latest, output, pre_activation, known = self._latest
            if method is latest and target.output == output and target.pre_activation is pre_activation:
                return known  # without the hash of a method, which that of each of its parameters takes longer
            key = (method, target.output, target.pre_activation)
            known = self._known.get(key)
        except (AttributeError, TypeError):  # not a Target, or a method that holds arrays and so has no hash
            return None
        if known is None and method.propagates and not self._precision.starts_in_double(method):
            output, head = self._explained_values.of(method, target)
            if len(self._known) >= MOST_ROUTES:
                self._known.clear()
            route = Route(output, self._engine.program(head, method), self._notes(method, output))
            known = self._known[key] = route
        self._latest = (*key, known)
        return known
