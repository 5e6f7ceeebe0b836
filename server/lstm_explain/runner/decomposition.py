# SPDX-License-Identifier: Apache-2.0
"""Computes the contextual decomposition of one LSTM with a linear readout (Murdoch et al. 2018, arXiv 1801.05453).

Section 3 splits cell and hidden state into beta, which the phrase (a time step, or a span of them) contributes, and
gamma, the rest: c = beta_c + gamma_c, h = beta_h + gamma_h. The sums are known from the forward pass, so only beta is
computed. Initial states belong to gamma. The readout is linear, so the score splits in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstm_explain.cancellation import checkpoint
from lstm_explain.errors import MethodError, UnsupportedOperator
from lstm_explain.graph.ir import Array, Graph, Node
from lstm_explain.methods.gradient import Gradient
from lstm_explain.operators import BatchLayout, Kind, SamplesMixed, Trait
from lstm_explain.operators.axis_rules import NOWHERE
from lstm_explain.program.attribution import Attribution
from lstm_explain.program.axis_tracing import trace
from lstm_explain.program.passes import ForwardPass
from lstm_explain.program.program import Program
from lstm_explain.program.propagation import explain_one, layouts_of
from lstm_explain.program.reachability import BackwardNode, live_values, path
from lstm_explain.runner.model_runner import ExplainTask
from lstm_explain.runner.players import PlayerSet
from lstm_explain.runner.scores import Scores, attribution_of
from lstm_explain.runner.stacking import MAX_BYTES, chunks
from lstm_explain.target import Selection

LINEAR = {Kind.SUM, Kind.MAP, Kind.SCALE, Kind.ROUTING}
DEFAULT_ACTIVATIONS = ["sigmoid", "tanh", "tanh"]
STEPWISE = Trait.ELEMENTWISE | Trait.STEPWISE  # each step's output depends on that step's input alone


def contextual_decomposition(task: ExplainTask, span: Sequence[int] | None = None) -> Attribution:
    """Returns the answer for one task. The ledger's `absorbed` is the constant of the readout; the residual is what
    phrases do jointly.

    span: (start, end), time steps that are one phrase. Raises MethodError where it exceeds the sequence of a sample.
    """
    scores = Scores(task)
    readout = _readout(task, scores)
    phrases = _phrases(readout.directions[0], span)
    parts = sum((_parts(direction, phrases) for direction in readout.directions), np.zeros(()))  # [phrases, batch]
    name, axis = readout.source
    of_steps = np.repeat(np.arange(len(phrases)), phrases[:, 1] - phrases[:, 0])
    players = of_steps.reshape([-1 if i == axis else 1 for i in range(task.inputs[name].ndim)])
    player_set = PlayerSet(scores, {name: players}, {name: np.zeros_like(task.inputs[name])}, len(phrases))
    return attribution_of(
        scores, player_set.relevance(parts.T), parts.sum(axis=0), scores.explained - readout.linear_part
    )


@dataclass(frozen=True)
class LstmDirection:
    """One direction of the LSTM in one forward pass, in float64.

    x: [T, B, D]. W, R, b: in ONNX's layout, gates i, o, f, c. y: [T, B, H], h, c: [B, H]: weights of its outputs in the
    explained value.
    """

    x: Array
    W: Array
    R: Array
    b: Array
    h0: Array
    c0: Array
    lens: Array
    reverse: bool
    y: Array
    h: Array
    c: Array


@dataclass(frozen=True)
class Readout:
    """source: the input whose time steps are those of the LSTM, and its time axis. linear_part: [batch], without
    constants.
    """

    directions: list[LstmDirection]
    source: tuple[str, int]
    linear_part: Array


# --- the decomposition -------------------------------------------------------------------------------------------


def _phrases(d: LstmDirection, span: Sequence[int] | None) -> Array:
    """Returns an array [phrases, 2]: start and end of consecutive phrases that cover all steps: the span, and every
    other step.
    """
    edges = np.arange(len(d.x) + 1)
    if span is not None:
        start, end = span
        shortest = int(d.lens.min(initial=len(d.x)))
        if end > shortest:
            problem = f"a sample has {shortest} time step{'s' * (shortest != 1)}, expected an end of at most {shortest}"
            raise MethodError(f"contextual_decomposition: span is {(start, end)}, but {problem}", field="method.span")
        edges = edges[(edges <= start) | (edges >= end)]
    return np.stack([edges[:-1], edges[1:]], axis=1)


def _parts(d: LstmDirection, phrases: Array) -> Array:
    """Returns an array [phrases, B]: the part beta of the explained value, for each phrase."""
    size = max(1, MAX_BYTES // (8 * 24 * d.x.shape[1] * d.R.shape[1]))
    return np.concatenate([decompose(d, phrases[ids]) for ids in chunks(len(phrases), size)])


def decompose(d: LstmDirection, phrases: Array) -> Array:
    """Returns an array [phrases, B]: the part beta of the explained value, with each of these phrases."""
    steps, batch, _ = d.x.shape
    starts, ends = phrases[:, :1], phrases[:, 1:]
    of_x = d.x @ d.W.T
    h, c = d.h0, d.c0
    beta_h = np.zeros((len(phrases), *h.shape))
    beta_c = np.zeros_like(beta_h)
    score = np.zeros((len(phrases), batch))
    rows = np.arange(batch)
    for s in range(steps):
        checkpoint()
        runs = s < d.lens
        t = np.where(runs, d.lens - 1 - s if d.reverse else s, 0)
        inside = ((starts <= t) & (t < ends))[:, :, None]
        new = _step(of_x[t, rows], h, c, beta_h, beta_c, inside, d)
        h, c, beta_h, beta_c = (np.where(runs[:, None], a, b) for a, b in zip(new, (h, c, beta_h, beta_c), strict=True))
        score += (d.y[t, rows] * beta_h).sum(axis=2) * runs
    return score + (d.h * beta_h + d.c * beta_c).sum(axis=2)


def _step(
    of_x: Array, h: Array, c: Array, beta_h: Array, beta_c: Array, inside: Array, d: LstmDirection
) -> tuple[Array, Array, Array, Array]:
    """Returns the new h, c, beta_h and beta_c.

    A product of parts belongs to beta where the phrase makes it, alone or together with biases.
    """
    z = of_x + h @ d.R.T  # without the bias
    rel = beta_h @ d.R.T + np.where(inside, of_x, 0)
    irr = z - rel
    (i, i_b), (f, f_b), (g, g_b) = (
        _linearised(activation, *(np.split(a, 4, axis=-1)[k] for a in (rel, irr, d.b)))
        for k, activation in ((0, _sigmoid), (2, _sigmoid), (3, np.tanh))
    )
    gate_i, gate_o, gate_f, cell = np.split(z + d.b, 4, axis=-1)
    new_c = _sigmoid(gate_f) * c + _sigmoid(gate_i) * np.tanh(cell)
    new_beta_c = i * (g + g_b) + i_b * g + np.where(inside, i_b * g_b, 0) + (f + f_b) * beta_c
    o = _sigmoid(gate_o)  # not decomposed, as in the authors' implementation
    squashed = np.tanh(new_c)
    new_beta_h = o * 0.5 * (np.tanh(new_beta_c) + squashed - np.tanh(new_c - new_beta_c))
    return o * squashed, new_c, new_beta_h, new_beta_c


def _linearised(activation: Callable[[Array], Array], rel: Array, irr: Array, bias: Array) -> tuple[Array, Array]:
    """Returns the shares of beta and of the bias in activation(rel + irr + bias).

    The first is the Shapley value of `rel` against `irr`, with the bias always first (the paper's equation 14 and
    after).
    """
    of_bias = activation(bias)
    share = activation(rel + bias) - of_bias + activation(rel + irr + bias) - activation(irr + bias)
    return 0.5 * share, of_bias


def _sigmoid(x: Array) -> Array:
    return 0.5 * (1 + np.tanh(0.5 * x))


# --- models that it applies to -----------------------------------------------------------------------------------


def _readout(task: ExplainTask, scores: Scores) -> Readout:
    """Raises UnsupportedOperator where the model is not an LSTM over the steps of one input with a linear readout."""
    engine, graph = task.runner.engine, task.runner.engine.graph
    node, source = task.runner.cached(_find_lstm, graph, task.head.value)
    outputs = tuple(o for o in node.outputs if o)
    program = engine.program(task.head, Gradient(), (node.inputs[0], *outputs))
    done = program.forward(task.inputs)
    _check_layouts(task, scores, program, done, node, source[0])
    selection = Selection(scores.selection.weights, 1, None, None)
    weights = explain_one(program, done, selection, None).captured
    linear = sum(
        (_sum_over(weights[o] * done.values[o], 2 if i == 0 else 1, node) for i, o in enumerate(node.outputs) if o),
        np.zeros(scores.batch),
    )
    arrays = [np.asarray(weights[o], np.float64) if o else None for o in (*node.outputs, "", "")[:3]]
    return Readout(_directions(graph, node, done.tapes[node.name], arrays), source, linear)


def _check_layouts(
    task: ExplainTask, scores: Scores, program: Program, done: ForwardPass, node: Node, source: str
) -> None:
    """Checks that the LSTM has the samples of the input and of the output, in the same order.

    Raises SamplesMixed where that is not certain, and UnsupportedOperator where it cannot be.
    """
    first = node.attribute("layout", 0) == 1
    if done.values[node.inputs[0]].shape[0 if first else 1] != scores.batch:
        raise UnsupportedOperator(node.name, node.op, "its samples differ from those of the output")
    if scores.batch == 1 or task.target.batch_axis is None:
        return
    named = [o for o in node.outputs if o]
    layouts = layouts_of(program, done, scores.selection, task.target.batch_axis, [*named, source])
    own = {o: BatchLayout(0 if first else 2 if o == node.outputs[0] else 1) for o in named}
    own[source] = BatchLayout(task.runner.axes[source].batch or 0)
    if any(layout != own[name] for name, layout in layouts.items()):
        raise SamplesMixed


def _find_lstm(graph: Graph, value: str) -> tuple[Node, tuple[str, int]]:
    """Returns the LSTM, and the input with its time axis. Raises UnsupportedOperator."""
    backward_nodes = path(graph, live_values(graph, graph.inputs), [value])
    node = _only_lstm(backward_nodes)
    source = _source(graph, node, backward_nodes)
    _check_readout(node, backward_nodes)
    return node, source


def _sum_over(array: Array, batch_axis: int, node: Node) -> Array:
    axis = 0 if node.attribute("layout", 0) == 1 else batch_axis
    return np.moveaxis(array.astype(np.float64), axis, 0).reshape(array.shape[axis], -1).sum(axis=1)


def _only_lstm(backward_nodes: list[BackwardNode]) -> Node:
    recurrent = [s.node for s in backward_nodes if s.kind in (Kind.RECURRENT, Kind.CONTROL)]
    for node in recurrent[1:] if recurrent and recurrent[0].op == "LSTM" else recurrent:
        raise UnsupportedOperator(
            node.name, node.op, "contextual decomposition needs exactly one LSTM with a linear readout"
        )
    if not backward_nodes:
        raise MethodError("contextual decomposition needs an LSTM, but no input reaches this output", field="method")
    if not recurrent:
        last = backward_nodes[-1].node
        raise UnsupportedOperator(last.name, last.op, "contextual decomposition needs an LSTM, but the model has none")
    node = recurrent[0]
    names = [n.lower() for n in node.attribute("activations") or []]
    default = names in ([], DEFAULT_ACTIVATIONS, DEFAULT_ACTIVATIONS * 2)
    for problem, present in (
        ("peepholes", bool(node.input(7))),
        ("clip", bool(node.attribute("clip", 0.0))),
        ("input_forget", bool(node.attribute("input_forget", 0))),
        ("other activations", not default),
    ):
        if present:
            raise UnsupportedOperator(node.name, node.op, f"contextual decomposition has no rule for {problem}")
    return node


def _source(graph: Graph, node: Node, backward_nodes: list[BackwardNode]) -> tuple[str, int]:
    """Returns the input, and the axis of it, whose positions are the LSTM's time steps."""
    needed = {node.inputs[0]}
    for backward_node in reversed(backward_nodes):
        if not needed.intersection(backward_node.node.outputs):
            continue
        if not backward_node.op.traits & STEPWISE:
            reason = "contextual decomposition needs an LSTM whose steps are those of the input"
            raise UnsupportedOperator(backward_node.node.name, backward_node.node.op, reason)
        needed.update(backward_node.node.inputs[i] for i in backward_node.live)
    label = trace(graph).labels.get(node.inputs[0], ())
    axis = 1 if node.attribute("layout", 0) == 1 else 0
    origins = label[axis] if label else NOWHERE
    if len(origins) != 1:
        raise UnsupportedOperator(node.name, node.op, "its time steps are not those of a single input")
    return next(iter(origins))


