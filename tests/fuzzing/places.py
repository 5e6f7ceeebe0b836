# SPDX-License-Identifier: Apache-2.0
"""Chooses places and extreme values in a model at random."""

from __future__ import annotations

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

SIZES = (0, 1, 2, 3, -1, -2, 17, 255, 4096, 10**5, 2**24, 2**31 - 1, 2**31, 2**40, 2**62, -(2**31), -(2**63), 2**63 - 1)
FLOATS = (0.0, -0.0, -1.0, 0.5, 2.0, 1e-45, 3e38, -3e38, float("nan"), float("inf"), float("-inf"))
TYPES = (np.float32, np.float64, np.float16, np.int64, np.int32, np.int8, np.uint8, np.bool_)
OFFSETS = ("-4", "0", "x", "1e9", "9" * 30, "", "\0")
LOCATIONS = ("model.onnx", "../model.onnx", "/etc/hostname", "w" * 5000, "a\0b", "", ".")

Rng = np.random.Generator

# --- places ----------------------------------------------------------------------------------------------------------


def one_of(values, rng: Rng):  # type: ignore[no-untyped-def]  # of any type
    return values[int(rng.integers(len(values)))]


def any_graph(model: ModelProto, rng: Rng) -> GraphProto:
    graphs = [model.graph]
    for graph in graphs:
        graphs += [a.g for n in graph.node for a in n.attribute if a.type == AttributeProto.GRAPH]
    return graphs[0] if rng.random() < 0.6 else one_of(graphs, rng)


def any_node(model: ModelProto, rng: Rng) -> NodeProto:
    graph = any_graph(model, rng)
    return one_of(graph.node, rng) if graph.node else model.graph.node.add()


def any_tensor(model: ModelProto, rng: Rng, kinds: str) -> TensorProto | None:
    """A tensor whose NumPy kind is in `kinds`."""
    graph = any_graph(model, rng)
    tensors = [*graph.initializer, *(a.t for n in graph.node for a in n.attribute if a.HasField("t"))]
    inside = [t for t in tensors if t.data_location != TensorProto.EXTERNAL]
    fitting = [t for t in inside if np.dtype(helper.tensor_dtype_to_np_dtype(t.data_type)).kind in kinds]
    return one_of(fitting, rng) if fitting else None


def set_values(tensor: TensorProto, array: np.ndarray) -> None:
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))
