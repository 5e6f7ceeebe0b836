"""Which values the model's inputs reach, and by which operators relevance can walk back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from lstm_explain.errors import UnsupportedOperator
from lstm_explain.graph.ir import Array, Graph, Node
from lstm_explain.rules import TABLE, Kind, Op, Site
from lstm_explain.rules.op import unbroadcast
from lstm_explain.rules.recurrent import needs_constants


def _equal_parts(site: Site, slot: int, r: Array) -> Array:
    return unbroadcast(r, site.shape(slot)) / len(site.live)


# Arithmetic on token ids (offsets, wrapped negatives) computes an address, not a value: no share of it is larger.
ADDRESS = Op(Kind.ROUTING, _equal_parts, reads=("s",))


@dataclass(frozen=True, eq=False)
class Stop:
    """One node as relevance passes it: its rule and the slots that lead back to an input."""

    node: Node
    op: Op
    kind: Kind
    live: tuple[int, ...]


def live_values(graph: Graph, sources: Iterable[str]) -> set[str]:
    """Every value through which relevance may reach one of `sources`."""
    live = set(sources)
    for node in graph.nodes:
        if live_slots(node, live) or any(name in live for name in node.captured):
            live |= {o for o in _carrying_outputs(node) if not _is_bool(graph, o)}
    return live


def live_slots(node: Node, live: set[str]) -> tuple[int, ...]:
    op = TABLE.get(node.op)
    slots = range(len(node.inputs)) if op is None or op.carries is None else op.carries
    return tuple(i for i in slots if node.input(i) in live)


def _carrying_outputs(node: Node) -> tuple[str, ...]:
    op = TABLE.get(node.op)
    chosen = None if op is None else op.outputs
    outputs = node.outputs if chosen is None else [node.outputs[i] for i in chosen if i < len(node.outputs)]
    return tuple(o for o in outputs if o)


def _is_bool(graph: Graph, value: str) -> bool:
    return graph.type_of(value).dtype == np.dtype(bool)


def path(graph: Graph, live: set[str], targets: Iterable[str], *, strict: bool = True) -> list[Stop]:
    """The nodes between the inputs and `targets` that relevance passes, in topological order.

    Raises UnsupportedOperator for the first that has no rule, if `strict`.
    """
    wanted = {t for t in targets if t in live}
    stops: list[Stop] = []
    for node in reversed(graph.nodes):
        if not wanted.intersection(_carrying_outputs(node)):
            continue
        slots = live_slots(node, live)
        if not slots and not any(name in live for name in node.captured):
            continue
        stops.append(stop_at(graph, node, slots))
        wanted |= {node.inputs[i] for i in slots} | {name for name in node.captured if name in live}
    stops.reverse()
    for stop in stops:
        reason = why_not(graph, stop.node, live)
        if reason and strict:
            raise UnsupportedOperator(stop.node.name, stop.node.op, reason)
    return stops


def stop_at(graph: Graph, node: Node, slots: tuple[int, ...]) -> Stop:
    """A node as relevance passes it, given its live slots."""
    op = TABLE.get(node.op)
    if op is None:
        return Stop(node, Op(Kind.NONE), Kind.NONE, slots)
    kind = op.kind_of(node, slots)
    dtype = graph.type_of(node.outputs[0]).dtype
    arithmetic = kind in (Kind.SUM, Kind.SCALE, Kind.PRODUCT, Kind.ACTIVATION, Kind.MAP)
    if arithmetic and dtype is not None and dtype.kind in "iu":
        return Stop(node, ADDRESS, Kind.ROUTING, slots)
    return Stop(node, op, kind, slots)


def why_not(graph: Graph, node: Node, live: set[str]) -> str:
    """Why relevance cannot pass the node; empty if it can."""
    op = TABLE.get(node.op)
    if op is None:
        return "there is no rule for this operator"
    steering = set(op.ignores) | set(live_slots(node, live))
    for slot, name in enumerate(node.inputs):
        if name in live and slot not in steering:
            return f"its input {slot} ({name!r}) depends on the model's inputs, and no rule covers that"
    if op.kind is Kind.RECURRENT:
        for name in needs_constants(node):
            if name not in graph.constants:
                return f"its weights {name!r} are not constants of the model"
    return op.check(node)


def linear_values(stops: Iterable[Stop], given: Iterable[str] = ()) -> frozenset[str]:
    """Values that are sums of weighted units: a sum that they feed counts those units as its own.

    So MatMul and Add are one neuron, as Gemm is, whatever views (Reshape, Split, Transpose) stand in between.
    """
    linear = set(given)
    for stop in stops:
        inputs = {stop.node.inputs[i] for i in stop.live}
        moved = stop.kind is Kind.ROUTING and not drops(stop) and bool(inputs & linear)
        if moved or stop.kind in (Kind.SUM, Kind.MAP, Kind.SCALE):
            linear.update(stop.node.outputs)
    return frozenset(linear)


def drops(stop: Stop) -> bool:
    """Whether relevance can land on constants of a routing operator: padding, or operands that no input reaches."""
    operands = [i for i, name in enumerate(stop.node.inputs) if name and i not in stop.op.ignores]
    return stop.op.drops or len(operands) > len(stop.live)


def values_by_slot(node: Node, graph: Graph, values: Mapping[str, Array]) -> dict[int, Array]:
    named = {slot: name for slot, name in enumerate(node.inputs) if name}
    return {slot: graph.constants[name] if name in graph.constants else values[name] for slot, name in named.items()}
