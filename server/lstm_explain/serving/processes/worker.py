# SPDX-License-Identifier: Apache-2.0
"""Runs a worker process: it warms up, serves when its parent asks it to, and stops with its parent at the latest."""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from queue import Empty, SimpleQueue

from lstm_explain.errors import Error
from lstm_explain.repository.model_folder import Tag
from lstm_explain.serving.audit.destination import STDERR, STDOUT
from lstm_explain.serving.models.quarantine import Quarantine
from lstm_explain.serving.observability import logs, shared_values, tracing
from lstm_explain.serving.prctl import die_with_parent
from lstm_explain.serving.processes.channel import Channel, Message
from lstm_explain.serving.processes.stop_signal import POLL_SECONDS, StopSignal
from lstm_explain.serving.server import Server
from lstm_explain.serving.settings import Settings
from lstm_explain.serving.shared_board import SharedBoard

log = logging.getLogger(__name__)


class Worker:
    """The worker's side; its parent's side is child.ChildProcess."""

    def __init__(
        self, settings: Settings, channel: Channel, board: SharedBoard, descriptors: Mapping[str, int]
    ) -> None:
        """descriptors: of the server's own stdout and stderr. Raises lstm_explain.Error."""
        self._settings = settings
        self._channel = channel
        self._quarantine = Quarantine()
        self._listen_requests: SimpleQueue[None] = SimpleQueue()
        self._parent_gone = threading.Event()
        self._server = Server(
            settings, board, self._quarantine, lambda key: channel.send("released", key=key), descriptors
        )
        self._reasons: dict[Tag, str] = {}

    def run(self, stop_signal: StopSignal) -> None:
        """Raises lstm_explain.Error where it cannot serve."""
        messages = self._channel.messages()
        self._update_quarantine(next(messages, {}))  # before models are loaded, because quarantined ones must not be
        threading.Thread(target=self._follow, args=(messages,), name="channel", daemon=True).start()
        self._server.warm_up()
        self._channel.send("warm")
        if not self._wait_until_chosen(stop_signal):
            return
        self._server.listen()
        self._channel.send("ready")
        stop_signal.wait(self._orphaned)
        self._channel.send("leaving")
        log.info("stopping; running requests have %g seconds to finish", self._settings.grace_period)
        self._server.stop(self._settings.grace_period)

    def _wait_until_chosen(self, stop_signal: StopSignal) -> bool:
        """Waits for the parent; False if the worker must stop instead of serving."""
        while not stop_signal.received and not self._orphaned():
            try:
                self._listen_requests.get(timeout=POLL_SECONDS)
            except Empty:
                continue
            return True
        return False

    def _follow(self, messages: Iterator[Message]) -> None:
        for message in messages:
            if message["kind"] == "listen":
                self._listen_requests.put(None)
            else:
                self._update_quarantine(message)
        self._parent_gone.set()

    def _update_quarantine(self, message: Message) -> None:
        """Takes over the parent's view of the models. It applies to requests at once, to lists and health soon."""
        reasons = {Tag(*tag): reason for *tag, reason in message.get("quarantined", ())}
        suspects = [Tag(*tag) for tag in message.get("suspects", ())]
        self._quarantine.update(suspects, reasons, covered=message.get("covered", True))
        if reasons != self._reasons:
            self._reasons = reasons
            # In a thread, since it waits for loads that are running.
            threading.Thread(target=self._server.models.quarantine, args=(reasons,), daemon=True).start()

    def _orphaned(self) -> bool:
        return self._parent_gone.is_set() or os.getppid() != self._settings.parent


def run(settings: Settings) -> None:
    """Runs the worker of these settings. Raises lstm_explain.Error, after it has sent the reason to the parent."""
    assert settings.worker is not None
    channel_fd, records, board, stdout = (int(fd) for fd in settings.worker.split(","))
    channel = Channel(socket.socket(fileno=channel_fd))
    for fd in (channel_fd, records, board, stdout):
        os.set_inheritable(fd, False)
    die_with_parent()
    logs.set_up(settings.log_level, settings.log_format, records)
    faulthandler.enable()
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # a terminal sends it to all processes; the parent decides when to stop
    stop_signal = StopSignal(signal.SIGTERM)
    shared_values.use()
    if settings.traces:
        tracing.set_up()
    try:
        Worker(settings, channel, SharedBoard(board), {STDOUT: stdout, STDERR: records}).run(stop_signal)
    except Error as error:
        channel.send("failed", reason=str(error))
        raise
