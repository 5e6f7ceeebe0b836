"""Parts of a graph too small for a call of ONNX Runtime's, which takes as long as the arithmetic of a small head.

NumPy evaluates them: views, and dense layers with constant weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from lstm_explain.graph.ir import Array, Graph, Node
from lstm_explain.kernels.product import dense, pack
from lstm_explain.rules.op import shape_tap

MOST_NODES = 8
MOST_ELEMENTS = 1 << 15  # of each array: beyond, ONNX Runtime's threads and its own products are worth the call
Step = tuple[Callable[[Array], Array], str, str]  # makes the value of the second name from that of the first
Maker = Callable[[Node, Graph], "Callable[[Array], Array] | None"]


def small(graph: Graph, nodes: Sequence[Node]) -> list[Step] | None:
    """A step a node, in order; None where a node is not for us. Shapes are left out: these keep every value itself."""
    if len(nodes) > MOST_NODES:
        return None
    steps: list[Step] = []
    for node in nodes:
        maker, first = _MAKERS.get(node.op), node.input(0)
        if node.outputs[0] == shape_tap(first):
            continue
        if maker is None or first in graph.constants or graph.type_of(first).dtype not in (np.float32, np.float64):
            return None
        function = maker(node, graph)
        if function is None or len(node.outputs) != 1:
            return None
        steps.append((function, first, node.outputs[0]))
    return steps


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
    axes = node.attribute("axes")
    if axes is None:
        if node.input(1) not in graph.constants:
            return None
        axes = graph.constants[node.input(1)].reshape(-1).tolist()
    chosen = tuple(axes)
    return lambda x: x.squeeze(chosen)


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


def _add(node: Node, graph: Graph) -> Callable[[Array], Array] | None:
    added = graph.constants.get(node.input(1))
    return None if added is None else lambda x: x + added


def _fitting(weights: Array | None) -> bool:
    return weights is not None and weights.ndim == 2 and weights.size <= MOST_ELEMENTS


_MAKERS: dict[str, Maker] = {
    "Identity": lambda node, graph: lambda x: x,
    "Shape": _shape,
    "Transpose": _transpose,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Add": _add,
}
