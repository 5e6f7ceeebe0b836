# SPDX-License-Identifier: Apache-2.0
"""Describes the size of a request before it runs, from which a method estimates the memory that it needs."""

from __future__ import annotations

from dataclasses import dataclass

from lstm_explain.runner.scores import LONG, bytes_per_copy, bytes_per_copy_alike
from lstm_explain.runner.stacking import MAX_BYTES, copies_alike_for, copies_for

TRIAL_COPIES = 3  # copies of the batch in the trial that tests whether it can be stacked: one copy, then two
ALIKE_FACTOR = 1.5  # what was measured, relative to `bytes_per_copy_alike`: 0.7 with one layer, 1.8 with two


@dataclass(frozen=True, slots=True)
class Cost:
    """pass_bytes, held_bytes: bytes of one pass over the batch, and how many of them its arrays keep (`Footprint.of`).

    runs: of the model. batch, steps: the largest of the request. units: of all recurrent nodes.
    input_bytes: of all inputs. max_bytes: that copies of the batch may take together.
    """

    pass_bytes: float
    held_bytes: float
    runs: int
    batch: int
    steps: int
    units: int
    input_bytes: int
    max_bytes: int = MAX_BYTES

    def of_gradients(self) -> float:
        """Returns the bytes of backward passes over stacked copies of the batch."""
        return self.pass_bytes * 2 * min(self.runs, copies_for(int(3 * self.held_bytes)))

    def of_predictions(self) -> float:
        """Returns the bytes of forward passes over stacked copies of the batch."""
        sizes, whole = (self.batch, self.steps, self.units, self.input_bytes), self.pass_bytes + 2 * self.input_bytes
        if self.units and self.steps >= LONG:
            one = bytes_per_copy_alike(*sizes)
            return ALIKE_FACTOR * one * min(self.runs, copies_alike_for(one)) + whole * TRIAL_COPIES
        return whole * (min(self.runs, copies_for(bytes_per_copy(*sizes))) + TRIAL_COPIES)
