"""The gradient times the input: one forward pass and one walk back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lstm_explain.methods.base import Batching, Method, Promise


@dataclass(frozen=True)
class GradientTimesInput(Method):
    """Partial derivatives times the input."""

    name: ClassVar[str] = "gradient_times_input"
    promises: ClassVar[frozenset[Promise]] = frozenset({Promise.SHARES})
    batching: ClassVar[Batching] = Batching.PADDED
    propagates: ClassVar[bool] = True
