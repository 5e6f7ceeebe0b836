"""Describes the size of a request before it runs, from which a method estimates the memory that it needs."""

from __future__ import annotations

from dataclasses import dataclass

from lstm_explain.runner.model_runner import bytes_per_copy
from lstm_explain.runner.stacking import MAX_BYTES, copies_for

TRIAL_COPIES = 3  # copies of the batch in the trial that tests whether it can be stacked: one copy, then two


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
        """Bytes of backward passes over stacked copies of the batch."""
        return self.pass_bytes * 2 * min(self.runs, copies_for(int(3 * self.held_bytes)))

    def of_predictions(self) -> float:
        """Bytes of forward passes over stacked copies of the batch."""
        copies = min(self.runs, copies_for(bytes_per_copy(self.batch, self.steps, self.units, self.input_bytes)))
        return (self.pass_bytes + 2 * self.input_bytes) * (copies + TRIAL_COPIES)
