# SPDX-License-Identifier: Apache-2.0
"""Derives the nodes of one step of a repeated cell, and how steps are connected, from a few consecutive steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lstm_explain.graph.ir import Node
from lstm_explain.repeats.numbering import ABSENT, Numbering, Read

STEPS = 4  # consecutive steps from which a template is derived
MOST_LANES = 512  # nodes of one step
# Operators whose operands may be constants that differ from step to step, such as an encoding of positions.
WITH_STEP_CONSTANTS = set("Add Sub Mul Div Where And Or Max Min Pow Equal Less Greater".split())  # noqa: SIM905


@dataclass(frozen=True)
class Fixed:
    """An operand that all steps share."""

    number: int


@dataclass(frozen=True)
class StepConstant:
    """An operand that is another constant in each step."""


@dataclass(frozen=True)
class Taken:
    """One step of a sequence: position `first + stride * i` for node i of the lane."""

    source: int
    axis: int
    kept: bool
    first: int
    stride: int


@dataclass(frozen=True)
class From:
    """Output `output` of node `i - shift` of another lane, for node i."""

    lane: Lane
    output: int
    shift: int


Slot = Fixed | StepConstant | Taken | From


@dataclass(eq=False)
class Lane:
    """The nodes with the same role, one for each step. nodes: those of the first few steps. time: the step of the first
    of them, so that every node is in the first step in which its operands are known. optional: whether no state depends
    on the lane.
    """

    kind: int
    nodes: list[Node]
    slots: list[Slot] = field(default_factory=list)
    time: int = 0
    optional: bool = False

    def delay(self, slot: From) -> int:
        """Returns by how many steps an operand is older than what reads it."""
        return self.time + slot.shift - slot.lane.time


class NoTemplateError(Exception):
    """The nodes are no steps of a cell."""


class Template:
    """lanes: in an order in which a step can be computed."""

    def __init__(self, numbering: Numbering, seeds: Sequence[Node], busy: set[Node]) -> None:
        """seeds: nodes of a few consecutive steps, each of which depends on the previous one. busy: nodes of other
        cells. Raises NoTemplateError.
        """
        self.numbering, self.busy = numbering, busy
        self.positions: dict[Node, tuple[Lane, int]] = {}
        self.lanes: list[Lane] = []
        self._close([self._lane(seeds)])
        self._schedule()
        self._grow()

    def _lane(self, nodes: Sequence[Node]) -> Lane:
        """Adds a lane. Raises NoTemplateError."""
        kinds = {self.numbering.kinds[node] for node in nodes}
        usable = len(kinds) == 1 and len(set(nodes)) == len(nodes) and len(self.lanes) < MOST_LANES
        free = usable and not any(node in self.positions or node in self.busy for node in nodes)
        if not free or not self.numbering.repeatable(nodes[0]) or self.numbering.ends.issuperset(nodes):
            raise NoTemplateError
        lane = Lane(kinds.pop(), list(nodes))
        self.lanes.append(lane)
        self.positions.update((node, (lane, i)) for i, node in enumerate(nodes))
        return lane

    def _close(self, waiting: list[Lane]) -> None:
        """Adds everything that the lanes depend on."""
        while waiting:
            lane = waiting.pop()
            if len({len(node.inputs) for node in lane.nodes}) > 1:
                raise NoTemplateError
            for operands in zip(*(self.numbering.of(node) for node in lane.nodes), strict=True):
                slot = self._slot(lane, operands)
                if slot is None:
                    made = [self.numbering.made[number] for number in operands]
                    if len({output for _, output in made}) > 1:
                        raise NoTemplateError
                    source = self._lane([node for node, _ in made])
                    waiting.append(source)
                    slot = From(source, made[0][1], 0)
                lane.slots.append(slot)

    def _slot(self, lane: Lane, operands: tuple[int, ...]) -> Slot | None:
        """Returns None for the outputs of nodes that no lane holds."""
        known = self.numbering
        if len({*operands}) == 1:
            return Fixed(operands[0])
        if ABSENT in operands:
            raise NoTemplateError
        if known.constants.issuperset(operands):
            arrays = [known.constant(number) for number in operands]
            if len({(a.dtype, a.shape) for a in arrays}) > 1 or lane.nodes[0].op not in WITH_STEP_CONSTANTS:
                raise NoTemplateError
            return StepConstant()
        reads = [known.reads.get(number) for number in operands]
        if len({None if read is None else (read.source, read.axis, read.kept) for read in reads}) == 1 and reads[0]:
            return _taken([read for read in reads if read is not None])
        if any(number not in known.made for number in operands):
            raise NoTemplateError
        made = [known.made[number] for number in operands]
        places = [self.positions.get(node) for node, _ in made]
        there = [(i, place) for i, place in enumerate(places) if place is not None]
        if not there:
            return None
        i, (source, j) = there[0]
        shift = i - j
        expected = [(source, k - shift) if 0 <= k - shift < len(lane.nodes) else None for k in range(len(lane.nodes))]
        if places != expected or len({output for _, output in made}) > 1:
            raise NoTemplateError
        return From(source, made[0][1], shift)

    # --- which step a node belongs to -------------------------------------------------------------------------------

    def _schedule(self) -> None:
        """Finds `time` of every lane: the first step in which its operands are known, and sorts the lanes. Raises
        NoTemplateError where states are older than one step.
        """
        times: dict[Lane, int] = {}
        for lane in self.lanes:
            taken = [s.first if s.stride > 0 else -s.first for s in lane.slots if isinstance(s, Taken)]
            if taken:
                times[lane] = max(taken)
        if not times:
            raise NoTemplateError
        base = min(times.values())
        for lane in times:
            times[lane] -= base
        for _ in range(len(self.lanes) + 1):
            changed = False
            for lane in self.lanes:
                for slot in lane.slots:
                    if isinstance(slot, From) and slot.lane in times:
                        time = times[slot.lane] - slot.shift
                        if time > times.get(lane, time - 1):
                            times[lane], changed = time, True
            if not changed:
                break
        if changed or len(times) < len(self.lanes):
            raise NoTemplateError
        for lane in self.lanes:
            lane.time = times[lane]
        self.sort()

    def sort(self) -> None:
        """Puts the lanes in an order in which a step can be computed. Raises NoTemplateError."""
        for lane in self.lanes:
            if any(isinstance(slot, From) and lane.delay(slot) not in (0, 1) for slot in lane.slots):
                raise NoTemplateError
        done: dict[Lane, None] = {}
        opened: set[Lane] = set()
        for root in self.lanes:
            stack = [(root, False)]
            while stack:
                lane, closing = stack.pop()
                if closing:
                    done[lane] = None
                elif lane not in done:
                    if lane in opened:
                        raise NoTemplateError
                    opened.add(lane)
                    stack.append((lane, True))
                    inner = (s.lane for s in lane.slots if isinstance(s, From) and not lane.delay(s))
                    stack += [(other, False) for other in dict.fromkeys(inner) if other not in done]
        self.lanes = list(done)

    # --- what reads the states ----------------------------------------------------------------------------------------

    def _grow(self) -> None:
        """Adds what every step computes from the states, though no state depends on it."""
        tried = set[Node]()
        waiting = list(self.lanes)
        while waiting:
            for nodes in self._readers(waiting.pop()):
                if nodes[0] in tried:
                    continue
                tried.add(nodes[0])
                before = list(self.lanes), dict(self.positions), {lane: lane.time for lane in self.lanes}
                try:
                    lane = self._lane(nodes)
                    lane.optional = True
                    self._close([lane])
                    self._schedule()
                except NoTemplateError:
                    self.lanes, self.positions, times = before
                    for lane, time in times.items():
                        lane.time = time
                    continue
                new = [lane for lane in self.lanes if lane not in before[2]]
                for lane in new:
                    lane.optional = True
                waiting += new

    def _readers(self, lane: Lane) -> list[list[Node]]:
        """Returns nodes of consecutive steps that read the same output of the lane in the same way."""
        found = list[list[Node]]()
        for output in range(len(lane.nodes[0].outputs)):
            by_step: list[dict[tuple[int, int], list[Node]]] = []
            for node in lane.nodes:
                readers: dict[tuple[int, int], list[Node]] = {}
                for reader, slot in self.numbering.readers.get(self.numbering.number(node.outputs[output]), []):
                    if node.outputs[output] and reader not in self.positions:
                        readers.setdefault((self.numbering.groups[reader], slot), []).append(reader)
                by_step.append(readers)
            for key in by_step[0]:  # the last step may have more readers: those of a step that is not a part of it
                steps = (readers.get(key, []) for readers in by_step)
                found += [list(nodes) for nodes in zip(*steps, strict=False)]
        return found


def _taken(reads: Sequence[Read]) -> Taken:
    """reads: of one sequence. Raises NoTemplateError where they are no consecutive steps."""
    first, stride = reads[0], reads[1].index - reads[0].index
    if stride not in (-1, 1) or any(read.index != first.index + stride * i for i, read in enumerate(reads)):
        raise NoTemplateError
    return Taken(first.source, first.axis, first.kept, first.index, stride)
