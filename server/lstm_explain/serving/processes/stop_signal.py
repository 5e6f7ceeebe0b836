"""The end of a process, as SIGTERM and SIGINT ask for it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

SECONDS_BETWEEN_LOOKS = 0.2


class StopSignal:
    """Make it in the main thread: from then on the signals are heard.

    Python's handlers run in the main thread only, and a signal that the kernel gives to another thread does not wake
    the main one while that waits for a lock. So `wait` looks every so often.
    """

    def __init__(self, *signals: signal.Signals) -> None:
        self._told = threading.Event()
        for number in signals or (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._told.set())

    @property
    def told(self) -> bool:
        return self._told.is_set()

    def wait(self, gone: Callable[[], bool] = lambda: False) -> None:
        """In the main thread: until one of them has come, or `gone` says that there is no reason to go on."""
        while not self._told.wait(SECONDS_BETWEEN_LOOKS) and not gone():
            pass
