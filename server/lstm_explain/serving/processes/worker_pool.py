"""The processes of one server: those that serve, and a spare one that takes the place of the first that ends.

All of this runs in one thread, the parent's main one. The parent holds the port and imports neither the engine nor
gRPC, so nothing that a model or a caller does can bring it down.
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
from lstm_explain.serving.observability.process_metrics import Counts
from lstm_explain.serving.processes.blame import Blame, Kills, exit_code_in_words
from lstm_explain.serving.processes.channel import Message
from lstm_explain.serving.processes.child import ChildProcess
from lstm_explain.serving.settings import ENV_PREFIX, Settings

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 0.25
SECONDS_TO_END = 2.0  # of a process that has closed its files; a core dump is written before that
SHORTEST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # before another is started, where they end before they are warm
SECONDS_BEYOND_GRACE = 2.0


class Workers:
    """`serve` until `stop`."""

    def __init__(self, settings: Settings, environment: dict[str, str], folder: str, pump: OutputCapture) -> None:
        self._settings = settings
        self._environment = environment
        self._folder = folder
        self._pump = pump
        self._selector = selectors.DefaultSelector()
        self._children: list[ChildProcess] = []
        self._blame, self._kills = Blame(), Kills()
        self._started = False  # all have been ready once
        self._pause, self._not_before = 0.0, 0.0
        self._reason = ""  # why the last one could not start, as it said
        self._replaced = 0  # workers that ended before they should

    def serve(self, over: Callable[[], bool], ready: Callable[[], object]) -> None:
        """Until it is over. Calls `ready` once all serve. Raises lstm_explain.Error if one cannot start."""
        looked = time.monotonic()
        self._start()
        while not over():
            for key, _ in self._selector.select(SECONDS_BETWEEN_LOOKS):
                if key.data in self._children:  # it may have ended a moment ago
                    self._hear(key.data)
            now = time.monotonic()
            # What we slept through, a suspended machine for example, is not held against anybody.
            self._look(min(now - looked, 2 * SECONDS_BETWEEN_LOOKS))
            looked = now
            if not self._started and sum(c.stage == "serving" for c in self._children) == self._settings.workers:
                self._started = True
                ready()
            self._fill()

    def stop(self) -> None:
        """Lets every worker finish what it has begun, within the grace period."""
        for child in self._children:
            child.end()
        end = time.monotonic() + self._settings.drain_delay + self._settings.grace_period + SECONDS_BEYOND_GRACE
        for child in self._children:
            code = child.reap(end - time.monotonic())
            if child.serves and code:
                log.warning("worker %d did not end by itself: %s", child.pid, exit_code_in_words(code))

    def processes(self) -> list[int]:
        """Of the workers that are there at the moment."""
        return [child.pid for child in self._children]

    def counts(self) -> Counts:
        return Counts(
            self._replaced,
            self._spares(),
            len(self._blame.quarantined),
            len(connections.accepted(self._environment[f"{ENV_PREFIX}LISTEN"])),
            self._settings.workers * connections.most(self._settings),
        )

    def _spares(self) -> int:
        return sum(child.stage == "warm" for child in self._children)

    def _start(self) -> None:
        child = ChildProcess(self._environment, self._folder, self._pump, gently=self._started)
        self._children.append(child)
        self._selector.register(child.control.socket, selectors.EVENT_READ, child)
        self._tell(child)

    def _fill(self) -> None:
        """Puts warm ones in the places of those that are missing, and starts as many as are missing then."""
        missing = self._settings.workers - sum(child.serves for child in self._children)
        for child in [c for c in self._children if c.stage == "warm"][:missing]:
            child.stage = "chosen"
            self._tell_all()  # first: it is not to run a suspect
            child.control.tell("listen")
        there = sum(child.stage != "leaving" for child in self._children)
        for _ in range(self._wanted() - there):
            if time.monotonic() >= self._not_before:
                self._start()

    def _wanted(self) -> int:
        if self._started:
            return self._settings.workers + self._settings.spare
        # The first one alone: it fills the cache of compiled kernels, which the others read.
        alone = not any(child.stage != "starting" for child in self._children)
        return 1 if alone else self._settings.workers

    def _hear(self, child: ChildProcess) -> None:
        news = child.control.news()
        if news is None:
            self._ended(child, child.reap(SECONDS_TO_END))
            return
        for message in news:
            self._obey(child, message)

    def _obey(self, child: ChildProcess, message: Message) -> None:
        match message["what"]:
            case "warm":
                child.stage = "warm"
                self._pause = 0.0
                self._fill()
                self._tell_all()
            case "ready":
                child.stage = "serving"
            case "leaving":
                child.stage = "leaving"
                self._fill()
            case "failed":
                self._reason = message["reason"]
            case "trusted":
                if self._blame.forgive(*message["key"]):
                    self._tell_all()

    def _look(self, seconds: float) -> None:
        for child in list(self._children):
            child.look(seconds)
            if child.silent >= self._settings.worker_patience:
                stopped = child.is_stopped()
                how = "stopped" if stopped else f"no sign of life for {self._settings.worker_patience:g} seconds"
                log.error("worker %d is killed: %s", child.pid, how)
                child.process.kill()
                child.reap(SECONDS_TO_END)
                self._ended(child, None, "" if stopped else how)
            elif (code := child.process.poll()) is not None:
                self._ended(child, code)

    def _ended(self, child: ChildProcess, code: int | None, how: str = "") -> None:
        """code: of a worker that ended by itself. how: why what ran is to blame, of one that was killed."""
        self._selector.unregister(child.control.socket)
        self._children.remove(child)
        multiprocess.mark_process_dead(child.pid, self._folder)  # type: ignore[no-untyped-call]
        running = child.board.running()
        blamed = bool(how) if code is None else self._kills.blamed(code)
        if code is not None:
            level = logging.INFO if child.stage == "leaving" and not code else logging.ERROR
            log.log(level, "worker %d ended with %s, another one takes its place", child.pid, exit_code_in_words(code))
        if blamed and running:
            self._blame.crashed(running, how or exit_code_in_words(code or 0))
        elif not self._started and (self._reason or child.stage == "starting"):
            raise Error(self._reason or "a worker ended before it was ready; the log says why")
        if child.stage == "starting":
            self._pause = min(LONGEST_PAUSE, max(SHORTEST_PAUSE, 2 * self._pause))
            self._not_before = time.monotonic() + self._pause
        else:
            self._replaced += 1
        child.close()
        self._tell_all()
        self._fill()

    def _tell_all(self) -> None:
        for child in self._children:
            self._tell(child)

    def _tell(self, child: ChildProcess) -> None:
        covered = self._spares() > 0 or not self._settings.spare
        suspects = self._blame.suspects
        quarantined = [(*tag, why) for tag, why in self._blame.quarantined.items()]
        child.control.tell("verdicts", suspects=suspects, quarantined=quarantined, covered=covered)
