# SPDX-License-Identifier: Apache-2.0
"""Describes what happens at each node, for people and programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field

import numpy as np

from lstm_explain.graph.body_wiring import BODIES, entered
from lstm_explain.graph.ir import Graph, Node
from lstm_explain.operators import TABLE, Kind
from lstm_explain.operators.gates import gate_of
from lstm_explain.operators.operator import SAME_PLACES
from lstm_explain.operators.scales import Scales
from lstm_explain.program.attention import Attention, attention_in
from lstm_explain.program.axes import Axes, doubts
from lstm_explain.program.head import default_output, explainable, head_of
from lstm_explain.program.reachability import (
    Reachability,
    backward_node_at,
    live_values,
    path,
    reach,
    why_not,
    without_scale,
)


@dataclass(frozen=True)
class NodeReport:
    """What happens at one node.

    rule: in words, or why there is none. on_path: whether it lies between an input and the explained output. gate,
    signal: the operands of a product that are treated as such; empty for other nodes. attention: whether the product
    rule "attn" treats the node differently than "all". The names of nodes in a body begin with the name of their loop
    or branch: `loop/body/`.
    """

    name: str
    op: str
    supported: bool
    rule: str
    on_path: bool = False
    gate: str = ""
    signal: str = ""
    attention: bool = False


@dataclass(frozen=True)
class Report:
    """supported: whether LRP can explain the model's default output, the first that holds floating-point numbers.

    axes: by input, where samples and time steps lie. warnings: outputs that no method explains, values that count as
    constants although they depend on the inputs, suspected mistakes of the exporter, and guessed axes.
    """

    supported: bool
    nodes: list[NodeReport]
    axes: dict[str, Axes] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def report(graph: Graph, axes: Mapping[str, Axes], gates: Mapping[str, int | None]) -> Report:
    """gates: overrides, as in `lstm_explain.load`."""
    output = default_output(graph)
    nodes = list(_Reporter(graph, set(graph.inputs), gates, "").nodes([head_of(graph, output).value]))
    possible = explainable(graph, output) and all(n.supported for n in nodes if n.on_path)
    passed = {n.name for n in nodes if n.on_path}
    warnings = [*_whole_numbers(graph), *_taken_for_constants(graph, passed), *_first_step_only(graph, axes)]
    warnings.extend(doubts(axes))
    return Report(possible, nodes, dict(axes), warnings)


class _Reporter:
    """The nodes of one graph or body. prefix: the names of the enclosing nodes."""

    def __init__(self, graph: Graph, sources: Set[str], gates: Mapping[str, int | None], prefix: str) -> None:
        self.graph, self.gates, self.prefix = graph, gates, prefix
        self.live = live_values(graph, sources)
        self.producers = graph.producers()
        self.scales = Scales(graph, self.producers, self.live, gates)
        self.attention = Attention()
        self.kinds: dict[str, Kind] = {}

    def nodes(self, targets: Iterable[str]) -> Iterable[NodeReport]:
        passed = path(self.graph, self.live, targets, strict=False, overridden=self.gates)
        self.kinds, self.attention = {s.node.name: s.kind for s in passed}, attention_in(passed, self.gates)
        for node in self.graph.nodes:
            reached = without_scale(reach(node, self.live), node, self.scales)
            yield self._node(node, reached, on_path=node.name in self.kinds)
            if reached.outputs and node.op in BODIES:
                yield from self._inside(node, reached, on_path=node.name in self.kinds)

    def _node(self, node: Node, reached: Reachability, *, on_path: bool) -> NodeReport:
        name = self.prefix + node.name
        if not reached.outputs:
            return NodeReport(name, node.op, True, "no relevance reaches it")
        reason = why_not(self.graph, node, self.live)
        if reason:
            return NodeReport(name, node.op, False, reason, on_path)
        backward_node = backward_node_at(node, reached, self.scales)
        if backward_node.kind is not Kind.PRODUCT:
            weighs = node.name in self.attention.weights
            rule = RULES[self.kinds.get(node.name, backward_node.kind)] + (
                "; the softmax rule under attn" if weighs else ""
            )
            return NodeReport(name, node.op, True, rule, on_path, attention=weighs)
        gate = gate_of(self.graph, self.producers, node, backward_node.live, self.gates)
        if gate.slot is None:
            rule = f"product rule; {gate.why}, so each operand gets half under all"
            return NodeReport(name, node.op, True, rule, on_path)
        halves = node.name in self.attention.products
        operands = node.inputs[gate.slot], node.inputs[1 - gate.slot]
        rule = f"product rule; {gate.why}" + ("; half each under attn" if halves else "")
        return NodeReport(name, node.op, True, rule, on_path, *operands, attention=halves)

    def _inside(self, node: Node, reached: Reachability, *, on_path: bool) -> Iterable[NodeReport]:
        for name in BODIES[node.op]:
            body = entered(node, name, self.graph)
            inner = _Reporter(
                body, reached.entries | set(reached.captured), self.gates, f"{self.prefix}{node.name}/{name}/"
            )
            yield from inner.nodes([o for o in body.outputs if o in inner.live] if on_path else [])


RULES = {
    Kind.SUM: "epsilon rule over its terms",
    Kind.MAP: "epsilon rule over its units",
    Kind.SCALE: "relevance is unchanged",
    Kind.ACTIVATION: "relevance is unchanged",
    Kind.WEIGHTS: "softmax rule; the node absorbs the rest",
    Kind.FIRST_ORDER: "first-order share: the density passes by the chain rule",
    Kind.ROUTING: "relevance follows the elements",
    Kind.PRODUCT: "product rule",
    Kind.LOOKUP: "sum over the vector looked up",
    Kind.RECURRENT: "gates, sums and products of the cell by their rules, step by step",
    Kind.CONTROL: "the rules of its body, every iteration",
    Kind.NONE: "no relevance",
}


def _whole_numbers(graph: Graph) -> list[str]:
    names = [name for name in graph.outputs if not explainable(graph, name)]
    return [f"output {name!r} is of type {graph.type_of(name).dtype}: it cannot be explained" for name in names]


def _taken_for_constants(graph: Graph, passed: Set[str]) -> list[str]:
    """Returns the values that depend on the inputs through paths without relevance: a scale that was measured on
    another value than the one that it scales. The scale that DynamicQuantizeLinear measures on a value is not reported,
    because the levels of that value carry its relevance.
    """
    live, following, found = live_values(graph, graph.inputs), set(graph.inputs), []
    for node in graph.nodes:
        op = TABLE.get(node.op)
        if (op is None or op.kind is not Kind.NONE) and following.intersection(node.inputs):
            own = op is not None and op.differentiable_outputs is not None and node.name in passed
            following.update(reach(node, live).outputs if own else node.outputs)
        if node.name not in passed or node.op in BODIES:
            continue
        slots = set(reach(node, live).slots)
        aside = [n for i, n in enumerate(node.inputs) if i not in slots and n in following and _is_float(graph, n)]
        found += [f"node {node.name!r}: its input {n!r} depends on the inputs, yet gets no relevance" for n in aside]
    return found


def _is_float(graph: Graph, name: str) -> bool:
    dtype = graph.type_of(name).dtype
    return dtype is not None and dtype.kind == "f"


def _first_step_only(graph: Graph, axes: Mapping[str, Axes]) -> list[str]:
    """Keras 3 with the torch backend unrolls its layers, and for a dynamic time axis it writes a model that only reads
    step 0.
    """
    found = []
    for name, axis in axes.items():
        extents = graph.type_of(name).shape
        if axis.time is None or extents is None or isinstance(extents[axis.time], int):
            continue
        if _only_first(graph, name, axis.time):
            found.append(f"input {name!r}: its time axis has no fixed length, yet only step 0 is ever read")
    return found


def _only_first(graph: Graph, name: str, axis: int) -> bool:
    """Returns whether only position 0 of this axis is ever read, apart from lengths."""
    readers = [node for node in graph.nodes if name in (*node.inputs, *node.captured) and node.op != "Shape"]
    return name not in graph.outputs and bool(readers) and all(_reads_first(graph, node, axis) for node in readers)


def _reads_first(graph: Graph, node: Node, axis: int) -> bool:
    at = [graph.constants.get(name) for name in node.inputs]
    if node.op == "Gather":
        return node.attribute("axis", 0) == axis and at[1] is not None and bool(np.all(at[1] == 0))
    if node.op == "Slice" and len(at) > 3 and all(part is not None for part in at[1:4]):
        start, end, along = (part.tolist() for part in at[1:4] if part is not None)
        return (0, 1, axis) in zip(start, end, along, strict=False)
    if node.op == "Transpose" and node.attribute("perm"):
        return _only_first(graph, node.outputs[0], list(node.attribute("perm")).index(axis))
    return SAME_PLACES in TABLE.traits(node.op) and _only_first(graph, node.outputs[0], axis)
