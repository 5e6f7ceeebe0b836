# SPDX-License-Identifier: Apache-2.0
"""LRP's rules for dense and convolutional layers. Each rule is a few linear maps with parts of the weights and inputs.

A rule is a list of terms. A term contributes R_i = factor * sum over its parts (x', w') of x'_i sum_j w'_ij /
stab(z'_j) R_j to input i, where z' is what its parts and its bias add up to; `only` keeps the outputs to which it
applies. The remainder, for bias and stabiliser, is absorbed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np
import onnxruntime as ort

from lstm_explain.errors import MethodError
from lstm_explain.graph.ir import Array, Graph, Node
from lstm_explain.graph.session import run_session, session_of
from lstm_explain.methods import LRP
from lstm_explain.methods.composite import (
    LAYERS,
    AlphaBeta,
    Composite,
    Epsilon,
    Flat,
    Gamma,
    Rule,
    WSquare,
    ZBox,
    ZPlus,
)
from lstm_explain.operators import TABLE, Kind, NodeContext
from lstm_explain.operators.formulas import At, settle
from lstm_explain.program.compile import Plan
from lstm_explain.program.passes import BackwardPass, Message
from lstm_explain.program.reachability import BackwardNode
from lstm_explain.program.steps.base import BackwardStep

Part = tuple[Array, Array]


@dataclass(frozen=True)
class Term:
    """parts: inputs and weights, of the layer's shapes. only: where it applies, of the output's shape; None: all."""

    parts: list[Part]
    bias: Array
    factor: float = 1.0
    only: Array | None = None


def terms_of(rule: Rule, x: Array, w: Array, b: Array, z: Array) -> list[Term]:
    """z: the layer's output, its bias b included."""
    up, down = np.maximum, np.minimum
    positive = [(up(x, 0), up(w, 0)), (down(x, 0), down(w, 0))]
    negative = [(up(x, 0), down(w, 0)), (down(x, 0), up(w, 0))]
    match rule:
        case Epsilon():
            return [Term([(x, w)], b)]
        case ZPlus():
            return [Term(positive, up(b, 0))]
        case AlphaBeta(alpha, beta):
            return [Term(positive, up(b, 0), alpha), Term(negative, down(b, 0), -beta)]
        case Gamma(gamma):
            more, less = w + gamma * up(w, 0), w + gamma * down(w, 0)
            raised = Term([(up(x, 0), more), (down(x, 0), less)], b + gamma * up(b, 0), only=z >= 0)
            lowered = Term([(up(x, 0), less), (down(x, 0), more)], b + gamma * down(b, 0), only=z < 0)
            return [raised, lowered]
        case Flat():
            return [Term([(np.ones_like(x), np.ones_like(w))], np.zeros_like(b))]
        case ZBox(low, high):
            parts = [(x, w), (np.full_like(x, -low), up(w, 0)), (np.full_like(x, -high), down(w, 0))]
            return [Term(parts, np.zeros_like(b))]
        case WSquare():
            return [Term([(np.ones_like(x), w * w)], np.zeros_like(b))]
    raise MethodError(f"{rule!r} is no rule of this engine", field="method.composite")


# --- one layer ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """A linear map with constant weights. added: the bias that a following Add adds, if there is one."""

    rule: Rule
    slot: int  # of the input
    weights: str
    bias: str
    added: Array | None


