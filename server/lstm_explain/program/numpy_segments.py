# SPDX-License-Identifier: Apache-2.0
"""Evaluates small parts of a graph in NumPy, because a call of ONNX Runtime takes as long as the arithmetic of a small
head.

Exporters write much that depends on the shapes of inputs alone, such as initial states of zeros for the samples of a
batch. ONNX Runtime computes it once for every shape; NumPy evaluates the rest: views, dense layers, lookups, the
activation of an output, and the integer operators that find the lengths of sequences.
"""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
import onnxruntime as ort

from lstm_explain.graph.constant_folding import SEQUENCES, is_random
from lstm_explain.graph.data_dependent_sizes import SHAPES
from lstm_explain.graph.ir import Array, Graph, Node
from lstm_explain.graph.session import run_session, session_of
from lstm_explain.operators import TABLE
from lstm_explain.operators.numpy_evaluation import MAX_ELEMENTS, Evaluation, Function, OfAnyShape
from lstm_explain.operators.operator import shape_value

MOST_NODES = 16
MOST_SHAPES = 512  # the number of different shapes for which what depends on them is kept
Step = tuple[Function, str | tuple[str, ...], str]  # computes the last value from that of the source, or of the sources


@dataclass(frozen=True)
class Bound:
    """A segment for inputs of certain shapes. fixed: outputs that these shapes determine; not to be modified."""

    steps: Sequence[Step]
    fixed: Mapping[str, Array]

    def run(self, values: dict[str, Array]) -> None:
        """Adds the outputs to the values."""
        if self.fixed:
            values.update(self.fixed)
        for function, source, output in self.steps:
            values[output] = function(values[source]) if type(source) is str else function(*_several(values, source))


def _several(values: Mapping[str, Array], names: Iterable[str]) -> list[Array]:
    return [values[name] for name in names]


@dataclass
class SmallSegment:
    """A segment as NumPy evaluates it. nodes: each with its function, where that does not depend on shapes, and with
    the values that it reads. kept: values that shapes determine and that others read. read: these, and those that
    `nodes` read. by_shape: the nodes that compute them.
    """

    graph: Graph
    inputs: Sequence[str]
    kept: Sequence[str]
    nodes: Sequence[tuple[Node, Function | None, tuple[str, ...]]]
    by_shape: Sequence[Node]
    read: Sequence[str]
    _bound: dict[tuple[tuple[int, ...], ...], Bound | None] = field(default_factory=dict)

    def bound(self, values: Mapping[str, Array]) -> Bound | None:
        """Returns the segment for the shapes of its inputs; None where NumPy cannot evaluate it."""
        shapes = tuple([values[name].shape for name in self.inputs])
        try:
            return self._bound[shapes]
        except KeyError:
            if len(self._bound) >= MOST_SHAPES:
                self._bound.clear()
            bound = self._bound[shapes] = self._bind(values)
            return bound

    def _bind(self, values: Mapping[str, Array]) -> Bound | None:
        known = {}
        if self.read:
            feeds = {name: values[name] for name in self._session_inputs}
            known = dict(zip(self.read, run_session(self._session, self.read, feeds), strict=True))
            if not fits(known, self.read):  # too much to be kept
                return None
        graph = replace(self.graph, constants=cast(Any, ChainMap(known, self.graph.constants)))
        steps: list[Step] = []
        for node, function, sources in self.nodes:
            made = _evaluation(node).maker(node, graph) if function is None else function
            if made is None:
                return None
            steps.append((made, sources[0] if len(sources) == 1 else sources, node.outputs[0]))
        return Bound(steps, {name: known[name] for name in self.kept})

    @cached_property
    def _session_inputs(self) -> list[str]:
        made = {o for node in self.by_shape for o in node.outputs}
        read = {name for node in self.by_shape for name in (*node.inputs, *node.captured)}
        return [name for name in self.inputs if name in read and name not in made]

    @cached_property
    def _session(self) -> ort.InferenceSession:
        return session_of(self.graph, self.by_shape, self._session_inputs, self.read)


