# SPDX-License-Identifier: Apache-2.0
"""Reads the arrays of a model's tensors and Constant nodes."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, TensorProto, numpy_helper

from lstm_explain.errors import ModelError
from lstm_explain.graph.ir import Array
from lstm_explain.graph.protos import is_standard


def array_of(tensor: TensorProto) -> Array:
    """Returns the array that the tensor holds. Raises ModelError."""
    try:
        array = numpy_helper.to_array(tensor)
    except Exception as error:  # Data that does not fit the size or type surfaces as several exception types.
        raise ModelError(f"initializer {tensor.name!r} cannot be read: {first_line(error)}") from error
    return array


def constant_of(node: NodeProto) -> Array | None:
    """Returns the value of a Constant node; None for other nodes, and for values that no array can hold."""
    if node.op_type != "Constant" or not is_standard(node) or len(node.attribute) != 1:
        return None
    attribute = node.attribute[0]
    match attribute.name:
        case "value":
            return array_of(attribute.t)
        case "value_float":
            return np.array(attribute.f, np.float32)
        case "value_int":
            return np.array(attribute.i, np.int64)
        case "value_floats":
            return np.array(attribute.floats, np.float32)
        case "value_ints":
            return np.array(attribute.ints, np.int64)
        case "value_string":
            return np.array(attribute.s.decode("utf-8", "replace"), object)
        case "value_strings":
            return np.array([s.decode("utf-8", "replace") for s in attribute.strings], object)
    return None


def first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