class LayerRule(BackwardStep):
    """A layer to which the composite gives a rule of its own."""

    def __init__(self, backward_node: BackwardNode, layer: Layer, lrp: LRP) -> None:
        super().__init__(backward_node)
        self.layer = layer
        own = layer.rule.epsilon if isinstance(layer.rule, Epsilon) else None
        self.epsilon = lrp.epsilon or 0.0 if own is None else own
        self.beta = lrp.relative.layers if own is None and lrp.relative is not None else 0.0
        if not layer.rule.stabilised:  # such sums may be as small as the weights
            self.epsilon = self.beta = 0.0

    def __call__(self, back: BackwardPass) -> None:
        message = back.messages.get(self.carrying[0])
        if message is None:
            return
        layer, context, graph = self.layer, back.context(self.backward_node), back.plan.graph
        y = context.y() if layer.added is None else context.y() + layer.added
        r = _all(message, context.y())
        x, w = context.x(layer.slot), context.x(1 if layer.weights == self.backward_node.node.input(1) else 0)
        b = self._bias(back)
        given = np.zeros(x.shape, back.dtype)
        for term in terms_of(layer.rule, x, w, b, y):
            z = sum((self._forward(graph, xp, wp) for xp, wp in term.parts), np.zeros(()))
            share = r if term.only is None else np.where(term.only, r, np.zeros((), r.dtype))
            at = At(self.epsilon, self.beta, self._magnitude(graph, term)) if self.beta else At(self.epsilon)
            density = settle(term.factor * share, (z + term.bias).astype(back.dtype), at)[0]
            for xp, wp in term.parts:
                given += xp * self._back(back, wp, density.astype(back.dtype))
        layout = self.layout(back, layer.slot, message, given.shape)
        back.account.absorb(self.name, r, message.layout)
        back.account.absorb(self.name, -given, layout)
        back.send(self.backward_node.node.inputs[layer.slot], layout, given)

    def specialised(self, back: BackwardPass) -> BackwardStep:
        return self

    def _bias(self, back: BackwardPass) -> Array:
        own, added = self.backward_node.op.bias(back.context(self.backward_node)), self.layer.added
        total = np.zeros((), back.dtype) if own is None else own
        return np.asarray(total if added is None else total + added, back.dtype)

    def _forward(self, graph: Graph, x: Array, w: Array) -> Array:
        """Returns the layer's map with other inputs and weights and no bias."""
        layer, node = self.layer, self.backward_node.node
        feeds = {node.inputs[layer.slot]: x, layer.weights: w}
        if layer.bias:
            feeds[layer.bias] = np.zeros_like(graph.constants[layer.bias])
        session = _session(graph, node, tuple(feeds))
        typed = {name: np.asarray(a, graph.type_of(name).dtype or np.float32) for name, a in feeds.items()}
        return np.asarray(run_session(session, None, typed)[0])

    def _magnitude(self, graph: Graph, term: Term) -> Array:
        """Returns the sum of the absolute terms, of the output's shape."""
        parts = [self._forward(graph, np.abs(x), np.abs(w)) for x, w in term.parts]
        return np.asarray(sum(parts[1:], parts[0]) + np.abs(term.bias))

    def _back(self, back: BackwardPass, w: Array, density: Array) -> Array:
        """Returns the vector-Jacobian product with other weights."""
        graph, backward_node = back.plan.graph, self.backward_node
        other = replace(graph, constants={**graph.constants, self.layer.weights: w})
        assert backward_node.op.vjp is not None
        context = NodeContext(backward_node.node, other, backward_node.live, back.done.values, back.dtype)
        given: Array = backward_node.op.vjp(context, self.layer.slot, density)
        return given


class PassOn(BackwardStep):
    """An Add whose constant is the bias of the preceding layer; that layer applies the rule to both."""

    def __call__(self, back: BackwardPass) -> None:
        message = back.messages.get(self.carrying[0])
        if message is None:
            return
        ((slot, name),) = self.live
        r = _all(message, back.context(self.backward_node).y())
        back.send(name, self.layout(back, slot, message, r.shape), r)


def _all(message: Message, y: Array) -> Array:
    """Returns the message that has arrived, as relevance."""
    parts = [message.relevance, None if message.density is None else message.density * y, message.amount]
    given = [p for p in parts if p is not None]
    return sum(given[1:], given[0])


_SESSIONS: WeakKeyDictionary[Graph, dict[str, ort.InferenceSession]] = WeakKeyDictionary()


def _session(graph: Graph, node: Node, inputs: tuple[str, ...]) -> ort.InferenceSession:
    """Returns a session for the node alone, with its weights as inputs. It is created on first use; if two threads
    create it at once, no harm is done.
    """
    known = _SESSIONS.setdefault(graph, {})
    if node.name not in known:
        known[node.name] = session_of(graph, [node], inputs, [node.outputs[0]])
    return known[node.name]


# --- which layers ------------------------------------------------------------------------------------------------


