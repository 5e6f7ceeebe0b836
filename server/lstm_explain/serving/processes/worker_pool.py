# SPDX-License-Identifier: Apache-2.0
"""Starts, watches and replaces the workers of one server, and keeps a spare one to replace the first that ends.

All of this runs in the main thread of the parent, which imports neither the engine nor gRPC. So nothing that a model
or a caller does can crash it.
"""

from __future__ import annotations

import logging
import selectors
import time
from collections.abc import Callable

from prometheus_client import multiprocess

from lstm_explain.errors import Error
from lstm_explain.serving import connections
from lstm_explain.serving.observability.output_capture import OutputCapture
from lstm_explain.serving.observability.process_metrics import WorkerCounts
from lstm_explain.serving.processes.blame import Blame, OutOfMemoryKills, exit_code_in_words
from lstm_explain.serving.processes.channel import Message
from lstm_explain.serving.processes.child import ChildProcess
from lstm_explain.serving.settings import ENV_PREFIX, Settings

log = logging.getLogger(__name__)

POLL_SECONDS = 0.25
SECONDS_TO_END = 2.0  # seconds for a process that has closed its files; a core dump is written before that
MIN_PAUSE, MAX_PAUSE = 1.0, 30.0  # seconds before another start, where workers end before they are warm
SECONDS_BEYOND_GRACE = 2.0


