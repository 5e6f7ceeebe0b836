"""The walk from the explained value to the inputs. It knows kinds, not operators.

A message to a value is relevance R, or a density G with R = value * G. Sums and linear maps hand on densities:
G = R / stab(z) at a sum z, from there the plain vector-Jacobian product, and only where a value is no sum itself does
it become relevance again. So a sum with all the linear maps that feed it is one neuron with one stabiliser, however
the exporter spelled it. Gradients are densities everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.plan.account import Account
from lstm_explain.plan.compile import Plan, constant_tap
from lstm_explain.plan.control import sliced_lane, walk_node
from lstm_explain.plan.forward import Pass
from lstm_explain.plan.layers import handlers_of, settings_of
from lstm_explain.plan.live import Stop
from lstm_explain.rules import Kind, Lane, LaneLost, Site
from lstm_explain.rules.recurrent import STATE_SLOTS, Flow, Recurrent
from lstm_explain.rules.shares import settle, shares_of_product, times
from lstm_explain.spec.method import LRP, GradientTimesInput, Method
from lstm_explain.watch import checkpoint


@dataclass(slots=True)
class Message:
    """What has arrived at a value. `amount`: relevance to be spread evenly over the units that feed it linearly."""

    relevance: Array | None = None
    density: Array | None = None
    amount: Array | None = None
    lane: Lane | None = None

    def at(self, axis: int, position: int) -> Message:
        """The message to one slice of the value."""
        channels = (self.relevance, self.density, self.amount)
        relevance, density, amount = (None if a is None else a.take(position, axis) for a in channels)
        return Message(relevance, density, amount, sliced_lane(self.lane, axis))

    def some(self) -> Array:
        array = self.relevance if self.relevance is not None else self.density
        assert array is not None
        return array


class Walk:
    """One backward pass over a plan.

    batch: samples; with more than one, lanes tell them apart in every array. dtype: of the arithmetic.
    Raises LaneLost where samples cannot be told apart.
    """

    def __init__(
        self,
        plan: Plan,
        done: Pass,
        cells: Mapping[str, Recurrent],
        method: Method,
        batch: int,
        dtype: np.dtype[np.floating],
    ) -> None:
        self.plan, self.done, self.cells, self.method = plan, done, cells, method
        self.batch, self.dtype = batch, dtype
        self.lrp = method if isinstance(method, LRP) else LRP()
        self.messages: dict[str, Message] = {}
        self.account = Account(batch)
        self.sites: dict[str, Site] = {}
        self._fan_in: dict[str, float] = {}
        self._layers = {} if plan.gradient else handlers_of(plan, self.lrp.composite)

    def run(self) -> None:
        """Walks back from the messages that `send` has placed at the targets."""
        for stop in reversed(self.plan.stops):
            messages = self.arrivals(stop)
            if any(messages):
                checkpoint()
                self.passes(stop, messages)

    def arrivals(self, stop: Stop) -> list[Message | None]:
        """What has arrived at the outputs of a node that carry relevance."""
        arrived = self.messages.get
        return [arrived(name) for name in stop.carrying]

    def passes(self, stop: Stop, messages: list[Message | None]) -> None:
        """Hands on to the node's inputs what has arrived at its outputs."""
        layer = self._layers.get(stop.node.name) if self._layers else None
        if layer is None:
            (_GRADIENT if self.plan.gradient else _LRP)[stop.kind](self, stop, messages)
        elif messages[0] is not None:
            layer(self, stop, messages[0])

    def send(
        self,
        value: str,
        lane: Lane | None,
        *,
        relevance: Array | None = None,
        density: Array | None = None,
        amount: Array | None = None,
    ) -> None:
        earlier = self.messages.get(value)
        if earlier is None:
            self.messages[value] = Message(relevance, density, amount, lane)
            return
        earlier.lane = lane
        earlier.relevance = _plus(earlier.relevance, relevance)
        earlier.density = _plus(earlier.density, density)
        earlier.amount = _plus(earlier.amount, amount)

    def receive(self, value: str, message: Message | None) -> None:
        """`send`, of a whole message."""
        if message is not None:
            channels = {"relevance": message.relevance, "density": message.density, "amount": message.amount}
            self.send(value, message.lane, **channels)

    def inside(self, plan: Plan, done: Pass) -> Walk:
        """A walk through one iteration of a body, which enters into the same account."""
        walk = Walk(plan, done, self.cells, self.method, self.batch, self.dtype)
        walk.account = self.account
        return walk

    def keep_initial_state(self, message: Message) -> None:
        """Relevance of a state that starts from a constant."""
        for array in (message.relevance, message.amount):
            if array is not None:
                self.account.keep_initial_state(array, message.lane)

    def arrived(self, value: str) -> Array | None:
        """All that arrived at a value, as the method reports it; None: nothing did."""
        message = self.messages.get(value)
        if message is None:
            return None
        density = message.density
        if density is not None and not (self.plan.gradient and not isinstance(self.method, GradientTimesInput)):
            density = density * self.done.values[value]
        return _plus(_plus(message.relevance, density), message.amount)

    # --- what the handlers share --------------------------------------------------------------------------------

    def site(self, stop: Stop) -> Site:
        site = self.sites.get(stop.node.name)
        if site is None:
            site = self.sites[stop.node.name] = Site(
                stop.node, self.plan.graph, stop.live, self.done.values, self.dtype
            )
        return site

    def lane(self, stop: Stop, slot: int, message: Message, shape: tuple[int, ...]) -> Lane | None:
        """Where the samples lie in the input at `slot`."""
        if self.batch == 1:
            return None
        assert message.lane is not None
        return stop.op.lane(self.site(stop), slot, message.lane, message.some().shape, shape, self.batch)

    def hand_on(self, stop: Stop, slot: int, message: Message, density: Array, amount: Array | None) -> None:
        """A density for an input: as it is where the input is a sum itself, as relevance elsewhere."""
        name = stop.node.inputs[slot]
        lane = self.lane(stop, slot, message, density.shape)
        if stop.kind is not Kind.MAP and name in self.plan.linear:
            self.send(name, lane, density=density, amount=amount)
        else:
            relevance = times(density, self.site(stop).x(slot))
            self.send(name, lane, relevance=_plus(relevance, amount))

    def fan_in(self, value: str) -> float:
        """Units that feed a value linearly."""
        if not self._fan_in:
            for stop in self.plan.stops:  # inputs first, so that every operand is known before its sum
                if self.plan.linear.intersection(stop.node.outputs):
                    self._fan_in.update(dict.fromkeys(stop.node.outputs, self._fan_in_of(stop)))
        return self._fan_in.get(value, 1.0)

    def _fan_in_of(self, stop: Stop) -> float:
        if stop.kind is Kind.MAP:
            return sum(stop.op.fan_in(self.site(stop), slot) for slot in stop.live)
        feeding = [self._fan_in.get(stop.node.inputs[slot], 1.0) for slot in stop.live]
        return sum(feeding) if stop.kind is Kind.SUM else max(feeding)


