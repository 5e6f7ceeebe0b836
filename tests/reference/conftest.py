# SPDX-License-Identifier: Apache-2.0
"""The random numbers of the reference's tests."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20170907)
