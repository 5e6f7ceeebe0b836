# SPDX-License-Identifier: Apache-2.0
"""Finds the values that the model's inputs reach, and the operators through which relevance can pass back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np

from lstm_explain.errors import UnsupportedOperator
from lstm_explain.graph.body_wiring import BODIES, entries, wiring_of
from lstm_explain.graph.ir import Array, Graph, Node
from lstm_explain.operators import TABLE, Kind, Operator, Trait
from lstm_explain.operators.cells import needs_constants
from lstm_explain.operators.first_order import SUMS, TAKES_DENSITIES, FirstOrderNodes
from lstm_explain.operators.gates import complement_slot, gates_constant
from lstm_explain.operators.operator import aligned, equal_parts
from lstm_explain.operators.scales import Scales

# Arithmetic on token ids (offsets, wrapped negatives) computes an address, not a value: no share of it is larger.
ADDRESS = Operator(Kind.ROUTING, equal_parts, layout=aligned, saved=("shape",))


@dataclass(frozen=True, eq=False)
class BackwardNode:
    """One node that relevance passes: its rule, and the slots that lead back to an input.

    captured: values of the enclosing graph that lead back to an input. entries: inputs of a body that carry relevance.
    """

    node: Node
    op: Operator
    kind: Kind
    live: tuple[int, ...]
    captured: tuple[str, ...] = ()
    entries: frozenset[str] = frozenset()

    @cached_property
    def carrying(self) -> tuple[str, ...]:
        """Outputs that carry relevance."""
        outputs = self.node.outputs
        return (
            outputs
            if self.op.differentiable_outputs is None
            else tuple(outputs[i] for i in self.op.differentiable_outputs)
        )

    @cached_property
    def absorbs(self) -> bool:
        """Whether relevance can land on constants of a routing operator: padding, or operands that no input reaches."""
        steering = {*self.op.nondifferentiable, *self.op.lookup_slots}
        operands = [i for i, name in enumerate(self.node.inputs) if name and i not in steering]
        return self.op.inserts_constants or len(operands) > len(self.live)


@dataclass(frozen=True)
class Reachability:
    """How live values enter and leave a node. entries: for Loop and Scan, the body's inputs that carry relevance."""

    slots: tuple[int, ...]
    captured: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    entries: frozenset[str] = frozenset()


def live_values(graph: Graph, sources: Iterable[str]) -> set[str]:
    """Returns every value through which relevance may reach one of `sources`."""
    live = set(sources)
    for node in graph.nodes:
        live |= {o for o in reach(node, live).outputs if not _is_bool(graph, o)}
    return live


# Cached results, by node with bodies and the live values that it reads. Nested bodies are looked up at every enclosing
# level, and again for every state of a loop that becomes live.
_REACHED: WeakKeyDictionary[Node, dict[frozenset[str], Reachability]] = WeakKeyDictionary()


def reach(node: Node, live: Set[str]) -> Reachability:
    op = TABLE.get(node.op)
    if node.op in BODIES:
        known = _REACHED.setdefault(node, {})
        key = frozenset(name for name in (*node.inputs, *node.captured) if name in live)
        if key not in known:
            known[key] = _reach_inside(node, live)
        return known[key]
    ignored = () if op is None else op.nondifferentiable
    slots = range(len(node.inputs)) if op is None or op.differentiable is None else op.differentiable
    slots = tuple(i for i in slots if i not in ignored and node.input(i) in live)
    if not slots:
        return Reachability(())
    if op is not None:
        slots = tuple(i for i in slots if i not in op.lookup_slots) or slots
    chosen = None if op is None else op.differentiable_outputs
    outputs = node.outputs if chosen is None else [node.outputs[i] for i in chosen if i < len(node.outputs)]
    return Reachability(slots, (), tuple(o for o in outputs if o))


