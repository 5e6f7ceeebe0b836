"""What a request is known to take before it runs, from which a method says how much it will take."""

from __future__ import annotations

from dataclasses import dataclass

from lstm_explain.runner.model_runner import bytes_per_copy
from lstm_explain.runner.stacking import MOST_BYTES, copies_for

TRIED_COPIES = 3  # of the batch, one and then two to find out whether it can be stacked, in memory of their own


@dataclass(frozen=True, slots=True)
class Cost:
    """one, held: bytes of one pass over the batch, and those of them that its arrays keep (`Footprint.of`). runs: of
    the model. batch, steps: the largest there are. units: of all recurrent nodes. given: bytes of the inputs.
    most: bytes that copies of the batch may take together.
    """

    one: float
    held: float
    runs: int
    batch: int
    steps: int
    units: int
    given: int
    most: int = MOST_BYTES

    def of_gradients(self) -> float:
        """Bytes of walks back from stacked copies of the batch."""
        return self.one * 2 * min(self.runs, copies_for(int(3 * self.held)))

    def of_predictions(self) -> float:
        """Bytes of forward passes over stacked copies of the batch."""
        copies = min(self.runs, copies_for(bytes_per_copy(self.batch, self.steps, self.units, self.given)))
        return (self.one + 2 * self.given) * (copies + TRIED_COPIES)
