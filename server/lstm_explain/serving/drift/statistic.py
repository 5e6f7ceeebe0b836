# SPDX-License-Identifier: Apache-2.0
"""Says whether the mean shares of recent relevance differ from the reference by more than chance explains.

By Bernstein's inequality (Boucheron, Lugosi and Massart 2013, Concentration Inequalities, theorem 2.10), the difference
d between the means of n recent and m earlier shares of one distribution satisfies

    P(|d| >= t) <= 2 exp(-L),    t = sqrt(2 v L) + c L / min(n, m),    v = s² / n + r² / m

with the variances s² and r² of the two and the scale c of the distribution (`drift_reference.moments`), which accounts
for skewed shares and outliers. With L = log(2 k / ALPHA), the k shares of one comparison together exceed their t by
chance with a probability of at most ALPHA. This holds for any number of samples, which must be independent of each
other; estimates take the place of the variances and the scale.
"""

from __future__ import annotations

import math

import numpy as np

from lstm_explain.repository.drift_reference import DriftReference
from lstm_explain.repository.relevance_shares import Array

ALPHA = 1e-5
LEAST = 1e-4  # a share of the relevance below which differences do not count, such as those of rounding


def distances(reference: DriftReference, rows: int, sums: Array, squares: Array) -> Array:
    """Returns |d| / t for each share: above 1, chance does not explain the difference.

    rows: of recent samples. sums, squares: of their shares and of the squares of those.
    """
    means = sums / rows
    variances = np.maximum(squares / rows - means**2, 0.0)
    v = variances / rows + reference.variances / reference.rows
    log = math.log(2 * len(means) / ALPHA)
    t = np.sqrt(2 * v * log) + reference.scales * log / min(rows, reference.rows)
    found: Array = np.abs(means - reference.means) / np.maximum(t, LEAST)
    return found
