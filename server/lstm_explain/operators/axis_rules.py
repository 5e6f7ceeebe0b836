# SPDX-License-Identifier: Apache-2.0
"""Rules for axes: along which axes of the model's inputs each axis of an operator's output runs.

The rules use the shapes that the graph declares; nothing is executed. An axis runs along another where its positions
have the same order, even if their numbers differ: after a convolution, a pooling or a slice, time is still time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from lstm_explain.graph.ir import Graph, Node

Origins = frozenset[tuple[str, int]]  # the inputs' axes that one axis of a value runs along
Labels = tuple[Origins, ...]
NOWHERE: Origins = frozenset()
# (graph, node, labels by slot, empty where unknown) -> labels of the output, or a list with those of each output
AxesRule = Callable[[Graph, Node, Sequence[Labels]], "Labels | list[Labels]"]

# (graph, node, labels by slot) -> roles that the operator assigns to axes: "batch", "time", "state" for axes of a
# recurrent node's initial state, "hint" for a time axis where no operator says "time"
RolesRule = Callable[[Graph, Node, Sequence[Labels]], "list[tuple[str, Origins]]"]


def unknown(graph: Graph, node: Node, inputs: Sequence[Labels]) -> Labels:
    """No axis of the output runs along an axis of an input."""
    return ()


def first(graph: Graph, node: Node, inputs: Sequence[Labels]) -> Labels:
    """The axes are those of the first operand."""
    return inputs[0]


def aligned(graph: Graph, node: Node, inputs: Sequence[Labels]) -> Labels:
    """Broadcasting aligns the last axes. Constants may have the higher rank."""
    rank = max([graph.type_of(name).rank or 0 for name in node.inputs if name] + [len(x) for x in inputs])
    padded = [(NOWHERE,) * (rank - len(x)) + tuple(x) for x in inputs]
    return tuple(NOWHERE.union(*origins) for origins in zip(*padded, strict=True))


def expanded(graph: Graph, node: Node, inputs: Sequence[Labels]) -> Labels:
    """Broadcasting to a shape keeps the last axes."""
    rank = graph.type_of(node.outputs[0]).rank
    return (NOWHERE,) * max(0, (rank or 0) - len(inputs[0])) + tuple(inputs[0])


def transposed(graph: Graph, node: Node, inputs: Sequence[Labels]) -> Labels:
    label = inputs[0]
    order = node.attribute("perm") or range(len(label))[::-1]
    return tuple(label[axis] for axis in order) if len(order) == len(label) else ()


def squeezed(graph: Graph, node: Node, inputs: Sequence[Labels]) -> Labels:
    gone = _axes_of(graph, node, len(inputs[0]) or 1)
    if gone is None:  # all axes of extent 1
        shape = graph.type_of(node.inputs[0]).shape
        gone = [axis for axis, extent in enumerate(shape or ()) if extent == 1]
    return tuple(x for axis, x in enumerate(inputs[0]) if axis not in gone)


def unsqueezed(graph: Graph, node: Node, inputs: Sequence[Labels]) -> Labels:
    count = len(_axes_of(graph, node, 1) or ())
    new = _axes_of(graph, node, len(inputs[0]) + count)
    rest = iter(inputs[0])
    return () if new is None else tuple(NOWHERE if a in new else next(rest) for a in range(len(inputs[0]) + count))


def reshaped(graph: Graph, node: Node, inputs: Sequence[Labels]) -> Labels:
    """Leading and trailing axes keep their labels while their extents stay the same."""
    before, after = graph.type_of(node.inputs[0]).shape, graph.type_of(node.outputs[0]).shape
    if before is None or after is None or len(before) != len(inputs[0]):
        return ()
    after = _with_open_extent(before, after)
    front = _common_prefix(before, after)
    back = min(_common_prefix(before[::-1], after[::-1]), min(len(before), len(after)) - front)
    middle = (NOWHERE,) * (len(after) - front - back)
    return (*inputs[0][:front], *middle, *inputs[0][len(before) - back :])


def same_extents(graph: Graph, node: Node, inputs: Sequence[Labels]) -> Labels:
    """For an operator that is not in the table: axes whose extents are the same in input and output."""
    before, after = graph.type_of(node.input(0)).shape, graph.type_of(node.outputs[0]).shape
    if before is None or after is None or not len(before) == len(after) == len(inputs[0]):
        return ()
    kept = [a is not None and a == b for a, b in zip(before, after, strict=True)]
    return tuple(x if keep else NOWHERE for x, keep in zip(inputs[0], kept, strict=True))


def gathered(graph: Graph, node: Node, inputs: Sequence[Labels]) -> Labels:
    """The axes of the indices replace the axis that they index; constant positions in a row are still along it."""
    data, indices = _whole(graph, node, inputs, 0), _whole(graph, node, inputs, 1)
    axis, constant = node.attribute("axis", 0) % max(len(data), 1), graph.constants.get(node.input(1))
    if constant is not None and constant.ndim == 1:
        return data
    return (*data[:axis], *indices, *data[axis + 1 :])


def gathered_elements(graph: Graph, node: Node, inputs: Sequence[Labels]) -> Labels:
    data, indices = _whole(graph, node, inputs, 0), _whole(graph, node, inputs, 1)
    return tuple(a | b for a, b in zip(data, indices, strict=True)) if len(data) == len(indices) else ()


def gathered_rows(graph: Graph, node: Node, inputs: Sequence[Labels]) -> Labels:
    """GatherND: the last axis of the indices disappears."""
    data, indices = _whole(graph, node, inputs, 0), _whole(graph, node, inputs, 1)
    depth, shared = _depth(graph, node), int(node.attribute("batch_dims", 0))
    if depth is None or not indices:
        return ()
    rows = [x | (data[i] if i < shared and i < len(data) else NOWHERE) for i, x in enumerate(indices[:-1])]
    return (*rows, *data[shared + depth :])


def scattered(graph: Graph, node: Node, inputs: Sequence[Labels]) -> Labels:
    """The axes of the data; the last axes also run along those of the updates."""
    data, updates = _whole(graph, node, inputs, 0), _whole(graph, node, inputs, 2)
    depth = _depth(graph, node) if node.op == "ScatterND" else 0
    if depth is None:
        return data
    behind = updates[len(updates) - (len(data) - depth) :] if len(updates) >= len(data) - depth else ()
    padded = (NOWHERE,) * (len(data) - len(behind)) + tuple(behind)
    return tuple(a | b for a, b in zip(data, padded, strict=True))


def one_hot(graph: Graph, node: Node, inputs: Sequence[Labels]) -> Labels:
    """OneHot inserts an axis."""
    axis = node.attribute("axis", -1) % (len(inputs[0]) + 1)
    return (*inputs[0][:axis], NOWHERE, *inputs[0][axis:])


def batch_only(graph: Graph, node: Node, inputs: Sequence[Labels]) -> Labels:
    """The first axis stays; all others are new."""
    return (*inputs[0][:1], *(NOWHERE,) * (len(inputs[0]) - 1))


def channels_mixed(graph: Graph, node: Node, inputs: Sequence[Labels]) -> Labels:
    """A convolution mixes the channels, unless each channel is a group of its own."""
    weights = graph.type_of(node.input(1)).shape
    if node.op == "Conv" and weights is not None and weights[0] == node.attribute("group", 1) and weights[1] == 1:
        return inputs[0]
    return tuple(NOWHERE if axis == 1 else x for axis, x in enumerate(inputs[0]))


def pooled_whole(graph: Graph, node: Node, inputs: Sequence[Labels]) -> Labels:
    return tuple(x if axis < 2 else NOWHERE for axis, x in enumerate(inputs[0]))


def multiplied(graph: Graph, node: Node, inputs: Sequence[Labels]) -> Labels:
    """MatMul: rows of the left operand, columns of the right one; leading axes broadcast."""
    a, b = _whole(graph, node, inputs, 0), _whole(graph, node, inputs, 1)
    if not a or not b:
        return (*a[:-1], NOWHERE) if len(a) > 1 and not b else ()
    rank = max(len(a), len(b), 2) - 2
    before = [(NOWHERE,) * (rank - len(x[:-2])) + tuple(x[:-2]) for x in (a, b)]
    rows = (a[-2],) if len(a) > 1 else ()
    columns = (b[-1],) if len(b) > 1 else ()
    return (*(x | y for x, y in zip(*before, strict=True)), *rows, *columns)


def gemm(graph: Graph, node: Node, inputs: Sequence[Labels]) -> Labels:
    a, b = _whole(graph, node, inputs, 0), _whole(graph, node, inputs, 1)
    if len(a) != 2 or len(b) != 2:
        return ()
    c = _whole(graph, node, inputs, 2) if node.input(2) else ()
    c = (NOWHERE,) * (2 - len(c)) + tuple(c)
    return a[1 if node.attribute("transA", 0) else 0] | c[0], b[0 if node.attribute("transB", 0) else 1] | c[1]


def contracted(graph: Graph, node: Node, inputs: Sequence[Labels]) -> Labels:
    """Einsum: axes with the same letter; the axes of an ellipsis are aligned at the end."""
    text = str(node.attribute("equation", "")).replace(" ", "")
    left, arrow, out = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(node.inputs):
        return ()
    found: dict[str, Origins] = {}
    for slot, term in enumerate(terms):
        label = _whole(graph, node, inputs, slot)
        names = _letters(term, len(label))
        for name, origins in zip(names, label, strict=False):
            found[name] = found.get(name, NOWHERE) | origins
    dots = sorted((n for n in found if n.startswith("...")), reverse=True)
    if not arrow:
        letters = left.replace(",", "").replace("...", "")
        out = "..." * bool(dots) + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    before, ellipsis, after = out.partition("...")
    names = [*before, *(dots if ellipsis else ()), *after]
    return tuple(found.get(name, NOWHERE) for name in names)


def _letters(term: str, rank: int) -> list[str]:
    """Return a name per axis; axes of an ellipsis are numbered from the end, with two digits."""
    before, ellipsis, after = term.partition("...")
    count = max(0, rank - len(before) - len(after)) if ellipsis else 0
    return [*before, *(f"...{k:02d}" for k in reversed(range(count))), *after]


def reduced(graph: Graph, node: Node, inputs: Sequence[Labels]) -> Labels:
    gone = _axes_of(graph, node, len(inputs[0]) or 1)
    if gone is None:
        if node.input(1):  # the axes are computed
            return ()
        gone = [] if node.attribute("noop_with_empty_axes", 0) else list(range(len(inputs[0])))
    return _without(inputs[0], gone, keep=bool(node.attribute("keepdims", 1)))


def chosen_along(graph: Graph, node: Node, inputs: Sequence[Labels]) -> Labels:
    """ArgMax reduces one axis."""
    gone = [node.attribute("axis", 0) % max(len(inputs[0]), 1)]
    return _without(inputs[0], gone, keep=bool(node.attribute("keepdims", 1)))


def compressed(graph: Graph, node: Node, inputs: Sequence[Labels]) -> Labels:
    return inputs[0] if "axis" in node.attributes else ()


def recurrent(states: Sequence[int]) -> AxesRule:
    """Recurrent operators. states: slots of initial states."""

    def rule(graph: Graph, node: Node, inputs: Sequence[Labels]) -> list[Labels]:
        batch_first = node.attribute("layout", 0) == 1
        x = inputs[0] if len(inputs[0]) == 3 else (NOWHERE,) * 3
        time, batch = (x[1], x[0]) if batch_first else (x[0], x[1])
        for slot in states:
            given = inputs[slot] if slot < len(inputs) else ()
            batch |= given[0 if batch_first else 1] if len(given) == 3 else NOWHERE
        sequence = (batch, time, NOWHERE, NOWHERE) if batch_first else (time, NOWHERE, batch, NOWHERE)
        state = (batch, NOWHERE, NOWHERE) if batch_first else (NOWHERE, batch, NOWHERE)
        return [sequence, *[state] * (len(node.outputs) - 1)]

    return rule


# --- roles of axes -----------------------------------------------------------------------------------------------


def no_roles(graph: Graph, node: Node, inputs: Sequence[Labels]) -> list[tuple[str, Origins]]:
    return []


def recurrent_roles(states: Sequence[int]) -> RolesRule:
    """Recurrent operators. states: slots of initial states."""

    def rule(graph: Graph, node: Node, inputs: Sequence[Labels]) -> list[tuple[str, Origins]]:
        batch_first = node.attribute("layout", 0) == 1
        batch = 0 if batch_first else 1
        batches = [(0, batch), (4, 0), *((slot, batch) for slot in states)]
        begins = [NOWHERE.union(*inputs[slot]) if slot < len(inputs) else NOWHERE for slot in states]
        found = [("batch", _at(inputs, *place)) for place in batches]
        return [*found, ("time", _at(inputs, 0, 1 - batch)), *(("state", origins) for origins in begins)]

    return rule


def reversed_along(graph: Graph, node: Node, inputs: Sequence[Labels]) -> list[tuple[str, Origins]]:
    """ReverseSequence names a time axis and a batch axis."""
    time, batch = node.attribute("time_axis", 0), node.attribute("batch_axis", 1)
    places = [("batch", 0, batch), ("batch", 1, 0), ("time", 0, time)]
    return [(role, _at(inputs, slot, axis)) for role, slot, axis in places]


def summed_along(graph: Graph, node: Node, inputs: Sequence[Labels]) -> list[tuple[str, Origins]]:
    """The axis of a running sum is probably time."""
    axis = graph.constants.get(node.input(1))
    return [] if axis is None else [("hint", _at(inputs, 0, int(axis.reshape(-1)[0])))]


def moved_along(graph: Graph, node: Node, inputs: Sequence[Labels]) -> list[tuple[str, Origins]]:
    """A convolution or pooling in one dimension probably runs along time."""
    return [("hint", inputs[0][2])] if len(inputs[0]) == 3 else []


def paired(graph: Graph, node: Node, inputs: Sequence[Labels]) -> list[tuple[str, Origins]]:
    """A matrix of every position of an axis by every position of the same axis: attention, along time probably.

    Not where the sum runs over another axis of an input, which may be time as well: products of features are summed
    over it.
    """
    summed = _at(inputs, 0, -1) & _at(inputs, 1, -2)
    return [] if summed else [("hint", _at(inputs, 0, -2) & _at(inputs, 1, -1))]


# --- helpers -----------------------------------------------------------------------------------------------------


def _whole(graph: Graph, node: Node, inputs: Sequence[Labels], slot: int) -> Labels:
    """Return the labels of an operand, with an entry per axis even where nothing is known."""
    known = inputs[slot] if slot < len(inputs) else ()
    return known or (NOWHERE,) * (graph.type_of(node.input(slot)).rank or 0)


def _at(inputs: Sequence[Labels], slot: int, axis: int) -> Origins:
    label = inputs[slot] if slot < len(inputs) else ()
    return label[axis] if -len(label) <= axis < len(label) else NOWHERE


def _axes_of(graph: Graph, node: Node, rank: int) -> list[int] | None:
    axes = node.attribute("axes")
    if axes is None and node.input(1) in graph.constants:
        axes = graph.constants[node.input(1)].reshape(-1).tolist()
    return None if axes is None else [int(axis) % rank for axis in axes]


def _depth(graph: Graph, node: Node) -> int | None:
    """Return how many axes a row of indices addresses."""
    shape = graph.type_of(node.input(1)).shape
    last = shape[-1] if shape else None
    return last if isinstance(last, int) else None


def _without(label: Labels, gone: Sequence[int], *, keep: bool) -> Labels:
    if keep:
        return tuple(NOWHERE if axis in gone else x for axis, x in enumerate(label))
    return tuple(x for axis, x in enumerate(label) if axis not in gone)


def _common_prefix(a: Sequence[int | str | None], b: Sequence[int | str | None]) -> int:
    count = 0
    while count < min(len(a), len(b)) and a[count] is not None and a[count] == b[count]:
        count += 1
    return count


Extents = tuple[int | str | None, ...]


def _with_open_extent(before: Extents, after: Extents) -> Extents:
    """Name the one open extent after a reshape as before it, where all others leave it its number and its place."""
    places = [[axis for axis, n in enumerate(shape) if not isinstance(n, int)] for shape in (before, after)]
    if any(len(axes) != 1 for axes in places):
        return after
    (old,), (new,) = places
    sides = ((before[:old], after[:new]), (before[old + 1 :], after[new + 1 :]))
    if any(math.prod(a) != math.prod(b) for a, b in sides):  # type: ignore[arg-type]
        return after
    return (*after[:new], before[old], *after[new + 1 :])
