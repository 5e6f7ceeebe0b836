"""What will happen at each node, for people and programs."""

from __future__ import annotations

from dataclasses import dataclass, field

from lstm_explain.graph.ir import Graph, Node
from lstm_explain.methods.axes import Axes
from lstm_explain.plan.head import head_of
from lstm_explain.plan.live import Stop, live_values, path, reach, stop_at, why_not, without_scale
from lstm_explain.rules import Kind
from lstm_explain.rules.gates import gate_slot
from lstm_explain.rules.scales import Scales


@dataclass(frozen=True)
class NodeReport:
    """What will happen at one node. `rule` is the rule, or why there is none."""

    name: str
    op: str
    supported: bool
    rule: str


@dataclass(frozen=True)
class Report:
    """supported: whether LRP can explain the model's first output. axes: by input, where samples and time steps lie."""

    supported: bool
    nodes: list[NodeReport]
    axes: dict[str, Axes] = field(default_factory=dict)


def report(graph: Graph) -> Report:
    live = live_values(graph, graph.inputs)
    producers = graph.producers()
    scales = Scales(graph, producers, live)
    nodes = [_node(graph, node, live, scales, producers) for node in graph.nodes]
    on_path = {s.node.name for s in path(graph, live, [head_of(graph, graph.outputs[0]).value], strict=False)}
    return Report(all(n.supported for n in nodes if n.name in on_path), nodes)


def _node(graph: Graph, node: Node, live: set[str], scales: Scales, producers: dict[str, Node]) -> NodeReport:
    reached = without_scale(reach(node, live), node, scales)
    if not reached.outputs:
        return NodeReport(node.name, node.op, True, "no relevance reaches it")
    reason = why_not(graph, node, live)
    if reason:
        return NodeReport(node.name, node.op, False, reason)
    stop = stop_at(graph, node, reached, producers, live)
    return NodeReport(node.name, node.op, True, _rule(graph, stop, producers))


RULES = {
    Kind.SUM: "epsilon rule over its terms",
    Kind.MAP: "epsilon rule over its units",
    Kind.SCALE: "relevance stays",
    Kind.ACTIVATION: "relevance stays",
    Kind.ROUTING: "relevance goes with the elements",
    Kind.PRODUCT: "product rule: the signal takes all, half each, or in proportion (prop, abs)",
    Kind.LOOKUP: "sum over the vector looked up",
    Kind.RECURRENT: "gates, sums and products of the cell by their rules, step by step",
    Kind.CONTROL: "the rules of its body, every iteration",
    Kind.NONE: "no relevance",
}


def _rule(graph: Graph, stop: Stop, producers: dict[str, Node]) -> str:
    if stop.kind is not Kind.PRODUCT:
        return RULES[stop.kind]
    gate = gate_slot(graph, producers, stop, {})
    if gate is None:
        return "product rule; neither operand or both are gates: halves under all"
    return f"product rule; gate {stop.node.inputs[gate]}, signal {stop.node.inputs[1 - gate]}"
