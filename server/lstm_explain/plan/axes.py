"""Which axis of an input holds the samples, which the time steps: followed through the graph to a recurrent node."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lstm_explain.graph.ir import Graph, Node, ValueType
from lstm_explain.plan.wiring import wiring_of
from lstm_explain.rules.recurrent import STATE_SLOTS


@dataclass(frozen=True)
class Axes:
    """Of one input. batch: where samples lie; time: where time steps lie; None where there is no such axis."""

    batch: int | None
    time: int | None


Origins = frozenset[tuple[str, int]]  # the inputs' axes that one axis of a value runs along
Labels = tuple[Origins, ...]
NOWHERE: Origins = frozenset()


def find_axes(graph: Graph, given: Mapping[str, Axes] | None = None) -> dict[str, Axes]:
    """Axes of every input. What the graph does not tell is taken from `given`, or guessed.

    A guess: samples along the axis that has the name of another input's batch axis, else along the first; time along
    the next, but for inputs of a recurrent model that never become a sequence.
    """
    labels = trace(graph)
    found: dict[str, dict[str, int]] = {name: {} for name in graph.inputs}
    for node in graph.nodes:
        for role, origins in _roles(node, labels):
            for name, axis in sorted(origins):
                found[name].setdefault(role, axis)
    return _completed(graph, found, given or {})


def trace(graph: Graph) -> dict[str, Labels]:
    """By value, an entry an axis: the inputs' axes that it runs along. Values of which nothing is known are missing."""
    labels: dict[str, Labels] = {name: _fresh(name, graph.type_of(name)) for name in graph.inputs}
    for node in graph.nodes:
        labels.update((o, x) for o, x in zip(node.outputs, _outputs(graph, node, labels), strict=False) if o)
    return labels


def find_lengths(graph: Graph) -> dict[str, str]:
    """Inputs that say how long each sequence is: by name, the one input whose time steps they count.

    Only what goes to the recurrent nodes as it is, whatever its type, not what is computed from an input.
    """
    labels, made_by = trace(graph), {o: node for node in graph.nodes for o in node.outputs}
    found: dict[str, set[str]] = {}
    for node in graph.nodes:
        if node.op not in STATE_SLOTS:
            continue
        value = node.input(4)
        while value in made_by and made_by[value].op in ("Cast", "Identity"):
            value = made_by[value].inputs[0]
        if value in graph.inputs and (graph.type_of(value).rank or 0) == 1:
            time = 1 if node.attribute("layout", 0) == 1 else 0
            found.setdefault(value, set()).update(name for name, _ in _at(node, 0, time, labels))
    return {name: next(iter(of)) for name, of in found.items() if len(of) == 1}


def _fresh(name: str, kind: ValueType) -> Labels:
    return tuple(frozenset({(name, axis)}) for axis in range(kind.rank or 0))


def _completed(graph: Graph, found: Mapping[str, Mapping[str, int]], given: Mapping[str, Axes]) -> dict[str, Axes]:
    recurrent = any("time" in roles for roles in found.values())
    batches = {_symbol(graph, name, roles["batch"]) for name, roles in found.items() if "batch" in roles}
    batches |= {_symbol(graph, name, 0) for name in graph.outputs[:1]}
    axes = {}
    for name, roles in found.items():
        rank = graph.type_of(name).rank or 0
        same = [axis for axis in range(rank) if _symbol(graph, name, axis) in batches - {None}]
        batch = roles.get("batch", (same or [0])[0] if rank else None)
        after = None if batch is None or batch + 1 >= rank or recurrent else batch + 1
        axes[name] = given.get(name, Axes(batch, roles.get("time", after)))
    return axes


def _symbol(graph: Graph, name: str, axis: int) -> str | None:
    shape = graph.type_of(name).shape
    extent = shape[axis] if shape is not None and axis < len(shape) else None
    return extent if isinstance(extent, str) else None


# --- operators that say which axis is which ----------------------------------------------------------------------


def _roles(node: Node, labels: Mapping[str, Labels]) -> list[tuple[str, Origins]]:
    if node.op in STATE_SLOTS:
        batch_first = node.attribute("layout", 0) == 1
        states = [(slot, 0 if batch_first else 1) for slot in STATE_SLOTS[node.op]]
        batches = [(0, 0 if batch_first else 1), (4, 0), *states]
        roles = [("batch", _at(node, slot, axis, labels)) for slot, axis in batches]
        return [*roles, ("time", _at(node, 0, 1 if batch_first else 0, labels))]
    if node.op == "Scan" and node.opset >= 9:
        return [("time", _at(node, read.slot, read.axis, labels)) for read in wiring_of(node).read]
    return []


def _at(node: Node, slot: int, axis: int, labels: Mapping[str, Labels]) -> Origins:
    label = labels.get(node.input(slot), ())
    return label[axis] if -len(label) <= axis < len(label) else NOWHERE


# --- how axes pass operators -------------------------------------------------------------------------------------


def _outputs(graph: Graph, node: Node, labels: Mapping[str, Labels]) -> list[Labels]:
    if not any(labels.get(name) for name in node.inputs):
        return []
    rule = _RULES.get(node.op, _unknown)
    label = rule(graph, node, [labels.get(name, ()) for name in node.inputs])
    return [_of_rank(label, graph.type_of(name).rank) for name in node.outputs]


def _of_rank(label: Labels, rank: int | None) -> Labels:
    """Nothing is known of a value whose rank is another than thought."""
    return label if rank is None or rank == len(label) else (NOWHERE,) * rank