def _check_readout(node: Node, backward_nodes: list[BackwardNode]) -> None:
    after = {o for o in node.outputs if o}
    for backward_node in backward_nodes:
        read = {backward_node.node.inputs[i] for i in backward_node.live}
        if backward_node.node is node or not read & after:
            continue
        chooses = backward_node.kind is Kind.ROUTING and {"x", "y"} & set(backward_node.op.saved)
        if backward_node.kind not in LINEAR or chooses or not read <= after:
            reason = "contextual decomposition needs a linear readout of the LSTM alone"
            raise UnsupportedOperator(backward_node.node.name, backward_node.node.op, reason)
        after.update(backward_node.node.outputs)


def _directions(graph: Graph, node: Node, tapes: list[Any], weights: list[Array | None]) -> list[LstmDirection]:
    """weights: of Y, Y_h and Y_c, in ONNX's layout."""
    W, R = (np.asarray(graph.constants[node.inputs[slot]], np.float64) for slot in (1, 2))
    H = R.shape[2]
    B = np.asarray(graph.constants[node.inputs[3]], np.float64) if node.input(3) else np.zeros((len(W), 8 * H))
    batch_first = node.attribute("layout", 0) == 1
    y, *ends = weights
    if batch_first:
        y = None if y is None else y.transpose(1, 2, 0, 3)
        ends = [None if e is None else e.swapaxes(0, 1) for e in ends]
    result = []
    for d, tape in enumerate(tapes):
        steps, batch, _ = tape.x.shape
        at_y = np.zeros((steps, batch, H)) if y is None else y[:, d]
        at_h, at_c = (np.zeros((batch, H)) if e is None else e[d] * (tape.lens.steps > 0)[:, None] for e in ends)
        x, h0, c0 = (np.asarray(a, np.float64) for a in (tape.x, tape.h0, tape.kept["c0"]))
        bias = B[d, : 4 * H] + B[d, 4 * H :]
        reverse = d == 1 or node.attribute("direction", "forward") == "reverse"
        result.append(LstmDirection(x, W[d], R[d], bias, h0, c0, tape.lens.steps, reverse, at_y, at_h, at_c))
    return result
