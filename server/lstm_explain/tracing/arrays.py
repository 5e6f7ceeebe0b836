# SPDX-License-Identifier: Apache-2.0
"""Arrays whose operations are written down as ONNX nodes.

An array is known by the name of its ONNX value, and by the arrays that stand for it in two examples, whose batches and
sequences differ in length. An extent that is the same in both is a number of the graph; one that differs is symbolic,
an `Extent`, and arithmetic with it becomes arithmetic in the graph. The numbers of the examples decide nothing but
types and shapes; an array that is the same whatever the inputs are is a constant, and operations on constants are
computed at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.tracing.extents import Extent, Shape, Size, UntraceableError
from lstm_explain.tracing.graph_writer import GraphWriter

INT64 = np.dtype(np.int64)


class Trace:
    """What is being written. examples: how many examples stand for an array. extents: by the sizes in the examples,
    where the graph knows a symbolic extent from, as int64 [1].
    """

    def __init__(self, writer: GraphWriter, examples: int) -> None:
        self.writer, self.examples = writer, examples
        self.extents: dict[tuple[int, ...], Traced] = {}
        self.namespace: Any = None  # the functions of arrays of this trace: a Namespace

    def constant(self, value: Any) -> Traced:
        return Traced(self, (np.asarray(value),) * self.examples)

    def apply(
        self,
        op: str,
        operands: Sequence[Traced],
        function: Callable[..., Any],
        attributes: Mapping[str, Any] | None = None,
        *,
        dtype: Any = None,
    ) -> Traced:
        """Returns the result of a node of one output. function: the same on NumPy arrays."""
        if all(x.is_constant for x in operands):
            return self.constant(np.asarray(function(*[x.values[0] for x in operands]), dtype))
        values = tuple(np.asarray(function(*[x.values[k] for x in operands]), dtype) for k in range(self.examples))
        (name,) = self.writer.node(op, [x.name for x in operands], attributes)
        return Traced(self, values, name)

    def extent(self, sizes: tuple[int, ...], source: Callable[[], Traced]) -> Size:
        """Returns a size of the graph: a number where all examples agree on it."""
        if len(set(sizes)) == 1:
            return sizes[0]
        known = self.extents.get(sizes)
        return Extent(self, sizes, source if known is None else lambda: known)

    def sizes(self, shape: Sequence[Size]) -> Traced:
        """Returns the shape as an int64 vector."""
        parts, numbers = list[Traced](), list[int]()
        for size in shape:
            if isinstance(size, Extent):
                if numbers:
                    parts.append(self.constant(np.array(numbers, np.int64)))
                    numbers = []
                parts.append(size.traced)
            else:
                numbers.append(int(size))
        if numbers or not parts:
            parts.append(self.constant(np.array(numbers, np.int64)))
        if len(parts) == 1:
            return parts[0]
        return self.apply("Concat", parts, lambda *arrays: np.concatenate(arrays), {"axis": 0})


class Traced:
    """An array. values: what stands for it in each example. zeros: its shape, where all of its elements are zero; it
    gets a name only when something reads it. weak: whether it takes the type of the array beside it, as a Python scalar
    does. widened: whether it was cast to float64.
    """

    __array_ufunc__ = None  # NumPy's arrays leave arithmetic with this one to it

    def __init__(
        self, trace: Trace, values: tuple[Array, ...], name: str | None = None, zeros: Shape | None = None
    ) -> None:
        self.trace, self.values, self._name, self.zeros = trace, values, name, zeros
        self.weak = self.widened = False

    @property
    def is_constant(self) -> bool:
        return self._name is None and self.zeros is None

    @property
    def name(self) -> str:
        if self._name is None:
            if self.zeros is not None:
                (self._name,) = self.trace.writer.node(
                    "Expand", [self.trace.constant(np.zeros((), self.dtype)).name, self.trace.sizes(self.zeros).name]
                )
            else:
                self._name = self.trace.writer.constant(self.values[0])
                return self._forget()
        return self._name

    def _forget(self) -> str:
        """Returns the name of the initializer; the array stays a constant."""
        name, self._name = self._name, None
        assert name is not None
        return name

    def become(self, other: Traced) -> None:
        """Assignment to elements makes this array another one."""
        self.values, self._name, self.zeros = other.values, other._name, other.zeros

    if TYPE_CHECKING:  # assigned below, operator by operator

        def _binary(self, other: Any) -> Traced: ...

        __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _binary
        __matmul__ = __and__ = __or__ = __mod__ = __pow__ = _binary
        __lt__ = __le__ = __gt__ = __ge__ = _binary
        __eq__: Any
        __ne__: Any

    # --- what rules ask of an array ------------------------------------------------------------------------------

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.values[0].dtype

    @property
    def ndim(self) -> int:
        return self.values[0].ndim

    @property
    def shape(self) -> Any:
        if self.zeros is not None:
            return self.zeros
        return tuple(self.size_of(axis) for axis in range(self.ndim))

    def size_of(self, axis: int) -> Size:
        sizes = tuple(v.shape[axis] for v in self.values)
        return self.trace.extent(sizes, lambda: self._measured(axis))

    def _measured(self, axis: int) -> Traced:
        (name,) = self.trace.writer.node("Shape", [self.name], {"start": axis, "end": axis + 1})
        return Traced(self.trace, tuple(np.array([v.shape[axis]]) for v in self.values), name)

    @property
    def size(self) -> Any:
        total: Any = 1
        for size in self.shape:
            total = total * size
        return total

    def __len__(self) -> int:
        raise UntraceableError("it reads the length of an array as a number")

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return self.trace.namespace

    def __array__(self, *_: Any, **__: Any) -> Array:
        raise UntraceableError("it reads the numbers of an array while the file is written")

    def __bool__(self) -> bool:
        return bool(self._number())

    def __int__(self) -> int:
        return int(self._number())

    __index__ = __int__

    def __float__(self) -> float:
        return float(self._number())

    def _number(self) -> Any:
        if not self.is_constant:
            raise UntraceableError("it decides by a value of the input")
        return self.values[0].item()

    def __neg__(self) -> Traced:
        return self.trace.namespace.negative(self)

    def __invert__(self) -> Traced:
        return self.trace.namespace.bitwise_invert(self)

    def as_extent(self) -> Size:
        """Returns the number in an index of rank 0."""
        if self.is_constant:
            return int(self)
        xp = self.trace.namespace
        sizes = tuple(int(v) for v in self.values)
        return Extent(self.trace, sizes, lambda: xp.reshape(xp.astype(self, INT64), (1,)), open_=True)

    # --- methods that rules call -----------------------------------------------------------------------------------

    def astype(self, dtype: Any) -> Traced:
        return self.trace.namespace.astype(self, dtype)

    def reshape(self, *shape: Any) -> Traced:
        return self.trace.namespace.reshape(self, shape[0] if isinstance(shape[0], tuple) else shape)

    def sum(self, axis: Any = None) -> Traced:
        return self.trace.namespace.sum(self, axis=axis)

    def copy(self) -> Traced:
        return Traced(self.trace, self.values, self._name, self.zeros)

    @property
    def T(self) -> Traced:  # noqa: N802 - NumPy's name
        return self.trace.namespace.permute_dims(self, tuple(range(self.ndim))[::-1])

    @property
    def mT(self) -> Traced:  # noqa: N802 - the array API's name
        axes = tuple(range(self.ndim))
        return self.trace.namespace.permute_dims(self, (*axes[:-2], axes[-1], axes[-2]))

    def __getitem__(self, index: Any) -> Traced:
        return self.trace.namespace.read_at(self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        self.become(self.trace.namespace.write_at(self, index, value))


def _binary(name: str, *, swapped: bool = False) -> Callable[[Traced, Any], Traced]:
    def method(self: Traced, other: Any) -> Traced:
        function = getattr(self.trace.namespace, name)
        return function(other, self) if swapped else function(self, other)

    return method


for _name, _function in {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "pow": "pow", "matmul": "matmul",
    "mod": "remainder", "and": "bitwise_and", "or": "bitwise_or", "floordiv": "floor_divide",
}.items():  # fmt: skip
    setattr(Traced, f"__{_name}__", _binary(_function))
    setattr(Traced, f"__r{_name}__", _binary(_function, swapped=True))
for _name, _function in {
    "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal",
}.items():  # fmt: skip
    setattr(Traced, f"__{_name}__", _binary(_function))
setattr(Traced, "__hash__", object.__hash__)  # noqa: B010 - a comparison took it away
