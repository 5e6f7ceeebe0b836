"""Parts of a graph too small for a call of ONNX Runtime's, which takes as long as the arithmetic of a small head.

NumPy evaluates them: views, dense layers and lookups with constant weights, and what is done to whole numbers to find
the lengths of sequences.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lstm_explain.graph.ir import Array, Graph, Node
from lstm_explain.kernels.product import dense, pack
from lstm_explain.rules.op import shape_tap

MOST_NODES = 8
MOST_ELEMENTS = 1 << 15  # of each array: beyond, ONNX Runtime's threads and its own products are worth the call
Step = tuple[Callable[[Array], Array], str, str]  # makes the value of the second name from that of the first
Maker = Callable[[Node, Graph], "Callable[[Array], Array] | None"]


@dataclass(frozen=True)
class Entry:
    """One operator. source: the slot of its one input that is not constant. floats, integers: what that may hold."""

    maker: Maker
    source: int = 0
    floats: bool = True
    integers: bool = False

    @property
    def dtypes(self) -> tuple[type, ...]:
        return (np.float32, np.float64) * self.floats + (np.int32, np.int64) * self.integers


def small(graph: Graph, nodes: Sequence[Node]) -> list[Step] | None:
    """A step a node, in order; None where a node is not for us. Shapes are left out: these keep every value itself."""
    if len(nodes) > MOST_NODES:
        return None
    steps: list[Step] = []
    for node in nodes:
        if node.outputs[0] == shape_tap(node.input(0)):
            continue
        entry = _TABLE.get(node.op)
        if entry is None or len(node.outputs) != 1:
            return None
        source = node.input(entry.source)
        if source in graph.constants or graph.type_of(source).dtype not in entry.dtypes:
            return None
        function = entry.maker(node, graph)
        if function is None:
            return None
        steps.append((function, source, node.outputs[0]))
    return steps


def shaped(steps: Sequence[Step], values: Mapping[str, Array], wanted: Sequence[str]) -> list[Step]:
    """The steps for inputs of these shapes: views in a row that leave elements in their order are one reshape, and are
    left out where nobody wants what they make."""
    made, short = dict(values), list[Step]()
    behind: dict[str, str] = {}  # by view that is left out so far, what it looks at

    def show(name: str) -> None:
        shape = made[name].shape
        short.append((lambda x: x.reshape(shape), behind.pop(name), name))

    for function, source, output in steps:
        before, value = made[source], function(made[source])
        made[output] = value
        if np.may_share_memory(before, value) and _in_order(function, before.shape):
            behind[output] = behind.get(source, source)
            if output in wanted:
                show(output)
        else:
            if source in behind:
                show(source)
            short.append((function, source, output))
    return short


def _in_order(view: Callable[[Array], Array], shape: tuple[int, ...]) -> bool:
    numbers = np.arange(math.prod(shape))
    return np.array_equal(view(numbers.reshape(shape)).ravel(), numbers)


def fits(values: Mapping[str, Array], names: Sequence[str]) -> bool:
    for name in names:  # noqa: SIM110 - twice as fast as `all`
        if values[name].size > MOST_ELEMENTS:
            return False
    return True


def _shape(node: Node, graph: Graph) -> Callable[[Array], Array] | None:
    return None if node.attributes else lambda x: np.array(x.shape, np.int64)


def _transpose(node: Node, graph: Graph) -> Callable[[Array], Array]:
    perm = node.attribute("perm")
    return lambda x: x.transpose(perm)


def _flatten(node: Node, graph: Graph) -> Callable[[Array], Array]:
    axis = node.attribute("axis", 1)

    def flatten(x: Array) -> Array:
        split = axis if axis >= 0 else axis + x.ndim
        return x.reshape(math.prod(x.shape[:split]), -1)

    return flatten


def _squeeze(node: Node, graph: Graph) -> Callable[[Array], Array] | None:
    axes = _integers(node, graph, 1, "axes")
    return None if axes is None else lambda x: x.squeeze(tuple(axes))


def _unsqueeze(node: Node, graph: Graph) -> Callable[[Array], Array] | None:
    axes = _integers(node, graph, 1, "axes")
    return None if axes is None else lambda x: np.expand_dims(x, tuple(axes))


def _reshape(node: Node, graph: Graph) -> Callable[[Array], Array] | None:
    shape = _integers(node, graph, 1, "shape")
    if shape is None or node.attribute("allowzero", 0):
        return None
    if 0 not in shape:
        return lambda x: x.reshape(shape)
    return lambda x: x.reshape([x.shape[i] if n == 0 else n for i, n in enumerate(shape)])


def _integers(node: Node, graph: Graph, slot: int, attribute: str) -> list[int] | None:
    """A list that older opsets keep as an attribute and newer ones as an input; None where it is not constant."""
    given = graph.constants.get(node.input(slot)) if node.input(slot) else node.attribute(attribute)
    return None if given is None else np.asarray(given).reshape(-1).tolist()


def _lookup(node: Node, graph: Graph) -> Callable[[Array], Array] | None:
    table = graph.constants.get(node.input(0))
    if table is None or node.attribute("axis", 0) != 0:
        return None
    return lambda indices: table.take(indices, 0)


def _cumulative_sum(node: Node, graph: Graph) -> Callable[[Array], Array] | None:
    axes = _integers(node, graph, 1, "axis")
    if axes is None or node.attribute("exclusive", 0):
        return None
    (axis,) = axes
    if not node.attribute("reverse", 0):
        return lambda x: x.cumsum(axis, x.dtype)
    return lambda x: np.flip(np.flip(x, axis).cumsum(axis, x.dtype), axis)


def _sum(node: Node, graph: Graph) -> Callable[[Array], Array] | None:
    axes, keeps = _integers(node, graph, 1, "axes"), bool(node.attribute("keepdims", 1))
    return None if not axes else lambda x: x.sum(tuple(axes), x.dtype, keepdims=keeps)


def _cast(node: Node, graph: Graph) -> Callable[[Array], Array] | None:
    kind = graph.type_of(node.outputs[0]).dtype
    return (lambda x: x.astype(kind)) if kind in (np.int32, np.int64, np.float32) else None


def _matmul(node: Node, graph: Graph) -> Callable[[Array], Array] | None:
    weights = graph.constants.get(node.input(1))
    return None if weights is None or not _fitting(weights) else _times(weights, None)


def _gemm(node: Node, graph: Graph) -> Callable[[Array], Array] | None:
    weights, bias = graph.constants.get(node.input(1)), graph.constants.get(node.input(2))
    plain = all(
        node.attribute(name, default) == default for name, default in (("alpha", 1), ("beta", 1), ("transA", 0))
    )
    if not plain or not _fitting(weights) or (node.input(2) and bias is None):
        return None
    assert weights is not None
    return _times(weights.T if node.attribute("transB", 0) else weights, bias)


def _times(matrix: Array, bias: Array | None) -> Callable[[Array], Array] | None:
    """Not by BLAS, whose sums depend on how many rows there are: a sample gets one answer in any company.

    None for a bias of another shape than a row's.
    """
    packed = pack(matrix)
    units, columns = matrix.shape
    if bias is not None and bias.size != 1 and bias.shape not in ((columns,), (1, columns)):
        return None
    added = np.ascontiguousarray(np.broadcast_to(np.zeros(1, matrix.dtype) if bias is None else bias.ravel(), columns))

    def times(x: Array) -> Array:
        rows = x if x.ndim == 2 and x.flags.c_contiguous else np.ascontiguousarray(x).reshape(-1, units)
        out = np.empty((len(rows), columns), x.dtype)
        dense(rows, packed, added, out)
        return out if x.ndim == 2 else out.reshape(*x.shape[:-1], columns)

    return times


def _with_constant(function: Callable[[Array, Array], Array]) -> Maker:
    def maker(node: Node, graph: Graph) -> Callable[[Array], Array] | None:
        other = graph.constants.get(node.input(1))
        return None if other is None else lambda x: function(x, other)

    return maker


def _fitting(weights: Array | None) -> bool:
    return weights is not None and weights.ndim == 2 and weights.size <= MOST_ELEMENTS


_ANY: dict[str, bool] = {"integers": True}
_INTEGERS: dict[str, bool] = {"floats": False, "integers": True}  # whose order of addition does not matter
_TABLE: dict[str, Entry] = {
    "Identity": Entry(lambda node, graph: lambda x: x, **_ANY),
    "Shape": Entry(_shape, **_ANY),
    "Transpose": Entry(_transpose, **_ANY),
    "Flatten": Entry(_flatten, **_ANY),
    "Squeeze": Entry(_squeeze, **_ANY),
    "Unsqueeze": Entry(_unsqueeze, **_ANY),
    "Reshape": Entry(_reshape, **_ANY),
    "MatMul": Entry(_matmul),
    "Gemm": Entry(_gemm),
    "Add": Entry(_with_constant(np.add)),
    "Sub": Entry(_with_constant(np.subtract)),
    "Mul": Entry(_with_constant(np.multiply)),
    "Div": Entry(_with_constant(np.true_divide)),
    "Gather": Entry(_lookup, source=1, **_INTEGERS),
    "Cast": Entry(_cast, **_INTEGERS),
    "Sign": Entry(lambda node, graph: np.sign, **_INTEGERS),
    "CumSum": Entry(_cumulative_sum, **_INTEGERS),
    "ReduceSum": Entry(_sum, **_INTEGERS),
}
