"""How long a model's runs take, from those that there were."""

from __future__ import annotations

import math

from lstm_explain.methods import Method


class LatencyEstimate:
    """By kind of method, the least that a unit of work has taken so far: others may have disturbed a run, nobody
    quickens it.

    A unit is whatever the time is proportional to. method: None for a prediction.
    """

    def __init__(self) -> None:
        self._least: dict[tuple[str, str], float] = {}

    def seconds(self, method: Method | None, units: int) -> float:
        """What so many units may take; infinite as long as nobody has asked for this method."""
        return self._least.get(_kind(method), math.inf) * units

    def saw(self, method: Method | None, units: int, seconds: float) -> None:
        """A run of so many units that took so long."""
        key = _kind(method)
        if seconds < self._least.get(key, math.inf) * units:
            self._least[key] = seconds / units


def _kind(method: Method | None) -> tuple[str, str]:
    """Equal where the arithmetic is the same."""
    return ("", "") if method is None else (method.name, method.variant)
