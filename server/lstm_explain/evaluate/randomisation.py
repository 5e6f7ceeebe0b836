# SPDX-License-Identifier: Apache-2.0
"""Checks that explanations depend on the weights, by randomising them (Adebayo et al. 2018, arXiv 1810.03292).

An explanation that hardly changes when the weights are replaced by noise explains the input, not the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import numpy_helper

from lstm_explain.errors import InputError
from lstm_explain.evaluate.agreement import rank_correlation
from lstm_explain.evaluate.data import Array, Data, Progress, batches, ignore_progress, labelled, player_set_of
from lstm_explain.loading import load
from lstm_explain.methods.base import Method, Players
from lstm_explain.model import Model
from lstm_explain.target import Target

DRAWS = 3  # of the weights
FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16)


@dataclass(frozen=True)
class Randomisation:
    """The result of the check: the lower the correlation, the more a method depends on the weights.

    nodes: in the order of randomisation, from the output to the input; the weights of earlier nodes stay randomised.
    correlation: by the method's name, [nodes], Spearman's rank correlation between the absolute relevance of the
    trained and of the randomised model, averaged over all samples and draws of weights.
    spread: likewise, the standard deviation between the draws; NaN for a single draw.
    """

    nodes: list[str]
    correlation: dict[str, Array]
    spread: dict[str, Array]


def randomisation(
    model: Model,
    data: Data,
    methods: Sequence[Method] | Mapping[str, Method],
    target: Target = Target(),  # noqa: B008 - frozen
    *,
    over: Players = "steps",
    seed: int = 0,
    draws: int = DRAWS,
    progress: Progress = ignore_progress,
) -> Randomisation:
    """Replaces the weights of one node after another (cascading) by normal noise of the same mean square.

    draws: how often to do so, each time from the trained model and with other noise: a single draw may by chance keep
        or lose what relevance depends on. Raises InputError for fewer than one.
    """
    if draws < 1:
        raise InputError(f"draws is {draws}, at least 1 is needed")
    named, all_batches = labelled(methods), list(batches(data))
    before = {name: [_relevance(model, batch, m, target, over) for batch in all_batches] for name, m in named.items()}
    rng, nodes = np.random.default_rng(seed), list(reversed(layers(model.proto.graph)))
    found: dict[str, list[list[float]]] = {name: [[] for _ in range(draws)] for name in named}
    for draw in range(draws):
        for node, other in _randomised(model, rng):
            for name, method in named.items():
                after = [_relevance(other, b, method, _fixed(model, b, target), over) for b in all_batches]
                pairs = zip(before[name], after, strict=True)
                rows = np.concatenate([rank_correlation(np.abs(a), np.abs(b)) for a, b in pairs])
                found[name][draw].append(float(np.nanmean(rows)) if not np.isnan(rows).all() else float("nan"))
            progress(node)
    values = {name: np.array(rows) for name, rows in found.items()}  # [draws, nodes]
    spread = {n: v.std(axis=0, ddof=1) if draws > 1 else np.full(len(nodes), np.nan) for n, v in values.items()}
    return Randomisation(nodes, {name: v.mean(axis=0) for name, v in values.items()}, spread)


def _randomised(model: Model, rng: np.random.Generator) -> Iterator[tuple[str, Model]]:
    """Yields each node, from the output to the input, with the model in which its weights and those before it are
    noise.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    done: set[int] = set()  # Weights that two nodes share are replaced once.
    for node, tensors in reversed(layers(proto.graph).items()):
        for tensor in tensors:
            if id(tensor) not in done:
                _randomise(tensor, rng)
                done.add(id(tensor))
        other = load(proto)
        other.axes.update(model.axes)
        yield node, other


def _relevance(model: Model, batch: Mapping[str, Array], method: Method, target: Target, over: Players) -> Array:
    return player_set_of(model, batch, target, over=over).totals(model.explain(batch, method, target).relevance)


def _fixed(model: Model, batch: Mapping[str, Array], target: Target) -> Target:
    """Returns the target with the class that the trained model predicts."""
    chosen = player_set_of(model, batch, target).scores.selection
    return replace(target, index=chosen.index, contrast=chosen.contrast)


def layers(graph: onnx.GraphProto) -> dict[str, list[onnx.TensorProto]]:
    """Maps each node, in the order of the graph, to the matrices (not vectors) that it reads, as tensors of the graph.

    They may be initializers or Constants, in the graph or in the body of a Loop, and behind nodes that read only
    constants (a Transpose or Cast of weights), which are not layers of their own.
    """
    constants = {t.name: [t] for t in _tensors(graph)}
    found: dict[str, list[onnx.TensorProto]] = {}
    for node in graph.node:
        read = [name for name in _read(node) if name]
        weights = list({id(t): t for name in read for t in constants.get(name, ())}.values())
        if read and not _bodies(node) and all(name in constants for name in read):
            constants |= dict.fromkeys(node.output, weights)
        elif matrices := [t for t in weights if _is_matrix(t)]:
            found[node.name or node.output[0]] = matrices
    return found


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yields every constant, including those of bodies; the tensor of a Constant node is named after its output."""
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
    """Replaces the tensor by noise of the same mean square."""
    array = numpy_helper.to_array(tensor)
    size = np.sqrt(np.square(array, dtype=np.float64).mean())
    noise = (size * rng.standard_normal(array.shape)).astype(array.dtype)
    tensor.CopyFrom(numpy_helper.from_array(noise, tensor.name))
