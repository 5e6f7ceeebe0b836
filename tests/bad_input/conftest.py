# SPDX-License-Identifier: Apache-2.0
"""The model answers a valid call after every test of invalid input."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import lstm_explain as lx
from tests.bad_input.example import BUILT, FEEDS


@pytest.fixture(scope="module")
def model() -> lx.Model:
    return lx.load(BUILT.model)


@pytest.fixture(autouse=True)
def the_next_call_is_answered(model: lx.Model) -> Iterator[None]:
    yield
    e = model.explain(FEEDS, target=lx.Target(index=1))
    np.testing.assert_allclose(e.explained, BUILT.reference_forward(FEEDS)[:, 1], rtol=1e-4, atol=1e-6)
