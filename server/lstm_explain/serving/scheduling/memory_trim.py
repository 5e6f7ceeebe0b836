# SPDX-License-Identifier: Apache-2.0
"""Returns free memory to the operating system, after heavy requests and after bursts of small ones.

Kernels, ONNX Runtime and the C library each keep freed memory for the next request of the kind. None of them returns it
by itself, so after one heavy request a server would hold its memory until it ends. The same holds after a burst of
small requests, reset calls or connections, whose memory only the C library keeps.
"""

from __future__ import annotations

import ctypes
import gc
import time

from lstm_explain.graph.session import shrink_arena
from lstm_explain.kernels import buffer_pool

HEAVY = 1 << 24  # estimated bytes; smaller requests leave little behind
SECONDS_BETWEEN_ROUNDS = 2.0
IDLE = 0.1  # seconds of processor time in a round; with less, the process counts as idle
BURST = 0.1  # seconds of processor time since the last trim; with less, there is nothing to trim
ROUNDS = 2  # to trim after a heavy request: in the first one, its answer may still be on its way


class MemoryTrimmer:
    """Call `trim` every SECONDS_BETWEEN_ROUNDS."""

    def __init__(self) -> None:
        self._rounds, self._collect = 0, False
        self._checked = self._trimmed = 0.0  # seconds of processor time at the last check, and at the last trim
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)  # glibc's

    def after_heavy_request(self) -> None:
        """Call it when a heavy request is done."""
        self._rounds = ROUNDS

    def after_unload(self) -> None:
        """Call it when a model is no longer served; running requests may still hold it."""
        self._rounds, self._collect = ROUNDS, True

    def trim(self) -> None:
        """Returns free memory, if a heavy request ended lately, or if the process is idle after a burst."""
        now = time.process_time()
        idle, self._checked = now - self._checked < IDLE, now
        if self._rounds:
            self._rounds -= 1
            if self._collect:
                gc.collect()  # a model's parts form reference cycles
                self._collect = self._rounds > 0
            buffer_pool.release_unused()
            shrink_arena()
        elif not idle or now - self._trimmed < BURST:
            return
        self._trim(0)
        self._trimmed = now