def _plus(a: Array | None, b: Array | None) -> Array | None:
    if a is None:
        return b
    return a if b is None else a + b


# --- relevance ---------------------------------------------------------------------------------------------------


def _neuron(walk: Walk, stop: Stop, messages: list[Message | None]) -> None:
    """The epsilon rule at a sum or linear map (Arras et al. 2017, equation 1)."""
    message = messages[0]
    assert message is not None
    site, lrp = walk.site(stop), walk.lrp
    density, amount = message.density, message.amount
    if message.relevance is not None:
        own, kept = settle(message.relevance, site.y(), lrp.epsilon)
        walk.account.absorb(stop.node.name, _rest(kept, lrp), message.lane)
        if lrp.bias_factor:
            constant = walk.done.values[constant_tap(stop.node.outputs[0])].astype(walk.dtype, copy=False)
            amount = _plus(amount, lrp.bias_factor * (kept + times(own, constant)))
        density = _plus(density, own)
    assert density is not None
    bias = stop.op.bias(site)
    if bias is not None and lrp.bias_factor != 1:
        walk.account.absorb(stop.node.name, _rest(times(density, bias), lrp), message.lane)
    units = _units(walk, stop) if amount is not None else {}
    for slot in stop.live:
        part = None
        if amount is not None:
            assert stop.op.spread is not None
            part = stop.op.spread(site, slot, amount * (units[slot] / sum(units.values())))
        assert stop.op.vjp is not None
        walk.hand_on(stop, slot, message, stop.op.vjp(site, slot, density), part)


def _rest(kept: Array, lrp: LRP) -> Array:
    """What a node absorbs of what its bias and stabiliser keep; its inputs get the bias factor's share."""
    return kept * (1 - lrp.bias_factor) if lrp.bias_factor else kept


def _units(walk: Walk, stop: Stop) -> dict[int, float]:
    """Units behind each live slot of a sum or linear map."""
    if stop.kind is Kind.MAP:
        return {slot: stop.op.fan_in(walk.site(stop), slot) for slot in stop.live}
    return {slot: walk.fan_in(stop.node.inputs[slot]) for slot in stop.live}


