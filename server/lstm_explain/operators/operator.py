"""What an operator tells the engine: its kind and its vector-Jacobian product; the rest follows from the kind."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_explain.graph.ir import Array, Graph, Node
from lstm_explain.operators import axis_rules
from lstm_explain.operators.array_api import namespace
from lstm_explain.operators.axis_rules import AxesRule, RolesRule
from lstm_explain.operators.numpy_evaluation import Evaluation

if TYPE_CHECKING:
    from lstm_explain.operators.recurrent import Recurrent


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


class Trait(enum.Flag):
    """What else holds of an operator, whatever its kind. What looks for patterns in a graph asks for traits."""

    NONE = 0
    ELEMENTWISE = enum.auto()  # each element is a function of the operands' elements in its place, after broadcasting
    VIEW = enum.auto()  # every element once, in whatever order, shape and type
    REPEATS = enum.auto()  # elements are repeated
    SUBSET = enum.auto()  # some of the elements: each use takes its own, as cells cut their gates apart
    CONCATENATES = enum.auto()  # elements beside others, of other operands or of the operator's own
    STEPWISE = enum.auto()  # not element by element, yet a time step's output depends on that step's input alone
    GATE = enum.auto()  # from 0 to 1: what it multiplies passes in this part
    CONSTANT_MULTIPLE = enum.auto()  # of its one live operand, where the others are constants
    ADJUSTS = enum.auto()  # with constants: epsilon added, a floor under it, n - 1 in place of n
    SUM_OR_MEAN = enum.auto()  # a sum or mean along axes
    ALIASES_INPUT = enum.auto()  # ONNX Runtime makes no array for the output: it is the input under another shape
    NOT_IN_PLACE = enum.auto()  # ONNX Runtime never writes the output over an input of the same size


SAME_PLACES = Trait.VIEW | Trait.ELEMENTWISE  # the same elements in the same places, in another type perhaps


@dataclass(frozen=True)
class BatchLayout:
    """Where the samples lie in an array: position o * (batch * inner) + b * inner + i on `axis` belongs to sample b."""

    axis: int
    inner: int = 1


class SamplesMixed(Exception):  # noqa: N818 - a fact, not a fault
    """Samples cannot be told apart behind this operator; the caller explains them one by one."""


class NodeContext:
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
        tapped = self._values.get(shape_value(name))
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
        return self.concrete(slot).reshape(-1).tolist() if self.has(slot) else default

    def concrete(self, slot: int) -> Array:
        """The operand as a NumPy array whatever the namespace of the others: its values decide shapes and axes."""
        return NodeContext._value(self, self.node.inputs[slot])

    def integer(self, slot: int, default: int = 0) -> int:
        """An operand of one integer, such as an axis."""
        return int(self.concrete(slot).reshape(-1)[0]) if self.has(slot) else default


SHAPE = "::shape"


def shape_value(name: str) -> str:
    """Name of the extra output that carries only the shape of a value."""
    return f"{name}{SHAPE}"


# (site, slot, gradient of the output, or a tuple of one or None an output) -> gradient of the input at slot
VJP = Callable[[NodeContext, int, Any], Array]
LayoutRule = Callable[[NodeContext, int, BatchLayout, tuple[int, ...], tuple[int, ...], int], BatchLayout]


def aligned(
    ctx: NodeContext, slot: int, layout: BatchLayout, out: tuple[int, ...], shape: tuple[int, ...], batch: int
) -> BatchLayout:
    """Same places after broadcasting, which aligns the last axes."""
    axis = layout.axis - len(out) + len(shape)
    if axis < 0 or shape[axis] != out[layout.axis]:
        raise SamplesMixed
    return BatchLayout(axis, layout.inner)


def no_layout(
    ctx: NodeContext, slot: int, layout: BatchLayout, out: tuple[int, ...], shape: tuple[int, ...], batch: int
) -> BatchLayout:
    raise SamplesMixed


def undeclared(*_: Any) -> Any:
    """Stands in an entry for what it does not say; `Table.add` refuses the entry if its kind needs it."""
    raise AssertionError("an operator's entry lacks a rule")


def no_bias(ctx: NodeContext) -> Array | None:
    return None


@dataclass(frozen=True)
class Operator:
    """One operator: all that depends on it stands here.

    kind: How relevance passes the operator, or a function of the node and its live slots.
    vjp: See `VJP`. None for kinds that have none.
    traits: See `Trait`.
    differentiable: Slots through which relevance and gradients may pass; None for all.
    nondifferentiable: Slots of operands such as indices, shapes and lengths, through which nothing passes. A live value
        in a slot that is neither differentiable nor nondifferentiable is refused.
    lookup_slots: Slots of indices, which pass relevance only where no other slot is live: a lookup in a constant table.
    saved: What the backward pass has to save for `vjp`: "x", the operand's value; "shape", its shape; "shapes", those
        of all operands; "others", the other operands; "constants", the operands that are not live; "operand1", the
        operand at slot 1; "y", the first output.
    lrp_saved: The same where the LRP rule of the kind does not call `vjp`. Default: `saved`.
    bias: The constant part of a SUM or MAP, of a shape that broadcasts to the output.
    spread: For `bias_factor`: distributes an amount at each output unit equally over the units that feed it.
    fan_in: For `bias_factor`: how many units of the slot feed one output unit.
    distribute: How an ACTIVATION of several elements distributes relevance over them. Default: element by element.
    layout: Where the samples lie in an operand, from where they lie in the output. Element-wise operators may omit it.
    axes: Which axes of the operands each axis of the outputs runs along. Element-wise operators may omit it.
    roles: Axes that the operator identifies as batch or time axes.
    gate: The slot of a PRODUCT that always holds the gate.
    inserts_constants: A ROUTING operator that inserts elements of its own, as Pad does.
    selects_by_value: A ROUTING operator that selects elements by their values, as Max does: its output is not linear in
        its operands.
    differentiable_outputs: Outputs that pass relevance and gradients; None for all.
    product_rule: The product rule of a PRODUCT whose operands do not meet element by element.
    pre_activation: The name of the value that is explained instead where the operator ends a model's output.
    layer: The kind of layer that a composite knows the operator by.
    states, cell: The slots of initial states of a RECURRENT operator, and the object that runs its kernels.
    evaluation: How NumPy evaluates the operator on small arrays; None where ONNX Runtime always does.
    check: Returns why a node of the operator has no rule, or an empty string.
    numpy_only: Functions of array_api.py that the rules call, and that keep them from running on other arrays than
        NumPy's.
    note: A remark for docs/operators.md.
    """

    kind: Kind | Callable[[Node, tuple[int, ...]], Kind]
    vjp: VJP | None = None
    traits: Trait = Trait.NONE
    differentiable: tuple[int, ...] | None = None
    nondifferentiable: tuple[int, ...] = ()
    lookup_slots: tuple[int, ...] = ()
    saved: tuple[str, ...] = ()
    lrp_saved: tuple[str, ...] | None = None
    bias: Callable[[NodeContext], Array | None] = no_bias
    spread: VJP | None = None
    fan_in: Callable[[NodeContext, int], float] = undeclared
    distribute: VJP | None = None
    layout: LayoutRule = undeclared
    axes: AxesRule = undeclared
    roles: RolesRule = axis_rules.no_roles
    gate: int | None = None
    inserts_constants: bool = False
    selects_by_value: bool = False
    differentiable_outputs: tuple[int, ...] | None = None
    product_rule: Callable[..., tuple[list[Array], Array]] | None = None
    pre_activation: str = ""
    layer: str = ""
    states: tuple[int, ...] = ()
    cell: Callable[[Node, Graph], Recurrent] | None = None
    evaluation: Evaluation | None = None
    check: Callable[[Node], str] = lambda node: ""
    numpy_only: tuple[str, ...] = ()
    note: str = ""

    def kind_of(self, node: Node, live: tuple[int, ...]) -> Kind:
        return self.kind if isinstance(self.kind, Kind) else self.kind(node, live)


@dataclass
class Table:
    """All operators by name."""

    ops: dict[str, Operator] = field(default_factory=dict)

    def add(self, names: str, op: Operator) -> None:
        op = with_defaults(op)
        for name in names.split():
            assert name not in self.ops, f"{name} is there already"
            missing = missing_fields(op)
            assert not missing, f"{name}: its entry does not say {', '.join(missing)}"
            self.ops[name] = op

    def get(self, name: str) -> Operator | None:
        return self.ops.get(name)

    def traits(self, name: str) -> Trait:
        """None for an operator that is not in the table."""
        op = self.ops.get(name)
        return Trait.NONE if op is None else op.traits

    def states(self, name: str) -> tuple[int, ...]:
        """The slots of a recurrent operator's initial states; none for any other."""
        op = self.ops.get(name)
        return () if op is None else op.states


