"""How long a model's runs take, from those that there were."""

from __future__ import annotations

import math

from lstm_explain.spec.method import Method


class Pace:
    """By method, the least that a unit of work has taken so far: others may have disturbed a run, nobody quickens it.

    A unit is whatever the time is proportional to. method: None for a prediction.
    """

    def __init__(self) -> None:
        self._least: dict[type[Method] | None, float] = {}

    def seconds(self, method: Method | None, units: int) -> float:
        """What so many units may take; infinite as long as nobody has asked for this method."""
        return self._least.get(None if method is None else type(method), math.inf) * units

    def saw(self, method: Method | None, units: int, seconds: float) -> None:
        """A run of so many units that took so long."""
        key = None if method is None else type(method)
        if seconds < self._least.get(key, math.inf) * units:
            self._least[key] = seconds / units