def _scale(walk: Walk, stop: Stop, messages: list[Message | None]) -> None:
    message = messages[0]
    assert message is not None
    site = walk.site(stop)
    (slot,) = stop.live
    assert stop.op.spread is not None
    amount = None if message.amount is None else stop.op.spread(site, slot, message.amount)
    if message.relevance is not None:
        kept = stop.op.spread(site, slot, message.relevance)
        walk.send(stop.node.inputs[slot], walk.lane(stop, slot, message, kept.shape), relevance=kept)
    if message.density is not None:
        assert stop.op.vjp is not None
        walk.hand_on(stop, slot, message, stop.op.vjp(site, slot, message.density), amount)


def _activation(walk: Walk, stop: Stop, messages: list[Message | None]) -> None:
    message = messages[0]
    assert message is not None
    relevance = message.relevance
    assert relevance is not None
    for slot in stop.live:
        kept = relevance if stop.op.distribute is None else stop.op.distribute(walk.site(stop), slot, relevance)
        lane = walk.lane(stop, slot, message, kept.shape)
        walk.send(stop.node.inputs[slot], lane, relevance=kept)


def _routing(walk: Walk, stop: Stop, messages: list[Message | None]) -> None:
    site, vjp = walk.site(stop), stop.op.vjp
    message = next(filter(None, messages))
    if message.density is None and len(messages) == len(stop.live) == 1 and not stop.drops:  # the usual case
        assert vjp is not None
        assert message.relevance is not None
        (slot,) = stop.live
        moved = vjp(site, slot, message.relevance)
        walk.send(stop.node.inputs[slot], walk.lane(stop, slot, message, moved.shape), relevance=moved)
        return
    relevance, density, amount = (_channel(messages, name) for name in ("relevance", "density", "amount"))
    landed: list[Array] = []
    assert vjp is not None
    for slot in stop.live:
        if relevance is not None:
            moved = vjp(site, slot, relevance)
            walk.send(stop.node.inputs[slot], walk.lane(stop, slot, message, moved.shape), relevance=moved)
            landed.append(moved)
        if density is not None:
            spread = None if amount is None else vjp(site, slot, amount)
            walk.hand_on(stop, slot, message, vjp(site, slot, density), spread)
    if stop.drops and message.relevance is not None:
        given = [(m.relevance, m.lane) for m in messages if m is not None and m.relevance is not None]
        for arrived, lane in given:
            walk.account.absorb(stop.node.name, arrived, lane)
        for slot, moved in zip(stop.live, landed, strict=True):
            walk.account.absorb(stop.node.name, -moved, walk.lane(stop, slot, message, moved.shape))


def _channel(messages: list[Message | None], name: str) -> Array | tuple[Array | None, ...] | None:
    """One kind of message: the array for an operator of one output, else a tuple with one (or None) an output."""
    if len(messages) == 1:
        return None if messages[0] is None else getattr(messages[0], name)
    arrays = tuple(None if m is None else getattr(m, name) for m in messages)
    return None if all(a is None for a in arrays) else arrays


def _product(walk: Walk, stop: Stop, messages: list[Message | None]) -> None:
    message = messages[0]
    assert message is not None
    relevance = message.relevance
    assert relevance is not None
    site, gate, lrp = walk.site(stop), walk.plan.gates[stop.node.name], walk.lrp
    share = stop.op.share or shares_of_product
    parts, absorbed = share(site, relevance, gate, lrp)
    constant = len(stop.live) == 1  # what falls to a constant operand stays here, as what the stabiliser takes does
    walk.account.absorb(stop.node.name, relevance if constant else absorbed, message.lane)
    for slot in stop.live:
        lane = walk.lane(stop, slot, message, parts[slot].shape)
        walk.send(stop.node.inputs[slot], lane, relevance=parts[slot])
        if constant:
            walk.account.absorb(stop.node.name, -parts[slot], lane)


def _lookup(walk: Walk, stop: Stop, messages: list[Message | None]) -> None:
    message = messages[0]
    assert message is not None
    assert stop.op.vjp is not None
    value = message.relevance
    if message.density is not None:  # gradients: one number an index
        value = _plus(value, _lookup_saliency(walk, stop, message.density))
    assert value is not None
    site = walk.site(stop)
    (slot,) = stop.live
    relevance = stop.op.vjp(site, slot, value)
    if message.density is not None and not isinstance(walk.method, GradientTimesInput):
        relevance = np.sqrt(relevance)
    lane = walk.lane(stop, slot, message, relevance.shape)
    walk.send(stop.node.inputs[slot], lane, relevance=relevance)


