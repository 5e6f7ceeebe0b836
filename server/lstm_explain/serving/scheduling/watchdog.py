# SPDX-License-Identifier: Apache-2.0
"""Interrupts cancelled work that does not notice its cancellation by itself, and ends the process if it goes on.

The engine checks for cancellation between its steps. Within a step, ONNX Runtime checks a flag between two nodes and
between two iterations of a loop, and our forward and gradient kernels check another one between two time steps; a
thread sets both. A call that checks nothing (one node of ONNX Runtime over a long sequence, a tokenizer) cannot be
interrupted from within the process. If it goes on for long, the process ends, so that another one can replace it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

from lstm_explain.cancellation import Cancelled, CancelScope, active_scopes, may_be_cancelled
from lstm_explain.serving.scheduling.admission import SECONDS_BETWEEN_CHECKS

log = logging.getLogger(__name__)

POLL_SECONDS = 0.05
STUCK = 75  # the exit code of a process that ended because of a call that cannot be interrupted


def end_process() -> None:
    """Ends the process at once. A normal exit would wait for the stuck thread."""
    logging.shutdown()
    os._exit(STUCK)


class Watchdog:
    """Checks every active CancelScope, in a thread of its own.

    stuck_seconds: how long cancelled work may go on before `give_up` is called.
    """

    def __init__(self, stuck_seconds: float, give_up: Callable[[], None] = end_process) -> None:
        self._stuck_seconds = stuck_seconds
        self._give_up = give_up
        self._ended = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        self._ended.set()
        may_be_cancelled.set()

    def check(self) -> None:
        """Interrupts cancelled work, and gives up on work that has not stopped in time."""
        for scope in list(active_scopes.values()):
            if scope.compiling:
                continue  # it cannot be interrupted, and ends by itself
            try:
                scope.check()
            except Cancelled as cancelled:
                scope.interrupt(cancelled)
                if time.monotonic() - scope.cancelled_at > self._stuck_seconds and id(scope) in active_scopes:
                    self._give_up_on(scope)

    def _give_up_on(self, scope: CancelScope) -> None:
        log.critical(
            "%s has not stopped within %g seconds (--stuck-seconds) after its cancellation (%s): this process ends",
            scope.describe() or "a request",
            self._stuck_seconds,
            scope.cancelled,
        )
        self._give_up()

    def _run(self) -> None:
        while not self._ended.is_set():
            if may_be_cancelled.wait(POLL_SECONDS):
                may_be_cancelled.clear()
                time.sleep(SECONDS_BETWEEN_CHECKS)  # a deadline that has just been checked does not look again
            try:
                self.check()
            except Exception:  # the thread must go on
                log.exception("the watchdog failed")