Rule = Callable[[Graph, Node, Sequence[Labels]], Labels]


def _unknown(graph: Graph, node: Node, inputs: Sequence[Labels]) -> Labels:
    return ()


def _same(graph: Graph, node: Node, inputs: Sequence[Labels]) -> Labels:
    return inputs[0]


def _aligned(graph: Graph, node: Node, inputs: Sequence[Labels]) -> Labels:
    """Broadcasting aligns the last axes. Constants may have the higher rank."""
    rank = max([graph.type_of(name).rank or 0 for name in node.inputs if name] + [len(x) for x in inputs])
    padded = [(NOWHERE,) * (rank - len(x)) + tuple(x) for x in inputs]
    return tuple(NOWHERE.union(*origins) for origins in zip(*padded, strict=True))


def _transpose(graph: Graph, node: Node, inputs: Sequence[Labels]) -> Labels:
    label = inputs[0]
    order = node.attribute("perm") or range(len(label))[::-1]
    return tuple(label[axis] for axis in order) if len(order) == len(label) else ()


def _axes_of(graph: Graph, node: Node, rank: int) -> list[int] | None:
    axes = node.attribute("axes")
    if axes is None and node.input(1) in graph.constants:
        axes = graph.constants[node.input(1)].reshape(-1).tolist()
    return None if axes is None else [int(axis) % rank for axis in axes]


def _squeeze(graph: Graph, node: Node, inputs: Sequence[Labels]) -> Labels:
    gone = _axes_of(graph, node, len(inputs[0]) or 1)
    return () if gone is None else tuple(x for axis, x in enumerate(inputs[0]) if axis not in gone)


def _unsqueeze(graph: Graph, node: Node, inputs: Sequence[Labels]) -> Labels:
    count = len(_axes_of(graph, node, 1) or ())
    new = _axes_of(graph, node, len(inputs[0]) + count)
    rest = iter(inputs[0])
    return () if new is None else tuple(NOWHERE if a in new else next(rest) for a in range(len(inputs[0]) + count))


def _gather(graph: Graph, node: Node, inputs: Sequence[Labels]) -> Labels:
    data, indices = inputs[0], inputs[1]
    rank = len(data) or graph.type_of(node.inputs[0]).rank or 0
    ranks = len(indices) or graph.type_of(node.inputs[1]).rank or 0
    data = data or (NOWHERE,) * rank
    axis = node.attribute("axis", 0) % max(rank, 1)
    return (*data[:axis], *(indices or (NOWHERE,) * ranks), *data[axis + 1 :])


def _product(graph: Graph, node: Node, inputs: Sequence[Labels]) -> Labels:
    """Rows keep their axes, columns are new."""
    return (*inputs[0][:-1], NOWHERE) if len(inputs[0]) > 1 else ()


def _convolution(graph: Graph, node: Node, inputs: Sequence[Labels]) -> Labels:
    return tuple(NOWHERE if axis == 1 else x for axis, x in enumerate(inputs[0]))


def _reshape(graph: Graph, node: Node, inputs: Sequence[Labels]) -> Labels:
    """Axes at the front and at the back whose extents stay the same."""
    before, after = graph.type_of(node.inputs[0]).shape, graph.type_of(node.outputs[0]).shape
    if before is None or after is None or len(before) != len(inputs[0]):
        return ()
    front = _shared(before, after)
    back = min(_shared(before[::-1], after[::-1]), min(len(before), len(after)) - front)
    middle = (NOWHERE,) * (len(after) - front - back)
    return (*inputs[0][:front], *middle, *inputs[0][len(before) - back :])


def _shared(a: Sequence[int | str | None], b: Sequence[int | str | None]) -> int:
    count = 0
    while count < min(len(a), len(b)) and a[count] is not None and a[count] == b[count]:
        count += 1
    return count


def _reduction(graph: Graph, node: Node, inputs: Sequence[Labels]) -> Labels:
    gone = _axes_of(graph, node, len(inputs[0]) or 1)
    if gone is None:
        return ()
    if node.attribute("keepdims", 1):
        return tuple(NOWHERE if axis in gone else x for axis, x in enumerate(inputs[0]))
    return tuple(x for axis, x in enumerate(inputs[0]) if axis not in gone)


_KEEP = """
    Identity Cast CastLike Dropout Tanh Sigmoid Relu LeakyRelu Elu Selu Celu HardSigmoid HardSwish Softplus Softsign
    Gelu Mish Swish Erf Exp Log Sqrt Reciprocal Abs Neg Clip Floor Ceil Round Sign Softmax LogSoftmax BatchNormalization
    LayerNormalization InstanceNormalization GroupNormalization Slice Pad Split MaxPool AveragePool CumSum
    ThresholdedRelu Shrink Not IsNaN"""
_BROADCAST = "Add Sub Mul Div Pow Min Max Sum Mean Where PRelu Expand Concat And Or Equal Less Greater Mod"
_REDUCE = "ReduceSum ReduceMean ReduceMax ReduceMin ReduceL1 ReduceL2"
_RULES: dict[str, Rule] = {
    **dict.fromkeys(_KEEP.split(), _same),
    **dict.fromkeys(_BROADCAST.split(), _aligned),
    **dict.fromkeys(_REDUCE.split(), _reduction),
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Gather": _gather,
    "MatMul": _product,
    "Gemm": _product,
    "Conv": _convolution,
    "Reshape": _reshape,
}