def layer_steps(plan: Plan, lrp: LRP) -> dict[str, BackwardStep]:
    """Returns the steps of the layers to which the composite gives a rule, by node name. Raises MethodError for a rule
    that applies to no layer.
    """
    composite = lrp.composite
    if composite is None or plan.gradient:
        return {}
    steps: dict[str, BackwardStep] = {}
    behind = _sole_readers(plan)
    firsts = _firsts(plan)
    for backward_node in plan.backward_nodes:
        node = backward_node.node
        layer = backward_node.op.layer if backward_node.kind is Kind.MAP else ""  # a product of live values is none
        rule = composite.rule_of(node.name, node.op, layer, is_first=node.name in firsts)
        if rule is None or (backward_node.kind is Kind.RECURRENT and isinstance(rule, Epsilon)):
            continue
        reader = behind.get(node.outputs[0])
        added = None if reader is None else _constant(plan.graph, reader)
        steps[node.name] = LayerRule(backward_node, _layer(plan.graph, backward_node, rule, added), lrp)
        if reader is not None and added is not None:
            steps[reader.node.name] = PassOn(reader)
    return steps


def check_keys(graph: Graph, composite: Composite) -> None:
    """Raises MethodError where a rule names something that the graph does not have."""
    names = {n.name for n in graph.all_nodes()}
    for key in composite.rules:
        if key not in names and key not in LAYERS and TABLE.get(key) is None:
            kinds = ", ".join(LAYERS)
            raise MethodError(
                f"composite: {key!r} is no node, no operator and none of {kinds}", field="method.composite"
            )


def settings_of(lrp: LRP, node: Node) -> LRP:
    """Returns the LRP parameters for a recurrent node."""
    if lrp.composite is None:
        return lrp
    rule = lrp.composite.rule_of(node.name, node.op, "", is_first=False)
    return lrp.absolute(rule.epsilon) if isinstance(rule, Epsilon) else lrp


def _layer(graph: Graph, backward_node: BackwardNode, rule: Rule, added: Array | None) -> Layer:
    node = backward_node.node
    if backward_node.kind is not Kind.MAP or len(backward_node.live) != 1 or not backward_node.op.layer:
        problem = "is no dense or convolutional layer with constant weights"
        raise MethodError(f"composite: node {node.name!r} ({node.op}) {problem}", field="method.composite")
    (slot,) = backward_node.live
    weights = node.inputs[1 - slot]
    if weights not in graph.constants:
        raise MethodError(f"composite: the weights of node {node.name!r} are no constants", field="method.composite")
    return Layer(rule, slot, weights, node.input(2), added)


def _sole_readers(plan: Plan) -> dict[str, BackwardNode]:
    """Maps each value that only one node reads, and that is not an output of the graph, to the backward node that reads
    it.
    """
    readers: dict[str, int] = {}
    for node in plan.graph.nodes:
        for name in (*node.inputs, *node.captured):
            readers[name] = readers.get(name, 0) + 1
    alone = {name for name, count in readers.items() if count == 1 and name not in plan.graph.outputs}
    return {s.node.inputs[i]: s for s in plan.backward_nodes for i in s.live if s.node.inputs[i] in alone}


def _constant(graph: Graph, reader: BackwardNode) -> Array | None:
    """Returns the bias that an Add adds to its one live operand, whose shape it leaves."""
    if reader.node.op != "Add" or len(reader.live) != 1:
        return None
    constant = graph.constants.get(reader.node.inputs[1 - reader.live[0]])
    shape = graph.type_of(reader.node.inputs[reader.live[0]]).shape
    if constant is None or shape is None or constant.ndim > len(shape):
        return None
    pairs = zip(constant.shape[::-1], shape[::-1], strict=False)
    return constant if all(n in (1, extent) for n, extent in pairs) else None


def _firsts(plan: Plan) -> set[str]:
    """Layers that no other layer and no recurrent node precedes. There are none inside bodies."""
    if plan.entries:
        return set()
    late: set[str] = set()
    firsts = set()
    for backward_node in plan.backward_nodes:
        layer = backward_node.kind is Kind.RECURRENT or bool(backward_node.op.layer)
        is_late = any(
            name in late
            for name in (*(backward_node.node.inputs[i] for i in backward_node.live), *backward_node.captured)
        )
        if layer and not is_late and backward_node.kind is Kind.MAP:
            firsts.add(backward_node.node.name)
        if layer or is_late:
            late.update(backward_node.node.outputs)
    return firsts
