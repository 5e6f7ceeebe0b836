"""Gives memory back to the system after requests that took much of it.

Kernels, ONNX Runtime and the C library each keep what was freed, for the next request of the kind. None of them gives
it back by itself, so after one large request a server would hold its memory until it ends.
"""

from __future__ import annotations

import ctypes
import gc

from lstm_explain.graph.session import shrink_arena
from lstm_explain.kernels import memory

HEAVY = 1 << 24  # estimated bytes; what smaller requests leave behind is little
SECONDS_BETWEEN_ROUNDS = 2.0
ROUNDS = 2  # after a heavy request: its answer may still be on its way during the first


class Housekeeping:
    """Call `give_back` every so often."""

    def __init__(self) -> None:
        self._rounds, self._collect = 0, False
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)  # glibc's

    def much_was_used(self) -> None:
        """A heavy request is over."""
        self._rounds = ROUNDS

    def model_has_left(self) -> None:
        """A model is not served any more; requests at work may still hold it."""
        self._rounds, self._collect = ROUNDS, True

    def give_back(self) -> None:
        """Gives back what is free, if a heavy request was at work lately."""
        if self._rounds:
            self._rounds -= 1
            if self._collect:
                gc.collect()  # a model's parts refer to each other
                self._collect = self._rounds > 0
            memory.give_back()
            shrink_arena()
            self._trim(0)