def _reach_inside(node: Node, live: Set[str]) -> Reachability:
    captured = tuple(name for name in node.captured if name in live)
    if node.op == "If":
        alive = [live_values(node.bodies[b], captured) for b in BODIES["If"]]
        bodies = [node.bodies[b].outputs for b in BODIES["If"]]
        pairs = zip(node.outputs, *bodies, strict=True)
        outputs = tuple(o for o, yes, no in pairs if o and (yes in alive[0] or no in alive[1]))
        return Reachability((), captured if outputs else (), outputs)
    wiring, body = wiring_of(node), node.bodies["body"]
    inside = entries(node, live)
    while True:  # a state that starts from a constant becomes live once the body writes to it
        alive_inside = live_values(body, {*inside, *captured})
        more = {c.entry for c in wiring.carried if c.exit in alive_inside} - inside
        if not more:
            break
        inside |= more
    outputs = tuple(c.output for c in wiring.carried if c.output and c.exit in alive_inside)
    outputs += tuple(w.outer for w in wiring.written if w.outer and w.inner in alive_inside)
    slots = tuple(c.slot for c in wiring.carried if node.inputs[c.slot] in live)
    steering = {r.inner for r in wiring.read if r.inner in inside} - _leading_on(body, alive_inside)
    slots += tuple(r.slot for r in wiring.read if r.outer in live and r.inner not in steering)
    return Reachability(slots, captured, outputs, frozenset(inside - steering))


def _leading_on(body: Graph, live: set[str]) -> set[str]:
    """Returns the live values on which live outputs of the body depend: not those that only comparisons read."""
    found = live.intersection(body.outputs)
    for node in reversed(body.nodes):
        reached = reach(node, live)
        if not found.isdisjoint(reached.outputs):
            found |= {node.inputs[i] for i in reached.slots} | set(reached.captured)
    return found


def _is_bool(graph: Graph, value: str) -> bool:
    return graph.type_of(value).dtype == np.dtype(bool)


def without_scale(reached: Reachability, node: Node, scales: Scales) -> Reachability:
    """The scale of a normalisation receives no relevance, only the scaled value does; likewise f(x) in x * f(x)."""
    if len(reached.slots) < 2:
        return reached
    slot = scales.scaled_slot(node)
    slot = scales.activated_slot(node) if slot is None else slot
    return reached if slot is None else replace(reached, slots=(slot,))


def path(
    graph: Graph,
    live: set[str],
    targets: Iterable[str],
    *,
    gradient: bool = False,
    strict: bool = True,
    overridden: Container[str] = (),
) -> list[BackwardNode]:
    """Returns the nodes between the inputs and `targets` that relevance (or the gradient) passes, in topological order.

    overridden: names of the nodes whose gate the caller sets.
    Raises UnsupportedOperator for the first that has no rule, if `strict`.
    """
    wanted = {t for t in targets if t in live}
    backward_nodes: list[BackwardNode] = []
    producers = graph.producers()
    scales, first_order = Scales(graph, producers, live, overridden), FirstOrderNodes(graph, producers)
    for node in reversed(graph.nodes):
        reached = reach(node, live) if gradient else without_scale(reach(node, live), node, scales)
        if wanted.isdisjoint(reached.outputs):
            continue
        backward_node = backward_node_at(node, reached, scales)
        kind = first_order.visit(node, backward_node.op, backward_node.kind, backward_node.live)
        backward_nodes.append(replace(backward_node, kind=kind))
        wanted |= {node.inputs[i] for i in reached.slots} | set(reached.captured)
    backward_nodes.reverse()
    for backward_node in backward_nodes:
        reason = why_not(graph, backward_node.node, live)
        if reason and strict:
            raise UnsupportedOperator(backward_node.node.name, backward_node.node.op, reason)
    return backward_nodes


def backward_node_at(node: Node, reached: Reachability, scales: Scales) -> BackwardNode:
    """Returns the node with the rule by which relevance passes it."""
    graph, producers = scales.graph, scales.producers
    op, slots = TABLE.get(node.op), reached.slots
    if op is None:
        return BackwardNode(node, Operator(Kind.NONE), Kind.NONE, slots)
    kind = op.kind_of(node, slots)
    dtypes = [graph.type_of(name).dtype for name in (node.outputs[0], *(node.inputs[i] for i in slots))]
    arithmetic = kind in (Kind.SUM, Kind.SCALE, Kind.PRODUCT, Kind.ACTIVATION, Kind.MAP)
    if arithmetic and all(d is not None and d.kind in "iu" for d in dtypes):
        return BackwardNode(node, replace(ADDRESS, traits=op.traits), Kind.ROUTING, slots)
    if kind is Kind.SUM and slots == (complement_slot(graph, producers, node),):
        return BackwardNode(node, replace(op, lrp_saved=("shape",)), Kind.ACTIVATION, slots)
    if kind is Kind.SCALE and scales.activated_slot(node) in slots:
        return BackwardNode(node, replace(op, lrp_saved=("shape",), distribute=op.spread), Kind.ACTIVATION, slots)
    if kind in (Kind.SCALE, Kind.MAP) and gates_constant(graph, producers, scales.live, node, slots):
        return BackwardNode(node, op, Kind.PRODUCT, slots)
    return BackwardNode(node, op, kind, slots, reached.captured, reached.entries)