def small(graph: Graph, nodes: Sequence[Node], inputs: Sequence[str], outputs: Sequence[str]) -> SmallSegment | None:
    """Returns None where NumPy cannot evaluate a node. Extra values that hold only shapes are left out, because every
    value itself is available here.
    """
    of_shapes = [node.input(0) for node in nodes if node.outputs[0] == shape_value(node.input(0))]
    nodes = [node for node in nodes if node.outputs[0] != shape_value(node.input(0))]
    by_shape = _determined_by_shapes(graph, nodes)
    if any(name in graph.outputs for name in by_shape):  # the caller may modify outputs
        return None
    evaluated: list[tuple[Node, Function | None, tuple[str, ...]]] = []
    kinds: dict[str, np.dtype[Any] | None] = {}
    kept = dict.fromkeys(name for name in (*outputs, *of_shapes) if name in by_shape)
    read = kept.copy()
    for node in nodes:
        if by_shape.issuperset(filter(None, node.outputs)):
            continue
        op, output = TABLE.get(node.op), node.outputs[0]
        evaluation = None if op is None else op.evaluation
        sources = tuple(name for name in node.inputs if name and name not in graph.constants and name not in by_shape)
        if evaluation is None or len(node.outputs) != 1 or node.bodies or not sources:
            return None
        kind = graph.type_of(sources[0]).dtype or kinds.get(sources[0])
        if kind not in evaluation.dtypes or (len(sources) > 1 and not evaluation.several):
            return None
        kinds[output] = graph.type_of(output).dtype or kind
        later = [name for name in node.inputs if name in by_shape]
        function = None if later else evaluation.maker(node, graph)
        if function is None and not later:
            return None
        read.update(dict.fromkeys(later))
        evaluated.append((node, function, sources))
    if len(evaluated) > MOST_NODES:
        return None
    return SmallSegment(graph, inputs, list(kept), evaluated, _computing(nodes, read), list(read))


def _evaluation(node: Node) -> Evaluation:
    op = TABLE.get(node.op)
    assert op is not None
    assert op.evaluation is not None
    return op.evaluation


def _determined_by_shapes(graph: Graph, nodes: Sequence[Node]) -> set[str]:
    """Returns the values of these nodes that are the same for all inputs of the same shapes, if NumPy can evaluate all
    other nodes: none of those makes an array whose shape depends on a value.
    """
    found: set[str] = set()
    for node in nodes:
        alike = all(name in graph.constants or name in found for name in (*node.inputs, *node.captured) if name)
        if node.op in SHAPES or (alike and not node.bodies and node.op not in SEQUENCES and not is_random(graph, node)):
            found.update(filter(None, node.outputs))
    return found


def _computing(nodes: Sequence[Node], wanted: Iterable[str]) -> list[Node]:
    """Returns the nodes without which `wanted` cannot be computed, in order."""
    needed, kept = set(wanted), list[Node]()
    for node in reversed(nodes):
        if needed.intersection(node.outputs):
            kept.append(node)
            needed.update((*node.inputs, *node.captured))
    return kept[::-1]


def shaped(bound: Bound, values: Mapping[str, Array], wanted: Sequence[str]) -> list[Step]:
    """Returns the steps for inputs of these shapes. Consecutive views that keep the order of elements become one
    reshape, views whose outputs nothing reads are left out, and functions take their quicker form.
    """
    made, short = {**values, **bound.fixed}, list[Step]()
    behind: dict[str, str] = {}  # maps each view that is left out so far to the value that it views

    def show(name: str) -> None:
        shape = made[name].shape
        short.append((lambda x: x.reshape(shape), behind.pop(name), name))

    for function, source, output in bound.steps:
        sources = (source,) if isinstance(source, str) else source
        before, value = made[sources[0]], function(*_several(made, sources))
        made[output] = value
        if isinstance(source, str) and np.may_share_memory(before, value) and _in_order(function, before.shape):
            behind[output] = behind.get(source, source)
            if output in wanted:
                show(output)
        else:
            for name in sources:
                if name in behind:
                    show(name)
            quick = function.of_shape(before) if isinstance(function, OfAnyShape) else function
            short.append((quick, source, output))
    return short


def _in_order(view: Function, shape: tuple[int, ...]) -> bool:
    numbers = np.arange(math.prod(shape))
    return np.array_equal(view(numbers.reshape(shape)).ravel(), numbers)


def fits(values: Mapping[str, Array], names: Sequence[str]) -> bool:
    for name in names:  # noqa: SIM110 - twice as fast as `all`
        if values[name].size > MAX_ELEMENTS:
            return False
    return True
