"""How large an explained value could be by the terms that it is the sum of: the scale on which it counts as small."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lstm_explain.graph.ir import Array, Graph
from lstm_explain.kernels import sums
from lstm_explain.plan.account import add_per_sample, largest_per_sample
from lstm_explain.plan.compile import Plan
from lstm_explain.plan.live import Stop, live_values, path
from lstm_explain.rules import Kind, Lane, LaneLost, Site
from lstm_explain.rules.shares import times

MOST_WEIGHTS, MOST_KNOWN = 1 << 10, 64  # of an output whose terms are kept, and of how many targets
THROUGH = (Kind.SUM, Kind.ROUTING, Kind.SCALE)  # what a sum's terms are looked for behind


@dataclass(frozen=True)
class Term:
    """Numbers whose magnitudes are added: factor * value. value: its name, or a constant. lane: of both."""

    factor: Array
    value: str | Array
    lane: Lane | None


@dataclass(frozen=True)
class Terms:
    """Of one sum(weights * value). steady: for other numbers of the same shapes they are the same."""

    of: list[Term]
    steady: bool

    def magnitude(self, values: Mapping[str, Array], batch: int) -> Array:
        """[batch]: the sum of their magnitudes."""
        total, alone = np.zeros(batch), 0.0
        for term in self.of:
            factor, value = term.factor, values[term.value] if isinstance(term.value, str) else term.value
            if batch == 1 and factor.dtype == value.dtype and factor.shape == value.shape:
                alone += sums.magnitude(factor.ravel(), value.ravel())
            else:
                add_per_sample(np.abs(times(factor, value)), term.lane, total)
        return total + alone


def scale(
    plan: Plan,
    values: Mapping[str, Array],
    name: str,
    weights: Array,
    lane: Lane | None,
    batch: int,
    known: dict[bytes, Terms] | None = None,
) -> Array:
    """[batch]: the larger of two figures about the value called `name`, of which sum(weights * value) is explained:

    the largest entry of the sample's value (its largest logit, say), and the sum of the magnitudes of the terms of the
    linear layer that it comes from, as far as `values` holds that layer's input (see `taps`).

    known: by weights, the terms that were found before for values of these shapes; added to.
    """
    largest = largest_per_sample(values[name], lane, batch) * largest_per_sample(weights, lane, batch)
    try:
        key = weights.tobytes() if known is not None and weights.size <= MOST_WEIGHTS else b""
        found = known.get(key) if known is not None else None
        if found is None:
            found = terms(plan, values, name, weights, lane, batch)
            if known is not None and key and found.steady and len(known) < MOST_KNOWN:
                known[key] = found
        return np.maximum(largest, found.magnitude(values, batch))
    except (KeyError, AssertionError, ValueError, LaneLost):  # of what this plan does not keep, half is enough
        return largest


def taps(graph: Graph, name: str) -> tuple[str, ...]:
    """The values whose elements are the terms."""
    reached, found = {name}, []
    for stop in reversed(path(graph, live_values(graph, graph.inputs), [name], strict=False)):
        if reached.isdisjoint(stop.node.outputs):
            continue
        if stop.kind in THROUGH:
            reached.update(stop.node.inputs[slot] for slot in stop.live)
        elif stop.kind is Kind.MAP:
            found += [stop.node.inputs[slot] for slot in stop.live]
    return tuple(dict.fromkeys(found))


def terms(plan: Plan, values: Mapping[str, Array], name: str, weights: Array, lane: Lane | None, batch: int) -> Terms:
    """Carries the weights back as a gradient goes, to the first linear map on every way.

    Raises KeyError and AssertionError where `values` lacks what that takes, LaneLost.
    """
    arrived: dict[str, tuple[Array, Lane | None]] = {name: (weights, lane)}
    found, steady = [], True
    for stop in reversed(plan.stops):
        output, kind = stop.node.outputs[0], stop.kind
        if output not in arrived or not (kind is Kind.MAP or kind in THROUGH):
            continue
        given, at = arrived.pop(output)
        site, vjp = Site(stop.node, plan.graph, stop.live, values, given.dtype), stop.op.vjp
        assert vjp is not None
        steady &= _steady(plan.graph, stop)
        if kind is not Kind.ROUTING and (bias := stop.op.bias(site)) is not None:
            found.append(Term(given, np.broadcast_to(bias, given.shape), at))
        for slot in stop.live:
            moved, source = vjp(site, slot, given), stop.node.inputs[slot]
            there = None if at is None else stop.op.lane(site, slot, at, given.shape, moved.shape, batch)
            if kind is Kind.MAP:
                found.append(Term(moved, source, there))
            else:
                earlier = arrived.get(source)
                arrived[source] = (moved if earlier is None else earlier[0] + moved, there)
    found += [Term(given, source, at) for source, (given, at) in arrived.items() if source in values]
    return Terms(found, steady)


def _steady(graph: Graph, stop: Stop) -> bool:
    """Whether the way back through this node is the same for all inputs of these shapes."""
    read = set(stop.op.reads) - {"s", "shapes"}
    others = [name for i, name in enumerate(stop.node.inputs) if name and i not in stop.live]
    return not read or (not read & {"x", "y"} and all(name in graph.constants for name in others))
