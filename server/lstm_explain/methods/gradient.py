"""The gradient: one forward pass and one walk back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lstm_explain.methods.base import Batching, Method, Promise


@dataclass(frozen=True)
class Gradient(Method):
    """Partial derivatives of the explained value."""

    name: ClassVar[str] = "gradient"
    promises: ClassVar[frozenset[Promise]] = frozenset()
    batching: ClassVar[Batching] = Batching.PADDED
    propagates: ClassVar[bool] = True
