# SPDX-License-Identifier: Apache-2.0
"""The limits of a model's trial, and its result. Imports next to nothing, since the trial process imports it."""

from __future__ import annotations

from dataclasses import dataclass

from lstm_explain.memory_budget import available_memory

MIB, GIB = 1 << 20, 1 << 30
# The default memory for a small model: this share of the available memory, at most MAX_BASE_MEMORY.
BASE_MEMORY_DIVISOR, MAX_BASE_MEMORY = 8, GIB
MAX_MEMORY_SHARE = 0.75  # share of the available memory, for a model of any size
# Per byte of its files: a loaded model takes five (see served_model.MEMORY_PER_BYTE), and twice that while it loads.
MEMORY_PER_BYTE = 10
CPU_SECONDS_PER_GIB, WALL_SECONDS_PER_GIB = 180.0, 600.0
SLOW_SECONDS, SLOW_SECONDS_PER_GIB = 6.0, 72.0


@dataclass(frozen=True)
class TrialLimits:
    """The limits of one trial.

    memory: bytes in addition to what the trial process takes by itself. cpu: seconds of processor time. wall: elapsed
    seconds. slow: seconds of processor time after which other models no longer wait for this trial.
    """

    memory: int
    cpu: float
    wall: float
    slow: float = SLOW_SECONDS

    def for_size(self, size: int) -> TrialLimits:
        """Returns the limits for a model whose files have `size` bytes."""
        most = max(self.memory, int(available_memory() * MAX_MEMORY_SHARE))
        gib = size / GIB
        return TrialLimits(
            min(self.memory + MEMORY_PER_BYTE * size, most),
            self.cpu + gib * CPU_SECONDS_PER_GIB,
            self.wall + gib * WALL_SECONDS_PER_GIB,
            self.slow + gib * SLOW_SECONDS_PER_GIB,
        )


def default_memory() -> int:
    """Returns the memory limit for a small model where no setting gives one, in bytes."""
    return min(MAX_BASE_MEMORY, available_memory() // BASE_MEMORY_DIVISOR)


@dataclass(frozen=True)
class TrialResult:
    """Whether the model passed, and the reason if it did not.

    ended: the trial was ended, by a limit or a crash; otherwise the model itself was refused.
    """

    passed: bool
    reason: str = ""
    ended: bool = False


def ended_result(reason: str) -> TrialResult:
    """Returns the result of a trial that did not run to its end."""
    return TrialResult(False, f"the trial of the model was ended: {reason}", ended=True)


def over_memory(limit: int) -> str:
    return f"it took more than {limit // MIB} MiB of memory (--trial-memory)"


def over_cpu_time(limit: float) -> str:
    return f"it took more than {limit:g} seconds of processor time (--trial-cpu-seconds)"
