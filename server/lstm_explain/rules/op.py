"""What an operator tells the engine: its kind and its vector-Jacobian product; the rest follows from the kind."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lstm_explain.graph.ir import Array, Graph, Node
from lstm_explain.rules import origins
from lstm_explain.rules.origins import AxesRule


class Kind(enum.Enum):
    """How relevance passes an operator."""

    __hash__ = object.__hash__  # members are single; Enum's own hash is Python code, called at every node

    SUM = "sum"  # terms that are added, one unit of each: the epsilon rule; takes the linear maps that feed it along
    MAP = "linear"  # units times constant weights, added: the epsilon rule
    SCALE = "scale"  # one live operand times what is constant for this pass: relevance stays
    ACTIVATION = "activation"  # a function of one live operand, element by element: relevance stays
    ROUTING = "routing"  # elements change places, are copied or dropped: relevance goes with them
    PRODUCT = "product"  # two live operands multiplied: the product rule
    LOOKUP = "lookup"  # integer indices pick constant vectors: an index gets the sum over its vector
    RECURRENT = "recurrent"  # LSTM, GRU, RNN: a kernel of their own
    CONTROL = "control flow"  # If, Loop, Scan: the body's rules, every iteration
    NONE = "none"  # no relevance: comparisons, shapes, positions


@dataclass(frozen=True)
class Lane:
    """Where the samples lie in an array: position o * (batch * inner) + b * inner + i on `axis` belongs to sample b."""

    axis: int
    inner: int = 1


class LaneLost(Exception):  # noqa: N818 - a fact, not a fault
    """Samples cannot be told apart behind this operator; the caller explains them one by one."""


class Site:
    """One node during one pass: its values by slot."""

    __slots__ = ("_constants", "_static", "_values", "dtype", "live", "node")

    def __init__(
        self, node: Node, graph: Graph, live: tuple[int, ...], values: Mapping[str, Array], dtype: np.dtype[Any]
    ) -> None:
        self.node = node
        self.dtype = dtype  # of the arithmetic: values of another floating type are converted
        self.live = live
        self._values = values
        self._constants = graph.constants
        self._static = graph.types

    def attribute(self, name: str, default: Any = None) -> Any:
        return self.node.attributes.get(name, default)

    def has(self, slot: int) -> bool:
        return bool(self.node.input(slot))

    def x(self, slot: int) -> Array:
        return self._value(self.node.inputs[slot])

    def y(self, slot: int = 0) -> Array:
        return self._value(self.node.outputs[slot])

    def _value(self, name: str) -> Array:
        constant = self._constants.get(name)
        array = self._values[name] if constant is None else constant
        if array.dtype is self.dtype:
            return array
        return array.astype(self.dtype) if array.dtype.kind == "f" and array.dtype != self.dtype else array

    def shape(self, slot: int) -> tuple[int, ...]:
        name = self.node.inputs[slot]
        if name in self._constants:
            return tuple(self._constants[name].shape)
        if name in self._values:
            return tuple(self._values[name].shape)
        tapped = self._values.get(shape_tap(name))
        if tapped is not None:
            return tuple(tapped.tolist())
        kind = self._static.get(name)
        static = None if kind is None else kind.static_shape
        assert static is not None, f"shape of {name} was not planned for"
        return static

    def ints(self, slot: int, attribute: str, default: list[int] | None = None) -> list[int] | None:
        """A list of integers that older opsets keep as an attribute and newer ones as an input."""
        if attribute in self.node.attributes:
            value = self.node.attributes[attribute]
            return list(value) if isinstance(value, (list, tuple)) else [value]
        if self.has(slot):
            return [int(v) for v in self.x(slot).reshape(-1)]
        return default


SHAPE = "::shape"


def shape_tap(name: str) -> str:
    """Name of the extra output that carries only the shape of a value."""
    return f"{name}{SHAPE}"


# (site, slot, gradient of the output, or a tuple of one or None an output) -> gradient of the input at slot
VJP = Callable[[Site, int, Any], Array]
LaneRule = Callable[[Site, int, Lane, tuple[int, ...], tuple[int, ...], int], Lane]


def aligned(site: Site, slot: int, lane: Lane, out: tuple[int, ...], shape: tuple[int, ...], batch: int) -> Lane:
    """Same places after broadcasting, which aligns the last axes."""
    axis = lane.axis - len(out) + len(shape)
    if axis < 0 or shape[axis] != out[lane.axis]:
        raise LaneLost
    return Lane(axis, lane.inner)


def no_lane(site: Site, slot: int, lane: Lane, out: tuple[int, ...], shape: tuple[int, ...], batch: int) -> Lane:
    raise LaneLost


def no_bias(site: Site) -> Array | None:
    return None


@dataclass(frozen=True)
class Op:
    """One operator.

    kind: or a function of the node and its live slots.
    vjp: see VJP. None for kinds that do without.
    carries: slots through which relevance may pass; None: every one.
    ignores: slots that steer (indices, shapes, lengths) and never carry; a live value in any other slot is refused.
    alone: slots that carry only where no other slot does: indices, which steer unless they pick from constants.
    reads: what vjp looks at: "x" the slot's own value, "s" its shape, "others" the other operands, "y" the output.
    lrp_reads: the same where the kind's rule does not call vjp; default: `reads`.
    bias: the constant part of a SUM or MAP, of a shape that broadcasts to the output.
    spread, fan_in: for bias_factor: hands an amount at each output unit in equal parts to the units that feed it, and
        how many those are.
    distribute: how an ACTIVATION of many elements shares out relevance among them; default: each keeps what it has.
    lane: where the samples of an input lie, given where those of the output lie.
    axes: which axes of the inputs the outputs' axes run along; has to be said of an operator that is not known, by its
        kind, to work element by element.
    gate: the operand of a PRODUCT that is always the gate.
    drops: a ROUTING operator that puts elements of its own among those it moves.
    picks: a ROUTING operator whose choice depends on the elements: what it hands on is no sum, even where they are.
    outputs: outputs that carry; None: every one.
    share: the product rule of a PRODUCT whose operands do not meet element by element.
    check: why this node of the operator has no rule; empty if it has.
    """

    kind: Kind | Callable[[Node, tuple[int, ...]], Kind]
    vjp: VJP | None = None
    carries: tuple[int, ...] | None = None
    ignores: tuple[int, ...] = ()
    alone: tuple[int, ...] = ()
    reads: tuple[str, ...] = ()
    lrp_reads: tuple[str, ...] | None = None
    bias: Callable[[Site], Array | None] = no_bias
    spread: VJP | None = None
    fan_in: Callable[[Site, int], float] = lambda site, slot: 1.0
    distribute: VJP | None = None
    lane: LaneRule = aligned
    axes: AxesRule | None = None
    gate: int | None = None
    drops: bool = False
    picks: bool = False
    outputs: tuple[int, ...] | None = None
    share: Callable[..., tuple[list[Array], Array]] | None = None
    check: Callable[[Node], str] = lambda node: ""
    note: str = ""

    @property
    def elementwise(self) -> bool:
        kinds = (Kind.SUM, Kind.SCALE, Kind.PRODUCT, Kind.ACTIVATION)
        return self.lane is aligned and (self.kind in kinds or not isinstance(self.kind, Kind))

    def kind_of(self, node: Node, live: tuple[int, ...]) -> Kind:
        return self.kind if isinstance(self.kind, Kind) else self.kind(node, live)


@dataclass
class Table:
    """All operators by name."""

    ops: dict[str, Op] = field(default_factory=dict)

    def add(self, names: str, op: Op) -> None:
        if op.axes is None:
            assert op.elementwise, f"{names}: it is not said which axes its outputs' axes run along"
            op = replace(op, axes=origins.aligned)
        for name in names.split():
            assert name not in self.ops, f"{name} is there already"
            self.ops[name] = op

    def get(self, name: str) -> Op | None:
        return self.ops.get(name)


TABLE = Table()
add = TABLE.add


def unbroadcast(g: Array, shape: tuple[int, ...]) -> Array:
    """Sums over the axes along which an operand of `shape` was broadcast."""
    if g.shape == shape:
        return g
    extra = g.ndim - len(shape)
    axes = tuple(range(extra)) + tuple(i + extra for i, n in enumerate(shape) if n == 1 and g.shape[i + extra] != 1)
    return g.sum(axis=axes, keepdims=True).reshape(shape) if axes else g.reshape(shape)
