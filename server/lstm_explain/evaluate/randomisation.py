"""Sanity check by randomised parameters (Adebayo et al. 2018, arXiv 1810.03292).

An explanation that hardly changes when the weights are replaced by noise explains the input, not the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import numpy_helper

from lstm_explain.evaluate.agreement import rank_correlation
from lstm_explain.evaluate.data import Array, Data, Progress, batches, board_of, labelled, nothing
from lstm_explain.methods.spec import Method, Players
from lstm_explain.model import Model, load
from lstm_explain.target import Target


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
    for node in reversed(proto.graph.node):
        if not _randomise(proto, node, rng):
            continue
        nodes.append(node.name or node.output[0])
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


def _randomise(proto: onnx.ModelProto, node: onnx.NodeProto, rng: np.random.Generator) -> bool:
    """Replaces the node's matrices (vectors are left alone) by noise of their size; tells whether it has any."""
    matrices = [t for t in proto.graph.initializer if t.name in node.input and len(t.dims) > 1]
    arrays = [(t, numpy_helper.to_array(t)) for t in matrices]
    arrays = [(t, array) for t, array in arrays if array.dtype.kind == "f" and array.size]
    for tensor, array in arrays:
        size = np.sqrt(np.square(array, dtype=np.float64).mean())
        noise = (size * rng.standard_normal(array.shape)).astype(array.dtype)
        tensor.CopyFrom(numpy_helper.from_array(noise, tensor.name))
    return bool(arrays)
