# SPDX-License-Identifier: Apache-2.0
"""How the bodies of If, Loop and Scan are connected to the graph around them."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace

from lstm_explain.graph.ir import Around, Graph, Node

BODIES = {"If": ("then_branch", "else_branch"), "Loop": ("body",), "Scan": ("body",)}


@dataclass(frozen=True)
class Carried:
    """A state: input `slot` of the node holds its initial value, the body turns `entry` into `exit`, and `output` of
    the node is its final value.
    """

    slot: int
    entry: str
    exit: str
    output: str


@dataclass(frozen=True)
class Sliced:
    """A sequence read or written step by step along `axis`: `outer` in the enclosing graph, `inner` in the body. slot:
    its slot among the node's inputs, if it is read.
    """

    outer: str
    inner: str
    axis: int
    backwards: bool
    slot: int = -1


@dataclass(frozen=True)
class Wiring:
    carried: tuple[Carried, ...] = ()
    read: tuple[Sliced, ...] = ()
    written: tuple[Sliced, ...] = ()


def wiring_of(node: Node) -> Wiring:
    """Returns the wiring of a Loop or a Scan."""
    return _loop(node, node.bodies["body"]) if node.op == "Loop" else _scan(node, node.bodies["body"])


def _loop(node: Node, body: Graph) -> Wiring:
    count = len(body.inputs) - 2
    carried = tuple(Carried(2 + k, body.inputs[2 + k], body.outputs[1 + k], _at(node.outputs, k)) for k in range(count))
    written = tuple(
        Sliced(_at(node.outputs, count + j), inner, 0, False) for j, inner in enumerate(body.outputs[1 + count :])
    )
    return Wiring(carried, (), written)


def _scan(node: Node, body: Graph) -> Wiring:
    reading = node.attribute("num_scan_inputs")
    count = len(node.inputs) - reading
    carried = tuple(Carried(k, body.inputs[k], body.outputs[k], _at(node.outputs, k)) for k in range(count))
    writing = len(body.outputs) - count
    axes_in, back_in = _per(node, "scan_input_axes", reading), _per(node, "scan_input_directions", reading)
    axes_out, back_out = _per(node, "scan_output_axes", writing), _per(node, "scan_output_directions", writing)
    read = tuple(
        Sliced(node.inputs[count + j], body.inputs[count + j], axes_in[j], bool(back_in[j]), count + j)
        for j in range(reading)
    )
    written = tuple(
        Sliced(_at(node.outputs, count + j), body.outputs[count + j], axes_out[j], bool(back_out[j]))
        for j in range(writing)
    )
    return Wiring(carried, read, written)


def _per(node: Node, attribute: str, count: int) -> list[int]:
    return list(node.attribute(attribute) or [0] * count)


def _at(names: tuple[str, ...], index: int) -> str:
    return names[index] if index < len(names) else ""


def entered(node: Node, name: str, graph: Graph) -> Graph:
    """Returns a body of the node, which lies in `graph`, as a graph of its own, in which values that it reads from the
    enclosing graph are further inputs.
    """
    body = node.bodies[name]
    captured = [value for value in body.captured if value not in body.constants]
    names = dict(zip(captured, captured, strict=True))
    if node.op == "Scan":
        names |= {part.inner: part.outer for part in wiring_of(node).read}
    return replace(body, inputs=[*body.inputs, *captured], around=Around(graph, names))


def across(graph: Graph, producers: Mapping[str, Node], value: str) -> tuple[Graph, Mapping[str, Node], str]:
    """Returns a value with its graph and the producers there, followed across the borders of bodies: out of one that
    reads it from the graph around, and into a loop that writes it step by step.
    """
    node = producers.get(value)
    if node is None and graph.around is not None and value in graph.around.names:
        return across(graph.around.graph, graph.around.producers, graph.around.names[value])
    if node is not None and node.op in ("Loop", "Scan"):
        for part in wiring_of(node).written:
            if part.outer == value:
                body = entered(node, "body", graph)
                return across(body, body.producers(), part.inner)
    return graph, producers, value


def sources(node: Node, body: Graph) -> dict[str, str]:
    """Maps what an entered body reads of the enclosing graph to its names there: the values that it captures, the
    sequences that steps are taken from, and the initial states.
    """
    assert body.around is not None
    started = wiring_of(node).carried if node.op in ("Loop", "Scan") else ()  # of opset 8, Scan is another operator
    return {**body.around.names, **{state.entry: node.inputs[state.slot] for state in started}}


def entries(node: Node, live: Set[str]) -> set[str]:
    """Returns the inputs of a Loop's or Scan's body that are live from the start."""
    wiring = wiring_of(node)
    started = {c.entry for c in wiring.carried if node.inputs[c.slot] in live}
    return started | {s.inner for s in wiring.read if s.outer in live}
