"""What the trial of a model may take, and what became of it. Imports next to nothing."""

from __future__ import annotations

from dataclasses import dataclass

from lstm_explain.memory_budget import available_memory

MIB, GIB = 1 << 20, 1 << 30
MOST_BASE, SHARE = GIB, 8  # of memory, for a small model: this much, or less where there is little
MOST_SHARE = 0.75  # of memory, for any model
# For each byte of its files: loaded, a model takes five (see MEMORY_PER_BYTE), and twice that while it is prepared.
MEMORY_PER_BYTE = 10
CPU_SECONDS_PER_GIB, WALL_SECONDS_PER_GIB = 180.0, 600.0
SLOW_SECONDS, SLOW_SECONDS_PER_GIB = 6.0, 72.0  # of processor time: then others no longer wait for a trial


@dataclass(frozen=True)
class TrialLimits:
    """Of one trial: bytes of memory beside what the process takes anyway, seconds of processor time, and seconds.

    slow: seconds of processor time after which others no longer wait for it.
    """

    memory: int
    cpu: float
    wall: float
    slow: float = SLOW_SECONDS

    def of_size(self, size: int) -> TrialLimits:
        """For a model whose files have so many bytes."""
        most = max(self.memory, int(available_memory() * MOST_SHARE))
        gib = size / GIB
        return TrialLimits(
            min(self.memory + MEMORY_PER_BYTE * size, most),
            self.cpu + gib * CPU_SECONDS_PER_GIB,
            self.wall + gib * WALL_SECONDS_PER_GIB,
            self.slow + gib * SLOW_SECONDS_PER_GIB,
        )


def default_memory() -> int:
    """What the trial of a small model may take where nothing else is said."""
    return min(MOST_BASE, available_memory() // SHARE)


@dataclass(frozen=True)
class TrialResult:
    """passed, or the reason why not. of_trial: whether the trial was ended, rather than the model refused."""

    passed: bool
    reason: str = ""
    of_trial: bool = False
