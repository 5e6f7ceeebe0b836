# SPDX-License-Identifier: Apache-2.0
"""Finds inputs that feed gates only: under the product rules "all" and "attn", no relevance reaches them."""

from __future__ import annotations

from collections.abc import Iterable

from lstm_explain.graph.body_wiring import entered, wiring_of
from lstm_explain.graph.ir import Graph
from lstm_explain.operators import Kind
from lstm_explain.operators.gates import gate_of
from lstm_explain.program.attention import Gates, with_attention
from lstm_explain.program.engine import Engine
from lstm_explain.program.reachability import BackwardNode, live_values, path


def gated_inputs(engine: Engine, value: str, attention: bool = False) -> tuple[str, ...]:
    """Returns the inputs from which every path to `value` leads through the gate of a product.

    attention: whether products of attention have no gate (attention.py).
    """
    graph = engine.graph
    met, receiving = _Receivers(engine.gates, attention).of(graph, graph.inputs, {value})
    return tuple(name for name in graph.inputs if name in met and name not in receiving)


class _Receivers:
    """Finds the values that receive relevance. gates: overrides, as in `lstm_explain.load`."""

    def __init__(self, gates: Gates, attention: bool) -> None:
        self.gates, self.attention = gates, attention

    def of(self, graph: Graph, sources: Iterable[str], targets: set[str]) -> tuple[set[str], set[str]]:
        """Returns the values on any path from the sources to the targets, and those on a path without gates."""
        live, producers, gates = live_values(graph, sources), graph.producers(), self.gates
        met, receiving = set(targets), set(targets)
        steps = path(graph, live, targets, strict=False, overridden=gates)
        if self.attention:
            steps, gates = with_attention(steps, gates)
        for step in reversed(steps):
            inputs = {step.node.inputs[slot]: slot for slot in step.live}
            met.update(inputs, step.captured)
            if receiving.isdisjoint(step.node.outputs):
                continue
            if step.kind is Kind.CONTROL:
                receiving |= self._through(graph, step, receiving)
                continue
            gate = None
            if step.kind is Kind.PRODUCT:
                gate = gate_of(graph, producers, step.node, step.live, gates).slot
            receiving.update(name for name, slot in inputs.items() if slot != gate)
        return met, receiving

    def _through(self, graph: Graph, step: BackwardNode, receiving: set[str]) -> set[str]:
        """Returns the values that receive relevance through the bodies of a node, some of whose outputs do."""
        node, captured = step.node, set(step.captured)
        if node.op == "If":
            found = set[str]()
            for name, branch in node.bodies.items():
                targets = {inner for inner, o in zip(branch.outputs, node.outputs, strict=True) if o in receiving}
                found |= self.of(entered(node, name, graph), captured, targets)[1]
            return found & captured
        wiring, body = wiring_of(node), entered(node, "body", graph)
        targets = {c.exit for c in wiring.carried if c.output in receiving}
        targets |= {w.inner for w in wiring.written if w.outer in receiving}
        while True:
            found = self.of(body, step.entries | captured, targets)[1]
            more = {c.exit for c in wiring.carried if c.entry in found} - targets
            if not more:
                break
            targets |= more
        states = {node.inputs[c.slot] for c in wiring.carried if c.entry in found}
        return states | {r.outer for r in wiring.read if r.inner in found} | (found & captured)


def warnings_of(names: Iterable[str], rule: str = "all") -> tuple[str, ...]:
    """Returns a warning for each of these inputs. rule: the product rule."""
    return tuple(
        f"feeds gates only: input {name!r}, whose relevance is 0 under product_rule {rule!r}; product_rule 'half' "
        "gives gates a share"
        for name in names
    )
