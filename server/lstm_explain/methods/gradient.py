# SPDX-License-Identifier: Apache-2.0
"""Declares the gradient: one forward pass and one backward pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lstm_explain.methods.base import Batching, Method, Promise, Words

if TYPE_CHECKING:
    from lstm_explain.runner.cost import Cost


@dataclass(frozen=True)
class Gradient(Method):
    """Partial derivatives of the explained value."""

    name: ClassVar[str] = "gradient"
    words: ClassVar[Words] = Words(
        label="Gradient",
        hint="derivatives alone; no shares",
        absorbed="kept by nothing",
        residual="not explained: derivatives are no shares",
        relevance="partial derivatives; for a token, the norm over its embedding",
        runs="1, and one backward pass",
    )
    promises: ClassVar[frozenset[Promise]] = frozenset()
    batching: ClassVar[Batching] = Batching.PADDED
    propagates: ClassVar[bool] = True


class MeanGradient(Method):
    """Base class of the methods that average gradients at many points."""

    @property
    def backward_method(self) -> Method:
        return Gradient()

    def memory(self, cost: Cost) -> float:
        return cost.of_gradients()
