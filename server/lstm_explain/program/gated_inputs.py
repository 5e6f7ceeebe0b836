# SPDX-License-Identifier: Apache-2.0
"""Finds inputs that feed gates only: under the product rules "all" and "attn", no relevance reaches them."""

from __future__ import annotations

from collections.abc import Iterable

from lstm_explain.operators import Kind
from lstm_explain.operators.gates import gate_of
from lstm_explain.program.attention import Gates, with_attention
from lstm_explain.program.engine import Engine
from lstm_explain.program.reachability import live_values, path


def gated_inputs(engine: Engine, value: str, attention: bool = False) -> tuple[str, ...]:
    """Returns the inputs from which every path to `value` leads through the gate of a product.

    attention: whether products of attention have no gate (attention.py).
    """
    graph = engine.graph
    gates: Gates = engine.gates
    live, producers = live_values(graph, graph.inputs), graph.producers()
    met, receiving = {value}, {value}  # on any path; on a path without gates
    steps = path(graph, live, [value], strict=False, overridden=gates)
    if attention:
        steps, gates = with_attention(steps, gates)
    for step in reversed(steps):
        gate = None
        if step.kind is Kind.PRODUCT and step.op.product_rule is None:
            gate = gate_of(graph, producers, step.node, step.live, gates).slot
        receives = not receiving.isdisjoint(step.node.outputs)
        for slot in step.live:
            met.add(step.node.inputs[slot])
            if receives and slot != gate:
                receiving.add(step.node.inputs[slot])
        met.update(step.captured)
        if receives:
            receiving.update(step.captured)
    return tuple(name for name in graph.inputs if name in met and name not in receiving)


def warnings_of(names: Iterable[str], rule: str = "all") -> tuple[str, ...]:
    """Returns a warning for each of these inputs. rule: the product rule."""
    return tuple(
        f"feeds gates only: input {name!r}, whose relevance is 0 under product_rule {rule!r}; product_rule 'half' "
        "gives gates a share"
        for name in names
    )
