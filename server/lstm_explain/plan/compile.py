"""Makes a plan: the parts of the graph that ONNX Runtime runs, the nodes that we run, and the values kept for later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import onnxruntime as ort

from lstm_explain.graph.ir import Graph, Node
from lstm_explain.graph.rewrite import make
from lstm_explain.graph.session import session_of
from lstm_explain.plan.live import Stop, linear_values, live_values, path
from lstm_explain.plan.small import Step, small
from lstm_explain.plan.wiring import BODIES, entered, wiring_of
from lstm_explain.rules import Kind
from lstm_explain.rules.gates import gate_slot
from lstm_explain.rules.op import SHAPE, shape_tap
from lstm_explain.rules.recurrent import Keep

OWN = (Kind.RECURRENT, Kind.CONTROL)


@dataclass(frozen=True)
class Segment:
    """A part that ONNX Runtime runs in one call. small: the same in NumPy, where arrays are small."""

    session: ort.InferenceSession
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    small: list[Step] | None = None


@dataclass(frozen=True, eq=False)
class Plan:
    """steps: in order, a Segment or a Stop that is ours to run. stops: what relevance passes, inputs first.

    live: values that relevance may reach. linear: values that a sum which they feed looks through. gates: the gate's
    slot of each PRODUCT by node name. bodies: plans of each control-flow node's bodies by node name and attribute.
    keep: what recurrent nodes keep for the way back. entries: for a body, its own
    inputs, without those that it reads from around it.
    """

    graph: Graph
    steps: list[Segment | Stop]
    stops: list[Stop]
    live: frozenset[str]
    linear: frozenset[str]
    gates: dict[str, int | None]
    bodies: dict[str, dict[str, Plan]]
    gradient: bool
    keep: Keep
    entries: tuple[str, ...] = ()

    @cached_property
    def constant_outputs(self) -> list[str]:
        return [name for name in self.graph.outputs if name in self.graph.constants]


@dataclass(frozen=True)
class Purpose:
    """What a plan is for.

    gradient: vector-Jacobian products rather than relevance. keep: of recurrent nodes, for the way back.
    constants_too: the constant part of every sum is computed
    too (for a bias_factor other than 0). gates: the gate's slot (None: no gate) by node name, where the caller knows
    better.
    """

    gradient: bool = False
    keep: Keep = Keep.SIGNALS
    constants_too: bool = False
    gates: Mapping[str, int | None] = field(default_factory=dict)


def compile_plan(graph: Graph, targets: Sequence[str], purpose: Purpose, keep: Iterable[str] = ()) -> Plan:
    """A plan that yields the graph's outputs and can walk back from `targets`.

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
) -> Plan:
    """sources: inputs that carry relevance. linear_sources: those of them that are sums of weighted units."""
    live = live_values(graph, sources)
    targets = list(targets)
    stops = path(graph, live, targets, gradient=purpose.gradient, told=purpose.gates)
    linear = frozenset[str]() if purpose.gradient else linear_values(stops, linear_sources)
    producers, products = graph.producers(), [s for s in stops if s.kind is Kind.PRODUCT]
    gates = {s.node.name: gate_slot(graph, producers, s, purpose.gates) for s in products}
    taps = _taps(graph, stops, linear, gradient=purpose.gradient) | dict.fromkeys(keep) | dict.fromkeys(targets)
    extra: list[Node] = []
    if purpose.constants_too:
        extra = constant_parts(graph, stops, linear)
        taps |= dict.fromkeys(constant_tap(o) for s in stops if s.kind in (Kind.SUM, Kind.MAP) for o in s.node.outputs)
    bodies = {s.node.name: _bodies(s, purpose, linear) for s in stops if s.kind is Kind.CONTROL}
    known = {*taps, *graph.inputs, *(o for s in stops if s.kind in OWN for o in s.node.outputs)}
    taps = {name: None for name in taps if not (name.endswith(SHAPE) and name.removesuffix(SHAPE) in known)}
    steps = _steps(graph, extra, stops, taps)
    return Plan(
        graph, steps, stops, frozenset(live), linear, gates, bodies, purpose.gradient, purpose.keep, tuple(entries)
    )


def _bodies(stop: Stop, purpose: Purpose, linear: frozenset[str]) -> dict[str, Plan]:
    """A plan for every body of a control-flow node, from its outputs back to what it reads."""
    node = stop.node
    around = frozenset(stop.captured)
    # The constant part of a sum outside is not known inside.
    looked_through = frozenset[str]() if purpose.constants_too else linear & around
    if node.op in ("Loop", "Scan") and not purpose.constants_too:
        looked_through |= {s.inner for s in wiring_of(node).read if s.outer in linear}
    plans = {}
    for name in BODIES[node.op]:
        body = node.bodies[name]
        sources = stop.entries | around
        targets = [o for o in body.outputs if o in live_values(body, sources)]
        plans[name] = _compile(entered(body), targets, purpose, (), sources, looked_through, body.inputs)
    return plans


# --- what is kept ------------------------------------------------------------------------------------------------


OF_ALL = {"y", "others", "constants", "shapes"}  # the same, whichever slot asks; "others" with two slots are all


