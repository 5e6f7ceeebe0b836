"""One worker's life: it becomes warm, serves when its parent tells it to, and ends when it is told to or left alone."""

from __future__ import annotations

import ctypes
import faulthandler
import logging
import os
import signal
import socket
import threading
from queue import Empty, SimpleQueue

from lstm_explain.errors import Error
from lstm_explain.repository.model_folder import Tag
from lstm_explain.serving.models.quarantine import Quarantine
from lstm_explain.serving.observability import logs, shared_values, tracing
from lstm_explain.serving.processes.channel import Control, Message
from lstm_explain.serving.processes.stop_signal import SECONDS_BETWEEN_LOOKS, StopSignal
from lstm_explain.serving.server import Server
from lstm_explain.serving.settings import Settings
from lstm_explain.serving.shared_board import SharedBoard

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1


class Worker:
    """Its parent's side is child.Child."""

    def __init__(self, settings: Settings, control: Control, board: SharedBoard) -> None:
        """Raises lstm_explain.Error."""
        self._settings = settings
        self._control = control
        self._caution = Quarantine()
        self._orders: SimpleQueue[str] = SimpleQueue()
        self._alone = threading.Event()  # the parent has gone
        self._server = Server(settings, board, self._caution, lambda key: control.tell("trusted", key=key))
        self._quarantined: dict[Tag, str] = {}

    def run(self, stopping: StopSignal) -> None:
        """Raises lstm_explain.Error where it cannot serve."""
        messages = self._control.heard()
        self._judge(next(messages, {}))  # before a model is loaded that must not be
        threading.Thread(target=self._follow, args=(messages,), name="control", daemon=True).start()
        self._server.warm_up()
        self._control.tell("warm")
        if not self._wait_for_order(stopping):
            return
        self._server.listen()
        self._control.tell("ready")
        stopping.wait(self._left)
        self._control.tell("leaving")
        log.info("stopping; requests at work have %g seconds to finish", self._settings.grace_period)
        self._server.stop(self._settings.grace_period)

    def _wait_for_order(self, stopping: StopSignal) -> bool:
        """Whether it is to serve."""
        while not stopping.told and not self._left():
            try:
                self._orders.get(timeout=SECONDS_BETWEEN_LOOKS)
            except Empty:
                continue
            return True
        return False

    def _follow(self, messages: object) -> None:
        for message in messages:  # type: ignore[attr-defined]
            if message["what"] == "listen":
                self._orders.put("listen")
            else:
                self._judge(message)
        self._alone.set()

    def _judge(self, message: Message) -> None:
        """Takes in what the parent says of models. Requests heed it at once, lists and health when they can."""
        quarantined = {Tag(*tag): why for *tag, why in message.get("quarantined", ())}
        suspects = [Tag(*tag) for tag in message.get("suspects", ())]
        self._caution.tell(suspects, quarantined, covered=message.get("covered", True))
        if quarantined != self._quarantined:
            self._quarantined = quarantined
            # A load that goes on keeps this waiting.
            threading.Thread(target=self._server.repository.judge, args=(quarantined,), daemon=True).start()

    def _left(self) -> bool:
        return self._alone.is_set() or os.getppid() != self._settings.parent


def run(settings: Settings) -> None:
    """Raises lstm_explain.Error, after telling the parent."""
    assert settings.worker is not None
    control_fd, records, board = (int(fd) for fd in settings.worker.split(","))
    control = Control(socket.socket(fileno=control_fd))
    for fd in (control_fd, records, board):
        os.set_inheritable(fd, False)
    _die_with_parent()
    logs.set_up(settings.log_level, settings.log_format, records)
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent says when to end
    stopping = StopSignal(signal.SIGTERM)
    shared_values.use()
    if settings.traces:
        tracing.set_up()
    try:
        Worker(settings, control, SharedBoard(board)).run(stopping)
    except Error as error:
        control.tell("failed", reason=str(error))
        raise


def _die_with_parent() -> None:
    """Where the system can do that: also if this process is busy or stopped when the parent goes."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
