"""Gives memory back to the system after requests that took much of it, and after many small ones.

Kernels, ONNX Runtime and the C library each keep what was freed, for the next request of the kind. None of them gives
it back by itself, so after one large request a server would hold its memory until it ends. The same is true of a burst
of small ones, of calls that are reset or of connections, which the C library alone keeps memory of.
"""

from __future__ import annotations

import ctypes
import gc
import time

from lstm_explain.graph.session import shrink_arena
from lstm_explain.kernels import buffer_pool

HEAVY = 1 << 24  # estimated bytes; what smaller requests leave behind is little
SECONDS_BETWEEN_ROUNDS = 2.0
IDLE = 0.1  # seconds of processor time in a round, up to which there is time to look after small things
BURST = 0.1  # seconds of processor time that may have left something behind
ROUNDS = 2  # after a heavy request: its answer may still be on its way during the first


class Housekeeping:
    """Call `give_back` every so often."""

    def __init__(self) -> None:
        self._rounds, self._collect = 0, False
        self._looked = self._trimmed = 0.0  # in seconds of processor time
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)  # glibc's

    def much_was_used(self) -> None:
        """A heavy request is over."""
        self._rounds = ROUNDS

    def model_has_left(self) -> None:
        """A model is not served any more; requests at work may still hold it."""
        self._rounds, self._collect = ROUNDS, True

    def give_back(self) -> None:
        """Gives back what is free, if a heavy request was at work lately, or much was done and now nothing is."""
        now = time.process_time()
        idle, self._looked = now - self._looked < IDLE, now
        if self._rounds:
            self._rounds -= 1
            if self._collect:
                gc.collect()  # a model's parts refer to each other
                self._collect = self._rounds > 0
            buffer_pool.give_back()
            shrink_arena()
        elif not idle or now - self._trimmed < BURST:
            return
        self._trim(0)
        self._trimmed = now
