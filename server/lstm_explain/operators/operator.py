# SPDX-License-Identifier: Apache-2.0
"""The entry of an operator in the table: its kind, its vector-Jacobian product and what else the engine has to know."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
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
    """How relevance passes an operator. The value is its name in docs/operators.md."""

    __hash__ = object.__hash__  # Enum's own hash is Python code, and it is called at every node

    SUM = "sum"  # adds terms: the epsilon rule, over the units of the linear maps that feed it too
    MAP = "linear"  # adds units times constant weights: the epsilon rule
    SCALE = "scale"  # multiplies its one live operand by constants of this pass: relevance is unchanged
    ACTIVATION = "activation"  # an element-wise function of one live operand: relevance is unchanged
    FIRST_ORDER = "first order"  # log space and weights of constants: the density passes by the chain rule
    ROUTING = "routing"  # moves, repeats or drops elements: relevance follows them
    WEIGHTS = "attention weights"  # a Softmax that weighs live values, under the product rule "attn": its own rule
    PRODUCT = "product"  # multiplies two live operands: the product rule
    LOOKUP = "lookup"  # reads constant vectors at live indices: an index gets the sum over its vector
    RECURRENT = "recurrent"  # LSTM, GRU, RNN: kernels of their own
    CONTROL = "control flow"  # If, Loop, Scan: the rules of the body, every iteration
    NONE = "none"  # passes no relevance: comparisons, shapes, positions


class Trait(enum.Flag):
    """Properties of an operator besides its kind, which pattern recognition in the graph asks for."""

    NONE = 0
    ELEMENTWISE = enum.auto()  # an output element depends on the operands' elements at its position, after broadcasting
    VIEW = enum.auto()  # the output holds every element once, in any order, shape and type
    REPEATS = enum.auto()  # repeats elements
    SUBSET = enum.auto()  # selects some elements, as an LSTM cell splits its gates
    CONCATENATES = enum.auto()  # places elements beside others of the same or of other operands
    STEPWISE = enum.auto()  # a time step's output depends on that step's input alone, though not element-wise
    GATE = enum.auto()  # lies between 0 and 1: the fraction of what it multiplies that passes
    EXPONENTIAL = enum.auto()  # takes the exponential of its operand, which is then a logarithm
    STEP_SIZE = enum.auto()  # is positive, as the step size of a selective scan is
    LOGARITHM = enum.auto()  # a logarithm of an expression in its operand
    CONSTANT_MULTIPLE = enum.auto()  # a constant multiple of its one live operand, where the others are constants
    ADJUSTS = enum.auto()  # with constants, adjusts a value slightly: adds epsilon, bounds it, corrects n to n - 1
    SUM_OR_MEAN = enum.auto()  # sums or averages along axes
    ALIASES_INPUT = enum.auto()  # ONNX Runtime returns the input's memory under another shape
    NOT_IN_PLACE = enum.auto()  # ONNX Runtime never writes the output to the memory of an input


SAME_PLACES = Trait.VIEW | Trait.ELEMENTWISE  # the same elements at the same positions, perhaps in another type


@dataclass(frozen=True)
class BatchLayout:
    """Where the samples lie in an array: index o * (batch * inner) + b * inner + i on `axis` belongs to sample b."""

    axis: int
    inner: int = 1


class SamplesMixed(Exception):  # noqa: N818 - not an error: the caller has another way
    """Samples cannot be distinguished in an operand of this operator; the caller explains them one by one."""


class NodeContext:
    """One node during one pass, with its values by slot.

    dtype: of the arithmetic; floating-point values of another type are converted to it. live: slots that depend on the
    model's inputs.
    """

    __slots__ = ("_constants", "_static", "_values", "dtype", "live", "node")

    def __init__(
        self, node: Node, graph: Graph, live: tuple[int, ...], values: Mapping[str, Array], dtype: np.dtype[Any]
    ) -> None:
        self.node = node
        self.dtype = dtype
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

    def y(self) -> Array:
        return self._value(self.node.outputs[0])

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
        saved = self._values.get(shape_value(name))
        if saved is not None:
            return tuple(saved.tolist())
        kind = self._static.get(name)
        static = None if kind is None else kind.static_shape
        assert static is not None, f"the plan does not save the shape of {name}"
        return static

    def ints(self, slot: int, attribute: str, default: list[int] | None = None) -> list[int] | None:
        """Return a list of integers that is an attribute in older opsets and an input in newer ones."""
        if attribute in self.node.attributes:
            value = self.node.attributes[attribute]
            return list(value) if isinstance(value, (list, tuple)) else [value]
        return self.concrete(slot).reshape(-1).tolist() if self.has(slot) else default

    def concrete(self, slot: int) -> Array:
        """Return an operand whose values decide shapes or axes, as a NumPy array in any array namespace."""
        return NodeContext._value(self, self.node.inputs[slot])

    def integer(self, slot: int, default: int = 0) -> int:
        """Return an operand of one integer, such as an axis."""
        return int(self.concrete(slot).reshape(-1)[0]) if self.has(slot) else default


SHAPE = "::shape"


def shape_value(name: str) -> str:
    """Return the name of the extra output that holds only the shape of a value."""
    return f"{name}{SHAPE}"


# (node, slot, gradient of the output, or a tuple with a gradient or None per output) -> gradient of the operand
VJP = Callable[[NodeContext, int, Any], Array]
# (node, slot, layout of the output, shape of the output, shape of the operand, samples) -> layout of the operand
LayoutRule = Callable[[NodeContext, int, BatchLayout, tuple[int, ...], tuple[int, ...], int], BatchLayout]


def aligned(
    ctx: NodeContext, slot: int, layout: BatchLayout, out: tuple[int, ...], shape: tuple[int, ...], batch: int
) -> BatchLayout:
    """Samples keep their positions through broadcasting, which aligns the last axes."""
    axis = layout.axis - len(out) + len(shape)
    if axis < 0 or shape[axis] != out[layout.axis]:
        raise SamplesMixed
    return BatchLayout(axis, layout.inner)


def no_layout(
    ctx: NodeContext, slot: int, layout: BatchLayout, out: tuple[int, ...], shape: tuple[int, ...], batch: int
) -> BatchLayout:
    raise SamplesMixed


def undeclared(*_: Any) -> Any:
    """Returns the default of a field without a value. `Table.add` refuses an entry whose kind needs the field."""
    raise AssertionError("the entry of the operator lacks a rule")


def no_bias(ctx: NodeContext) -> Array | None:
    return None


@dataclass(frozen=True)
class Operator:
    """All that the engine knows of one operator.

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
    weights: How relevance passes an ACTIVATION that becomes WEIGHTS. It need not conserve relevance.
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
    magnitude: What computes the sum of the absolute terms of a SUM or MAP, and of an operator that a sum looks through:
        "same", this operator over absolute operands; another operator's name; "output", the absolute output, for
        operators whose weights are not operands.
    negated: Slots whose absolute value enters the magnitude with a minus sign.
    factors: Attributes that scale terms, of which the magnitude takes the absolute value.
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
    weights: VJP | None = None
    distribute: VJP | None = None
    layout: LayoutRule = undeclared
    axes: AxesRule = undeclared
    roles: RolesRule = axis_rules.no_roles
    gate: int | None = None
    inserts_constants: bool = False
    selects_by_value: bool = False
    differentiable_outputs: tuple[int, ...] | None = None
    product_rule: Callable[..., tuple[Sequence[Array | None], Array | None]] | None = None
    pre_activation: str = ""
    layer: str = ""
    states: tuple[int, ...] = ()
    cell: Callable[[Node, Graph], Recurrent] | None = None
    magnitude: str = "same"
    negated: tuple[int, ...] = ()
    factors: tuple[str, ...] = ()
    evaluation: Evaluation | None = None
    check: Callable[[Node], str] = lambda node: ""
    numpy_only: tuple[str, ...] = ()
    note: str = ""

    def kind_of(self, node: Node, live: tuple[int, ...]) -> Kind:
        return self.kind if isinstance(self.kind, Kind) else self.kind(node, live)


