"""One thread that ends what nobody waits for, where the work does not look by itself.

Between its steps the engine asks whether it is to go on. Within one, ONNX Runtime looks at a flag between two nodes,
and between two iterations of a loop: this thread sets it. A call that looks at nothing (a kernel over a huge array, a
tokenizer) cannot be ended from within the process. Where one goes on for long after it was told to stop, the process
ends, so that another one can take its place.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

from lstm_explain.cancellation import Cancelled, CancelScope, at_work

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 0.05
STUCK = 75  # the exit code of a process that a call has made useless


def leave() -> None:
    """Ends the process at once: the thread that is stuck would not let it end in the usual way."""
    logging.shutdown()
    os._exit(STUCK)


class Watchdog:
    """Looks at everything that is `cancel_scope`, in a thread of its own.

    patience: seconds that work may go on after it was told to stop; then `give_up` is called.
    """

    def __init__(self, deadline: float, give_up: Callable[[], None] = leave) -> None:
        self._patience = deadline
        self._give_up = give_up
        self._ended = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        self._ended.set()

    def look(self) -> None:
        """Tells what is to stop so; gives up on what does not."""
        for watch in list(at_work.values()):
            if watch.compiling:
                continue  # it cannot be stopped, and ends
            try:
                watch.check()
            except Cancelled as stopped:
                watch.interrupt(stopped)
                if time.monotonic() - watch.stopped_at > self._patience and id(watch) in at_work:
                    self._give_up_on(watch)

    def _give_up_on(self, watch: CancelScope) -> None:
        log.critical(
            "%s has not stopped within %g seconds (--stuck-seconds) after it was told to (%s): this process ends",
            watch.about() or "a request",
            self._patience,
            watch.stopped,
        )
        self._give_up()

    def _run(self) -> None:
        while not self._ended.wait(SECONDS_BETWEEN_LOOKS):
            try:
                self.look()
            except Exception:  # a watchdog that died would watch no more
                log.exception("the watchdog failed")
