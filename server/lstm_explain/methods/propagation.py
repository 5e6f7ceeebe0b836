"""LRP, gradient and gradient times input: one forward pass, one walk back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.ledger import Ledger
from lstm_explain.methods.inner import inner_relevance, inner_view
from lstm_explain.methods.layers import check_keys
from lstm_explain.methods.spec import LRP, Method
from lstm_explain.plan.account import add_per_sample, per_sample
from lstm_explain.plan.backward import Walk
from lstm_explain.plan.compile import Plan
from lstm_explain.plan.forward import Pass
from lstm_explain.plan.head import Head
from lstm_explain.rules import Lane, LaneLost
from lstm_explain.rules.recurrent import Recurrent
from lstm_explain.target import Selection
from lstm_explain.watch import part


@dataclass
class Context:
    """A forward pass and what it takes to walk back from it."""

    plan: Plan
    head: Head
    cells: Mapping[str, Recurrent]
    done: Pass
    inputs: list[str]
    capture: list[str]


@dataclass
class Answer:
    """As in Explanation."""

    relevance: dict[str, Array]
    explained: Array
    captured: dict[str, Array]
    ledger: Ledger


@part("backward")
def explain_by_propagation(context: Context, method: Method, selection: Selection, batch_axis: int | None) -> Answer:
    """Walks back once for the whole batch, or sample by sample where an operator mixes the places of samples."""
    if isinstance(method, LRP) and method.composite is not None:
        check_keys(context.plan.graph, method.composite)
    single = np.float64 if isinstance(method, LRP) and method.product_rule != "all" else np.float32
    dtype = np.promote_types(context.done.values[context.head.value].dtype, single)
    weights, batch = selection.weights.astype(dtype, copy=False), selection.batch
    lane = None if batch == 1 or batch_axis is None else Lane(batch_axis % weights.ndim)
    graph, values = context.plan.graph, context.done.values
    try:
        inside, lane = context.head.through(graph, values, weights, lane, batch)
        return _walk(context, method, inside, lane, batch)
    except LaneLost:
        assert batch_axis is not None  # without a batch axis there is one sample
        answers = []
        for sample in range(batch):
            alone = np.zeros_like(weights)
            index = (slice(None),) * (batch_axis % weights.ndim) + (sample,)
            alone[index] = weights[index]
            inside, _ = context.head.through(graph, values, alone, None, 1)
            answers.append(_walk(context, method, inside, None, 1))
        return _joined(answers)


def _walk(context: Context, method: Method, weights: Array, lane: Lane | None, batch: int) -> Answer:
    dtype = weights.dtype
    walk = Walk(context.plan, context.done, context.cells, method, batch, dtype)
    seed = weights * context.done.values[context.head.value]
    if isinstance(method, LRP):
        walk.send(context.head.value, lane, relevance=seed)
    else:
        walk.send(context.head.value, lane, density=weights)
    walk.run()
    explained = per_sample(seed, lane, batch)
    relevance, total = {}, np.zeros(batch)
    for name in context.inputs:
        arrived = walk.arrived(name)
        if arrived is None:
            relevance[name] = np.zeros(context.done.values[name].shape, dtype)
        else:
            relevance[name] = np.asarray(arrived, order="C")
            add_per_sample(relevance[name], walk.messages[name].lane, total)
    captured = {name: _captured(walk, context, name, dtype) for name in context.capture}
    absorbed, states = walk.account.absorbed(), walk.account.initial_states
    ledger = Ledger(total, states, absorbed, explained - total - states - absorbed, walk.account.by_node)
    return Answer(relevance, explained, captured, ledger)


def _captured(walk: Walk, context: Context, name: str, dtype: np.dtype[np.floating]) -> Array:
    view = inner_view(name, context.cells)
    if view is not None and name not in context.done.values:
        return inner_relevance(walk, *view).astype(dtype)
    arrived = walk.arrived(name)
    return np.zeros(context.done.values[name].shape, dtype) if arrived is None else np.asarray(arrived, order="C")


def _joined(answers: list[Answer]) -> Answer:
    """Relevance adds up, since each sample's own lies in places of its own; what is [batch] is put in a row."""

    def added(field: str) -> dict[str, Array]:
        first = getattr(answers[0], field)
        return {name: sum((getattr(a, field)[name] for a in answers[1:]), first[name]) for name in first}

    def row(field: str) -> Array:
        return np.concatenate([getattr(a.ledger, field) for a in answers])

    nodes = dict.fromkeys(name for a in answers for name in a.ledger.by_node)
    zero = np.zeros(1, answers[0].explained.dtype)
    by_node = {name: np.concatenate([a.ledger.by_node.get(name, zero) for a in answers]) for name in nodes}
    ledger = Ledger(row("inputs"), row("initial_states"), row("absorbed"), row("residual"), by_node)
    return Answer(added("relevance"), np.concatenate([a.explained for a in answers]), added("captured"), ledger)
