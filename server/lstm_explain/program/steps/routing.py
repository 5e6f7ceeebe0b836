# SPDX-License-Identifier: Apache-2.0
"""Operators that move elements, and the chain rule of gradients: both only apply the vector-Jacobian product to
messages.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.operators import BatchLayout, Kind, NodeContext
from lstm_explain.operators.formulas import times
from lstm_explain.program.passes import CHANNELS, BackwardPass, Message
from lstm_explain.program.reachability import BackwardNode
from lstm_explain.program.steps.base import BackwardStep, Line
from lstm_explain.program.steps.linear import Dense, DensityStep, Values

MOST_PLACES = 1 << 12  # elements of a view that is stored as a list of positions


class Routing(DensityStep):
    """Relevance follows elements that are moved, copied or dropped."""

    def __call__(self, back: BackwardPass) -> None:
        messages = self.messages(back)
        message = next((m for m in messages if m is not None), None)
        if message is None:
            return
        context, vjp = self.context(back), self.backward_node.op.vjp
        assert vjp is not None
        if message.density is None and len(messages) == len(self.live) == 1 and not self.backward_node.absorbs:
            assert message.relevance is not None
            ((slot, name),) = self.live
            moved = vjp(context, slot, message.relevance)
            back.send(name, self.layout(back, slot, message, moved.shape), moved)
            return
        relevance, density, amount = (channel(messages, name) for name in CHANNELS)
        landed: list[Array] = []
        for slot, name, is_sum in self.open:
            if relevance is not None:
                moved = vjp(context, slot, relevance)
                back.send(name, self.layout(back, slot, message, moved.shape), moved)
                landed.append(moved)
            if density is not None:
                spread = None if amount is None else vjp(context, slot, amount)
                self.hand_on(back, slot, name, is_sum, message, vjp(context, slot, density), spread)
        if self.backward_node.absorbs and message.relevance is not None:
            self._absorb(back, message, messages, landed)
        if self.backward_node.absorbs and density is not None:
            self._absorb_densities(back, message, messages)

    def line(self, back: BackwardPass, rows: dict[str, int]) -> Line | None:
        alone = len(self.carrying) == 1 and not self.backward_node.absorbs
        return self.line_by(back, self.backward_node.op.vjp) if alone else None

    def _absorb(
        self, back: BackwardPass, message: Message, messages: Sequence[Message | None], landed: Sequence[Array]
    ) -> None:
        """Absorbs the relevance that reached no input."""
        for arrived in messages:
            if arrived is not None and arrived.relevance is not None:
                back.account.absorb(self.name, arrived.relevance, arrived.layout)
        for (slot, _), moved in zip(self.live, landed, strict=True):
            back.account.absorb(self.name, -moved, self.layout(back, slot, message, moved.shape))

    def _absorb_densities(self, back: BackwardPass, message: Message, messages: Sequence[Message | None]) -> None:
        """Absorbs what the density of a logarithm gives to constants."""
        context, vjp, density = self.context(back), self.backward_node.op.vjp, channel(messages, "density")
        assert vjp is not None
        for name, arrived in zip(self.carrying, messages, strict=True):
            if arrived is not None and arrived.density is not None:
                back.account.absorb(self.name, times(arrived.density, back.value(name)), arrived.layout)
        for slot, name in self.live:
            passed = times(vjp(context, slot, density), back.value(name))
            back.account.absorb(self.name, -passed, self.layout(back, slot, message, passed.shape))

    def specialised(self, back: BackwardPass) -> BackwardStep:
        step = self.with_fixed_context(back)
        return self if step is None else _view(step, back) or step


class ChainRule(BackwardStep):
    """Applies the vector-Jacobian product to gradients, which are densities everywhere, and to relevance that passes
    back through the addresses of a lookup.
    """

    def __call__(self, back: BackwardPass) -> None:
        messages = self.messages(back)
        message = next((m for m in messages if m is not None), None)
        if message is None:
            return
        context, vjp = self.context(back), self.backward_node.op.vjp
        assert vjp is not None
        density, relevance = channel(messages, "density"), channel(messages, "relevance")
        for slot, name in self.live:
            if density is not None:
                array = vjp(context, slot, density)
                back.send(name, self.layout(back, slot, message, array.shape), None, array)
            if relevance is not None:
                array = vjp(context, slot, relevance)
                back.send(name, self.layout(back, slot, message, array.shape), array)

    def line(self, back: BackwardPass, rows: dict[str, int]) -> Line | None:
        context, vjp, source, takers = self.fixed, self.backward_node.op.vjp, self.carrying[0], self.live
        if context is None or vjp is None or len(self.carrying) > 1:
            return None
        known, rule = context, vjp

        def line(_values: Values, _tapes: Values, arrived: dict[str, Array], _book: Array) -> None:
            came = arrived[source]
            for slot, name in takers:
                arrived[name] = rule(known, slot, came)

        return line

    def specialised(self, back: BackwardPass) -> BackwardStep:
        step = self.with_fixed_context(back)
        if step is None:
            return self
        return (_view(step, back) if self.backward_node.kind is Kind.ROUTING else None) or step


def channel(messages: Sequence[Message | None], name: str) -> Array | tuple[Array | None, ...] | None:
    """Returns one kind of message: the array for an operator of one output, else a tuple with one (or None) per
    output.
    """
    if len(messages) == 1:
        return None if messages[0] is None else getattr(messages[0], name)
    arrays = tuple(None if m is None else getattr(m, name) for m in messages)
    return None if all(a is None for a in arrays) else arrays


# --- views -------------------------------------------------------------------------------------------------------


class View(BackwardStep):
    """Moves element i of the message at `source` to places[i] of `target`, which has this shape; all other elements
    receive nothing.

    density: whether the message is a density rather than relevance. layout: where the samples lie at `target`.
    """

    def __init__(
        self,
        backward_node: BackwardNode,
        source: str,
        target: str,
        places: Array,
        shape: tuple[int, ...],
        layout: BatchLayout | None,
        *,
        density: bool,
    ) -> None:
        super().__init__(backward_node)
        self.source, self.target, self.places, self.shape, self.density = source, target, places, shape, density
        self.layout_there = layout
        first, self.size = int(places[0]), math.prod(shape)
        in_a_row = np.array_equal(places, np.arange(first, first + len(places)))
        self.where = slice(first, first + len(places)) if in_a_row else places
        self.is_reshape = in_a_row and len(places) == self.size

    def __call__(self, back: BackwardPass) -> None:
        message = back.messages[self.source]
        came = message.density if self.density else message.relevance
        assert came is not None
        if self.is_reshape:
            moved = came.reshape(self.shape)
        else:
            whole = np.zeros(self.size, came.dtype)
            whole[self.where] = came.ravel()
            moved = whole.reshape(self.shape)
        if self.density:
            back.send(self.target, self.layout_there, None, moved)
        else:
            back.send(self.target, self.layout_there, moved)

    @property
    def written(self) -> list[str]:
        return [self.target]

    def line(self, back: BackwardPass, rows: dict[str, int]) -> Line:
        source, target, shape, size, where = self.source, self.target, self.shape, self.size, self.where

        def reshape(_values: Values, _tapes: Values, arrived: dict[str, Array], _book: Array) -> None:
            arrived[target] = arrived[source].reshape(shape)

        def move(_values: Values, _tapes: Values, arrived: dict[str, Array], _book: Array) -> None:
            came = arrived[source]
            whole = np.zeros(size, came.dtype)
            whole[where] = came.ravel()
            arrived[target] = whole.reshape(shape)

        return reshape if self.is_reshape else move

    def then(self, view: View) -> View:
        """Returns the combined step, where this step alone feeds the other."""
        places = view.places[self.places]
        return View(
            view.backward_node, self.source, view.target, places, view.shape, view.layout_there, density=self.density
        )


def _view(step: Routing | ChainRule, back: BackwardPass) -> View | None:
    """Returns the step as a list of positions; None where the array is large, or where elements are added up."""
    message = back.messages.get(step.carrying[0])
    if message is None or len(step.live) != 1 or len(step.carrying) != 1 or step.backward_node.absorbs:
        return None
    if (message.relevance is None) == (message.density is None) or message.amount is not None:
        return None
    if message.density is not None and isinstance(step, Routing) and not step.open[0][2]:
        return None
    ((slot, name),) = step.live
    shape, context = message.some().shape, step.fixed
    assert context is not None
    found = _places(step.backward_node, context, slot, shape)
    if found is None:
        return None
    layout = step.layout(back, slot, message, found[1])
    return View(step.backward_node, step.carrying[0], name, *found, layout, density=message.density is not None)


def _places(
    backward_node: BackwardNode, context: NodeContext, slot: int, shape: tuple[int, ...]
) -> tuple[Array, tuple[int, ...]] | None:
    size, vjp = math.prod(shape), backward_node.op.vjp
    if not 0 < size <= MOST_PLACES:
        return None
    assert vjp is not None
    numbers = np.arange(1.0, size + 1, dtype=context.dtype)
    moved = vjp(context, slot, numbers.reshape(shape))
    flat = moved.ravel()
    at = np.flatnonzero(flat)
    if len(at) != size or not np.array_equal(np.sort(flat[at]), numbers):
        return None
    places = np.empty(size, np.int64)
    places[flat[at].astype(np.int64) - 1] = at
    return places, moved.shape


def merged(steps: Sequence[BackwardStep]) -> list[BackwardStep]:
    """Merges consecutive views that feed only each other, and a view that changes only the shape with the dense step
    that feeds it.
    """
    writers = Counter(name for step in steps for _, name in step.live)
    together: list[BackwardStep] = []
    for step in steps:
        last = together[-1] if together else None
        if isinstance(step, View) and writers[step.source] == 1:
            if isinstance(last, View) and last.target == step.source:
                together[-1] = last.then(step)
                continue
            if isinstance(last, Dense) and last.target == step.source and step.is_reshape and not step.density:
                together[-1] = last.into(step.target, step.shape, step.layout_there)
                continue
        together.append(step)
    return together
