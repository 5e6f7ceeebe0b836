# SPDX-License-Identifier: Apache-2.0
"""Computes, from the terms of its sum, the scale relative to which an explained value may be small."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lstm_explain.graph.ir import Array, Graph
from lstm_explain.kernels import reductions
from lstm_explain.operators import BatchLayout, Kind, NodeContext, SamplesMixed
from lstm_explain.operators.formulas import times
from lstm_explain.program.account import add_per_sample, largest_per_sample
from lstm_explain.program.compile import Plan
from lstm_explain.program.reachability import BackwardNode, live_values, path

MOST_WEIGHTS, MOST_KNOWN = 1 << 10, 64  # elements of an output whose terms are cached, and the number of targets
THROUGH = (Kind.SUM, Kind.ROUTING, Kind.SCALE)  # operators through which a sum's terms are searched


@dataclass(frozen=True)
class Term:
    """Terms whose magnitudes are added up: factor * value. value: a name, or a constant. layout: that of both."""

    factor: Array
    value: str | Array
    layout: BatchLayout | None


@dataclass(frozen=True)
class Terms:
    """The terms of one sum(weights * value). steady: whether they are the same for all values of these shapes."""

    of: list[Term]
    steady: bool

    def magnitude(self, values: Mapping[str, Array], batch: int) -> Array:
        """Returns an array [batch]: the sum of the terms' magnitudes."""
        total, alone = np.zeros(batch), 0.0
        for term in self.of:
            factor, value = term.factor, values[term.value] if isinstance(term.value, str) else term.value
            if batch == 1 and factor.dtype == value.dtype and factor.shape == value.shape:
                alone += reductions.magnitude(factor.ravel(), value.ravel())
            else:
                add_per_sample(np.abs(times(factor, value)), term.layout, total)
        return total + alone


def scale(
    plan: Plan,
    values: Mapping[str, Array],
    name: str,
    weights: Array,
    layout: BatchLayout | None,
    batch: int,
    known: dict[bytes, Terms] | None = None,
) -> Array:
    """Returns an array [batch]: the larger of two figures for the value `name`, whose sum(weights * value) is
    explained:

    the largest entry of the sample's value (its largest logit, say), and the sum of the magnitudes of the terms of the
    linear layer that it comes from, as far as `values` holds that layer's input (see `saved_values`).

    known: by weights, the terms that were found earlier for values of these shapes; the function adds to it.
    """
    largest = largest_per_sample(values[name], layout, batch) * largest_per_sample(weights, layout, batch)
    try:
        key = weights.tobytes() if known is not None and weights.size <= MOST_WEIGHTS else b""
        found = known.get(key) if known is not None else None
        if found is None:
            found = terms(plan, values, name, weights, layout, batch)
            if known is not None and key and found.steady and len(known) < MOST_KNOWN:
                known[key] = found
        return np.maximum(largest, found.magnitude(values, batch))
    except (KeyError, AssertionError, ValueError, SamplesMixed):  # a value that this plan does not save
        return largest


def saved_values(graph: Graph, name: str) -> tuple[str, ...]:
    """Returns the values whose elements are the terms."""
    reached, found = {name}, []
    for backward_node in reversed(path(graph, live_values(graph, graph.inputs), [name], strict=False)):
        if reached.isdisjoint(backward_node.node.outputs):
            continue
        if backward_node.kind in THROUGH:
            reached.update(backward_node.node.inputs[slot] for slot in backward_node.live)
        elif backward_node.kind is Kind.MAP:
            found += [backward_node.node.inputs[slot] for slot in backward_node.live]
    return tuple(dict.fromkeys(found))


def terms(
    plan: Plan, values: Mapping[str, Array], name: str, weights: Array, layout: BatchLayout | None, batch: int
) -> Terms:
    """Propagates the weights back as a gradient, up to the first linear map on every path.

    Raises KeyError and AssertionError where `values` lacks a value that this needs, and SamplesMixed.
    """
    arrived: dict[str, tuple[Array, BatchLayout | None]] = {name: (weights, layout)}
    found, steady = [], True
    for backward_node in reversed(plan.backward_nodes):
        output, kind = backward_node.node.outputs[0], backward_node.kind
        if output not in arrived or not (kind is Kind.MAP or kind in THROUGH):
            continue
        given, at = arrived.pop(output)
        context, vjp = (
            NodeContext(backward_node.node, plan.graph, backward_node.live, values, given.dtype),
            backward_node.op.vjp,
        )
        assert vjp is not None
        steady &= _steady(plan.graph, backward_node)
        if kind is not Kind.ROUTING and (bias := backward_node.op.bias(context)) is not None:
            found.append(Term(given, np.broadcast_to(bias, given.shape), at))
        for slot in backward_node.live:
            moved, source = vjp(context, slot, given), backward_node.node.inputs[slot]
            there = None if at is None else backward_node.op.layout(context, slot, at, given.shape, moved.shape, batch)
            if kind is Kind.MAP:
                found.append(Term(moved, source, there))
            else:
                earlier = arrived.get(source)
                arrived[source] = (moved if earlier is None else earlier[0] + moved, there)
    found += [Term(given, source, at) for source, (given, at) in arrived.items() if source in values]
    return Terms(found, steady)


def _steady(graph: Graph, backward_node: BackwardNode) -> bool:
    """Returns whether the backward pass through this node is the same for all inputs of these shapes."""
    read = set(backward_node.op.saved) - {"shape", "shapes"}
    others = [name for i, name in enumerate(backward_node.node.inputs) if name and i not in backward_node.live]
    return not read or (not read & {"x", "y"} and all(name in graph.constants for name in others))
