# SPDX-License-Identifier: Apache-2.0
"""Follows a template through all steps of the graph that repeat it."""

from __future__ import annotations

from lstm_explain.graph.ir import Node
from lstm_explain.operators import TABLE, Kind, Trait
from lstm_explain.repeats.numbering import Read
from lstm_explain.repeats.template import Fixed, From, Lane, NoTemplateError, Slot, StepConstant, Taken, Template

FEWEST_REPEATS = 16  # as many iterations as repay a session for all of them
LINEAR = Trait.STEPWISE | Trait.VIEW | Trait.SUBSET  # linear maps of the values of one step
NOWHERE = -1  # the number of what no node computes


class Steps:
    """nodes: by lane and step. first, last: the steps that repeat the template, all of whose nodes there are. Raises
    NoTemplateError where there are too few.
    """

    def __init__(self, template: Template) -> None:
        self.template, self.numbering = template, template.numbering
        self.nodes: dict[Lane, dict[int, Node]] = {
            lane: {lane.time + i: node for i, node in enumerate(lane.nodes)} for lane in template.lanes
        }
        self._placed = {node: lane.time + i for node, (lane, i) in template.positions.items()}
        self.reference = max(lane.time for lane in template.lanes)
        self._follow_back()
        self._follow_forward()
        self._follow_back()  # from what the first step reads besides its states
        end = self._follow_forward()
        self._move_late(end)
        while any(self._moved_to_its_sum(lane) for lane in template.lanes):
            pass
        template.sort()
        self._drop_gaps(self._run([lane for lane in template.lanes if not lane.optional]))
        self._drop_terms()
        self.first, self.last = self._run(template.lanes)
        if self.last - self.first + 1 < FEWEST_REPEATS:
            raise NoTemplateError

    @property
    def count(self) -> int:
        return self.last - self.first + 1

    def index(self, lane: Lane, slot: Taken, step: int) -> int:
        """Returns the position in the sequence that a step reads."""
        return slot.first + slot.stride * (step - lane.time)

    def _place(self, lane: Lane, step: int, node: Node) -> bool:
        """Two lanes may have the same node in one step, where two states begin with the same value."""
        if step in self.nodes[lane] or self._placed.get(node, step) != step or node in self.template.busy:
            return False
        self.nodes[lane][step] = node
        self._placed[node] = step
        return True

    def _follow_back(self) -> None:
        waiting = [(lane, step) for lane in self.template.lanes for step in self.nodes[lane]]
        while waiting:
            lane, step = waiting.pop()
            for slot, number in zip(lane.slots, self.numbering.of(self.nodes[lane][step]), strict=True):
                if not isinstance(slot, From) or number not in self.numbering.made:
                    continue
                node, output = self.numbering.made[number]
                before = step - lane.delay(slot)
                same = output == slot.output and self.numbering.kinds[node] == slot.lane.kind
                if same and len(node.inputs) == len(slot.lane.slots) and self._place(slot.lane, before, node):
                    waiting.append((slot.lane, before))

    def _follow_forward(self) -> int:
        """Returns the last step of which any node was found."""
        step = min(step for nodes in self.nodes.values() for step in nodes)
        while True:
            there = False
            for lane in self.template.lanes:
                if step not in self.nodes[lane]:
                    node = self._find(lane, step)
                    if node is not None:
                        self._place(lane, step, node)
                there |= step in self.nodes[lane]
            if not there:
                return step - 1
            step += 1

    def _find(self, lane: Lane, step: int) -> Node | None:
        """Returns the node that reads what the lane's node of that step must read."""
        expected = self.expected(lane, step)
        for slot, number in zip(lane.slots, expected, strict=True):
            if number is None and isinstance(slot, From):
                known = self.nodes[slot.lane]
                if not lane.delay(slot) or not known or min(known) < step:
                    return None  # only states of the first step may come from anywhere
        for slot, number in zip(lane.slots, expected, strict=True):
            if number is None or not isinstance(slot, From | Taken):
                continue
            for node, _ in self.numbering.readers.get(number, []):
                if self.numbering.kinds[node] != lane.kind or not self._agrees(node, expected):
                    continue
                if self._placed.get(node, step) == step:
                    return node
        return None

    def _agrees(self, node: Node, expected: list[int | None]) -> bool:
        operands = self.numbering.of(node)
        return len(operands) == len(expected) and all(e in (None, o) for e, o in zip(expected, operands, strict=True))

    def expected(self, lane: Lane, step: int) -> list[int | None]:
        """Returns what the node must read; None where that is not known: states of steps that are not there."""
        return [self._expected(lane, slot, step) for slot in lane.slots]

    def _expected(self, lane: Lane, slot: object, step: int) -> int | None:
        known = self.numbering
        if isinstance(slot, Fixed):
            return slot.number
        if isinstance(slot, Taken):
            return known.at.get(Read(slot.source, slot.axis, self.index(lane, slot, step), slot.kept), NOWHERE)
        if isinstance(slot, From):
            node = self.nodes[slot.lane].get(step - lane.delay(slot))
            return None if node is None else known.number(node.outputs[slot.output])
        return None

    # --- which nodes wait for the next step ---------------------------------------------------------------------------

    def _move_late(self, end: int) -> None:
        """Moves what the next step begins with to that step: what the last step lacks, though it depends on nothing
        else that the last step lacks. It is what the network computes from a state only if another step follows.
        """
        if any(end - 1 not in self.nodes[lane] for lane in self.template.lanes if not lane.optional):
            return  # the repeats end before: what lacks is no sign of anything
        late = {lane for lane in self.template.lanes if end not in self.nodes[lane]}
        while True:
            kept = {lane for lane in late if self._may_wait(lane, late)}
            kept -= {
                s.lane
                for lane in self.template.lanes
                if lane not in kept
                for s in lane.slots
                if isinstance(s, From) and not lane.delay(s)
            }
            if kept == late:
                break
            late = kept
        for lane in late:
            lane.time += 1
            self.nodes[lane] = {step + 1: node for step, node in self.nodes[lane].items()}
        self.template.sort()

    @staticmethod
    def _may_wait(lane: Lane, late: set[Lane]) -> bool:
        return not any(isinstance(s, Taken | StepConstant) for s in lane.slots) and all(
            not lane.delay(s) or s.lane in late for s in lane.slots if isinstance(s, From)
        )

    def _moved_to_its_sum(self, lane: Lane) -> bool:
        """Moves a linear map of a state to the next step, where the sum is that it feeds, if that takes no more states.
        Where the last steps differ from the others, nothing else shows that it belongs there.
        """
        slots = [s for s in lane.slots if isinstance(s, From)]
        readers = [(n, s) for n in self.template.lanes for s in n.slots if isinstance(s, From) and s.lane is lane]
        movable = TABLE.traits(lane.nodes[0].op) & LINEAR and not any(
            isinstance(s, Taken | StepConstant) for s in lane.slots
        )
        if not movable or not readers or any(lane.delay(s) for s in slots) or not all(n.delay(s) for n, s in readers):
            return False
        states = self._states()
        lane.time += 1
        if len(self._states()) > len(states):
            lane.time -= 1
            return False
        self.nodes[lane] = {step + 1: node for step, node in self.nodes[lane].items()}
        return True

    def _states(self) -> set[tuple[Lane, int]]:
        lanes = self.template.lanes
        return {(s.lane, s.output) for n in lanes for s in n.slots if isinstance(s, From) and n.delay(s)}

    # --- which steps are alike ----------------------------------------------------------------------------------------

    def _run(self, lanes: list[Lane]) -> tuple[int, int]:
        """Returns the first and last of the steps around the template that agree with it."""
        first = last = self.reference
        while self._complete(lanes, last + 1, first=False):
            last += 1
        while self._complete(lanes, first, first=False):
            first -= 1
        while first <= self.reference and not self._complete(lanes, first, first=True):
            first += 1
        return (first, last) if first <= self.reference else (0, -1)

    def _complete(self, lanes: list[Lane], step: int, *, first: bool) -> bool:
        """first: whether states may come from anywhere, if their types are those of the states of other steps."""
        for lane in lanes:
            node = self.nodes[lane].get(step)
            if node is None or node in self.numbering.ends:
                return False
            found = zip(lane.slots, self.expected(lane, step), self.numbering.of(node), strict=True)
            for i, (slot, expected, operand) in enumerate(found):
                if isinstance(slot, From) and lane.delay(slot) and first:
                    if not self._same_type(node.inputs[i], slot.lane, slot.output):
                        return False
                elif isinstance(slot, StepConstant):
                    if not self._same_constant(operand, lane, i):
                        return False
                elif expected != operand and not (first and self._begins(node.inputs[i], slot, expected)):
                    return False
        return True

    def _begins(self, name: str, slot: Slot, expected: int | None) -> bool:
        """Returns whether the value may be in front of a sequence, as what the first step reads of the previous one."""
        if not isinstance(slot, Taken) or slot.kept or expected != NOWHERE:
            return False
        value = self.numbering.at[Read(slot.source, slot.axis, slot.first, slot.kept)]
        return self._alike(name, self.numbering.names[value])

    def _same_type(self, name: str, lane: Lane, output: int) -> bool:
        return self._alike(name, lane.nodes[0].outputs[output])

    def _alike(self, name: str, one: str) -> bool:
        own, other = self.numbering.graph.type_of(name), self.numbering.graph.type_of(one)
        if own.dtype is None or own.dtype != other.dtype or own.shape is None or other.shape is None:
            return False
        pairs = zip(own.shape, other.shape, strict=False)  # exporters name the same extent anew in each step
        return len(own.shape) == len(other.shape) and all(
            a == b or (a != 1 and b != 1 and not (isinstance(a, int) and isinstance(b, int))) for a, b in pairs
        )

    def _same_constant(self, operand: int, lane: Lane, slot: int) -> bool:
        known = self.numbering
        if operand not in known.constants:
            return False
        own, other = known.constant(operand), self.numbering.graph.constants[lane.nodes[0].inputs[slot]]
        return own.dtype == other.dtype and own.shape == other.shape

    def _drop_gaps(self, core: tuple[int, int]) -> None:
        """Drops optional lanes that some of the steps lack, or that hold the activation of an output."""
        for lane in [lane for lane in self.template.lanes if lane.optional]:
            own = {self.nodes.get(lane, {}).get(step) for step in range(core[0], core[1] + 1)}
            if lane in self.nodes and (None in own or not self.numbering.ends.isdisjoint(own)):
                self._drop(lane)

    def _drop_terms(self) -> None:
        """Drops optional lanes whose values are terms of sums outside: a sum and the linear maps that feed it are one
        neuron.
        """
        while True:
            inside = {node for nodes in self.nodes.values() for node in nodes.values()}
            found = [n for n in self.template.lanes if n.optional and n in self.nodes and self._is_term(n, inside)]
            if not found:
                return
            self._drop(found[-1])

    def _is_term(self, lane: Lane, inside: set[Node]) -> bool:
        return any(
            reader not in inside and _is_sum(reader)
            for node in self.nodes[lane].values()
            for output in node.outputs
            for reader, _ in self.numbering.readers.get(self.numbering.number(output), [])
        )

    def _drop(self, lane: Lane) -> None:
        """Drops the lane, and what depends on it. Raises NoTemplateError where a state does."""
        gone = {lane}
        while True:
            more = {
                other
                for other in self.template.lanes
                if other not in gone and any(isinstance(s, From) and s.lane in gone for s in other.slots)
            }
            if not more:
                break
            gone |= more
        if any(not other.optional for other in gone):
            raise NoTemplateError
        self.template.lanes = [other for other in self.template.lanes if other not in gone]
        for other in gone:
            self.nodes.pop(other, None)


def _is_sum(node: Node) -> bool:
    op = TABLE.get(node.op)
    return op is not None and op.kind is Kind.SUM