class WorkerPool:
    """Call `serve`, then `stop`. environment: that of the workers. folder: for the files that the processes share."""

    def __init__(self, settings: Settings, environment: dict[str, str], folder: str, output: OutputCapture) -> None:
        self._settings = settings
        self._environment = environment
        self._folder = folder
        self._output = output
        self._selector = selectors.DefaultSelector()
        self._children: list[ChildProcess] = []
        self._blame, self._oom_kills = Blame(), OutOfMemoryKills()
        self._started = False  # whether all workers have been ready once
        self._pause, self._not_before = 0.0, 0.0
        self._reason = ""  # why the last worker could not start, in its own words
        self._replaced = 0  # workers that ended unexpectedly

    def serve(self, stopping: Callable[[], bool], on_ready: Callable[[], object]) -> None:
        """Runs until `stopping()`. Calls `on_ready` once all workers serve. Raises Error if one cannot start."""
        last_check = time.monotonic()
        self._start()
        while not stopping():
            for key, _ in self._selector.select(POLL_SECONDS):
                if key.data in self._children:  # it may have ended a moment ago
                    self._receive(key.data)
            now = time.monotonic()
            # Time for which this process did not run, on a suspended machine for example, does not count.
            self._check(min(now - last_check, 2 * POLL_SECONDS))
            last_check = now
            if not self._started and sum(c.stage == "serving" for c in self._children) == self._settings.workers:
                self._started = True
                on_ready()
            self._fill()

    def stop(self) -> None:
        """Lets every worker finish its running requests, within the grace period."""
        for child in self._children:
            child.end()
        end = time.monotonic() + self._settings.drain_delay + self._settings.grace_period + SECONDS_BEYOND_GRACE
        for child in self._children:
            code = child.reap(end - time.monotonic())
            if child.serves and code:
                log.warning("worker %d did not end by itself: %s", child.pid, exit_code_in_words(code))

    def pids(self) -> list[int]:
        """Returns the ids of the current worker processes."""
        return [child.pid for child in self._children]

    def counts(self) -> WorkerCounts:
        return WorkerCounts(
            self._replaced,
            self._spares(),
            len(self._blame.quarantined),
            len(connections.accepted(self._environment[f"{ENV_PREFIX}LISTEN"])),
            self._settings.workers * connections.max_connections(self._settings),
        )

    def _spares(self) -> int:
        return sum(child.stage == "warm" for child in self._children)

    def _start(self) -> None:
        child = ChildProcess(self._environment, self._folder, self._output, gently=self._started)
        self._children.append(child)
        self._selector.register(child.channel.socket, selectors.EVENT_READ, child)
        self._send_quarantine(child)

    def _fill(self) -> None:
        """Replaces missing workers by warm ones, and starts as many new ones as are still missing."""
        missing = self._settings.workers - sum(child.serves for child in self._children)
        for child in [c for c in self._children if c.stage == "warm"][:missing]:
            child.stage = "chosen"
            self._send_quarantine_to_all()  # first: it must not run a suspect
            child.channel.send("listen")
        running = sum(child.stage != "leaving" for child in self._children)
        for _ in range(self._target_count() - running):
            if time.monotonic() >= self._not_before:
                self._start()

    def _target_count(self) -> int:
        if self._started:
            return self._settings.workers + self._settings.spare
        # The first worker starts alone: it fills the cache of compiled kernels, which the others read.
        alone = not any(child.stage != "starting" for child in self._children)
        return 1 if alone else self._settings.workers

    def _receive(self, child: ChildProcess) -> None:
        messages = child.channel.poll()
        if messages is None:
            self._ended(child, child.reap(SECONDS_TO_END))
            return
        for message in messages:
            self._handle(child, message)

    def _handle(self, child: ChildProcess, message: Message) -> None:
        match message["kind"]:
            case "warm":
                child.stage = "warm"
                self._pause = 0.0
                self._fill()
                self._send_quarantine_to_all()
            case "ready":
                child.stage = "serving"
            case "leaving":
                child.stage = "leaving"
                self._fill()
            case "failed":
                self._reason = message["reason"]
            case "released":
                if self._blame.forgive(*message["key"]):
                    self._send_quarantine_to_all()

    def _check(self, seconds: float) -> None:
        """Replaces workers that have ended or hang. seconds: since the last check."""
        for child in list(self._children):
            child.update(seconds)
            if child.silent >= self._settings.worker_patience:
                stopped = child.is_stopped()
                cause = "stopped" if stopped else f"no heartbeat for {self._settings.worker_patience:g} seconds"
                log.error("worker %d is killed: %s", child.pid, cause)
                child.process.kill()
                child.reap(SECONDS_TO_END)
                self._ended(child, None, "" if stopped else cause)
            elif (code := child.process.poll()) is not None:
                self._ended(child, code)

    def _ended(self, child: ChildProcess, code: int | None, cause: str = "") -> None:
        """code: None for a worker that was killed. cause: the reason, if the models that ran are to blame."""
        self._selector.unregister(child.channel.socket)
        self._children.remove(child)
        multiprocess.mark_process_dead(child.pid, self._folder)  # type: ignore[no-untyped-call]
        running = child.board.running()
        blamed = bool(cause) if code is None else self._oom_kills.models_to_blame(code)
        if code is not None:
            level = logging.INFO if child.stage == "leaving" and not code else logging.ERROR
            log.log(level, "worker %d ended with %s, another one replaces it", child.pid, exit_code_in_words(code))
        if blamed and running:
            self._blame.record_crash(running, cause or exit_code_in_words(code or 0))
        elif not self._started and (self._reason or child.stage == "starting"):
            raise Error(self._reason or "a worker ended before it was ready; the log has the reason")
        if child.stage == "starting":
            self._pause = min(MAX_PAUSE, max(MIN_PAUSE, 2 * self._pause))
            self._not_before = time.monotonic() + self._pause
        else:
            self._replaced += 1
        child.close()
        self._send_quarantine_to_all()
        self._fill()

    def _send_quarantine_to_all(self) -> None:
        for child in self._children:
            self._send_quarantine(child)

    def _send_quarantine(self, child: ChildProcess) -> None:
        covered = self._spares() > 0 or not self._settings.spare
        suspects = self._blame.suspects
        quarantined = [(*tag, reason) for tag, reason in self._blame.quarantined.items()]
        child.channel.send("quarantine", suspects=suspects, quarantined=quarantined, covered=covered)
