# SPDX-License-Identifier: Apache-2.0
"""Makes a plan: the parts of the graph that ONNX Runtime runs, the nodes that we run, and the values to save."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import onnxruntime as ort

from lstm_explain.graph.body_wiring import BODIES, entered, wiring_of
from lstm_explain.graph.ir import Array, Graph, Node
from lstm_explain.graph.node_editing import make
from lstm_explain.graph.session import session_of
from lstm_explain.operators import Kind
from lstm_explain.operators.gates import gate_of
from lstm_explain.operators.operator import SHAPE, shape_value
from lstm_explain.operators.tape import SavedTensors
from lstm_explain.program.attention import with_attention
from lstm_explain.program.constant_parts import constant_parts, constant_value
from lstm_explain.program.magnitudes import kinds_of_sums, magnitude_parts, magnitude_value, with_constants
from lstm_explain.program.numpy_segments import SmallSegment, small
from lstm_explain.program.reachability import BackwardNode, first_order_values, linear_values, live_values, path

OWN = (Kind.RECURRENT, Kind.CONTROL)


@dataclass(frozen=True)
class Segment:
    """A part that ONNX Runtime runs in one call. nodes, constants: what it consists of. small: the same computation in
    NumPy, for small arrays.
    """

    session: ort.InferenceSession
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: Sequence[Node]
    constants: Mapping[str, Array]
    small: SmallSegment | None = None


@dataclass(frozen=True, eq=False)
class Plan:
    """steps: in order, a Segment, or a BackwardNode that we run ourselves. backward_nodes: the nodes that relevance
    passes, inputs first.

    live: values that relevance may reach. linear: linear values that belong to the neuron of the sum which they feed.
    first_order: values that take densities from first-order nodes (operators/first_order.py). gates: the gate's slot of
    each PRODUCT by node name. bodies: plans of each control-flow node's bodies by node name and attribute.
    keep: what recurrent nodes save for the backward pass. sums: which beta of the relative stabiliser a sum takes, by
    node name; empty where magnitudes are not computed. entries: for a body, its own inputs, without those that it reads
    from the enclosing graph.
    """

    graph: Graph
    steps: list[Segment | BackwardNode]
    backward_nodes: list[BackwardNode]
    live: frozenset[str]
    linear: frozenset[str]
    first_order: frozenset[str]
    gates: dict[str, int | None]
    bodies: dict[str, dict[str, Plan]]
    gradient: bool
    keep: SavedTensors
    sums: Mapping[str, str] = field(default_factory=dict)
    entries: tuple[str, ...] = ()

    @cached_property
    def constant_outputs(self) -> list[str]:
        return [name for name in self.graph.outputs if name in self.graph.constants]


@dataclass(frozen=True)
class Purpose:
    """What a plan is for.

    gradient: whether to propagate gradients rather than relevance. keep: what recurrent nodes save for the backward
    pass. constants_too: whether to compute the constant part of every sum (for a bias_factor other than 0). magnitudes:
    whether to compute the sum of absolute terms (for the relative stabiliser). attention: whether attention has rules
    of its own (attention.py). gates: the gate's slot (None: no gate) by node name, where the caller overrides it.
    """

    gradient: bool = False
    keep: SavedTensors = SavedTensors.SIGNALS
    constants_too: bool = False
    magnitudes: bool = False
    attention: bool = False
    gates: Mapping[str, int | None] = field(default_factory=dict)


def compile_plan(graph: Graph, targets: Sequence[str], purpose: Purpose, keep: Iterable[str] = ()) -> Plan:
    """Returns a plan that computes the graph's outputs and supports backward passes from `targets`.

    keep: further values to return. Raises UnsupportedOperator.
    """
    return _compile(graph, targets, purpose, keep, frozenset(graph.inputs), frozenset())


def _compile(
    graph: Graph,
    targets: Iterable[str],
    purpose: Purpose,
    keep: Iterable[str],
    sources: frozenset[str],
    linear_sources: frozenset[str],
    entries: Sequence[str] = (),
    carried: Mapping[str, str] | None = None,
) -> Plan:
    """sources: inputs that carry relevance. linear_sources: the sources that are sums of weighted units. entries: a
    body's inputs. carried: the states that a body returns, with those that it receives.
    """
    live = live_values(graph, sources)
    targets = list(targets)
    backward_nodes = path(graph, live, targets, gradient=purpose.gradient, overridden=purpose.gates)
    own_gates = purpose.gates
    if purpose.attention:
        backward_nodes, own_gates = with_attention(backward_nodes, own_gates)
    linear = frozenset[str]() if purpose.gradient else linear_values(backward_nodes, linear_sources)
    first_order = frozenset[str]() if purpose.gradient else first_order_values(graph, backward_nodes, linear)
    producers, products = graph.producers(), [s for s in backward_nodes if s.kind is Kind.PRODUCT]
    gates = {s.node.name: gate_of(graph, producers, s.node, s.live, own_gates).slot for s in products}
    saved_values = _saved_values(graph, backward_nodes, linear, first_order, gradient=purpose.gradient)
    saved_values |= dict.fromkeys([*keep, *targets])
    extra: list[Node] = []
    if purpose.constants_too:
        extra = constant_parts(graph, backward_nodes, linear - first_order)  # which absorb their own constants
        saved_values |= dict.fromkeys(
            constant_value(o) for s in backward_nodes if s.kind in (Kind.SUM, Kind.MAP) for o in s.node.outputs
        )
    summing, sums = graph, {}
    if purpose.magnitudes:
        more, constants = magnitude_parts(graph, backward_nodes, linear)
        extra, summing = extra + more, with_constants(graph, more, constants)
        sums = kinds_of_sums(graph, backward_nodes, linear, carried or {})
        saved_values |= dict.fromkeys(magnitude_value(s.node.outputs[0]) for s in backward_nodes if s.node.name in sums)
    bodies = {s.node.name: _bodies(graph, s, purpose, linear) for s in backward_nodes if s.kind is Kind.CONTROL}
    known = {*saved_values, *graph.inputs, *(o for s in backward_nodes if s.kind in OWN for o in s.node.outputs)}
    saved_values = {
        name: None for name in saved_values if not (name.endswith(SHAPE) and name.removesuffix(SHAPE) in known)
    }
    steps = steps_of(summing, extra, backward_nodes, saved_values)
    return Plan(
        graph,
        steps,
        backward_nodes,
        frozenset(live),
        linear,
        first_order,
        gates,
        bodies,
        purpose.gradient,
        purpose.keep,
        sums,
        tuple(entries),
    )


def _bodies(graph: Graph, backward_node: BackwardNode, purpose: Purpose, linear: frozenset[str]) -> dict[str, Plan]:
    """Returns a plan for every body of a control-flow node, from its outputs back to the values that it reads."""
    node = backward_node.node
    around = frozenset(backward_node.captured)
    # A body does not know the constant part and the magnitude of a sum in the enclosing graph.
    apart = purpose.constants_too or purpose.magnitudes
    looked_through = frozenset[str]() if apart else linear & around
    if node.op in ("Loop", "Scan") and not apart:
        looked_through |= {s.inner for s in wiring_of(node).read if s.outer in linear}
    carried = {} if node.op == "If" else {c.exit: c.entry for c in wiring_of(node).carried}
    plans = {}
    for name in BODIES[node.op]:
        body = node.bodies[name]
        sources = backward_node.entries | around
        targets = [o for o in body.outputs if o in live_values(body, sources)]
        inside = entered(node, name, graph)
        plans[name] = _compile(inside, targets, purpose, (), sources, looked_through, body.inputs, carried)
    return plans


# --- what is kept ------------------------------------------------------------------------------------------------


OF_ALL = {"y", "others", "constants", "shapes"}  # the same for every slot; "others" for two slots are all operands


def _saved_values(
    graph: Graph,
    backward_nodes: list[BackwardNode],
    linear: frozenset[str],
    first_order: frozenset[str],
    *,
    gradient: bool,
) -> dict[str, None]:
    """Returns the names of the values (and, by `shape_value`, of the shapes) that the backward pass reads."""
    saved_values: dict[str, None] = {}
    for backward_node in backward_nodes:
        node, op = backward_node.node, backward_node.op
        if backward_node.kind in OWN:
            continue
        saved = op.saved if gradient or op.lrp_saved is None else op.lrp_saved
        if not gradient:
            saved += _lrp_saved(backward_node)
            if backward_node.kind is Kind.PRODUCT:
                saved += ("x", "others", "y")
            if backward_node.kind is Kind.FIRST_ORDER:
                saved = op.saved
            if backward_node.kind is Kind.WEIGHTS:
                saved = ("x", "y")
            if backward_node.kind is Kind.FIRST_ORDER or not first_order.isdisjoint(node.outputs):
                saved += ("x", "y")
        elif backward_node.kind is Kind.LOOKUP:
            saved += ("y",)
        for slot in backward_node.live:
            for token in saved:
                if slot == backward_node.live[0] or token not in OF_ALL:
                    _request(graph, node, slot, token, backward_node.live, saved_values)
            if not gradient and _needs_value(backward_node, node.inputs[slot], linear):
                _request(graph, node, slot, "x", backward_node.live, saved_values)
    return saved_values


def _lrp_saved(backward_node: BackwardNode) -> tuple[str, ...]:
    return ("y",) if backward_node.kind in (Kind.SUM, Kind.MAP) else ()


def _needs_value(backward_node: BackwardNode, name: str, linear: frozenset[str]) -> bool:
    """Returns whether a density arriving at the node becomes relevance of this input."""
    if backward_node.kind is Kind.MAP:
        return True
    return name not in linear and (
        backward_node.kind in (Kind.SUM, Kind.SCALE)
        or (backward_node.kind is Kind.ROUTING and bool(linear.intersection(backward_node.node.outputs)))
    )


def _request(
    graph: Graph, node: Node, slot: int, token: str, live: tuple[int, ...], saved_values: dict[str, None]
) -> None:
    match token:
        case "x":
            names = [node.inputs[slot]]
        case "y":
            names = list(node.outputs[:1])
        case "others":
            names = [name for i, name in enumerate(node.inputs) if i != slot]
            names += [node.inputs[slot]] if len(live) > 1 else []
        case "constants":
            names = [name for i, name in enumerate(node.inputs) if i not in live]
        case "shape":
            names = [_shape_name(graph, node.inputs[slot])]
        case "shapes":
            names = [_shape_name(graph, name) for name in node.inputs if name]
        case _:
            names = [node.input(int(token.removeprefix("operand")))]
    saved_values.update((name, None) for name in names if name and name not in graph.constants)


def _shape_name(graph: Graph, name: str) -> str:
    """Returns what to save so that the shape is known; nothing where it is fixed."""
    return "" if graph.type_of(name).static_shape is not None else shape_value(name)


# --- what runs where ---------------------------------------------------------------------------------------------


def steps_of(
    graph: Graph, extra: list[Node], backward_nodes: list[BackwardNode], saved_values: dict[str, None]
) -> list[Segment | BackwardNode]:
    """Cuts the graph at the nodes that we run: a segment of everything that can run before the first of them, then that
    node, and so on.
    """
    own = {id(s.node): s for s in backward_nodes if s.kind in OWN}
    shapes = [name for name in saved_values if name.endswith(SHAPE)]
    shape_nodes = [make("Shape", [n.removesuffix(SHAPE)], [n], 13) for n in shapes]
    nodes = _needed([*graph.nodes, *extra, *shape_nodes], [*graph.outputs, *saved_values], set(graph.inputs))
    level: dict[str, int] = {}
    ours: dict[int, list[BackwardNode]] = {}
    theirs: dict[int, list[Node]] = {}
    for node in nodes:
        depth = max((level.get(name, 0) for name in (*node.inputs, *node.captured)), default=0)
        if id(node) in own:
            ours.setdefault(depth, []).append(own[id(node)])
        else:
            theirs.setdefault(depth, []).append(node)
        level.update((o, depth + (id(node) in own)) for o in node.outputs)
    readers: dict[str, set[int]] = {}  # by value, the depths of the segments that read it; -1 for nodes that we run
    for depth, part in [*theirs.items(), (-1, [s.node for group in ours.values() for s in group])]:
        for name in (name for node in part for name in (*node.inputs, *node.captured)):
            readers.setdefault(name, set()).add(depth)
    wanted = {*graph.outputs, *saved_values}
    steps: list[Segment | BackwardNode] = []
    for depth in range(max([*ours, *theirs], default=-1) + 1):
        if depth in theirs:
            made = [o for n in theirs[depth] for o in n.outputs if o]
            outputs = tuple(o for o in made if o in wanted or readers.get(o, set()) - {depth})
            steps.append(_segment(graph, theirs[depth], outputs))
        steps += ours.get(depth, [])
    return steps


def _needed(nodes: list[Node], wanted: Iterable[str], known: set[str]) -> list[Node]:
    """Returns the nodes without which `wanted` cannot be computed, in order."""
    needed = set(wanted) - known
    kept = []
    for node in reversed(nodes):
        if needed.intersection(node.outputs):
            kept.append(node)
            needed.update((*node.inputs, *node.captured))
    return kept[::-1]


def _segment(graph: Graph, nodes: list[Node], outputs: tuple[str, ...]) -> Segment:
    made = {o for n in nodes for o in n.outputs if o}
    read = dict.fromkeys(name for n in nodes for name in (*n.inputs, *n.captured) if name)
    inputs = tuple(name for name in read if name not in made and name not in graph.constants)
    in_numpy = small(graph, nodes, inputs, outputs)
    return Segment(session_of(graph, nodes, inputs, outputs), inputs, outputs, nodes, graph.constants, in_numpy)
