# SPDX-License-Identifier: Apache-2.0
"""Measures the quality of explanations on a data set, without knowing the correct one.

Data is one batch (arrays by input) or an iterable of batches.
"""

from lstm_explain.evaluate.agreement import Agreement, agreement, rank_correlation
from lstm_explain.evaluate.conservation import Conservation, conservation
from lstm_explain.evaluate.curves import Curve, Curves, deletion, insertion
from lstm_explain.evaluate.randomisation import Randomisation, randomisation

__all__ = [
    "Agreement",
    "Conservation",
    "Curve",
    "Curves",
    "Randomisation",
    "agreement",
    "conservation",
    "deletion",
    "insertion",
    "randomisation",
    "rank_correlation",
]
