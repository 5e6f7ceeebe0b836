"""Every operator, its kind and its vector-Jacobian product, in one table.

Importing this package fills the table: one module a family.
"""

from lstm_explain.rules import (
    cells,
    contraction,
    control,
    convolution,
    elementwise,
    functions,
    indexing,
    linear,
    normalisation,
    quantised,
    reductions,
    resizing,
    routing,
    views,
)
from lstm_explain.rules.op import TABLE, Kind, Lane, LaneLost, Op, Site, Trait

__all__ = [
    "TABLE",
    "Kind",
    "Lane",
    "LaneLost",
    "Op",
    "Site",
    "Trait",
    "cells",
    "contraction",
    "control",
    "convolution",
    "elementwise",
    "functions",
    "indexing",
    "linear",
    "normalisation",
    "quantised",
    "reductions",
    "resizing",
    "routing",
    "views",
]