def _lookup_saliency(walk: Walk, stop: Stop, g: Array) -> Array:
    """Gradient times the picked vector; for the plain gradient its square, so that an index gets the L2 norm."""
    return g * walk.site(stop).y() if isinstance(walk.method, GradientTimesInput) else g * g


def run_together(walks: Sequence[Walk]) -> None:
    """Walks by one method over one forward pass, back from several targets, node by node: the steps of a recurrent node
    are gone through once for all."""
    for stop in reversed(walks[0].plan.stops):
        came = [(walk, walk.arrivals(stop)) for walk in walks]
        came = [(walk, messages) for walk, messages in came if any(messages)]
        if stop.kind is Kind.RECURRENT and len(came) > 1:
            checkpoint()
            _recurrent_together(stop, came)
            continue
        for walk, messages in came:
            checkpoint()
            walk.passes(stop, messages)


def _recurrent(walk: Walk, stop: Stop, messages: list[Message | None]) -> None:
    _recurrent_together(stop, [(walk, messages)])


def _recurrent_together(stop: Stop, came: list[tuple[Walk, list[Message | None]]]) -> None:
    first, name = came[0][0], stop.node.name
    gradient = first.plan.gradient
    arriving = [[None if m is None else (m.density if gradient else m.relevance) for m in ms] for _, ms in came]
    lrp = None if gradient else settings_of(first.lrp, stop.node)
    flows = first.cells[name].backward_together(first.done.tapes[name], arriving, lrp)
    for (walk, messages), flow in zip(came, flows, strict=True):
        _hand_on_flow(walk, stop, messages, flow)


def _hand_on_flow(walk: Walk, stop: Stop, messages: list[Message | None], flow: Flow) -> None:
    gradient = walk.plan.gradient
    lanes = _recurrent_lanes(walk, stop, messages, flow.inputs)
    for slot, array in flow.inputs.items():
        if slot in stop.live:
            walk.send(stop.node.inputs[slot], lanes[slot], **{"density" if gradient else "relevance": array})
        elif slot in STATE_SLOTS[stop.node.op] and not gradient:
            walk.account.keep_initial_state(array, lanes[slot])
    if not gradient:
        lane = lanes[0]
        walk.account.absorb(stop.node.name, flow.absorbed, None if lane is None else Lane(0, lane.inner))


def _recurrent_lanes(
    walk: Walk, stop: Stop, messages: list[Message | None], arrays: Mapping[int, Array]
) -> dict[int, Lane | None]:
    """The operator's batch axis, of every input."""
    if walk.batch == 1:
        return dict.fromkeys(arrays)
    batch_first = stop.node.attribute("layout", 0) == 1
    output, message = next((i, m) for i, m in enumerate(messages) if m is not None)
    axis = 0 if batch_first else (2 if output == 0 else 1)
    if message.lane is None or message.lane.axis != axis:
        raise LaneLost
    return dict.fromkeys(arrays, Lane(0 if batch_first else 1, message.lane.inner))


Handler = Callable[[Walk, Stop, "list[Message | None]"], None]

_LRP: dict[Kind, Handler] = {
    Kind.SUM: _neuron,
    Kind.MAP: _neuron,
    Kind.SCALE: _scale,
    Kind.ACTIVATION: _activation,
    Kind.ROUTING: _routing,
    Kind.PRODUCT: _product,
    Kind.LOOKUP: _lookup,
    Kind.RECURRENT: _recurrent,
    Kind.CONTROL: walk_node,
}

# --- gradients ---------------------------------------------------------------------------------------------------


def _chain_rule(walk: Walk, stop: Stop, messages: list[Message | None]) -> None:
    message = next(m for m in messages if m is not None)
    site = walk.site(stop)
    for name in ("density", "relevance"):  # relevance: on its way back through the addresses of a lookup
        channel = _channel(messages, name)
        if channel is None:
            continue
        for slot in stop.live:
            assert stop.op.vjp is not None
            array = stop.op.vjp(site, slot, channel)
            lane = walk.lane(stop, slot, message, array.shape)
            walk.send(stop.node.inputs[slot], lane, **{name: array})


_GRADIENT: Mapping[Kind, Handler] = dict.fromkeys(
    (Kind.SUM, Kind.MAP, Kind.SCALE, Kind.ACTIVATION, Kind.ROUTING, Kind.PRODUCT), _chain_rule
) | {Kind.LOOKUP: _lookup, Kind.RECURRENT: _recurrent, Kind.CONTROL: walk_node}
