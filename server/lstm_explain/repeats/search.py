# SPDX-License-Identifier: Apache-2.0
"""Searches a graph for cells that it repeats."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

from lstm_explain.graph.ir import Node
from lstm_explain.repeats.numbering import Numbering, Read
from lstm_explain.repeats.steps import FEWEST_REPEATS, Steps
from lstm_explain.repeats.template import STEPS, NoTemplateError, Template

MOST_USES = 12  # of the same weights by one step, such as the solver of an ordinary differential equation
MOST_VISITED = 4096  # nodes between two uses


class Cell:
    """A repeated cell. steps: its nodes. sequences: by lane and slot of output, the number of the value over all
    steps.
    """

    def __init__(self, steps: Steps) -> None:
        self.steps, numbering = steps, steps.numbering
        first = min((nodes[steps.first] for nodes in steps.nodes.values()), key=numbering.place.__getitem__)
        self.name = f"{first.name} ({steps.count} repeats)"
        self.sequences = {}
        for lane in steps.template.lanes:
            for output, value in enumerate(steps.nodes[lane][steps.first].outputs):
                if value:
                    number = self.sequences[lane, output] = numbering.number(f"{self.name}/{value}")
                    for step in range(steps.first, steps.last + 1):
                        made = numbering.number(steps.nodes[lane][step].outputs[output])
                        read = Read(number, 0, step - steps.first, False)
                        numbering.reads[made], numbering.at[read] = read, made

    @property
    def nodes(self) -> Iterator[Node]:
        for lane in self.steps.template.lanes:
            for step in range(self.steps.first, self.steps.last + 1):
                yield self.steps.nodes[lane][step]


def find_cells(numbering: Numbering) -> list[Cell]:
    """Returns the cells that the graph repeats, in an order in which each reads only the sequences of earlier ones."""
    found, busy = list[Cell](), set[Node]()
    waiting = [group for group in _groups(numbering) if len(group) >= FEWEST_REPEATS]
    while waiting:
        failed, before = [], len(found)
        for group in waiting:
            free = [node for node in group if node not in busy]
            if len(free) < FEWEST_REPEATS:
                continue
            steps = _steps_through(numbering, free, busy)
            if steps is None:
                failed.append(group)
                continue
            found.append(Cell(steps))
            busy.update(found[-1].nodes)
            failed.append(group)  # may hold the nodes of another tower
        waiting = failed if len(found) > before else []
    return found


def _groups(numbering: Numbering) -> list[list[Node]]:
    groups: dict[int, list[Node]] = {}
    for node, group in numbering.groups.items():
        if numbering.repeatable(node):
            groups.setdefault(group, []).append(node)
    return list(groups.values())


def _steps_through(numbering: Numbering, group: Sequence[Node], busy: set[Node]) -> Steps | None:
    """Returns the steps of the cell that the nodes are parts of; None where they are of no cell."""
    members, begin = set(group), len(group) // 2
    for start in dict.fromkeys((begin, (begin + len(group)) // 2, begin // 2)):
        steps = _steps_before(numbering, group[start], members, busy)
        if steps is not None:
            return steps
    return None


def _steps_before(numbering: Numbering, node: Node, members: set[Node], busy: set[Node]) -> Steps | None:
    chain = [node]
    for uses in range(1, min(MOST_USES, len(members) // FEWEST_REPEATS) + 1):
        while len(chain) < uses * (STEPS - 1) + 1:
            previous = _previous(numbering, chain[-1], members)
            if previous is None:
                return None
            chain.append(previous)
        try:
            return Steps(Template(numbering, chain[: uses * (STEPS - 1) + 1 : uses][::-1], busy))
        except NoTemplateError:
            continue
    return None


def _previous(numbering: Numbering, node: Node, members: set[Node]) -> Node | None:
    """Returns the last of the members that the node depends on."""
    place, made = numbering.place, numbering.made
    waiting = list[tuple[int, int]]()
    numbers = set[int]()

    def visit(reader: Node) -> None:
        for number in numbering.of(reader):
            if number in made and number not in numbers:
                numbers.add(number)
                heapq.heappush(waiting, (-place[made[number][0]], number))

    visit(node)
    for _ in range(MOST_VISITED):
        if not waiting:
            return None
        found = made[heapq.heappop(waiting)[1]][0]
        if found in members:
            return found
        visit(found)
    return None
