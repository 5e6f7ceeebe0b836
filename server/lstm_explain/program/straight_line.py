# SPDX-License-Identifier: Apache-2.0
"""The backward pass from one target as a straight line, for shapes that have occurred before.

In most networks, every value between the explained one and the inputs receives either relevance or a density, and
always the same of the two. Then a step needs no messages, layouts or accounts, whose objects take longer than the
arithmetic of a short sequence: it is a function of the arrays of the forward pass, of what has arrived by value, and
of one array for all amounts of the ledger. The numbers are those of the steps that `propagation.py` runs otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np

from lstm_explain.cancellation import current_scope
from lstm_explain.graph.ir import Array
from lstm_explain.kernels import reductions
from lstm_explain.operators.formulas import in_dtype, times
from lstm_explain.program.account import INPUTS, NODES, closed, rows_of
from lstm_explain.program.attribution import Attribution
from lstm_explain.program.compile import Plan
from lstm_explain.program.head import Head
from lstm_explain.program.passes import BackwardPass, ForwardPass
from lstm_explain.program.steps.base import BackwardStep, Line
from lstm_explain.program.terms import Terms, scale
from lstm_explain.target import Selection


class Walked(Protocol):
    """The program of which this is the backward pass."""

    plan: Plan
    head: Head | None
    inputs: Sequence[str]
    capture: Sequence[str]
    quantity: str
    least: np.dtype[Any]
    hands_out_densities: bool


def _adding(line: Line, names: Sequence[str]) -> Line:
    """Returns the line of a step that is not the first to send relevance to these values."""

    def added(values: Mapping[str, Array], tapes: Mapping[str, Any], arrived: dict[str, Array], book: Array) -> None:
        before = [arrived[name] for name in names]
        line(values, tapes, arrived, book)
        for name, earlier in zip(names, before, strict=True):
            arrived[name] = earlier + arrived[name]

    return added


class StraightLine:
    """The backward pass for forward passes of certain shapes. back: a completed pass of these. terms: the terms of
    explained values, see `terms.scale`.
    """

    def __init__(
        self,
        program: Walked,
        back: BackwardPass,
        lines: Sequence[Line],
        rows: dict[str, int],
        terms: dict[bytes, Terms],
    ) -> None:
        assert program.head is not None
        self._plan, self._value, self._quantity = program.plan, program.head.value, program.quantity
        self._least, self._batch, self._lines, self._terms = program.least, back.batch, lines, terms
        self._starts_as_density = back.messages[self._value].relevance is None
        self._layout, self._seed = back.layout, rows_of(back.weights.shape, back.layout, back.batch)
        self._names, self._dtype, self._size = program.inputs, back.dtype, NODES + len(rows)
        self._nodes = list(rows)  # in the order of their rows
        self._layouts = {name: m.layout for name in program.inputs if (m := back.messages.get(name)) is not None}
        self._inputs = []
        for number, name in enumerate(program.inputs):
            if name in self._layouts:
                message = back.messages[name]
                rows_there = rows_of(message.some().shape, message.layout, back.batch)
                times_value = message.relevance is None and not program.hands_out_densities
                self._inputs.append((name, number, rows_there, times_value))

    @staticmethod
    def of(
        program: Walked, back: BackwardPass, steps: Sequence[BackwardStep], terms: dict[bytes, Terms]
    ) -> StraightLine | None:
        """Returns None where a value receives relevance in more than one form, or where a step has no line."""
        head = program.head
        if head is None or head.views or program.capture:
            return None
        written = [name for step in steps for name in step.written]
        arrived = [(name, message) for name in {head.value, *written} if (message := back.messages.get(name))]
        for _, message in arrived:
            if message.amount is not None or (message.relevance is None) == (message.density is None):
                return None
        lines: list[Line] = []
        rows: dict[str, int] = {}
        before = {head.value}
        for step in steps:
            line, names = step.line(back, rows), step.written
            if line is None or len({*names}) < len(names):
                return None
            again = before.intersection(names)
            lines.append(_adding(line, sorted(again)) if again else line)
            before.update(names)
        return StraightLine(program, back, lines, rows, terms)

    def __call__(self, done: ForwardPass, selection: Selection) -> Attribution:
        values, tapes, weights, batch, scope = done.values, done.tapes, selection.weights, self._batch, current_scope()
        value = values[self._value]
        if weights.dtype is not value.dtype or value.dtype is not self._least:
            weights = in_dtype(weights, np.promote_types(value.dtype, self._least))
        book, explained, largest = np.zeros((self._size, batch)), np.zeros(batch), np.zeros((len(self._names), batch))
        seed = weights * value
        reductions.add_per_sample(seed.ravel().reshape(self._seed), explained)
        arrived = {self._value: weights if self._starts_as_density else seed}
        for line in self._lines:
            if scope is not None:
                scope.check()
            line(values, tapes, arrived, book)

        relevance, peaks, of_inputs = {}, {}, book[INPUTS]
        for name, number, rows, times_value in self._inputs:
            array = times(arrived[name], values[name]) if times_value else arrived[name]
            relevance[name] = array = np.asarray(array, order="C")
            peaks[name] = peak = largest[number]
            reductions.add_with_largest(array.reshape(rows), of_inputs, peak)
        if len(relevance) < len(self._names):
            reached = relevance
            relevance = {n: reached[n] if n in reached else np.zeros(values[n].shape, self._dtype) for n in self._names}
        ledger, usual = closed(book, dict(zip(self._nodes, book[NODES:], strict=True)), explained, largest)
        return Attribution(
            relevance,
            explained,
            {},
            ledger,
            peaks,
            partial(self._scale, values, weights),
            selection,
            values,
            self._quantity,
            tapes,
            self._layouts,
            {},
            usual,
        )

    def _scale(self, values: Mapping[str, Array], weights: Array) -> Array:
        return scale(self._plan, values, self._value, weights, self._layout, self._batch, self._terms)
