# SPDX-License-Identifier: Apache-2.0
"""Every operator, its kind and its vector-Jacobian product, in one table.

Importing this package fills the table, from one module per family of operators.
"""

from lstm_explain.operators import (
    cells,
    contraction,
    control_flow,
    convolution,
    elementwise,
    functions,
    indexing,
    linear,
    normalisation,
    pooling,
    quantised,
    reductions,
    resizing,
    routing,
    scatter,
    selection,
    views,
)
from lstm_explain.operators.operator import TABLE, BatchLayout, Kind, NodeContext, Operator, SamplesMixed, Trait

__all__ = [
    "TABLE",
    "BatchLayout",
    "Kind",
    "NodeContext",
    "Operator",
    "SamplesMixed",
    "Trait",
    "cells",
    "contraction",
    "control_flow",
    "convolution",
    "elementwise",
    "functions",
    "indexing",
    "linear",
    "normalisation",
    "pooling",
    "quantised",
    "reductions",
    "resizing",
    "routing",
    "scatter",
    "selection",
    "views",
]
