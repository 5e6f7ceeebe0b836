# SPDX-License-Identifier: Apache-2.0
"""Notes when SIGTERM or SIGINT asks the process to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

POLL_SECONDS = 0.2


class StopSignal:
    """Handles the signals from its creation on. Create it in the main thread.

    Python's handlers run in the main thread only, and a signal that the kernel delivers to another thread does not wake
    the main thread while it waits for a lock. So `wait` polls.
    """

    def __init__(self, *signals: signal.Signals) -> None:
        self._received = threading.Event()
        for number in signals or (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._received.set())

    @property
    def received(self) -> bool:
        return self._received.is_set()

    def wait(self, give_up: Callable[[], bool] = lambda: False) -> None:
        """Waits for a signal, or until `give_up` returns True. Call it in the main thread."""
        while not self._received.wait(POLL_SECONDS) and not give_up():
            pass
