# SPDX-License-Identifier: Apache-2.0
"""Follows the axes of a graph's inputs through its operators, and through the bodies of If, Loop and Scan."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field

from lstm_explain.graph.body_wiring import BODIES, wiring_of
from lstm_explain.graph.ir import Graph, Node, ValueType
from lstm_explain.operators import TABLE
from lstm_explain.operators.axis_rules import NOWHERE, Labels, Origins, same_extents

MOST_ORIGINS = 64  # labels of one axis: for a sum over many inputs, memory would grow with the square of their number
ROUNDS = 2  # passes over a body: its states at the end are those at the beginning of the next iteration


@dataclass
class Trace:
    """labels: by value, an entry per axis with the inputs' axes that it runs along; unknown values are missing. roles:
    for "batch" and "time", the inputs' axes that some operator identifies as such, in the graph's order; for "state",
    all axes of a recurrence's initial states.
    hints: axes that are probably time, used where no operator is certain. arriving: inputs' axes that some output runs
    along; leading: those that the first axis of an output runs along.
    """

    labels: dict[str, Labels]
    roles: list[tuple[str, Origins]] = field(default_factory=list)
    hints: list[Origins] = field(default_factory=list)
    arriving: set[tuple[str, int]] = field(default_factory=set)
    leading: set[tuple[str, int]] = field(default_factory=set)

    def meetings(self) -> Iterator[Origins]:
        """Yields the axes of several inputs that one axis of a value runs along."""
        yield from dict.fromkeys(o for label in self.labels.values() for o in label if len({n for n, _ in o}) > 1)


def trace(graph: Graph) -> Trace:
    traced = Trace({name: _fresh(name, graph.type_of(name)) for name in graph.inputs})
    _Tracer(traced).through(graph, traced.labels, frozenset())
    for name in graph.outputs:
        label = traced.labels.get(name, ())
        traced.arriving.update(*label)
        traced.leading.update(*label[:1])
    return traced


def _fresh(name: str, kind: ValueType) -> Labels:
    return tuple(frozenset({(name, axis)}) for axis in range(kind.rank or 0))


class _Tracer:
    def __init__(self, traced: Trace) -> None:
        self.traced = traced
        self._depth = 0

    def through(self, graph: Graph, labels: MutableMapping[str, Labels], counters: frozenset[str]) -> Origins:
        """Adds to the labels. counters: values that count the iterations of the enclosing loop. Returns the axes that
        are read at a position given by such a counter.
        """
        counting, read = set(counters), NOWHERE
        for node in graph.nodes:
            if counting:
                read |= _read_step_by_step(graph, node, labels, counting)
                if counting.intersection(node.inputs):
                    counting.update(o for o in node.outputs if _is_whole(graph, o))
            labels.update((o, x) for o, x in zip(node.outputs, self._outputs(graph, node, labels), strict=False) if o)
            self._look_at(graph, node, labels)
        return read

    def _look_at(self, graph: Graph, node: Node, labels: Mapping[str, Labels]) -> None:
        """Records what the operator shows about its operands' axes."""
        op = TABLE.get(node.op)
        if op is None:
            return
        for role, origins in op.roles(graph, node, [labels.get(name, ()) for name in node.inputs]):
            if role == "hint":
                self.traced.hints.append(origins)
            else:
                self.traced.roles.append((role, origins))

    def _outputs(self, graph: Graph, node: Node, labels: Mapping[str, Labels]) -> list[Labels]:
        if node.op in BODIES:
            made = self._branches(node, labels) if node.op == "If" else self._iterations(graph, node, labels)
        elif any(labels.get(name) for name in node.inputs):
            op = TABLE.get(node.op)
            rule = same_extents if op is None else op.axes
            came = rule(graph, node, [labels.get(name, ()) for name in node.inputs])
            made = came if isinstance(came, list) else [came] * len(node.outputs)
        else:
            return []
        return [_of_rank(x, graph.type_of(name).rank) for name, x in zip(node.outputs, made, strict=False)]

    def _branches(self, node: Node, labels: Mapping[str, Labels]) -> list[Labels]:
        ends = []
        for name in BODIES["If"]:
            body, inside = node.bodies[name], _inside(labels)
            self.through(body, inside, frozenset())
            ends.append([inside.get(o, ()) for o in body.outputs])
        return [_union(yes, no) for yes, no in zip(*ends, strict=True)]

    def _iterations(self, graph: Graph, node: Node, labels: Mapping[str, Labels]) -> list[Labels]:
        """Traces a Loop or Scan, whose output sequences run along its input sequences."""
        body, wiring = node.bodies["body"], wiring_of(node)
        states = {c.entry: labels.get(node.inputs[c.slot], ()) for c in wiring.carried}
        steps = NOWHERE
        for sliced in wiring.read:
            steps |= _axis(labels.get(sliced.outer, ()), sliced.axis)
        counters = frozenset({body.inputs[0], *_counting_states(body, wiring.carried)} if node.op == "Loop" else ())
        inside: MutableMapping[str, Labels] = {}
        rounds, self._depth = (ROUNDS if self._depth == 0 else 1), self._depth + 1  # so nesting costs little
        for _ in range(rounds):
            inside = _inside(labels)
            inside.update(states)
            for sliced in wiring.read:
                label = labels.get(sliced.outer, ())
                axis = sliced.axis % max(len(label), 1)
                inside[sliced.inner] = (*label[:axis], *label[axis + 1 :])
            steps |= self.through(body, inside, counters)
            states = {c.entry: _union(states[c.entry], inside.get(c.exit, ())) for c in wiring.carried}
        self._depth -= 1
        self.traced.roles += [("state", NOWHERE.union(*labels.get(node.inputs[c.slot], ()))) for c in wiring.carried]
        if steps:
            self.traced.roles.append(("time", steps))
        made = {c.output: states[c.entry] for c in wiring.carried}
        for written in wiring.written:
            label = inside.get(written.inner, ())
            label = label or (NOWHERE,) * (body.type_of(written.inner).rank or 0)
            axis = written.axis % (len(label) + 1)
            made[written.outer] = (*label[:axis], steps, *label[axis:])
        return [made.get(o, ()) for o in node.outputs]


