# SPDX-License-Identifier: Apache-2.0
"""Replaces the repeats of cells by Scans, and drops what nothing reads any more."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import cache

from lstm_explain.graph.canonical import canonicalise
from lstm_explain.graph.ir import Graph, Node, Repeats
from lstm_explain.graph.node_editing import make
from lstm_explain.graph.topological_order import order_of
from lstm_explain.repeats.numbering import Numbering
from lstm_explain.repeats.scan_writer import ScanWriter, Stack
from lstm_explain.repeats.search import find_cells
from lstm_explain.repeats.steps import FEWEST_REPEATS
from lstm_explain.repeats.template import Lane

FIRST_OPSET = 9  # before, Scan was another operator
Place = tuple[ScanWriter, Lane, int, int]  # a cell, and which of its values: lane, output, step


def fold_repeats(graph: Graph, marks: Mapping[str, Hashable]) -> Graph:
    """Returns the graph with one Scan in place of each cell that it repeats 16 times or more; the graph itself where
    there is none.

    marks: by node name, what makes a node different from others with the same operator and attributes.
    """
    if len(graph.nodes) < 2 * FEWEST_REPEATS or graph.nodes[0].opset < FIRST_OPSET:
        return graph
    numbering = Numbering(graph, marks)
    cells = find_cells(numbering)
    if not cells:
        return graph
    folded = Graph(graph.inputs, graph.outputs, [], dict(graph.constants), dict(graph.types), graph.opsets,
                   graph.ir_version, graph.captured)  # fmt: skip
    nodes = _Folding(folded, numbering, [ScanWriter(folded, cell) for cell in cells]).nodes(graph)
    if nodes is None:
        return graph
    folded.nodes = nodes
    values = frozenset(o for cell in cells for node in cell.nodes for o in node.outputs if o)
    names = frozenset(node.name for cell in cells for node in cell.nodes)
    folded.repeats = Repeats(names, values.difference(graph.outputs), cache(lambda: canonicalise(graph)))
    return folded


class _Folding:
    def __init__(self, graph: Graph, numbering: Numbering, writers: list[ScanWriter]) -> None:
        self.graph, self.numbering = graph, numbering
        self.needed: dict[ScanWriter, None] = {}
        self.places: dict[int, Place] = {}
        self.sequences: dict[int, tuple[ScanWriter, Lane, int]] = {}
        for writer in writers:
            steps = writer.steps
            for lane in steps.template.lanes:
                for step in range(steps.first, steps.last + 1):
                    for output, name in enumerate(steps.nodes[lane][step].outputs):
                        if name:
                            self.places[numbering.number(name)] = writer, lane, output, step
            self.sequences |= {n: (writer, *key) for key, n in writer.cell.sequences.items()}

    def nodes(self, graph: Graph) -> list[Node] | None:
        """Returns what computes the outputs, in order; None where cells and nodes depend on each other in a circle."""
        producers, kept = graph.producers(), dict[Node, Node]()
        waiting, seen = list(graph.outputs), set[str]()
        while waiting:
            name = waiting.pop()
            if not name or name in seen:
                continue
            seen.add(name)
            number, before = self.numbering.number(name), len(self.needed)
            if number in self.sequences:
                writer, lane, output = self.sequences[number]
                self._need(writer).stack(Stack(lane, output))
            elif number in self.places:
                writer, lane, output, step = self.places[number]
                self._need(writer).give(name, lane, output, step)
            else:
                node = producers.get(name)
                if node is not None and node not in kept:
                    kept[node] = self._joined(node)
                    waiting += [*kept[node].inputs, *node.captured]
            for writer in [*self.needed][before:]:
                waiting += writer.inputs
        place = self.numbering.place
        placed = [(place[node], [new]) for node, new in kept.items()]
        placed += [(place[next(iter(w.cell.nodes))], w.nodes()) for w in self.needed]
        return _sorted([node for _, nodes in sorted(placed, key=lambda pair: pair[0]) for node in nodes])

    def _need(self, writer: ScanWriter) -> ScanWriter:
        self.needed[writer] = None
        return writer

    def _joined(self, node: Node) -> Node:
        """Returns the node; where it joins the steps of a cell along a new axis, one that reads them from the Scan."""
        rank = self.graph.type_of(node.outputs[0]).rank
        if node.op != "Concat" or len(node.inputs) < FEWEST_REPEATS or rank is None:
            return node
        axis = node.attribute("axis") % rank
        rows = [self._row(name, axis, rank) for name in node.inputs]
        inputs, i = list[str](), 0
        while i < len(rows):
            row = rows[i]
            if row is not None:
                writer, lane, output, step = row
                count, first, last = writer.steps.count, writer.steps.first, writer.steps.last
                for backwards, every in ((False, range(first, last + 1)), (True, range(last, first - 1, -1))):
                    if step == every[0] and rows[i : i + count] == [(writer, lane, output, s) for s in every]:
                        inputs.append(self._need(writer).stack(Stack(lane, output, axis, backwards)))
                        i += count
                        break
                else:
                    row = None
            if row is None:
                inputs.append(node.inputs[i])
                i += 1
        if len(inputs) == len(node.inputs):
            return node
        if len(inputs) == 1:
            return make("Identity", inputs, node.outputs, node.opset, node.name)
        return make("Concat", inputs, node.outputs, node.opset, node.name, axis=axis)

    def _row(self, name: str, axis: int, rank: int) -> Place | None:
        """Returns the value of a cell that was given a new axis of extent 1."""
        made = self.numbering.made.get(self.numbering.number(name))
        if made is None or made[0].op != "Unsqueeze":
            return None
        node = made[0]
        axes = self.graph.constants.get(node.input(1)) if len(node.inputs) > 1 else node.attribute("axes")
        if axes is None or [int(a) % rank for a in axes] != [axis]:
            return None
        return self.places.get(self.numbering.number(node.inputs[0]))


def _sorted(nodes: list[Node]) -> list[Node] | None:
    """Returns the nodes in an order in which they can run; None where there is none."""
    producers = {output: i for i, node in enumerate(nodes) for output in node.outputs if output}
    needs = [{producers[n] for n in (*node.inputs, *node.captured) if n in producers} for node in nodes]
    order = order_of(needs)
    return None if order is None else [nodes[i] for i in order]
