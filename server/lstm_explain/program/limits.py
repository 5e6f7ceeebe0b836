# SPDX-License-Identifier: Apache-2.0
"""The limits by which answers are checked, in units of the explained value of a sample."""

from __future__ import annotations

MAX_ENTRY = 10.0  # magnitude of one element's relevance (verdict.py)
MAX_ABSORBED = 10.0  # relevance that LRP's biases, constants and stabilisers absorb (verdict.py)
MAX_RESIDUAL = 0.05  # of methods that promise to account for the whole value (verdict.py)
WORST_RESIDUAL = 5e-5  # what float32 may leave unaccounted for (precision.py)
