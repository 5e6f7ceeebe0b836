"""The walk of one sample, written out: for inputs of the same shapes it goes the same way every time.

`Walk` finds out at every explanation which nodes relevance passes, what kind of message comes to each value, and where
views put elements. `replay_of` reads that off a walk that is done, once, and leaves a list of functions; views that
follow each other become one. Not for everything: batches, composites, a bias factor and control flow are walked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.kernels import sums
from lstm_explain.plan.account import per_sample
from lstm_explain.plan.backward import Walk
from lstm_explain.plan.compile import Segment
from lstm_explain.plan.course import Call, Course, Shape, Step, View, merged
from lstm_explain.plan.forward import Pass
from lstm_explain.plan.layers import settings_of
from lstm_explain.plan.live import Stop
from lstm_explain.plan.settled import Fixed, Messages, arrival_at, channel_of, given_to, site_for, sites
from lstm_explain.rules import Kind, Site
from lstm_explain.rules.recurrent import STATE_SLOTS, Tape
from lstm_explain.rules.shares import in_dtype, settle_all, times
from lstm_explain.watch import checkpoint

MOST_WEIGHTS, MOST_ROWS = 1 << 14, 64  # of a linear map that is kept as a matrix
PROBES = 16  # vectors by which that is tried
MOST_PLACES = 1 << 12  # of a view that is kept as a list of places


@dataclass(frozen=True)
class Replay:
    """shapes: of values, those that the steps take for granted."""

    steps: list[Step]
    shapes: list[tuple[str, Shape]]

    def run(self, done: Pass, target: str, seed: Array) -> Course | None:
        """seed: what the walk begins with at `target`. None where a shape is another than it was."""
        values = done.values
        for name, shape in self.shapes:
            if values[name].shape != shape:
                return None
        course = Course(done, {target: seed})
        for step in self.steps:
            checkpoint()
            step(course)
        return course


def replay_of(walk: Walk) -> Replay | None:
    """The walk, which is done, written out; None where it is of a kind that has to be walked."""
    if walk.batch != 1 or walk.lrp.composite is not None or walk.lrp.bias_factor:
        return None
    makers = _GRADIENT if walk.plan.gradient else _LRP
    parts: list[Call | View] = []
    for stop in reversed(walk.plan.stops):
        messages = walk.arrivals(stop)
        if not any(messages):
            continue
        maker = makers.get(stop.kind)
        part = None if maker is None else maker(walk, stop, messages)
        if part is None:
            return None
        parts.append(part)
    return Replay([part.step for part in merged(parts)], _granted(walk))


def _granted(walk: Walk) -> list[tuple[str, Shape]]:
    """Shapes of what the walk has looked at, where the model leaves them open."""
    graph, values = walk.plan.graph, walk.done.values
    names = dict.fromkeys(name for stop in walk.plan.stops for name in (*stop.node.inputs, *stop.node.outputs))
    segments = [step for step in walk.plan.steps if isinstance(step, Segment)]
    inner = {o for s in segments for _, _, o in s.small or ()}.difference(*[s.outputs for s in segments])
    open_ones = [n for n in names if n in values and n not in inner and graph.type_of(n).static_shape is None]
    return [(name, values[name].shape) for name in open_ones]


# --- one step a node ---------------------------------------------------------------------------------------------


def _linear(walk: Walk, stop: Stop, messages: Messages) -> Call | View | None:
    """By the vector-Jacobian product alone, what has come stays of its kind."""
    vjp, given = stop.op.vjp, given_to(messages)
    assert vjp is not None
    fixed = site_for(walk, stop, lambda site: [vjp(site, slot, given) for slot in stop.live])
    if fixed is not None and stop.kind is Kind.ROUTING and len(stop.live) == len(messages) == 1:
        view = _view(stop, fixed, given.shape)
        if view is not None:
            return view
    site_of, arrival = sites(walk, stop, fixed), arrival_at(stop, messages)
    live = [(slot, stop.node.inputs[slot]) for slot in stop.live]

    def step(course: Course) -> None:
        site, came = site_of(course), arrival(course)
        for slot, name in live:
            course.send(name, vjp(site, slot, came))

    return Call(step, tuple(name for _, name in live))


def _view(stop: Stop, site: Site, shape: Shape) -> View | None:
    """What a routing operator does to an array of this shape, if it is small, and no element is added to another."""
    size, vjp, (slot,) = math.prod(shape), stop.op.vjp, stop.live
    if not 0 < size <= MOST_PLACES:
        return None
    assert vjp is not None
    numbers = np.arange(1.0, size + 1, dtype=site.dtype)
    moved = vjp(site, slot, numbers.reshape(shape))
    flat = moved.ravel()
    at = np.flatnonzero(flat)
    if len(at) != size or not np.array_equal(np.sort(flat[at]), numbers):
        return None
    places = np.empty(size, np.int64)
    places[flat[at].astype(np.int64) - 1] = at
    return View(stop.carrying[0], stop.node.inputs[slot], places, moved.shape)


def _routing(walk: Walk, stop: Stop, messages: Messages) -> Call | View | None:
    kind = channel_of(messages)
    if kind == "relevance":
        return None if stop.drops else _linear(walk, stop, messages)
    looked_through = all(stop.node.inputs[slot] in walk.plan.linear for slot in stop.live)
    return _linear(walk, stop, messages) if kind == "density" and looked_through else None


def _neuron(walk: Walk, stop: Stop, messages: Messages) -> Call | None:
    """The epsilon rule, of what comes from one side: relevance, or the density of a sum behind."""
    message, node, vjp = messages[0], stop.node, stop.op.vjp
    kind, epsilon = channel_of(messages), walk.lrp.epsilon
    assert message is not None
    assert vjp is not None
    if kind not in ("relevance", "density"):
        return None
    given = message.some()
    fixed = site_for(walk, stop, lambda site: (stop.op.bias(site), [vjp(site, slot, given) for slot in stop.live]))
    if fixed is None:
        return None
    bias, (out,), dtype = stop.op.bias(fixed), stop.carrying, walk.dtype
    if bias is not None and (kind == "density" or bias.shape != given.shape[given.ndim - bias.ndim :]):
        return None
    inputs = [(slot, node.inputs[slot]) for slot in stop.live]
    if kind == "relevance" and stop.kind is Kind.MAP and len(inputs) == 1:
        dense = _dense(walk, stop, fixed, given.shape, bias)
        if dense is not None:
            return dense
    hands_on = [stop.kind is not Kind.MAP and name in walk.plan.linear for _, name in inputs]
    named = [(slot, name, on) for (slot, name), on in zip(inputs, hands_on, strict=True)]

    def step(course: Course) -> None:
        density, values = course.arrived[out], course.done.values
        if kind == "relevance":
            settled = settle_all(density, values[out], bias, epsilon)
            assert settled is not None
            density, course.absorbed[node.name] = settled
        for slot, name, on in named:
            share = vjp(fixed, slot, density)
            course.send(name, share if on else times(share, in_dtype(values[name], dtype)))

    return Call(step, tuple(name for _, name in inputs))


def _dense(walk: Walk, stop: Stop, fixed: Fixed, shape: Shape, bias: Array | None) -> Call | None:
    """`_neuron` of a small linear map, by a matrix of all that it does; None where it is large."""
    (out,), (slot,), vjp, dtype, epsilon = stop.carrying, stop.live, stop.op.vjp, walk.dtype, walk.lrp.epsilon
    name, node, size = stop.node.inputs[slot], stop.node.name, math.prod(shape)
    there = fixed.shape(slot)
    if not 0 < size * math.prod(there) <= MOST_WEIGHTS or size > MOST_ROWS:
        return None
    assert vjp is not None
    weights = np.array([vjp(fixed, slot, one.reshape(shape)).ravel() for one in np.eye(size, dtype=dtype)])
    for probe in np.random.default_rng(0).standard_normal((PROBES, 1, size)).astype(dtype):
        product = np.empty((1, weights.shape[1]), dtype)
        sums.rows_times(probe, weights, product)
        if not np.array_equal(product.ravel(), vjp(fixed, slot, probe.reshape(shape)).ravel()):
            return None  # it rounds otherwise
    bias = np.zeros(0, dtype) if bias is None else np.asarray(bias, dtype).ravel()

    def step(course: Course) -> None:
        values, kept, x = course.done.values, np.zeros(1), np.empty(there, dtype)
        r, z, source = course.arrived[out], in_dtype(values[out], dtype), in_dtype(values[name], dtype)
        sums.dense_back(r.ravel(), z.ravel(), bias, epsilon, weights, source.ravel(), x.ravel(), kept)
        course.absorbed[node] = kept
        course.send(name, x)

    return Call(step, (name,))


def _scale(walk: Walk, stop: Stop, messages: Messages) -> Call | None:
    """Relevance stays, element by element."""
    return _kept(walk, stop, stop.op.spread) if channel_of(messages) == "relevance" else None


def _activation(walk: Walk, stop: Stop, messages: Messages) -> Call | None:
    return _kept(walk, stop, stop.op.distribute)


def _kept(walk: Walk, stop: Stop, share: Callable[[Site, int, Array], Array] | None) -> Call:
    """share: how elements share out relevance; None: each keeps what it has."""
    (out,), live = stop.carrying, [(slot, stop.node.inputs[slot]) for slot in stop.live]
    site_of = sites(walk, stop, None)

    def step(course: Course) -> None:
        relevance = course.arrived[out]
        for slot, name in live:
            course.send(name, relevance if share is None else share(site_of(course), slot, relevance))

    return Call(step, tuple(name for _, name in live))


def _lookup(walk: Walk, stop: Stop, messages: Messages) -> Call | None:
    return _kept(walk, stop, stop.op.vjp) if channel_of(messages) == "relevance" else None


def _recurrent(walk: Walk, stop: Stop, messages: Messages) -> Call:
    node, cell, gradient = stop.node, walk.cells[stop.node.name], walk.plan.gradient
    lrp = None if gradient else settings_of(walk.lrp, node)
    names = [name if message else None for name, message in zip(stop.carrying, messages, strict=True)]
    live = {slot: node.inputs[slot] for slot in stop.live}
    shown: list[Tape] = walk.done.tapes[node.name]
    back, whole, steps = cell.ready_back(shown, lrp), shown[0].lens.whole, len(shown[0].x)

    def step(course: Course) -> None:
        arrived, tapes = course.arrived, course.done.tapes[node.name]
        arriving = [None if name is None else arrived[name] for name in names]
        alike = whole and tapes[0].lens.whole and len(tapes[0].x) == steps
        flow = back(tapes, arriving) if alike else cell.backward(tapes, arriving, lrp)
        for slot, array in flow.inputs.items():
            if slot in live:
                course.send(live[slot], array)
            elif slot in STATE_SLOTS[node.op] and not gradient:
                states = per_sample(array, None, 1)
                course.states = states if course.states is None else course.states + states
        if not gradient:
            absorbed = flow.absorbed
            course.absorbed[node.name] = absorbed if absorbed.shape == (1,) else per_sample(absorbed, None, 1)

    return Call(step, tuple(live.values()))


Maker = Callable[[Walk, Stop, Messages], "Call | View | None"]
_LRP: dict[Kind, Maker] = {
    Kind.SUM: _neuron,
    Kind.MAP: _neuron,
    Kind.SCALE: _scale,
    Kind.ACTIVATION: _activation,
    Kind.ROUTING: _routing,
    Kind.LOOKUP: _lookup,
    Kind.RECURRENT: _recurrent,
}
_GRADIENT: Mapping[Kind, Maker] = dict.fromkeys(
    (Kind.SUM, Kind.MAP, Kind.SCALE, Kind.ACTIVATION, Kind.ROUTING, Kind.PRODUCT), _linear
) | {Kind.RECURRENT: _recurrent}