@dataclass
class Table:
    """The operators by name; those of another domain than ONNX's own as `domain::name`."""

    ops: dict[str, Operator] = field(default_factory=dict)

    def add(self, names: str, op: Operator) -> None:
        op = with_defaults(op)
        for name in names.split():
            assert name not in self.ops, f"{name} is already in the table"
            missing = missing_fields(op)
            assert not missing, f"{name}: its entry lacks {', '.join(missing)}"
            self.ops[name] = op

    def get(self, name: str) -> Operator | None:
        return self.ops.get(name)

    def traits(self, name: str) -> Trait:
        """Return `Trait.NONE` for an operator that is not in the table."""
        op = self.ops.get(name)
        return Trait.NONE if op is None else op.traits

    def states(self, name: str) -> tuple[int, ...]:
        """Return the slots of a recurrent operator's initial states, and no slots for any other operator."""
        op = self.ops.get(name)
        return () if op is None else op.states


def with_defaults(op: Operator) -> Operator:
    """Fill in the fields that follow from the kind and from `Trait.ELEMENTWISE`."""
    if op.kind is Kind.SUM and op.fan_in is undeclared:
        op = replace(op, fan_in=lambda ctx, slot: 1.0)
    if Trait.ELEMENTWISE in op.traits:
        layout = aligned if op.layout is undeclared else op.layout
        op = replace(op, layout=layout, axes=axis_rules.aligned if op.axes is undeclared else op.axes)
    return op


def missing_fields(op: Operator) -> list[str]:
    """Return descriptions of the fields that the kind of an entry needs and that it lacks.

    An entry whose kind depends on the node needs what every kind that passes relevance needs.
    """
    kind = op.kind if isinstance(op.kind, Kind) else None
    passes_nothing = kind in (Kind.NONE, Kind.CONTROL)
    recurrent = kind is Kind.RECURRENT  # the kernels have the rules
    found = {
        "the vector-Jacobian product (vjp)": not (passes_nothing or recurrent) and op.vjp is None,
        "where samples lie (layout)": not (passes_nothing or recurrent) and op.layout is undeclared,
        "which axes the outputs' axes run along (axes)": op.axes is undeclared,
        "how an amount is spread (spread)": kind in (Kind.SUM, Kind.MAP) and op.spread is None,
        "how many units feed an output unit (fan_in)": kind is Kind.MAP and op.fan_in is undeclared,
        "the slots of its states (states)": recurrent and not op.states,
        "its kernels (cell)": recurrent and op.cell is None,
    }
    return [what for what, is_missing in found.items() if is_missing]


TABLE = Table()
add = TABLE.add


def unbroadcast(g: Array, shape: tuple[int, ...]) -> Array:
    """Sum over the axes along which an operand of `shape` was broadcast."""
    if g.shape == shape:
        return g
    extra = g.ndim - len(shape)
    axes = tuple(range(extra)) + tuple(i + extra for i, n in enumerate(shape) if n == 1 and g.shape[i + extra] != 1)
    xp = namespace(g)
    return xp.reshape(xp.sum(g, axis=axes, keepdims=True) if axes else g, shape)


def equal_parts(ctx: NodeContext, slot: int, r: Array) -> Array:
    """Return equal parts for the live operands of arithmetic on indices, of which none contributes more."""
    return unbroadcast(r, ctx.shape(slot)) / len(ctx.live)
