"""Sparse tensors of a model, filled up with the zeros that they leave out."""

from __future__ import annotations

import math

import numpy as np
from onnx import ModelProto, SparseTensorProto, TensorProto, helper, numpy_helper
from onnx.external_data_helper import uses_external_data

from lstm_explain.errors import ModelError
from lstm_explain.graph.protos import graphs_of, nodes_of
from lstm_explain.graph.tensors import array_of

MOST_ELEMENTS = 1 << 27  # a file of a few bytes must not fill the memory


def fill(model: ModelProto) -> None:
    """Sparse initializers and constants become plain ones. Raises ModelError."""
    for graph in graphs_of(model):
        graph.initializer.extend(_filled(tensor) for tensor in graph.sparse_initializer)
        del graph.sparse_initializer[:]
    for node in nodes_of(model):
        if node.op_type == "Constant" and [a.name for a in node.attribute] == ["sparse_value"]:
            node.attribute[0].CopyFrom(helper.make_attribute("value", _filled(node.attribute[0].sparse_tensor)))


def _filled(tensor: SparseTensorProto) -> TensorProto:
    """Indices are places in the flat array, or one row of coordinates a value."""
    name, shape = tensor.values.name, tuple(tensor.dims)
    if uses_external_data(tensor.values) or uses_external_data(tensor.indices):
        raise ModelError(f"sparse tensor {name!r} is kept in another file, wanted in the model")
    if not all(extent >= 0 for extent in shape) or math.prod(shape) > MOST_ELEMENTS:
        raise ModelError(f"sparse tensor {name!r} has shape {shape}: more than {MOST_ELEMENTS} elements")
    values, indices = array_of(tensor.values), array_of(tensor.indices)
    full = np.zeros(shape, values.dtype)
    try:
        if indices.ndim == 2:
            full[tuple(indices.T)] = values
        else:
            full.reshape(-1)[indices] = values
    except (IndexError, ValueError) as error:
        raise ModelError(f"sparse tensor {name!r} cannot be read: {error}") from error
    return numpy_helper.from_array(full, name)
