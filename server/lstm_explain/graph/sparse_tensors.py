# SPDX-License-Identifier: Apache-2.0
"""Converts the sparse tensors of a model to dense ones."""

from __future__ import annotations

import math

import numpy as np
from onnx import ModelProto, SparseTensorProto, TensorProto, helper, numpy_helper
from onnx.external_data_helper import uses_external_data

from lstm_explain.errors import ModelError
from lstm_explain.graph.protos import graphs_of, nodes_of
from lstm_explain.graph.tensors import array_of

MAX_ELEMENTS = 1 << 27  # A file of a few bytes must not densify the memory.


def densify(model: ModelProto) -> None:
    """Makes sparse initializers and constants dense. Raises ModelError."""
    for graph in graphs_of(model):
        graph.initializer.extend(_dense(tensor) for tensor in graph.sparse_initializer)
        del graph.sparse_initializer[:]
    for node in nodes_of(model):
        if node.op_type == "Constant" and [a.name for a in node.attribute] == ["sparse_value"]:
            node.attribute[0].CopyFrom(helper.make_attribute("value", _dense(node.attribute[0].sparse_tensor)))


def _dense(tensor: SparseTensorProto) -> TensorProto:
    """The indices are positions in the flat array, or one row of coordinates per value."""
    name, shape = tensor.values.name, tuple(tensor.dims)
    if uses_external_data(tensor.values) or uses_external_data(tensor.indices):
        raise ModelError(f"sparse tensor {name!r} is stored in another file, expected inside the model")
    if not all(extent >= 0 for extent in shape) or math.prod(shape) > MAX_ELEMENTS:
        raise ModelError(f"sparse tensor {name!r} has shape {shape}: more than {MAX_ELEMENTS} elements")
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
