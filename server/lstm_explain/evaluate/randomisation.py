"""Sanity check by randomised parameters (Adebayo et al. 2018, arXiv 1810.03292).

An explanation that hardly changes when the weights are replaced by noise explains the input, not the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import numpy_helper

from lstm_explain.evaluate.agreement import rank_correlation
from lstm_explain.evaluate.data import Array, Data, Progress, batches, board_of, labelled, nothing
from lstm_explain.loading import load
from lstm_explain.methods.base import Method, Players
from lstm_explain.model import Model
from lstm_explain.target import Target

FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16)


@dataclass(frozen=True)
class Randomisation:
    """The lower the correlation, the more a method depends on the weights.

    nodes: in the order in which their weights were randomised, from the output to the input, each with all before it.
    correlation: by the method's name, [nodes], Spearman's between the absolute relevance of the model as trained and as
    randomised so far, the mean over all samples.
    """

    nodes: list[str]
    correlation: dict[str, Array]


def randomisation(
    model: Model,
    data: Data,
    methods: Sequence[Method] | Mapping[str, Method],
    target: Target = Target(),  # noqa: B008 - frozen
    *,
    over: Players = "steps",
    seed: int = 0,
    progress: Progress = nothing,
) -> Randomisation:
    """Cascading: the weights of one node after the other are replaced by normal noise of the same mean square."""
    named, every = labelled(methods), list(batches(data))
    before = {name: [_relevance(model, batch, m, target, over) for batch in every] for name, m in named.items()}
    rng = np.random.default_rng(seed)
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    nodes: list[str] = []
    correlation: dict[str, list[float]] = {name: [] for name in named}
    done: set[int] = set()  # weights that two nodes share are replaced once
    for node, tensors in reversed(layers(proto.graph).items()):
        for tensor in tensors:
            if id(tensor) not in done:
                _randomise(tensor, rng)
                done.add(id(tensor))
        nodes.append(node)
        other = load(proto)
        other.axes.update(model.axes)
        for name, method in named.items():
            after = [_relevance(other, b, method, _fixed(model, b, target), over) for b in every]
            pairs = zip(before[name], after, strict=True)
            rows = np.concatenate([rank_correlation(np.abs(a), np.abs(b)) for a, b in pairs])
            correlation[name].append(float(np.nanmean(rows)) if not np.isnan(rows).all() else float("nan"))
        progress(nodes[-1])
    return Randomisation(nodes, {name: np.array(values) for name, values in correlation.items()})


def _relevance(model: Model, batch: Mapping[str, Array], method: Method, target: Target, over: Players) -> Array:
    return board_of(model, batch, target, over=over).of(model.explain(batch, method, target).relevance)


def _fixed(model: Model, batch: Mapping[str, Array], target: Target) -> Target:
    """The class that the model as trained predicts."""
    chosen = board_of(model, batch, target).scores.selection
    return replace(target, index=chosen.index, contrast=chosen.contrast)


def layers(graph: onnx.GraphProto) -> dict[str, list[onnx.TensorProto]]:
    """By node, in the graph's order, the matrices that it reads (vectors are left alone): the graph's own tensors.

    Wherever they are kept: as initializers or Constants, here or in the body of a Loop, and behind nodes that see
    nothing but constants (a Transpose or Cast of weights), which are no layers of their own.
    """
    kept = {t.name: [t] for t in _tensors(graph)}
    found: dict[str, list[onnx.TensorProto]] = {}
    for node in graph.node:
        read = [name for name in _read(node) if name]
        weights = list({id(t): t for name in read for t in kept.get(name, ())}.values())
        if read and not _bodies(node) and all(name in kept for name in read):
            kept |= dict.fromkeys(node.output, weights)
        elif matrices := [t for t in weights if _is_matrix(t)]:
            found[node.name or node.output[0]] = matrices
    return found


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every constant, of bodies too; a Constant's goes by the name of its output."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                attribute.t.name = node.output[0]
                yield attribute.t
        for body in _bodies(node):
            yield from _tensors(body)


def _read(node: onnx.NodeProto) -> Iterator[str]:
    yield from node.input
    for body in _bodies(node):
        for inner in body.node:
            yield from _read(inner)


def _bodies(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]


def _is_matrix(tensor: onnx.TensorProto) -> bool:
    return len(tensor.dims) > 1 and 0 not in tensor.dims and tensor.data_type in FLOATS


def _randomise(tensor: onnx.TensorProto, rng: np.random.Generator) -> None:
    """Noise of the same mean square."""
    array = numpy_helper.to_array(tensor)
    size = np.sqrt(np.square(array, dtype=np.float64).mean())
    noise = (size * rng.standard_normal(array.shape)).astype(array.dtype)
    tensor.CopyFrom(numpy_helper.from_array(noise, tensor.name))
