# SPDX-License-Identifier: Apache-2.0
"""Cases for every operator of the table, in one module per family."""

from __future__ import annotations

from tests.operators.case import Case
from tests.operators.contractions import normalisations, products, reductions
from tests.operators.convolutions import convolutions, pools, transposed_convolutions
from tests.operators.elementwise import functions, sums_and_quotients
from tests.operators.resizing import resizing
from tests.operators.rewritten import attention, fused, pipelines, spectra
from tests.operators.routing import indexing, routing

FAMILIES = (
    attention,
    fused,
    spectra,
    pipelines,
    resizing,
    convolutions,
    transposed_convolutions,
    pools,
    normalisations,
    products,
    reductions,
    indexing,
    routing,
    functions,
    sums_and_quotients,
)
CASES: list[Case] = [case for family in FAMILIES for case in family()]
