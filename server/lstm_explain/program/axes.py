# SPDX-License-Identifier: Apache-2.0
"""Finds the axes of samples and time steps of every input by following axes through the graph."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lstm_explain.graph.ir import Graph, Node
from lstm_explain.operators import TABLE
from lstm_explain.operators.axis_rules import Labels, Origins
from lstm_explain.operators.operator import SAME_PLACES
from lstm_explain.program.axis_tracing import Trace, trace
from lstm_explain.program.unrolled_loops import stepped_axes


@dataclass(frozen=True)
class Axes:
    """The axes of one input. batch: the axis of samples; time: the axis of time steps; None where there is no such
    axis.

    certain: whether the graph shows the axes or a caller sets them; False for a guess.
    """

    batch: int | None
    time: int | None
    certain: bool = field(default=True, compare=False)


def find_axes(graph: Graph) -> dict[str, Axes]:
    """Returns the axes of every input. What the graph does not show is guessed.

    An input has no batch axis where none of its axes can hold samples: all samples share it. A guess is that samples
    lie along the axis that has the name of another input's batch axis, or else along the first; time lies along the
    next one, except for inputs of a recurrent model that never become a sequence.
    """
    traced = trace(graph)
    found = _Found(graph)
    for role, origins in traced.roles:
        found.add(role, origins)
    for origins in stepped_axes(graph, traced.labels):
        found.add("time", origins)
    for origins in traced.hints:  # used only where no operator shows the time axis
        found.add("time", origins)
    found.spread(traced)
    return {name: found.axes(name, traced) for name in graph.inputs}


def find_lengths(graph: Graph) -> dict[str, str]:
    """Returns the inputs of sequence lengths: by name, the one input whose time steps they count.

    This covers only inputs that reach the recurrent nodes unchanged except for type and order, and not values that are
    computed from an input.
    """
    labels, made_by = trace(graph).labels, {o: node for node in graph.nodes for o in node.outputs}
    found: dict[str, set[str]] = {}
    for node in graph.nodes:
        if not TABLE.states(node.op):
            continue
        value = node.input(4)
        while value in made_by and (SAME_PLACES in TABLE.traits(made_by[value].op) or _sorts(made_by[value], value)):
            value = made_by[value].inputs[0]
        if value in graph.inputs and (graph.type_of(value).rank or 0) == 1:
            found.setdefault(value, set()).update(name for name, _ in time_of(node, labels))
    return {name: next(iter(of)) for name, of in found.items() if len(of) == 1}


def _sorts(node: Node, value: str) -> bool:
    """Returns whether `value` is the output of a TopK: sequences are sorted by length before they are packed."""
    return node.op == "TopK" and value == node.outputs[0]


def time_of(node: Node, labels: Mapping[str, Labels]) -> Origins:
    """Returns the inputs' axes that a recurrent node's time steps run along."""
    label, axis = labels.get(node.input(0), ()), 1 if node.attribute("layout", 0) == 1 else 0
    return label[axis] if axis < len(label) else frozenset()


class _Found:
    """What is known of each input's axes. The first statement about an input takes precedence."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.batch: dict[str, int] = {}
        self.time: dict[str, int] = {}
        self.states: set[str] = set()
        self._samples: Origins = frozenset()
        self._across: Origins | None = None

    def add(self, role: str, origins: Origins) -> None:
        if role == "state":
            self.states.update(name for name, _ in origins)
            return
        known = self.batch if role == "batch" else self.time
        for name, axis in sorted(origins):
            if role == "batch" or self.batch.get(name) != axis:
                known.setdefault(name, axis)

    def spread(self, traced: Trace) -> None:
        """Axes that broadcast against each other (those of a mask and a sequence) are of the same kind."""
        for met in traced.meetings():
            for known in (self.batch, self.time):
                if any(known.get(name) == axis for name, axis in met):
                    for name, axis in sorted(met):
                        if self.batch.get(name) != axis and self.time.get(name) != axis:
                            known.setdefault(name, axis)

    def axes(self, name: str, traced: Trace) -> Axes:
        rank = self.graph.type_of(name).rank or 0
        time = self.time.get(name)
        batch, shown = self._batch(name, rank, time, traced)
        others = [axis for axis in range(rank) if axis != batch]
        if time is None and not self.time and batch is not None and batch + 1 < rank:
            time = batch + 1
        return Axes(batch, time, shown and (name in self.time or name in self.states or len(others) < 2))

    def _batch(self, name: str, rank: int, time: int | None, traced: Trace) -> tuple[int | None, bool]:
        """Returns the axis, and whether the graph shows it."""
        if rank == 0:
            return None, True
        if name in self.batch:
            return self.batch[name], True
        able = [axis for axis in range(rank) if axis != time and self._may_hold_samples(name, axis, traced)]
        if not able:
            return None, True
        shown = self._arrived(name, able, traced)
        if shown is not None:
            return shown, True
        same = [axis for axis in able if self._symbol(name, axis) in self._symbols - {None}]
        return (same[0], True) if same else (able[0], False)

    def _arrived(self, name: str, among: Sequence[int], traced: Trace) -> int | None:
        """Returns the one axis that an output runs along, or the only one that the first axis of an output runs
        along.
        """
        reached = [axis for axis in among if (name, axis) in traced.arriving]
        ahead = [axis for axis in reached if (name, axis) in traced.leading]
        return next((shown[0] for shown in (reached, ahead) if len(shown) == 1), None)

    def _may_hold_samples(self, name: str, axis: int, traced: Trace) -> bool:
        """The result is None where a value has another input's samples along another axis than this one, and where the
        extent is fixed although that of the samples is variable.
        """
        if self._across is None:
            self._samples = self._shown_samples(traced)
            self._across = _lying_across(self._samples, traced)
        others = (self._extent(*own) for own in self._samples if own[0] != name)
        fixed = isinstance(self._extent(name, axis), int) and not all(isinstance(extent, int) for extent in others)
        return not fixed and (name, axis) not in self._across

    def _shown_samples(self, traced: Trace) -> Origins:
        """Returns the inputs' axes that hold samples, as an operator or an output shows."""
        found = dict(self.batch)
        for name in self.graph.inputs:
            rank = self.graph.type_of(name).rank or 0
            ahead = [a for a in range(rank) if a != self.time.get(name) and (name, a) in traced.leading]
            if name not in found and len(ahead) == 1 and rank > 1:
                found[name] = ahead[0]
        return frozenset(found.items())

    @functools.cached_property
    def _symbols(self) -> set[str | None]:
        """Usual names of batch axes, which count only after everything that the graph shows."""
        return {self._symbol(n, axis) for n, axis in self.batch.items()} | {
            self._symbol(name, 0) for name in self.graph.outputs[:1]
        }

    def _symbol(self, name: str, axis: int) -> str | None:
        extent = self._extent(name, axis)
        return extent if isinstance(extent, str) else None

    def _extent(self, name: str, axis: int) -> int | str | None:
        shape: Sequence[int | str | None] | None = self.graph.type_of(name).shape
        return shape[axis] if shape is not None and axis < len(shape) else None