def _inside(labels: Mapping[str, Labels]) -> MutableMapping[str, Labels]:
    """Labels of a body's own values, which hide those of the enclosing graph."""
    return ChainMap({}, labels)  # type: ignore[arg-type]


def _union(a: Labels, b: Labels) -> Labels:
    if len(a) != len(b):
        return a or b
    return tuple(x | y for x, y in zip(a, b, strict=True))


def _of_rank(label: Labels, rank: int | None) -> Labels:
    """Drops a value that has another rank than expected, and the labels of an axis that has too many of them."""
    if rank is not None and rank != len(label):
        return (NOWHERE,) * rank
    return tuple(NOWHERE if len(x) > MOST_ORIGINS else x for x in label)


def _axis(label: Labels, axis: int) -> Origins:
    return label[axis] if -len(label) <= axis < len(label) else NOWHERE


# --- hand-written loops ------------------------------------------------------------------------------------------


def _read_step_by_step(graph: Graph, node: Node, labels: Mapping[str, Labels], counting: set[str]) -> Origins:
    """Returns the axes that are read at a position given by a loop's iteration count."""
    label = labels.get(node.input(0), ())
    if node.op == "Gather" and node.input(1) in counting:
        return _axis(label, node.attribute("axis", 0))
    if node.op == "Slice" and node.input(1) in counting:
        axes = graph.constants.get(node.input(3))
        return NOWHERE.union(*(_axis(label, int(a)) for a in ([0] if axes is None else axes.reshape(-1).tolist())))
    return NOWHERE


def _is_whole(graph: Graph, value: str) -> bool:
    dtype = graph.type_of(value).dtype
    return dtype is not None and dtype.kind in "iu"


def _counting_states(body: Graph, carried: tuple[object, ...]) -> list[str]:
    """States that are a single integer, which may be a counter of the body's own."""
    entries = [c.entry for c in carried]  # type: ignore[attr-defined]
    return [name for name in entries if _is_whole(body, name) and body.type_of(name).rank == 0]
