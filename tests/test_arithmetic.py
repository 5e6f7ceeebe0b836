# SPDX-License-Identifier: Apache-2.0
"""Explanations compute without NumPy's warnings, and leave its reaction to errors as the caller has set it."""

from __future__ import annotations

from contextvars import Context

import numpy as np
import pytest

from lstm_explain import arithmetic
from lstm_explain.arithmetic import quiet_arithmetic

QUIET = dict.fromkeys(("divide", "over", "under", "invalid"), "ignore")


@pytest.fixture(params=["the variable of NumPy", "np.errstate"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The second one serves a NumPy whose variable is not found."""
    if request.param == "np.errstate":
        monkeypatch.setattr(arithmetic, "copy_context", Context)
        begin, end = arithmetic._silence()
        monkeypatch.setattr(arithmetic, "_begin_silence", begin)
        monkeypatch.setattr(arithmetic, "_end_silence", end)
    return str(request.param)


def test_numpy_does_not_warn_within_the_context_only(way: str) -> None:
    with np.errstate(divide="raise", over="warn", under="call", invalid="print"):
        before = np.geterr()
        with quiet_arithmetic():
            assert np.geterr() == QUIET
            with quiet_arithmetic():
                assert np.isinf(np.ones(1) / np.zeros(1))
            assert np.geterr() == QUIET
        assert np.geterr() == before
        with pytest.raises(LookupError), quiet_arithmetic():
            raise LookupError
        assert np.geterr() == before
        with pytest.raises(FloatingPointError):
            np.ones(1) / np.zeros(1)


def test_the_variable_of_numpy_is_found() -> None:
    """Otherwise, a request takes longer."""
    with np.errstate(all="ignore"):
        assert sum("numpy" in variable.name for variable in arithmetic.copy_context()) == 1
