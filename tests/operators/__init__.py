"""Every operator of the table, in one case or more: one module a family."""

from __future__ import annotations

from tests.operators.case import Case
from tests.operators.contractions import normalisations, products, reductions
from tests.operators.convolutions import convolutions, pools, transposed_convolutions
from tests.operators.elementwise import functions, sums_and_quotients
from tests.operators.places import indexing, routing
from tests.operators.resizing import resizing
from tests.operators.spelled import fused, pipelines, spectra

FAMILIES = (
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