def why_not(graph: Graph, node: Node, live: set[str]) -> str:
    """Returns why relevance cannot pass the node; empty if it can."""
    op = TABLE.get(node.op)
    if op is None:
        return "there is no rule for this operator"
    steering = {*op.nondifferentiable, *op.lookup_slots, *reach(node, live).slots}
    if node.op == "Scan":  # sequences that only comparisons read
        steering |= {r.slot for r in wiring_of(node).read}
    for slot, name in enumerate(node.inputs):
        if name in live and slot not in steering:
            return f"its input {slot} ({name!r}) depends on the model's inputs, and no rule covers that"
    if op.kind is Kind.RECURRENT:
        for name in needs_constants(node):
            if name not in graph.constants:
                return f"its weights {name!r} are not constants of the model"
    return op.check(node)


def linear_values(backward_nodes: Sequence[BackwardNode], given: Iterable[str] = ()) -> frozenset[str]:
    """Returns the values that are sums of weighted units: a sum that they feed counts those units as its own.

    So MatMul and Add are one neuron, as Gemm is, whatever views (Reshape, Split, Transpose) stand in between. A value
    that others use as well (the cell of an LSTM without a forget gate, a residual stream) is a neuron of its own.
    """
    used = _uses(backward_nodes)
    linear = set(given)
    for backward_node in backward_nodes:
        inputs = {backward_node.node.inputs[i] for i in backward_node.live}
        moved = (
            backward_node.kind is Kind.ROUTING
            and not backward_node.op.selects_by_value
            and not backward_node.absorbs
            and bool(inputs & linear)
        )
        summed = backward_node.kind in (Kind.SUM, Kind.MAP, Kind.SCALE) and used[backward_node.node.outputs[0]] < 2
        if moved or summed:
            linear.update(backward_node.node.outputs)
    return frozenset(linear)


def first_order_values(graph: Graph, backward_nodes: Sequence[BackwardNode], linear: frozenset[str]) -> frozenset[str]:
    """Returns the values that take densities of first-order nodes, although they may be neurons of their own
    (first_order.py), and the parts of such sums. linear: values that take the densities of whatever they feed.

    A sum with a LogSumExp among its terms is one of them, although no exponential follows.
    """
    following = set[str]()
    for b in backward_nodes:
        sums = b.kind in SUMS and not following.isdisjoint(b.node.inputs[slot] for slot in b.live)
        if sums or (b.kind is Kind.FIRST_ORDER and Trait.LOGARITHM in b.op.traits):
            following.update(b.node.outputs)
    first_order = FirstOrderNodes(graph, graph.producers(), following)
    for b in reversed(backward_nodes):
        first_order.visit(b.node, b.op, b.kind, b.live)
    parts = set[str]()
    for b in reversed(backward_nodes):
        if b.kind is Kind.FIRST_ORDER or (b.kind in SUMS and not parts.isdisjoint(b.node.outputs)):
            parts.update(linear.intersection(b.node.inputs[slot] for slot in b.live))
    return frozenset(
        o for b in backward_nodes if b.kind in TAKES_DENSITIES for o in b.node.outputs if o in first_order.found | parts
    )


def _uses(backward_nodes: Sequence[BackwardNode]) -> Counter[str]:
    """Returns the number of operators that read each value, directly or through views."""
    whole, parts = Counter[str](), Counter[str]()
    for backward_node in reversed(backward_nodes):
        made = (
            max((whole[o] + parts[o] for o in backward_node.node.outputs), default=0)
            if backward_node.kind is Kind.ROUTING
            else 1
        )
        for name in (backward_node.node.inputs[i] for i in backward_node.live):
            if Trait.SUBSET in backward_node.op.traits:
                parts[name] = max(parts[name], made)
            else:
                whole[name] += made
    return whole + parts


def values_by_slot(node: Node, graph: Graph, values: Mapping[str, Array], slots: Iterable[int]) -> dict[int, Array]:
    """Returns the node's inputs at `slots`, as far as they are present."""
    constants = graph.constants
    named = [(slot, node.input(slot)) for slot in slots]
    return {slot: constants[name] if name in constants else values[name] for slot, name in named if name}