def with_defaults(op: Operator) -> Operator:
    """What follows from the kind and from working element by element need not be written down."""
    if op.kind is Kind.SUM and op.fan_in is undeclared:
        op = replace(op, fan_in=lambda ctx, slot: 1.0)
    if Trait.ELEMENTWISE in op.traits:
        layout = aligned if op.layout is undeclared else op.layout
        op = replace(op, layout=layout, axes=axis_rules.aligned if op.axes is undeclared else op.axes)
    return op


def missing_fields(op: Operator) -> list[str]:
    """What an entry has to say for its kind, and does not. One whose kind depends on the node may be of any kind that
    passes relevance."""
    kind = op.kind if isinstance(op.kind, Kind) else None
    silent = kind in (Kind.NONE, Kind.CONTROL)
    own = kind is Kind.RECURRENT  # its kernels have the rules
    found = {
        "its vector-Jacobian product (vjp)": not (silent or own) and op.vjp is None,
        "where samples lie (layout)": not (silent or own) and op.layout is undeclared,
        "which axes its outputs' axes run along (axes)": op.axes is undeclared,
        "how an amount is spread (spread)": kind in (Kind.SUM, Kind.MAP) and op.spread is None,
        "how many units feed one of its own (fan_in)": kind is Kind.MAP and op.fan_in is undeclared,
        "the slots of its states (states)": own and not op.states,
        "its kernels (cell)": own and op.cell is None,
    }
    return [what for what, is_missing in found.items() if is_missing]


TABLE = Table()
add = TABLE.add


def unbroadcast(g: Array, shape: tuple[int, ...]) -> Array:
    """Sums over the axes along which an operand of `shape` was broadcast."""
    if g.shape == shape:
        return g
    extra = g.ndim - len(shape)
    axes = tuple(range(extra)) + tuple(i + extra for i, n in enumerate(shape) if n == 1 and g.shape[i + extra] != 1)
    xp = namespace(g)
    return xp.reshape(xp.sum(g, axis=axes, keepdims=True) if axes else g, shape)


def equal_parts(ctx: NodeContext, slot: int, r: Array) -> Array:
    """To the live operands of arithmetic on addresses: no share of it is larger."""
    return unbroadcast(r, ctx.shape(slot)) / len(ctx.live)