def _taps(graph: Graph, stops: list[Stop], linear: frozenset[str], *, gradient: bool) -> dict[str, None]:
    """Names of the values (and, by `shape_tap`, shapes) that the way back will look at."""
    taps: dict[str, None] = {}
    for stop in stops:
        node, op = stop.node, stop.op
        if stop.kind in OWN:
            continue
        reads = op.reads if gradient or op.lrp_reads is None else op.lrp_reads
        if not gradient:
            reads += _lrp_reads(stop)
            if stop.kind is Kind.PRODUCT:
                reads += ("x", "others", "y")
        elif stop.kind is Kind.LOOKUP:
            reads += ("y",)
        for slot in stop.live:
            for token in reads:
                if slot == stop.live[0] or token not in OF_ALL:
                    _request(graph, node, slot, token, stop.live, taps)
            if not gradient and _needs_value(stop, node.inputs[slot], linear):
                _request(graph, node, slot, "x", stop.live, taps)
    return taps


def _lrp_reads(stop: Stop) -> tuple[str, ...]:
    return ("y",) if stop.kind in (Kind.SUM, Kind.MAP) else ()


def _needs_value(stop: Stop, name: str, linear: frozenset[str]) -> bool:
    """Whether a density arriving at the node becomes relevance of this input."""
    if stop.kind is Kind.MAP:
        return True
    return name not in linear and (
        stop.kind in (Kind.SUM, Kind.SCALE)
        or (stop.kind is Kind.ROUTING and bool(linear.intersection(stop.node.outputs)))
    )


def _request(graph: Graph, node: Node, slot: int, token: str, live: tuple[int, ...], taps: dict[str, None]) -> None:
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
        case "s":
            names = [_shape_name(graph, node.inputs[slot])]
        case "shapes":
            names = [_shape_name(graph, name) for name in node.inputs if name]
        case _:
            names = [node.input(int(token.removeprefix("steer")))]
    taps.update((name, None) for name in names if name and name not in graph.constants)


def _shape_name(graph: Graph, name: str) -> str:
    """What to keep so that the shape is known: nothing where it is fixed."""
    return "" if graph.type_of(name).static_shape is not None else shape_tap(name)


# --- the constant part of sums ------------------------------------------------------------------------------------


def constant_tap(name: str) -> str:
    """Name of the extra value: what `name` is when all that feeds it linearly is zero, its biases that is."""
    return f"{name}::constant"


def constant_parts(graph: Graph, stops: list[Stop], linear: frozenset[str]) -> list[Node]:
    """Nodes that compute `constant_tap` of every sum and linear value: the same operators over zeros."""
    nodes: list[Node] = []
    for stop in stops:
        if stop.kind not in (Kind.SUM, Kind.MAP) and not linear.intersection(stop.node.outputs):
            continue
        inputs = list(stop.node.inputs)
        for slot in stop.live:
            source = inputs[slot]
            inputs[slot] = constant_tap(source)
            if stop.kind is Kind.MAP or source not in linear:
                inputs[slot] = f"{stop.node.name}::zero{slot}"
                nodes.append(make("Sub", [source, source], [inputs[slot]], stop.node.opset))
        proto = type(stop.node.proto)()
        proto.CopyFrom(stop.node.proto)
        proto.name = f"{stop.node.name}::constant"
        proto.input[:] = inputs
        proto.output[:] = [constant_tap(o) if o else "" for o in stop.node.outputs]
        nodes.append(
            Node(
                proto.name,
                stop.node.op,
                tuple(inputs),
                tuple(proto.output),
                stop.node.attributes,
                stop.node.opset,
                proto,
            )
        )
    return nodes


# --- what runs where ---------------------------------------------------------------------------------------------


def _steps(graph: Graph, extra: list[Node], stops: list[Stop], taps: dict[str, None]) -> list[Segment | Stop]:
    """Cuts the graph at the nodes that are ours: everything that can run before the first, the first, and so on."""
    own = {id(s.node): s for s in stops if s.kind in OWN}
    shapes = [name for name in taps if name.endswith(SHAPE)]
    shape_nodes = [make("Shape", [n.removesuffix(SHAPE)], [n], 13) for n in shapes]
    nodes = _needed([*graph.nodes, *extra, *shape_nodes], [*graph.outputs, *taps], set(graph.inputs))
    level: dict[str, int] = {}
    ours: dict[int, list[Stop]] = {}
    theirs: dict[int, list[Node]] = {}
    for node in nodes:
        depth = max((level.get(name, 0) for name in (*node.inputs, *node.captured)), default=0)
        if id(node) in own:
            ours.setdefault(depth, []).append(own[id(node)])
        else:
            theirs.setdefault(depth, []).append(node)
        level.update((o, depth + (id(node) in own)) for o in node.outputs)
    readers: dict[str, set[int]] = {}  # by value, the depths of the segments that read it; -1 for nodes that are ours
    for depth, part in [*theirs.items(), (-1, [s.node for group in ours.values() for s in group])]:
        for name in (name for node in part for name in (*node.inputs, *node.captured)):
            readers.setdefault(name, set()).add(depth)
    wanted = {*graph.outputs, *taps}
    steps: list[Segment | Stop] = []
    for depth in range(max([*ours, *theirs], default=-1) + 1):
        if depth in theirs:
            made = [o for n in theirs[depth] for o in n.outputs if o]
            outputs = tuple(o for o in made if o in wanted or readers.get(o, set()) - {depth})
            steps.append(_segment(graph, theirs[depth], outputs))
        steps += ours.get(depth, [])
    return steps


def _needed(nodes: list[Node], wanted: Iterable[str], known: set[str]) -> list[Node]:
    """The nodes without which `wanted` cannot be computed, in order."""
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
    return Segment(session_of(graph, nodes, inputs, outputs), inputs, outputs, small(graph, nodes))
