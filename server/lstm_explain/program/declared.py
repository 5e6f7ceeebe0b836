# SPDX-License-Identifier: Apache-2.0
"""Describes the inputs and outputs of a graph as callers see them."""

from __future__ import annotations

import numpy as np

from lstm_explain.graph.ir import Graph
from lstm_explain.inputs import TensorSpec


def spec_of(graph: Graph, name: str) -> TensorSpec:
    """Returns type and shape as declared; an axis without a name is called by its number."""
    kind = graph.type_of(name)
    shape = () if kind.shape is None else kind.shape
    named = tuple(f"d{i}" if d is None else d for i, d in enumerate(shape))
    return TensorSpec(np.dtype(np.float32) if kind.dtype is None else kind.dtype, named)