def _lying_across(samples: Origins, traced: Trace) -> Origins:
    """Returns the axes that occur in some value together with an axis of other inputs' samples, and never coincide with
    it.
    """
    found: set[tuple[str, int]] = set()
    for label in {label for label in traced.labels.values() if len({n for x in label for n, _ in x}) > 1}:
        along = [{name for name, _ in origins & samples} for origins in label]
        inputs: set[str] = set().union(*along)
        for own in frozenset().union(*label):
            met = set().union(*(names for origins, names in zip(label, along, strict=True) if own in origins))
            if inputs - {own[0]} and not met - {own[0]}:
                found.add(own)
    return frozenset(found)


def doubts(axes: Mapping[str, Axes]) -> tuple[str, ...]:
    """Warnings for inputs whose axes are guessed."""
    return tuple(_doubt(name, own) for name, own in axes.items() if not own.certain)


def _doubt(name: str, axes: Axes) -> str:
    time = "none" if axes.time is None else f"axis {axes.time}"
    taken = f"of input {name!r}, axis {axes.batch} is taken for samples and {time} for time steps"
    return f"axes are a guess: {taken}; set batch_axis or time_axis in model.yaml, or model.axes"


def fixed_batch(axes: Mapping[str, Axes], shapes: Mapping[str, Sequence[int | str]]) -> int | None:
    """Returns how many samples a batch of these inputs must have; None: any number. An input without a batch axis takes
    one.
    """
    batches = {name: axes[name].batch for name in shapes}
    extents = [1 if (axis := batches[name]) is None else shape[axis] for name, shape in shapes.items()]
    return min((extent for extent in extents if isinstance(extent, int)), default=None)
