# SPDX-License-Identifier: Apache-2.0
"""Declares the gradient times the input: one forward pass and one backward pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lstm_explain.methods.base import Batching, Method, Promise, Words


@dataclass(frozen=True)
class GradientTimesInput(Method):
    """Partial derivatives times the input."""

    name: ClassVar[str] = "gradient_times_input"
    words: ClassVar[Words] = Words(
        label="Gradient × input",
        hint="derivatives times the input",
        absorbed="kept by nothing",
        residual="what is not linear",
        relevance="derivative times input; for a token, the sum over its embedding",
        runs="1, and one backward pass",
    )
    promises: ClassVar[frozenset[Promise]] = frozenset({Promise.SHARES})
    batching: ClassVar[Batching] = Batching.PADDED
    propagates: ClassVar[bool] = True
    times_value: ClassVar[bool] = True
