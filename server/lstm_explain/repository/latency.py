# SPDX-License-Identifier: Apache-2.0
"""Estimates how long a run of a model takes, from its earlier runs."""

from __future__ import annotations

import math

from lstm_explain.methods import Method


class LatencyEstimate:
    """Keeps, by kind of method, the least time per unit of work so far: other work can only slow a run down.

    A unit is whatever the time is proportional to. method: None for a prediction.
    """

    def __init__(self) -> None:
        self._least: dict[tuple[str, str], float] = {}

    def seconds(self, method: Method | None, units: int) -> float:
        """Returns the estimate for this number of units; infinite before the first run of this method."""
        return self._least.get(_kind(method), math.inf) * units

    def record(self, method: Method | None, units: int, seconds: float) -> None:
        """Records the time of a run."""
        key = _kind(method)
        if seconds < self._least.get(key, math.inf) * units:
            self._least[key] = seconds / units


def _kind(method: Method | None) -> tuple[str, str]:
    """Returns a key that is equal for methods with the same arithmetic."""
    return ("", "") if method is None else (method.name, method.variant)
